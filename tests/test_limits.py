"""What one client may take of the proxy: bytes, fields, time, connections. Each limit is met from both sides and has its counter."""

import ssl
import time

import pytest
from load.http2 import Frames, GoneAway

import h2.events
from harness import JSON, Closed, Connection, RawClient, request, response, result_for_each, wait_until

PING = b'{"jsonrpc":"2.0","id":7,"method":"ping"}'
#: Room for a busy machine, far below what would be no limit at all.
SLACK = 2.0


@pytest.fixture
def world(outrigger, raw_upstream, pki):
    """`world(config)`: Outrigger with a plain and a TLS listener; `.upstream` is the raw upstream, `.secure` the TLS address."""

    def make(config: dict):
        from harness import free_port

        upstream = raw_upstream(result_for_each)
        made = outrigger([upstream.address], config, start=False)
        made.upstream, made.secure = upstream, f"127.0.0.1:{free_port()}"
        tls = pki.issue("localhost").as_config()
        made.config["listeners"].append({"name": "secure", "address": made.secure, "upstream": "gateway", "tls": tls})
        made.start()
        return made

    return make


class Http2:
    """A blocking HTTP/2 client on a raw connection: what is sent is the test's business, what came is in `events`."""

    def __init__(self, world, pki):
        self.connection = RawClient(world.secure, pki.client_context(alpn=("h2",)))
        self.frames = Frames()
        self.events: list = []
        self.flush()

    def flush(self) -> None:
        self.connection.send(self.frames.h2.data_to_send())

    def open(self, method="POST", path="/mcp", fields=(), end=False) -> int:
        number = self.frames.h2.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path), *fields]
        self.frames.h2.send_headers(number, head, end_stream=end)
        self.flush()
        return number

    def ask(self, method="POST", path="/mcp", body=PING, fields=()) -> tuple[int, dict, bytes]:
        number = self.open(method, path, [("content-type", "application/json"), *fields], end=not body)
        if body:
            self.frames.h2.send_data(number, body, end_stream=True)
            self.flush()
        return self.answer(number)

    def answer(self, number: int) -> tuple[int, dict, bytes]:
        """Status, fields and body of stream `number`; Closed if the connection ends before."""
        over = (h2.events.StreamEnded, h2.events.StreamReset)
        while not any(isinstance(event, over) and event.stream_id == number for event in self.events):
            self.receive()
        mine = [event for event in self.events if getattr(event, "stream_id", None) == number]
        fields = next(dict(event.headers) for event in mine if isinstance(event, h2.events.ResponseReceived))
        body = b"".join(event.data for event in mine if isinstance(event, h2.events.DataReceived))
        return int(fields[":status"]), fields, body

    def receive(self) -> None:
        for event in self.frames.receive(self.connection.read_some()):
            self.events.append(event)
        if data := self.frames.h2.data_to_send():
            self.connection.send(data)

    def wait_closed(self) -> float:
        """Seconds until the server ended the connection, by GOAWAY or by closing it."""
        began = time.monotonic()
        try:
            while not any(isinstance(event, GoneAway) for event in self.events):
                self.receive()
        except (Closed, ssl.SSLError):
            pass
        return time.monotonic() - began

    def close(self) -> None:
        self.connection.close()


@pytest.fixture
def http2(pki):
    opened = []

    def make(world) -> Http2:
        opened.append(Http2(world, pki))
        return opened[-1]

    yield make
    for client in opened:
        client.close()


def refused_heads(world, reason: str) -> float:
    return world.metrics().get(f'outrigger_refused_heads_total{{reason="{reason}"}}', 0)


def faults(world, kind: str) -> float:
    return world.metrics().get(f'outrigger_faults_total{{kind="{kind}"}}', 0)


def refused(connection: Connection, status: int) -> bytes:
    """The answer must be `status`, and the last on its connection."""
    answer = connection.read_response()
    assert answer.status == status, answer.raw_head + answer.body
    assert answer.header("connection") == "close"
    connection.wait_closed()
    return answer.body


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
    world = world({"limits": {"headers": "4KiB"}})
    with world.client() as client:
        client.send(head_of(4000))
        assert client.read_response().status == 202
    seen = len(world.upstream.requests)
    for data in (head_of(4200), head_of(4200)[:-2], b"GET /" + b"x" * 5000):
        with world.client() as client:
            client.send(data)
            refused(client, 431)
    assert refused_heads(world, "head_too_large") == 3
    assert len(world.upstream.requests) == seen
    goes_on(world)


