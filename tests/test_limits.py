"""What one client may take of the proxy: bytes, fields, time, connections. Each limit is met, and has its counter."""

import socket
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from harness import (
    JSON,
    Connection,
    Outrigger,
    RawClient,
    RawUpstream,
    chunk,
    event,
    event_stream_head,
    free_port,
    request,
    response,
    wait_until,
)
from harness.http2 import Http2Client

PING = b'{"jsonrpc":"2.0","id":7,"method":"ping"}'
#: In /proc/net/tcp.
KEEPALIVE_TIMER = "02"
#: Room for a busy machine, far below what would be no limit at all.
SLACK = 10.0

LIMITS = {"headers": "4KiB", "header_count": 20}
TIMEOUTS = {"request_head": "1s", "request_body": "1s", "idle": "2s", "first_byte": "2s", "response_idle": "2s"}


def upstream_script(connection: Connection) -> None:
    """Answers calls; a GET of the MCP path gets a stream with a long silence in it; an upload is read for ever."""
    while True:
        message = connection.read_head()
        if message.path == "/upload":
            connection.wait_closed()
        connection._read_body(message, None, to_end=False)
        connection.requests.append(message)
        if message.method == "GET" and message.path == "/mcp":
            connection.send(event_stream_head() + chunk(event("first")))
            time.sleep(3)
            connection.send(chunk(event("last")))
            connection.wait_closed()
        elif message.path == "/mcp":
            connection.send(response(200, {"jsonrpc": "2.0", "id": message.json["id"], "result": {}}))
        else:
            connection.send(response(200, {}))


def start_world(folder, pki, config: dict) -> Outrigger:
    """A plain and a TLS listener, whose address is `.secure`, before `.upstream`; the start's own probe is over."""
    upstream = RawUpstream(upstream_script)
    world = Outrigger(folder, [upstream.address], config, start=False)
    world.upstream, world.secure = upstream, f"127.0.0.1:{free_port()}"
    tls = pki.issue("localhost").as_config()
    world.config["listeners"].append({"name": "secure", "address": world.secure, "upstream": "gateway", "tls": tls})
    world.start()
    nothing_left(world)
    return world


@pytest.fixture(scope="module")
def world(pki, tmp_path_factory):
    """One Outrigger with tight limits for all tests that do not fill it up."""
    world = start_world(tmp_path_factory.mktemp("limits"), pki, {"limits": LIMITS, "timeouts": TIMEOUTS})
    yield world
    world.end()
    world.upstream.close()


@pytest.fixture
def small_world(pki, tmp_path):
    """`small_world(connections)` takes no more connections than that."""
    made = []

    def make(connections: int) -> Outrigger:
        made.append(start_world(tmp_path, pki, {"limits": {"connections": connections}}))
        return made[-1]

    yield make
    for world in made:
        world.end()
        world.upstream.close()


@pytest.fixture
def http2(pki):
    """`http2(world)`: a client on the TLS listener."""
    with ExitStack() as ends:
        yield lambda world: ends.enter_context(Http2Client(world.secure, pki.client_context(alpn=("h2",))))


REFUSED_HEADS = 'outrigger_refused_heads_total{{reason="{}"}}'
FAULTS = 'outrigger_faults_total{{kind="{}"}}'


@contextmanager
def counted(world: Outrigger, counter: str, name: str, by: int = 1, unseen: bool = True):
    """What happens inside must be counted `by` times, and, if `unseen`, not come to the upstream."""
    count = lambda: world.metrics().get(counter.format(name), 0)  # noqa: E731
    before, requests = count(), len(world.upstream.requests)
    yield
    wait_until(lambda: count() >= before + by, what=f"{counter.format(name)} counts")
    assert count() == before + by
    assert not unseen or len(world.upstream.requests) == requests


