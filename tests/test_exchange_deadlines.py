"""Every wait has an end of its own: for a request's head and body, an answer's first byte and next, a slow reader."""

import json
import threading
import time

import pytest

from harness import JSON, LAST_CHUNK, PATIENCE, answering, chunk, event, event_stream_head, request, response
from harness.stage import BOTH, MCP, a_stage, call, closed_at, read_all, read_cut, result

FIRST_BYTE = RESPONSE_IDLE = 0.4
REQUEST = 0.5
WRITE = 0.6

stage = a_stage(
    {
        "timeouts": {
            "first_byte": "400ms",
            "response_idle": "400ms",
            "request_head": "500ms",
            "request_body": "500ms",
            "write": "600ms",
            "idle": "1s",
        },
    }
)


def within(seconds: float, limit: float) -> bool:
    """Not before the limit, and soon after; the machine may be busy, and any other limit is a minute."""
    return limit * 0.8 < seconds < limit + 10


def silent_after(begun: bytes = b""):
    def script(connection):
        connection.read_request()
        if begun:
            connection.send(begun)
        connection.wait_closed()

    return script


@BOTH
def test_no_first_byte_is_a_504_with_the_id(stage, protocol):
    with stage.playing(silent_after()) as upstream, stage.client(protocol) as client:
        started = time.monotonic()
        reply = client.ask("POST", MCP, call("tools/call", id="slow"), JSON)
        took = time.monotonic() - started
        assert within(took, FIRST_BYTE), took
        assert (reply.status, reply.json["id"], reply.json["error"]["code"]) == (504, "slow", -32603)
        closed_at(upstream.connection())
        # A notification is not answered, and the client's connection lives on.
        reply = client.ask("POST", MCP, call("notifications/x", id=None), JSON)
        assert (reply.status, reply.body) == (504, b"")
    assert len(upstream.requests) == 2, "a request that may have run was sent again"


@BOTH
def test_no_first_byte_of_what_passes_is_a_504_too(stage, protocol):
    with stage.playing(silent_after()) as upstream, stage.client(protocol) as client:
        started = time.monotonic()
        assert client.ask("POST", "/admin", b"x").status == 504
        assert within(time.monotonic() - started, FIRST_BYTE)
    assert len(upstream.requests) == 1


@BOTH
@pytest.mark.parametrize("begun", [b"HTTP/1.1 200 O", b"HTTP/1.1 100 Continue\r\n\r\n"], ids=["part of a head", "100"])
def test_a_head_begun_is_no_head(stage, protocol, begun):
    with stage.playing(silent_after(begun)), stage.client(protocol) as client:
        started = time.monotonic()
        reply = client.ask("POST", MCP, call(id=3), JSON)
        assert (reply.status, reply.json["id"]) == (504, 3)
        assert within(time.monotonic() - started, FIRST_BYTE)


@BOTH
@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
def test_an_answer_that_falls_silent_is_cut(stage, protocol, framing):
    """One to a request does not leave before it is whole: test_failures_long.py."""
    some = b"1e\r\n" if "chunked" in framing else b""
    begun = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{framing}\r\n\r\n".encode() + some + b'{"jsonrpc"'
    with stage.playing(silent_after(begun)) as upstream, stage.client(protocol) as client:
        started = time.monotonic()
        answer = client.begin("GET", MCP)
        assert answer.read_head().status == 200
        read_cut(answer)
        assert within(time.monotonic() - started, RESPONSE_IDLE)
        closed_at(upstream.connection())


@BOTH
def test_a_slow_answer_that_keeps_coming_is_not_cut(stage, protocol):
    pieces, answer = 40, json.dumps(result()).encode()

    def script(connection):
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        # Twice the limit in all, in steps that even a busy machine takes in time.
        for _ in range(pieces):
            time.sleep(2 * RESPONSE_IDLE / pieces)
            connection.send(chunk(b" "))
        connection.send(chunk(answer) + LAST_CHUNK)

    with stage.playing(script), stage.client(protocol) as client:
        assert client.ask("POST", MCP, call(), JSON).body == b" " * pieces + answer


@BOTH
@pytest.mark.parametrize(
    ("method", "type_"), [("GET", "text/event-stream"), ("POST", "Text/Event-Stream; charset=utf-8")]
)
def test_an_event_stream_may_be_silent(stage, protocol, method, type_):
    quiet = 3 * RESPONSE_IDLE

    def script(connection):
        connection.read_request()
        connection.send(event_stream_head().replace(b"text/event-stream", type_.encode()) + chunk(event("before")))
        time.sleep(quiet)
        connection.send(chunk(event(result())) + LAST_CHUNK)

    with stage.playing(script), stage.client(protocol) as client:
        answer = client.begin(method, MCP, call() if method == "POST" else b"", JSON)
        assert answer.read_head().status == 200
        assert read_all(answer) == [event("before"), event(result())]


