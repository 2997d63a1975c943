"""Checks that speak MCP, to real servers of every SDK: they succeed, and leave no session behind, whatever happens."""

import json
import signal
import threading
import time

import pytest

from harness import PATIENCE, answering, chunk, event, event_stream_head, response, wait_until
from harness.health import AT_ONCE, checked, checks, only_peer, sessions, wait_state
from harness.http1 import LAST_CHUNK, Closed

PING = {"mcp": "ping"}
DISCOVER = {"mcp": "discover"}
STATEFUL = ["python-v1", "python-v1-json", "python-v2", "typescript-v1", "typescript-v1-json", "typescript-v2"]
OTHERS = ["python-v1-stateless", "python-v2-stateless", "typescript-v1-stateless", "everything"]


@pytest.mark.parametrize("kind", STATEFUL + OTHERS)
def test_a_ping_finds_every_server_well_and_closes_its_session(outrigger, mcp_server, kind):
    servers = mcp_server(kind)
    before = sessions(servers) if kind in STATEFUL else None
    # Other tests' requests of the same session-long servers have ended, or will have.
    world = outrigger([], checked(servers.peers[:1], PING))
    wait_until(lambda: checks(world, result="ok") >= 3, what="three checks")
    assert only_peer(world)["state"] == "healthy" and only_peer(world)["failures_in_a_row"] == 0
    world.stop()
    if before:
        after = wait_until(lambda: (now := sessions(servers))["open"] <= before["open"] and now, what="sessions closed")
        assert after["begun"] >= before["begun"] + 3, "no session was begun, so nothing was shown"


@pytest.mark.parametrize("kind", ["python-v2", "typescript-v2"])
def test_discover_finds_modern_servers_well_and_begins_no_session(outrigger, mcp_server, kind):
    servers = mcp_server(kind)
    before = sessions(servers)["begun"]
    world = outrigger([], checked(servers.peers[:1], DISCOVER))
    wait_until(lambda: checks(world, result="ok") >= 2, what="two checks")
    assert sessions(servers)["begun"] == before


@pytest.mark.parametrize("kind", ["python-v1", "typescript-v1"])
def test_discover_is_not_what_an_old_server_knows(outrigger, mcp_server, kind):
    servers = mcp_server(kind)
    world = outrigger([], checked(servers.peers[:1], DISCOVER | AT_ONCE))
    told = wait_state(world, "unhealthy")
    assert told["reason"] == "mcp_error", told


def test_a_server_that_stands_still_is_unhealthy_and_keeps_no_session(outrigger, mcp_server):
    """SIGSTOP in the middle of it all: its kernel takes what is sent, and it answers everything when it goes on."""
    servers = mcp_server("python-v1")
    before = sessions(servers)["open"]
    process = next(iter(servers.instances.values()))
    world = outrigger([], checked(servers.peers[:1], PING | AT_ONCE))
    wait_state(world, "healthy")
    process.signal(signal.SIGSTOP)
    try:
        told = wait_state(world, "unhealthy")
        assert told["reason"] == "timeout"
        # Each would be a session: they are not piled up.
        wait_until(lambda: "earlier checks are unanswered" in only_peer(world)["last_check"]["detail"])
    finally:
        process.signal(signal.SIGCONT)
    wait_state(world, "healthy")
    world.stop()
    wait_until(lambda: sessions(servers)["open"] <= before, what="every session is closed")


# -- scripted: what goes wrong half-way


class Server:
    """Scripts of an MCP server that answers what a test says, and remembers what came, over all connections."""

    def __init__(self, **answers):
        #: By method, DELETE included; a callable gets the connection.
        self.answers = answers
        self.came: list[tuple[str, str | None]] = []
        self._lock = threading.Lock()

    def __call__(self, connection) -> None:
        while True:
            answer = self.answer(connection.read_request())
            if callable(answer):
                answer(connection)
            else:
                connection.send(answer)

    def answer(self, message):
        """What the test says to this request, which is remembered."""
        name = message.json["method"] if message.body else message.method
        with self._lock:
            self.came.append((name, message.header("mcp-session-id")))
        return self.answers.get(name, self._default(message))

    def _default(self, message) -> bytes:
        if message.method == "DELETE":
            return response(200)
        call = message.json
        if "id" not in call:
            return response(202)
        result = {"protocolVersion": "2025-06-18"} if call["method"] == "initialize" else {}
        headers = {"Mcp-Session-Id": "of-the-check"} if call["method"] == "initialize" else {}
        return response(200, {"jsonrpc": "2.0", "id": call["id"], "result": result}, headers)

    def deleted(self) -> int:
        return self.came.count(("DELETE", "of-the-check"))