def refused(connection: Connection, status: int) -> bytes:
    """The answer must be `status`, and the last on its connection."""
    answer = connection.read_response()
    assert answer.status == status, answer.raw_head + answer.body
    assert answer.header("connection") == "close"
    connection.wait_closed()
    return answer.body


def nothing_left(world) -> None:
    """No connection is counted any more."""
    wait_until(lambda: world.metrics()["outrigger_connections"] == 0, what="no connection is counted")


def goes_on(world) -> None:
    """Everybody else is served."""
    with world.client() as client:
        assert client.ask("POST", "/mcp", PING, JSON).json["id"] == 7


# -- the head: bytes and fields


def head_of(size: int) -> bytes:
    """A whole request head of exactly `size` bytes."""
    empty = request("GET", "/any", headers={"X-Fill": ""})
    return request("GET", "/any", headers={"X-Fill": "f" * (size - len(empty))})


def test_a_head_within_the_limit_passes_and_a_larger_one_is_431(world):
    with world.client() as client:
        client.send(head_of(4000))
        assert client.read_response().status == 200
    too_large = [head_of(4200), head_of(4200)[:-2], b"GET /" + b"x" * 5000]
    with counted(world, REFUSED_HEADS, "head_too_large", by=len(too_large)):
        for data in too_large:
            with world.client() as client:
                client.send(data)
                refused(client, 431)
    goes_on(world)


def test_a_head_that_goes_on_and_on_is_told_why(world):
    """RFC 9112 §9.6: a close on unread bytes is a reset, which can overtake the answer."""
    with world.client() as client:
        for _ in range(24):
            client.send(b"X" * 4096)
        assert client.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 431 ")
        assert client.read_to_end() == b"The request head is too large\n"


def test_a_second_head_is_bounded_like_the_first(world):
    with world.client() as client:
        assert client.ask("POST", "/mcp", PING, JSON).status == 200
        client.send(head_of(4200))
        refused(client, 431)


def test_as_many_fields_as_allowed_pass_and_one_more_is_431(world):
    fields = [(f"X-{number}", "1") for number in range(19)]
    with world.client() as client:
        assert client.ask("GET", "/any", headers=fields).status == 200
        with counted(world, REFUSED_HEADS, "too_many_fields"):
            client.send(request("GET", "/any", headers=[*fields, ("X-One-More", "1")]))
            refused(client, 431)
    goes_on(world)


def test_h2_heads_have_the_same_limits(world, http2):
    client = http2(world)
    assert client.ask("POST", "/mcp", PING, JSON).status == 200
    with counted(world, FAULTS, "too_many_fields"):
        assert client.ask("GET", "/any", b"", [(f"x-{number}", "1") for number in range(25)]).status == 431
    client = http2(world)
    seen = len(world.upstream.requests)
    assert client.ask("GET", "/any", b"", [("x-fill", "f" * 5000)]).status == 431
    assert len(world.upstream.requests) == seen
    assert client.ask("POST", "/mcp", PING, JSON).status == 200, "one stream's head is no reason to end the connection"


@pytest.mark.parametrize(
    "fields",
    [
        [("Content-Length", "5"), ("Transfer-Encoding", "chunked")],
        [("transfer-encoding", "chunked"), ("content-length", "5")],
    ],
)
def test_two_lengths_are_refused(fields, world):
    with world.client() as client, counted(world, REFUSED_HEADS, "two_lengths"):
        client.send(request("POST", "/mcp", b"0\r\n\r\n", fields))
        refused(client, 400)
    goes_on(world)


def test_different_lengths_are_refused(world):
    """RFC 9112 §6.3: two servers that disagree on a request's end can be made to disagree on the next one, too."""
    seen = len(world.upstream.requests)
    with world.client() as client:
        two = [*JSON.items(), ("Content-Length", str(len(PING))), ("Content-Length", str(len(PING) - 1))]
        client.send(request("POST", "/mcp", PING, two))
        refused(client, 400)
    assert len(world.upstream.requests) == seen


# -- the head: time