def test_a_second_head_is_bounded_like_the_first(world):
    world = world({"limits": {"headers": "4KiB"}})
    with world.client() as client:
        assert client.ask("POST", "/mcp", PING, JSON).status == 200
        client.send(head_of(4200))
        refused(client, 431)


def test_as_many_fields_as_allowed_pass_and_one_more_is_431(world):
    world = world({"limits": {"header_count": 20}})
    fields = [(f"X-{number}", "1") for number in range(19)]
    with world.client() as client:
        assert client.ask("GET", "/any", headers=fields).status == 202
        client.send(request("GET", "/any", headers=[*fields, ("X-One-More", "1")]))
        refused(client, 431)
    assert refused_heads(world, "too_many_fields") == 1
    goes_on(world)


def test_h2_heads_have_the_same_limits(world, http2):
    world = world({"limits": {"headers": "4KiB", "header_count": 20}})
    client = http2(world)
    assert client.ask()[0] == 200
    assert client.ask("GET", "/any", b"", [(f"x-{number}", "1") for number in range(25)])[0] == 431
    assert faults(world, "too_many_fields") == 1
    client = http2(world)
    assert client.ask("GET", "/any", b"", [("x-fill", "f" * 5000)])[0] == 431
    assert client.ask()[0] == 200, "one stream's head is no reason to end the connection"


def test_both_lengths_are_refused(world):
    world = world({})
    for fields in (
        [("Content-Length", "5"), ("Transfer-Encoding", "chunked")],
        [("transfer-encoding", "chunked"), ("content-length", "5")],
        [("Transfer-Encoding", "identity"), ("Content-Length", "5")],
    ):
        with world.client() as client:
            client.send(request("POST", "/mcp", b"0\r\n\r\n", fields))
            refused(client, 400)
    assert refused_heads(world, "two_lengths") == 3
    assert world.upstream.requests == []
    goes_on(world)


# -- the head: time


def drip(connection: Connection, data: bytes, pause: float = 0.1) -> None:
    """Byte by byte until the other end closes."""
    try:
        connection.send_slowly(data, pause=pause)
    except (BrokenPipeError, ConnectionResetError):
        pass


@pytest.mark.parametrize("requests_before", [0, 1])
def test_a_head_that_drips_is_408(requests_before, world):
    world = world({"timeouts": {"request_head": "1s", "idle": "30s"}})
    with world.client() as client:
        for _ in range(requests_before):
            assert client.ask("POST", "/mcp", PING, JSON).status == 200
        began = time.monotonic()
        drip(client, request("POST", "/mcp", PING, JSON)[:30])
        refused(client, 408)
    # Thirty bytes at ten a second: a limit on each read alone would never fire.
    assert refused_heads(world, "head_too_slow") == 1
    assert client.closed_at - began < 3 + SLACK
    goes_on(world)


@pytest.mark.parametrize("requests_before", [0, 1])
def test_a_head_that_stops_is_408_in_time(requests_before, world):
    world = world({"timeouts": {"request_head": "1s", "idle": "30s"}})
    with world.client() as client:
        for _ in range(requests_before):
            assert client.ask("POST", "/mcp", PING, JSON).status == 200
        began = time.monotonic()
        client.send(b"POST /mcp HTTP/1.1\r\nHost: x\r\n")
        assert client.read_head().status == 408
        assert 0.9 < time.monotonic() - began < 1 + SLACK


# -- the body: time


def head_with_length(path: str, length: int) -> bytes:
    return request("POST", path, headers=[*JSON.items(), ("Content-Length", str(length))])


def nothing_left(world) -> None:
    """No connection and no request is still counted."""
    wait_until(lambda: world.metrics()["outrigger_connections"] == 0, what="no connection is counted")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_drips_is_408_for_a_json_rpc_client(chunked, world):
    world = world({"timeouts": {"request_body": "1s"}})
    with world.client() as client:
        if chunked:
            client.send(request("POST", "/mcp", headers=[*JSON.items(), ("Transfer-Encoding", "chunked")]))
        else:
            client.send(head_with_length("/mcp", 1000))
        began = time.monotonic()
        drip(client, b"1\r\n{\r\n1\r\n \r\n1\r\n \r\n1\r\n \r\n" if chunked else b'{"jsonrpc":"2.0","i')
        answer = client.read_response()
        assert answer.status == 408
        assert answer.header("connection") == "close"
        client.wait_closed()
        assert client.closed_at - began < 2.5 + 1 + SLACK
        assert answer.header("content-type") == "application/json"
        assert answer.json["id"] is None
        assert answer.json["error"]["code"] == -32600
    assert faults(world, "body_too_slow") == 1
    assert world.upstream.requests == []
    nothing_left(world)
    goes_on(world)


