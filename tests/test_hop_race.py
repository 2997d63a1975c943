"""Members that race: to claim one session, to end it, to find out that it is lost. One wins, and all agree who."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import pytest

from harness import JSON, PATIENCE, response
from harness.mcp import SERVER_KINDS, McpServers
from harness.stage import call, result

ROUNDS = 20


@pytest.fixture
def at_once():
    """`at_once([work, …])`: all begin in the same moment; what they gave."""
    with ThreadPoolExecutor(32) as threads:

        def run(works: list) -> list:
            ready = threading.Barrier(len(works))
            return [
                one.result() for one in [threads.submit(lambda work=work: (ready.wait(), work())[1]) for work in works]
            ]

        yield run


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    running = McpServers(SERVER_KINDS["python-v1-json"], tmp_path_factory.mktemp("servers"), count=3)
    yield running
    running.end()


@pytest.fixture
def three(members, redis_server, servers, pki):
    return members(redis_server(), [[peer] for peer in servers.peers], pki)


class Peer:
    """A scripted server that gives out the session ids that it is told to; what it was asked."""

    def __init__(self, raw_upstream):
        self.sessions, self.asked = set(), []

        def script(connection):
            while True:
                message = connection.read_request()
                self.asked.append(message)
                connection.send(self._answer(message))

        self.address = raw_upstream(script).address

    def _answer(self, message) -> bytes:
        if b'"initialize"' in message.body:
            session = message.header("x-session")
            self.sessions.add(session)
            return response(200, result(), {"Mcp-Session-Id": session})
        session = message.header("mcp-session-id")
        if session not in self.sessions:
            return response(404, {"jsonrpc": "2.0", "id": 7, "error": {"code": -32600, "message": "Session not found"}})
        if message.method == "DELETE":
            self.sessions.discard(session)
        return response(200, result())


@pytest.fixture
def scripted(members, redis_server, raw_upstream, pki):
    """Two members with a scripted peer each; with so short a life, nearly every use of a session renews its claim."""
    peers = [Peer(raw_upstream), Peer(raw_upstream)]
    made = members(redis_server(), [[peer.address] for peer in peers], pki, {"sessions": {"ttl": "3s"}})
    made.peers = peers
    limits = httpx.Limits(max_connections=32)
    with httpx.Client(timeout=PATIENCE, trust_env=False, verify=False, limits=limits) as client:

        def send(method: str, number: int, session: str, body: bytes = b"") -> int:
            headers = {**JSON, "Mcp-Session-Id": session}
            return client.request(method, made.url(number), content=body, headers=headers).status_code

        def begin(number: int, session: str) -> int:
            headers = {**JSON, "X-Session": session}
            return client.post(made.url(number), content=call("initialize"), headers=headers).status_code

        made.send, made.begin = send, begin
        yield made


def test_of_two_claims_for_one_session_one_stands(scripted, at_once):
    """Two servers that hand out the same id, as none should: nobody is told by turns what either knows."""
    winners = set()
    for round_ in range(ROUNDS):
        session = f"session-{round_}"
        statuses = at_once([partial(scripted.begin, 0, session), partial(scripted.begin, 1, session)])
        assert 200 in statuses
        for peer in scripted.peers:
            peer.asked.clear()
        for number in (0, 1, 1, 0):
            assert scripted.send("POST", number, session, call()) == 200
        counts = [len(peer.asked) for peer in scripted.peers]
        assert sorted(counts) == [0, 4], "one owner answers, by whichever member"
        winners.add(counts.index(4))
    print(f"the winners of {ROUNDS} races: {winners}")


def test_a_session_that_one_ends_while_another_uses_it_is_ended(scripted, at_once):
    """A renewal that comes late must not bring the claim back for good."""
    for round_ in range(ROUNDS):
        session = f"session-{round_}"
        assert scripted.begin(0, session) == 200
        uses = [partial(scripted.send, "POST", number, session, call()) for number in (0, 1, 0, 1, 0, 1)]
        *used, ended = at_once([*uses, partial(scripted.send, "DELETE", 1, session)])
        assert ended == 200
        assert set(used) <= {200, 404}
        for number in (0, 1):
            assert scripted.send("POST", number, session, call()) == 404
    assert not scripted.session_keys(), "no claim is left behind"
    time.sleep(0.3)
    assert not scripted.session_keys()


def test_a_session_that_all_find_lost_is_lost_once(three, at_once):
    sessions = [three.begin(0) for _ in range(4)]
    for session in sessions:
        for number in (1, 2):
            assert session.post(three.url(number), "ping").status_code == 200
    three[0].kill()
    asks = [
        lambda session=session, number=number: session.post(three.url(number), "ping")
        for session in sessions
        for number in (1, 2, 1, 2)
    ]
    for answer in at_once(asks):
        assert (answer.status_code, answer.json()["id"]) == (404, 1), "a server was asked that never had the session"
    assert not three.session_keys()
    lost = [three[number].metrics()["outrigger_sessions_lost_total"] for number in (1, 2)]
    assert sum(lost) >= len(sessions)
    for session in sessions:
        session.close()


def test_what_was_lost_is_begun_anew_by_everybody_at_once(three, servers, at_once):
    """A storm after a member's death: as many new sessions as were lost, each with one owner that lives."""
    old = [three.begin(0) for _ in range(12)]
    three[0].kill()

    def again(number: int):
        def run() -> dict:
            answer = old[number].post(three.url(1 + number % 2), "ping")
            assert answer.status_code == 404
            fresh = three.begin(1 + number % 2)
            counts = [json.loads(fresh.call(three.url(entry), "count")) for entry in (1, 2, 2, 1)]
            fresh.close()
            assert [counted["count"] for counted in counts] == [1, 2, 3, 4]
            [owner] = {counted["name"] for counted in counts}
            return owner

        return run

    owners = at_once([again(number) for number in range(len(old))])
    assert set(owners) == {"b", "c"}
    assert len(three.session_keys()) == len(old)
    for session in old:
        session.close()