@pytest.mark.parametrize("requests_before", [0, 1])
def test_a_head_that_drips_is_408(requests_before, world):
    with world.client() as client:
        for _ in range(requests_before):
            assert client.ask("POST", "/mcp", PING, JSON).status == 200
        with counted(world, REFUSED_HEADS, "head_too_slow"):
            began = time.monotonic()
            client.send(b"POST /mcp HTTP/1.1\r\nX-Fill: ")
            client.drip()
            refused(client, 408)
            assert 0.9 < client.closed_at - began < 1 + SLACK
    goes_on(world)


@pytest.mark.parametrize("requests_before", [0, 1])
def test_a_head_that_stops_is_408_in_time(requests_before, world):
    with world.client() as client:
        for _ in range(requests_before):
            assert client.ask("POST", "/mcp", PING, JSON).status == 200
        began = time.monotonic()
        client.send(b"POST /mcp HTTP/1.1\r\nHost: x\r\n")
        assert client.read_head().status == 408
        assert 0.9 < time.monotonic() - began < 1 + SLACK


# -- the body: time


def head_with(path: str, framing: tuple[str, str]) -> bytes:
    return request("POST", path, headers=[*JSON.items(), framing])


@pytest.mark.parametrize(
    ("framing", "piece"),
    [
        (("Content-Length", "1000"), b" "),
        (("Transfer-Encoding", "chunked"), b"1\r\n \r\n"),
    ],
)
def test_a_body_that_drips_is_408_as_a_json_rpc_error(framing, piece, world):
    with world.client() as client, counted(world, FAULTS, "body_too_slow"):
        began = time.monotonic()
        client.send(head_with("/mcp", framing))
        client.drip(piece)
        answer = client.read_response()
        assert answer.status == 408
        assert answer.header("connection") == "close"
        client.wait_closed()
        assert 0.9 < client.closed_at - began < 1 + SLACK
    nothing_left(world)
    goes_on(world)
    assert answer.header("content-type") == "application/json"
    assert answer.json["id"] is None
    assert answer.json["error"]["code"] == -32600


def test_an_h2_body_that_stops_is_408_and_the_connection_lives(world, http2):
    client = http2(world)
    with counted(world, FAULTS, "body_too_slow"):
        began = time.monotonic()
        stream = client.begin("POST", "/mcp", None, {**JSON, "Content-Length": "1000"})
        stream.send(b'{"jsonrpc"')
        assert stream.read_response().status == 408
        assert 0.9 < time.monotonic() - began < 1 + SLACK
    assert client.ask("POST", "/mcp", PING, JSON).status == 200


def test_a_body_that_passes_through_has_the_same_time(world):
    with world.client() as client:
        began = time.monotonic()
        client.send(head_with("/upload", ("Content-Length", "1000")))
        client.drip()
        assert client.read_head().status == 408
        assert 0.9 < time.monotonic() - began < 1 + SLACK
    goes_on(world)


@pytest.mark.parametrize("leave", [Connection.close, Connection.reset])
def test_a_client_that_leaves_inside_its_body_leaves_nothing(leave, world):
    seen, lines = len(world.upstream.requests), len(world.access_log())
    client = world.client()
    client.send(head_with("/mcp", ("Content-Length", "1000")) + b"{")
    leave(client)
    nothing_left(world)
    gone = lambda: [line for line in world.access_log()[lines:] if line.get("client_gone")]  # noqa: E731
    (line,) = wait_until(gone, what="its line in the access log")
    assert line["status"] == 0
    assert len(world.upstream.requests) == seen


# -- idle connections


def test_an_idle_connection_is_closed_in_time(world):
    began = time.monotonic()
    silent, used = world.client(), world.client()
    assert used.ask("POST", "/mcp", PING, JSON).status == 200
    for client in (silent, used):
        assert 1.9 < client.wait_closed() - began < 2 + SLACK
        # Silently: a 408 could be taken for the answer to a request that is just being written.
        assert client.received.count(b"HTTP/1.1") == (client is used)
    nothing_left(world)