def test_an_h2_body_that_stops_is_408_and_the_connection_lives(world, http2):
    world = world({"timeouts": {"request_body": "1s"}})
    client = http2(world)
    began = time.monotonic()
    number = client.open(fields=[("content-type", "application/json"), ("content-length", "1000")])
    client.frames.h2.send_data(number, b'{"jsonrpc"')
    client.flush()
    status, _, _ = client.answer(number)
    assert status == 408
    assert 0.9 < time.monotonic() - began < 1 + SLACK
    assert faults(world, "body_too_slow") == 1
    assert world.upstream.requests == []
    assert client.ask()[0] == 200


def test_a_body_that_passes_through_has_the_same_time(world):
    world = world({"timeouts": {"request_body": "1s"}})
    with world.client() as client:
        client.send(head_with_length("/upload", 1000))
        began = time.monotonic()
        drip(client, b"x" * 40)
        assert client.read_head().status == 408
        assert time.monotonic() - began < 4 + SLACK
    goes_on(world)


def test_a_client_that_leaves_inside_its_body_leaves_nothing(world):
    world = world({})
    for leave in (Connection.close, Connection.reset):
        client = world.client()
        client.send(head_with_length("/mcp", 1000) + b"{")
        leave(client)
    nothing_left(world)
    assert world.upstream.requests == []
    assert len(wait_until(lambda: len(world.access_log()) == 2 and world.access_log())) == 2


# -- idle connections


def test_an_idle_connection_is_closed_in_time(world):
    world = world({"timeouts": {"idle": "1s"}})
    silent = world.client()
    used = world.client()
    assert used.ask("POST", "/mcp", PING, JSON).status == 200
    for client in (silent, used):
        began = time.monotonic()
        closed = client.wait_closed()
        assert closed - client.opened_at > 0.9
        assert closed - began < 1 + SLACK
        # Silently: a 408 could be taken for the answer to a request that is just being written.
        assert client.received.count(b"HTTP/1.1") == (client is used)
    nothing_left(world)


def test_an_idle_h2_connection_is_closed_in_time(world, http2):
    world = world({"timeouts": {"idle": "1s"}})
    silent, used = http2(world), http2(world)
    assert used.ask()[0] == 200
    for client in (silent, used):
        assert client.wait_closed() < 1 + SLACK
    nothing_left(world)


def test_a_silent_event_stream_is_not_idle(world, http2, raw_upstream):
    from harness import chunk, event, event_stream_head

    world = world({"timeouts": {"idle": "1s", "first_byte": "1s", "response_idle": "1s", "request_body": "1s"}})

    def stream(connection):
        connection.read_request()
        connection.send(event_stream_head() + chunk(event("first")))
        time.sleep(3.5)
        connection.send(chunk(event("last")))
        connection.wait_closed()

    world.upstream._scripts = (stream,)
    plain = world.client()
    plain.send(request("GET", "/mcp", headers={"Accept": "text/event-stream"}))
    encrypted = http2(world)
    encrypted.open("GET", fields=[("accept", "text/event-stream")], end=True)
    plain.read_until(b"last", patience=6)
    while not any(b"last" in getattr(event, "data", b"") for event in encrypted.events):
        encrypted.receive()
    plain.close()


# -- connections


def test_one_connection_too_many_is_503_and_the_others_work(world):
    world = world({"limits": {"connections": 3}})
    kept = [world.client() for _ in range(3)]
    for client in kept:
        assert client.ask("POST", "/mcp", PING, JSON).status == 200
    for _ in range(2):
        with world.client() as client:
            client.send(request("POST", "/mcp", PING, JSON))
            answer = client.read_response()
            assert answer.status == 503
            assert int(answer.header("retry-after")) >= 1
            client.wait_closed()
    assert refused_heads(world, "too_many_connections") == 2
    for client in kept:
        assert client.ask("POST", "/mcp", PING, JSON).status == 200
    kept.pop().close()
    wait_until(lambda: world.metrics()["outrigger_connections"] == 2)
    goes_on(world)
    for client in kept:
        client.close()


def test_one_h2_connection_too_many_ends_and_the_others_work(world, http2):
    world = world({"limits": {"connections": 1}})
    first = http2(world)
    assert first.ask()[0] == 200
    second = http2(world)
    assert second.wait_closed() < SLACK
    assert first.ask()[0] == 200
    assert refused_heads(world, "too_many_connections") == 1
    first.close()
    nothing_left(world)
    assert http2(world).ask()[0] == 200
