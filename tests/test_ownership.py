"""P2: every request of a session reaches the peer that owns it, and a session whose owner is gone is told so at once.

Two real MCP servers that keep sessions in memory: at the wrong one a request would be a 404, or a count begun anew.
"""

import json
import os
import signal
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from harness import JSON, PATIENCE, chunk, event, event_stream_head, plain, response, wait_until
from harness.mcp import SERVER_KINDS, McpServers, McpSession

KIND = SERVER_KINDS["python-v1-json"]
SESSIONS = 20


@pytest.fixture
def servers(tmp_path):
    """Two instances of this test's own, because some tests kill one."""
    running = McpServers(KIND, tmp_path / "servers")
    yield running
    running.end()


@pytest.fixture
def world(outrigger, servers):
    return outrigger(servers.peers, {"profile": "generic", "threads": 2})


@pytest.fixture
def begin(world):
    """Begins a session: `begin(url)`. Its connection ends before Outrigger does, which would wait for it."""
    with ExitStack() as ends:

        def make(url: str) -> McpSession:
            session = McpSession(url)
            ends.callback(session.close)
            return session

        yield make


class Talk:
    """A session that calls `count` again and again; what it was answered."""

    def __init__(self, url: str, may_break: bool):
        self.instances: set[str] = set()
        self.counts: list[int] = []
        #: Calls whose connection broke, so that nobody knows whether they ran.
        self.broken = 0
        self._url = url
        self._may_break = may_break

    def run(self, begun: threading.Barrier, stop: threading.Event) -> None:
        begun.wait(PATIENCE)
        session = McpSession(self._url)
        while not stop.wait(0.02):
            try:
                answer = json.loads(session.call(self._url, "count"))
            except httpx.TransportError:
                assert self._may_break
                self.broken += 1
                continue
            self.instances.add(answer["name"])
            self.counts.append(answer["count"])
        assert session.delete(self._url).is_success
        session.close()


@contextmanager
def talking(url: str, may_break: bool = False):
    """SESSIONS talks at once, for as long as the block lasts; a failure in any of them is raised at its end."""
    begun, stop = threading.Barrier(SESSIONS), threading.Event()
    talks = [Talk(url, may_break) for _ in range(SESSIONS)]
    with ThreadPoolExecutor(SESSIONS) as threads:
        running = [threads.submit(talk.run, begun, stop) for talk in talks]
        try:
            yield talks
        finally:
            stop.set()
            for each in running:
                each.result()


def everybody_is_answered(talks: list[Talk], times: int) -> None:
    goals = [len(talk.counts) + times for talk in talks]
    wait_until(
        lambda: all(len(talk.counts) >= goal for talk, goal in zip(talks, goals, strict=True)),
        patience=2 * PATIENCE,
        what=f"{times} answers for each of {SESSIONS} sessions",
    )


def assert_owned(talks: list[Talk]) -> None:
    """One instance answered all calls of a session, none was run twice, and both instances had sessions."""
    for talk in talks:
        assert len(talk.instances) == 1, talk.instances
        assert talk.counts == sorted(set(talk.counts)), "a count came twice: another process, or a call that ran twice"
        assert talk.counts[-1] <= len(talk.counts) + talk.broken, "a call ran that was not made"
    assert set.union(*(talk.instances for talk in talks)) == {"a", "b"}


def endpoint(world, server_id: str | None = "abc") -> str:
    return f"{world.url}/servers/{server_id}/mcp" if server_id else f"{world.url}/mcp"


def kept(world) -> int:
    """Sessions that the registry keeps."""
    return plain.get(f"{world.admin}/readyz").json()["registry"]["sessions"]


def test_every_session_is_answered_by_its_owner_until_it_ends(world):
    with talking(endpoint(world)) as talks:
        everybody_is_answered(talks, 10)
        assert kept(world) == SESSIONS
    assert_owned(talks)
    wait_until(lambda: kept(world) == 0, what="every DELETE releases its session")
    released = world.metrics()["outrigger_sessions_released_total"]
    assert released == SESSIONS


def test_a_reload_forgets_no_owner(world):
    with talking(endpoint(world)) as talks:
        everybody_is_answered(talks, 3)
        world.reload()
        everybody_is_answered(talks, 3)
    assert_owned(talks)


def test_a_worker_that_dies_forgets_no_owner(world):
    with talking(endpoint(world), may_break=True) as talks:
        everybody_is_answered(talks, 3)
        [worker] = world.worker_pids()
        os.kill(worker, signal.SIGKILL)
        everybody_is_answered(talks, 3)
    assert worker not in world.worker_pids()
    assert_owned(talks)