def test_the_conversation(outrigger, raw_upstream):
    server = Server()
    upstream = raw_upstream(server)
    world = outrigger([], checked([upstream.address], {"mcp": "ping", "path": "/deep/mcp"}))
    wait_state(world, "healthy")
    wait_until(lambda: server.deleted() >= 1)
    names = ["initialize", "notifications/initialized", "ping", "DELETE"]
    assert server.came[:4] == list(zip(names, [None, *["of-the-check"] * 3], strict=True))
    initialize, _, ping, delete = upstream.requests[:4]
    assert initialize.path == ping.path == delete.path == "/deep/mcp"
    assert initialize.json["params"]["clientInfo"]["name"] == "outrigger-health"
    assert initialize.header("accept") == "application/json, text/event-stream"
    assert initialize.header("mcp-protocol-version") is None
    assert ping.header("mcp-protocol-version") == delete.header("mcp-protocol-version") == "2025-06-18"
    # One connection, the answers to which were read to their ends, carries all.
    assert len(upstream.connections[0].requests) == 4


def reset(connection):
    connection.reset()
    raise Closed(b"", True)


ERROR = {"jsonrpc": "2.0", "id": "server-error", "error": {"code": -32603, "message": "out of\nsorts"}}


@pytest.mark.parametrize(
    ("where", "answer", "reason"),
    [
        ("ping", response(500, "no"), "wrong_status"),
        ("ping", response(200, ERROR), "mcp_error"),
        ("ping", response(200, "<html>", {"Content-Type": "text/html"}), "not_mcp"),
        ("ping", reset, "no_answer"),
        ("ping", event_stream_head() + chunk(event("half")) + LAST_CHUNK, "not_mcp"),
        ("ping", event_stream_head() + LAST_CHUNK, "no_answer"),
        ("ping", lambda connection: connection.wait_closed(), "timeout"),
        ("notifications/initialized", response(400), "wrong_status"),
        ("notifications/initialized", lambda connection: connection.wait_closed(), "timeout"),
        (
            "initialize",
            response(200, {"jsonrpc": "2.0", "id": 1, "result": {}}, {"Mcp-Session-Id": "of-the-check"}),
            "not_mcp",
        ),
        ("initialize", response(200, ERROR, {"Mcp-Session-Id": "of-the-check"}), "mcp_error"),
    ],
)
def test_a_check_that_fails_half_way_closes_its_session(outrigger, raw_upstream, where, answer, reason):
    server = Server(**{where: answer})
    world = outrigger([], checked([raw_upstream(server).address], PING | AT_ONCE))
    assert wait_state(world, "unhealthy")["reason"] == reason
    begun = lambda: [name for name, _ in server.came].count("initialize")  # noqa: E731
    wait_until(lambda: server.deleted() >= 2, what="two sessions are closed")
    world.stop()
    wait_until(lambda: server.deleted() == begun(), what="all sessions are closed")


@pytest.mark.parametrize("status", [400, 401, 404, 500])
def test_an_id_on_a_refusal_is_no_session(outrigger, raw_upstream, status):
    """SDK servers mint one for every answer."""
    server = Server(initialize=response(status, ERROR, {"Mcp-Session-Id": "of-the-check"}))
    world = outrigger([], checked([raw_upstream(server).address], PING | AT_ONCE))
    assert wait_state(world, "unhealthy")["reason"] == "mcp_error"
    wait_until(lambda: checks(world, result="mcp_error") >= 2)
    assert server.deleted() == 0