def test_an_idle_connection_is_asked_whether_it_is_still_there(world):
    """By TCP, of which the client's program notices nothing; `test_a_client_whose_machine_is_gone` tells what for."""
    for address in (world.address, world.secure):
        with RawClient(address) as client:
            wait_until(lambda: timer_of(address, client) == KEEPALIVE_TIMER, what="the kernel is to ask")  # noqa: B023


def timer_of(address: str, client: RawClient) -> str | None:
    """What the kernel waits for on Outrigger's end of this connection."""
    ends = [in_proc(address), in_proc(client.own_address())]
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return next((line[5].partition(":")[0] for line in lines if line[1:3] == ends), None)


def in_proc(address: str) -> str:
    host, _, port = address.rpartition(":")
    return f"{int.from_bytes(socket.inet_aton(host), 'little'):08X}:{int(port):04X}"


def test_an_idle_h2_connection_is_closed_in_time(world, http2):
    silent, used = http2(world), http2(world)
    assert used.ask("POST", "/mcp", PING, JSON).status == 200
    for client in (silent, used):
        client.wait_closed(2 + SLACK)
    nothing_left(world)


def test_a_silent_event_stream_is_not_idle(world, http2):
    plain = world.client()
    plain.send(request("GET", "/mcp", headers={"Accept": "text/event-stream"}))
    encrypted = http2(world).begin("GET", "/mcp", headers={"Accept": "text/event-stream"})
    plain.read_until(b"last")
    while b"last" not in encrypted.body:
        encrypted.read_piece()
    plain.close()


# -- connections


def test_one_connection_too_many_is_503_and_the_others_work(small_world):
    world = small_world(3)
    kept = [world.client() for _ in range(3)]
    for client in kept:
        assert client.ask("POST", "/mcp", PING, JSON).status == 200
    with counted(world, REFUSED_HEADS, "too_many_connections", by=2):
        for _ in range(2):
            with world.client() as client:
                client.send(request("POST", "/mcp", PING, JSON))
                answer = client.read_response()
                assert answer.status == 503
                assert int(answer.header("retry-after")) >= 1
                client.wait_closed()
    for client in kept:
        assert client.ask("POST", "/mcp", PING, JSON).status == 200
    kept.pop().close()
    wait_until(lambda: world.metrics()["outrigger_connections"] == 2)
    goes_on(world)
    for client in kept:
        client.close()


def test_a_handshake_that_does_not_come_holds_no_connection_too_many(small_world, pki):
    """Without TLS they would be refused at once; here they have a second, however long a handshake may take."""
    world = small_world(3)
    kept = [world.client() for _ in range(3)]
    for client in kept:
        assert client.ask("POST", "/mcp", PING, JSON).status == 200
    silent = [RawClient(world.secure) for _ in range(20)]
    wait_until(lambda: world.metrics()["outrigger_connections"] == 3, 5, what="none of them is left")
    for client in silent:
        client.wait_closed()
    context = pki.client_context()
    with counted(world, REFUSED_HEADS, "too_many_connections"), RawClient(world.secure, context) as client:
        assert client.ask("POST", "/mcp", PING, JSON).status == 503
    for client in kept:
        assert client.ask("POST", "/mcp", PING, JSON).status == 200


def test_one_h2_connection_too_many_ends_and_the_others_work(small_world, http2):
    world = small_world(1)
    first = http2(world)
    assert first.ask("POST", "/mcp", PING, JSON).status == 200
    with counted(world, REFUSED_HEADS, "too_many_connections"):
        http2(world).wait_closed(SLACK)
    assert first.ask("POST", "/mcp", PING, JSON).status == 200
    first.close()
    nothing_left(world)
    assert http2(world).ask("POST", "/mcp", PING, JSON).status == 200