@BOTH
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_client_that_does_not_read_is_given_up(stage, protocol, method):
    """What fits into the buffers between goes; then one write hangs, and both ends are closed."""
    ended = threading.Event()

    def endless(connection):
        connection.read_request()
        connection.send(event_stream_head())
        try:
            while True:
                connection.send(chunk(b": " + b"x" * 65536 + b"\n\n"))
        finally:
            ended.set()

    with stage.playing(endless), stage.client(protocol) as client:
        client.reading = False
        answer = client.begin(method, MCP, call() if method == "POST" else b"", JSON)
        assert answer.read_head().status == 200
        assert ended.wait(PATIENCE), "the upstream still writes to a client that does not read"
        # Should the client read on after all, it must not take what it got for the whole.
        client.reading = True
        read_cut(answer)


def test_a_request_head_in_drops_is_bounded(stage):
    with stage.playing() as upstream, stage.client() as client:
        started = time.monotonic()
        client.send(b"POST /servers/s1/mcp HTTP/1.1\r\nHost: lo")
        reply = client.read_response()
        assert (reply.status, reply.header("connection")) == (408, "close")
        assert within(time.monotonic() - started, REQUEST)
        client.wait_closed()
    assert upstream.connections == []


@BOTH
@pytest.mark.parametrize("path", [MCP, "/mcp"])
def test_half_a_body_is_bounded(stage, protocol, path):
    body = call("tools/call", id=5, name="x")
    with stage.playing() as upstream, stage.client(protocol) as client:
        started = time.monotonic()
        if protocol == "h1":
            client.send(
                b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(body))
            )
            client.send(body[:20])
            reply = client.read_response()
            assert reply.header("connection") == "close"
        else:
            answer = client.begin("POST", path, None, JSON)
            answer.send(body[:20])
            reply = answer.read_response()
        assert reply.status == 408
        assert within(time.monotonic() - started, REQUEST)
    assert upstream.connections == []


@BOTH
def test_drops_do_not_buy_time(stage, protocol):
    """The deadline is the body's, not the next byte's."""
    with stage.playing() as upstream, stage.client(protocol) as client:
        started = time.monotonic()
        if protocol == "h1":
            client.send(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
            client.drip(b" ")
            reply = client.read_response()
        else:
            answer = client.begin("POST", "/mcp", None, JSON)
            answer.drip(b" ")
            reply = answer.read_response()
        assert reply.status == 408
        assert within(time.monotonic() - started, REQUEST)
    assert upstream.connections == []


def test_one_slow_stream_does_not_hold_up_the_others(stage):
    with stage.playing(answering(response(200, result()))), stage.client("h2") as client:
        slow = client.begin("POST", MCP, None, JSON)
        slow.send(b"{")
        assert client.ask("POST", MCP, call(), JSON).status == 200
        assert slow.read_response().status == 408
        assert client.ask("POST", MCP, call(), JSON).status == 200


@pytest.mark.parametrize("protocol", ["h1", "h1-tls"])
def test_a_connection_without_a_request_is_closed(stage, protocol):
    with (
        stage.playing(answering(response(200, result()))),
        stage.client(protocol) as fresh,
        stage.client(protocol) as used,
    ):
        started = time.monotonic()
        used.ask("POST", MCP, call(), JSON)
        assert used.wait_closed() - started > 0.9
        fresh.wait_closed()


def test_what_an_upstream_says_of_a_body_that_it_does_not_take_is_heard(outrigger, raw_upstream):
    """Servers refuse by the head alone (no token, too large); some close on the rest of the body, some let it lie."""
    refusal = response(401, {"detail": "expired"}, {"WWW-Authenticate": "Bearer"})
    release = threading.Event()

    def closing(connection):
        connection.read_head()
        connection.send(refusal)

    def leaving(connection):
        closing(connection)
        release.wait(PATIENCE)

    body = call("tools/call", x="x" * (16 << 20))
    upstream = raw_upstream(closing, leaving, answering(response(200, result(ok=True))))
    world = outrigger([upstream.address], {"timeouts": {"write": "600ms"}, "limits": {"body": "64MiB"}})
    with world.client() as client:
        for _ in ("closing", "leaving"):
            reply = client.ask("POST", MCP, body, JSON)
            assert (reply.status, reply.json["id"], reply.header("www-authenticate")) == (401, 7, "Bearer")
        assert client.ask("POST", MCP, call("tools/call"), JSON).json == result(ok=True)
        release.set()
    assert len(upstream.connections) == 3, "no other request lies behind half of one"


def test_an_upstream_that_does_not_take_the_request_is_given_up(outrigger, raw_upstream):
    release = threading.Event()
    upstream = raw_upstream(lambda connection: release.wait(PATIENCE))
    world = outrigger([upstream.address], {"timeouts": {"write": "600ms"}, "limits": {"body": "64MiB"}})
    body = b'{"jsonrpc":"2.0","id":6,"method":"tools/call","params":{"x":"' + b"x" * (16 << 20) + b'"}}'
    with world.client() as client:
        client.send(request("POST", MCP, body, JSON))
        started = time.monotonic()
        reply = client.read_response()
        release.set()
        assert (reply.status, reply.json["id"]) == (502, 6)
        assert time.monotonic() - started < WRITE + 10