def test_a_session_that_is_given_out_too_late_is_closed_all_the_same(outrigger, raw_upstream):
    late = threading.Event()

    def initialize(connection):
        late.wait(PATIENCE)
        message = {"jsonrpc": "2.0", "id": 1, "result": {"protocolVersion": "2025-06-18"}}
        connection.send(response(200, message, {"Mcp-Session-Id": "of-the-check"}))

    server = Server(initialize=initialize)
    world = outrigger([], checked([raw_upstream(server).address], PING | AT_ONCE))
    wait_state(world, "unhealthy")
    wait_until(lambda: checks(world, result="timeout") >= 4, what="time for many")
    begun = [name for name, _ in server.came].count("initialize")
    assert begun == 2, "each may become a session"
    assert server.deleted() == 0
    late.set()
    wait_until(lambda: server.deleted() >= 2, what="both are closed")
    wait_state(world, "healthy")


def test_a_server_that_keeps_its_sessions_is_told_of_once(outrigger, raw_upstream):
    server = Server(DELETE=response(405))
    world = outrigger([], checked([raw_upstream(server).address], PING))
    wait_until(lambda: checks(world, result="ok") >= 3)
    assert only_peer(world)["state"] == "healthy"
    assert world.story().count("every check leaves one behind") == 1


def test_a_check_under_way_at_the_end_closes_its_session_first(outrigger, raw_upstream):
    """SIGTERM between initialize and ping."""
    reached, going_on = threading.Event(), threading.Event()

    def ping(connection):
        reached.set()
        going_on.wait(PATIENCE)
        connection.send(response(200, {"jsonrpc": "2.0", "id": 2, "result": {}}))

    server = Server(ping=ping)
    world = outrigger([], checked([raw_upstream(server).address], PING | {"interval": "5s", "timeout": "5s"}))
    assert reached.wait(PATIENCE)
    world.process.signal(signal.SIGTERM)
    wait_until(lambda: "drain" in world.story())
    time.sleep(0.7)  # past the time for which a drained worker waits for nobody
    going_on.set()
    assert world.process.wait() == 0
    assert server.deleted() == 1


def test_a_stream_that_does_not_end_after_its_answer(outrigger, raw_upstream):
    message = {"jsonrpc": "2.0", "id": 2, "result": {}}
    noise = event({"jsonrpc": "2.0", "method": "notifications/message", "params": {}})
    priming = event("", id="1")
    stream = event_stream_head() + chunk(priming + noise) + chunk(event(json.dumps(message), id="2"))
    server = Server(ping=stream)
    world = outrigger([], checked([raw_upstream(server).address], PING | AT_ONCE))
    wait_until(lambda: checks(world, result="ok") >= 2)
    world.stop()
    assert server.deleted() == [name for name, _ in server.came].count("initialize")


@pytest.mark.parametrize("check", ["ping", "discover"])
def test_a_slash_is_followed_and_the_session_ends_where_it_began(outrigger, raw_upstream, check):
    """As frameworks redirect it; to anywhere else nothing is sent."""
    server = Server()

    def script(connection):
        while True:
            message = connection.read_request()
            if message.path == "/mcp/":
                connection.send(server.answer(message))
            else:
                connection.send(response(307, "", {"Location": f"http://{message.header('host')}/mcp/"}))

    found = {"jsonrpc": "2.0", "id": 1, "result": {"supportedVersions": ["2026-07-28"], "capabilities": {}}}
    server.answers["server/discover"] = response(200, found)
    upstream = raw_upstream(script)
    world = outrigger([], checked([upstream.address], {"mcp": check}))
    wait_state(world, "healthy")
    if check == "ping":
        wait_until(server.deleted)
    elsewhere = raw_upstream(answering(response(307, "", {"Location": f"http://{upstream.address}/mcp/"})))
    world = outrigger([], checked([elsewhere.address], {"mcp": check} | AT_ONCE))
    assert wait_state(world, "unhealthy")["last_check"]["detail"] == "HTTP 307"


def test_discover_as_the_modern_era_asks(outrigger, raw_upstream):
    found = {"jsonrpc": "2.0", "id": 1, "result": {"supportedVersions": ["2026-07-28"], "capabilities": {}}}
    upstream = raw_upstream(answering(response(200, found)))
    world = outrigger([], checked([upstream.address], DISCOVER))
    wait_state(world, "healthy")
    message = upstream.requests[0]
    assert message.header("mcp-method") == message.json["method"] == "server/discover"
    version = message.json["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"]
    assert message.header("mcp-protocol-version") == version == "2026-07-28"