def test_sessions_of_a_dead_peer_end_at_once_and_the_others_go_on(world, servers, begin):
    url = endpoint(world)
    sessions = {"a": [], "b": []}
    for _ in range(SESSIONS):
        session = begin(url)
        sessions[json.loads(session.call(url, "whoami"))["name"]].append(session)
    assert sessions["a"], "by chance one in a million"
    assert sessions["b"], "by chance one in a million"

    servers.instances["a"].signal(signal.SIGKILL)
    servers.instances["a"].wait()
    took = []
    for session in sessions["a"]:
        began = time.monotonic()
        answer = session.post(url, "tools/call", {"name": "count", "arguments": {}})
        took.append(1000 * (time.monotonic() - began))
        assert answer.status_code == 404
        assert answer.json()["id"] == 1
        assert answer.json()["error"]["code"] == -32600
    print(f"a session of a dead peer heard of it after {statistics.median(took):.1f} ms, at most {max(took):.1f} ms")
    assert statistics.median(took) < 250, took
    for session in sessions["b"]:
        assert json.loads(session.call(url, "whoami"))["name"] == "b"
    # Whoever asks again hears the same, and nobody else was asked in the dead one's place.
    for session in sessions["a"]:
        assert session.post(url, "ping").status_code == 404
    pings = lambda: [line["attempts"] for line in world.access_log() if line.get("rpc_method") == "ping"]  # noqa: E731
    assert wait_until(lambda: len(pings()) == len(sessions["a"]) and pings()) == [0] * len(sessions["a"])
    # Who begins anew is served by who is left, at once and every time.
    for _ in range(4):
        assert json.loads(begin(url).call(url, "whoami"))["name"] == "b"


def test_sessions_of_a_peer_that_is_taken_out_end_and_the_others_go_on(world, servers, begin):
    url = endpoint(world)
    sessions = [begin(url) for _ in range(SESSIONS)]
    owners = [json.loads(session.call(url, "whoami"))["name"] for session in sessions]
    world.reload({"upstreams": {"gateway": {"peers": servers.peers[:1]}}})
    for session, owner in zip(sessions, owners, strict=True):
        if owner == "a":
            assert json.loads(session.call(url, "whoami"))["name"] == "a"
        else:
            # A kept connection may be answered once more by the generation that took it.
            wait_until(lambda session=session: session.post(url, "ping").status_code == 404)
            assert "error" in session.ask(url, "tools/call", {"name": "whoami", "arguments": {}})


@pytest.mark.parametrize(("opened", "others"), [("abc", ["abd", "ABC", None]), (None, ["abc"])])
def test_a_session_exists_only_under_its_own_server_id(opened, others, world, begin):
    url = endpoint(world, opened)
    session = begin(url)
    for other in others:
        elsewhere = endpoint(world, other)
        answer = session.post(elsewhere, "tools/call", {"name": "count", "arguments": {}})
        assert answer.status_code == 404
        assert answer.json()["id"] == 1
        assert "error" in answer.json()
        assert session.get(elsewhere).status_code == 404
        assert session.delete(elsewhere).status_code == 404
    assert json.loads(session.call(url, "count"))["count"] == 1, "what was refused ran, or the session was lost"
    assert kept(world) == 1


@pytest.mark.parametrize("name", ["session_id", "sessionId", "sessionid"])
def test_messages_of_an_sse_session_reach_the_peer_that_holds_its_stream(name, outrigger, raw_upstream):
    """The spellings of the SDKs: Python's, TypeScript's, Go's. Each peer opens its own sessions only."""

    def peer(letter):
        opened = []

        def serve(connection):
            while True:
                message = connection.read_request()
                if message.method == "GET":
                    opened.append(f"{letter}{len(opened)}-{connection.number}")
                    url = f"/servers/abc/message?{name}={opened[-1]}"
                    connection.send(event_stream_head() + chunk(event(url, name="endpoint")))
                    connection.wait_closed()
                    return
                known = message.path.partition("=")[2] in opened
                connection.send(response(202 if known else 404, b""))

        return raw_upstream(serve)

    world = outrigger([peer("a").address, peer("b").address], {"profile": "generic", "threads": 2})
    with httpx.Client(base_url=world.url, timeout=PATIENCE, trust_env=False, verify=False) as client:
        owners = set()
        for _ in range(SESSIONS):
            with client.stream("GET", "/servers/abc/sse", headers={"Accept": "text/event-stream"}) as stream:
                # Held, because httpx ends the stream with its iterator.
                lines = stream.iter_lines()
                url = next(line for line in lines if line.startswith("data:"))[5:].strip()
                assert f"?{name}=" in url
                owners.add(url.partition("=")[2][0])
                ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
                assert client.post(url, json=ping, headers=JSON).status_code == 202
                assert client.post(url.replace("abc", "abd"), json=ping, headers=JSON).status_code == 404
    assert owners == {"a", "b"}
    wait_until(lambda: kept(world) == 0, what="a stream that ends releases its session")
