"""A client that goes away is noticed at once, before and during its answer, and the upstream is let go."""

import statistics
import threading
import time

import pytest

from harness import (
    JSON,
    LAST_CHUNK,
    PATIENCE,
    answering,
    chunk,
    event,
    event_stream_head,
    request,
    response,
    wait_until,
)
from harness.stage import BOTH, LEAVING, MCP, a_stage, call, closed_at, leave, read_all, result

#: Seconds from the client's leaving to the end of the upstream's connection: some milliseconds on an idle machine, on a
#: busy one still far less than whatever else could end it.
AT_ONCE = 2.0

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"

stage = a_stage(hop="always")


def at_work(connection):
    """Script: takes the request and answers nothing."""
    connection.read_request()
    connection.wait_closed()


def streaming(connection):
    """Script: one event, then silence."""
    connection.read_request()
    connection.send(event_stream_head() + chunk(event("first")))
    connection.wait_closed()


def half_answered(connection):
    connection.read_request()
    connection.send(CHUNKED + chunk(b"["))
    connection.wait_closed()


@LEAVING
@pytest.mark.parametrize(("method", "body"), [("POST", call("tools/call", name="x")), ("GET", b"")])
def test_gone_before_the_answer(stage, protocol, how, method, body):
    delays = []
    with stage.playing(at_work) as upstream:
        for number in range(3):
            client = stage.client(protocol)
            answer = client.begin(method, MCP, body, JSON)
            connection = upstream.connection(number)
            _wait_for_request(connection)
            left = leave(client, answer, how)
            delays.append(closed_at(connection) - left)
            client.close()
    assert statistics.median(delays) < AT_ONCE, delays
    assert len(upstream.requests) == 3, "a request was sent again although nobody waits for it"


@LEAVING
@pytest.mark.parametrize(
    ("method", "body", "script"), [("POST", call(), streaming), ("GET", b"", streaming), ("GET", b"", half_answered)]
)
def test_gone_during_the_answer(stage, protocol, how, method, body, script):
    delays = []
    with stage.playing(script) as upstream:
        for number in range(3):
            client = stage.client(protocol)
            answer = client.begin(method, MCP, body, JSON)
            assert answer.read_head().status == 200
            assert answer.read_piece()
            left = leave(client, answer, how)
            delays.append(closed_at(upstream.connection(number)) - left)
            client.close()
    assert statistics.median(delays) < AT_ONCE, delays


@LEAVING
def test_gone_while_the_body_was_still_coming(stage, protocol, how):
    """Nothing reaches the upstream of a request that was not sent whole."""
    with stage.playing(answering(response(200, result()))) as upstream:
        client = stage.client(protocol)
        if protocol == "h1":
            client.send(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{")
            client.reset() if how == "rst" else client.close()
        else:
            unfinished = client.begin("POST", "/mcp", None, JSON)
            unfinished.send(b"{")
            leave(client, unfinished, how)
        with stage.client() as other:
            assert other.ask("POST", MCP, call(), JSON).status == 200
    assert len(upstream.requests) == 1


def test_other_streams_of_the_connection_go_on(stage):
    with stage.playing(streaming) as upstream, stage.client("h2") as client:
        calls = [client.begin("POST", MCP, call(id=number), JSON) for number in range(6)]
        for answer in calls:
            assert answer.read_piece() == event("first")
        assert len(upstream.connections) == 6
        for answer in calls[:3]:
            answer.reset()
        wait_until(lambda: sum(connection.closed for connection in upstream.connections) == 3)
        open_ones = [connection for connection in upstream.connections if not connection.closed]
        assert len(open_ones) == 3
        for connection in open_ones:
            connection.send(chunk(event(result(connection.requests[0].json["id"]))) + LAST_CHUNK)
        assert [read_all(answer) for answer in calls[3:]] == [[event(result(number))] for number in range(3, 6)]


def test_a_half_close_counts_as_leaving(stage):
    with stage.playing(at_work) as upstream, stage.client() as client:
        client.send(request("POST", MCP, call(), JSON))
        _wait_for_request(upstream.connection())
        left = time.monotonic()
        client.finish_sending()
        assert closed_at(upstream.connection()) - left < AT_ONCE
        client.wait_closed()


def test_gone_is_accounted_as_the_clients_doing(stage):
    with stage.playing(streaming), stage.client() as client:
        answer = client.begin("POST", "/servers/leaver/mcp", call(), JSON)
        answer.read_head()
        client.reset()
        lines = wait_until(lambda: [line for line in stage.world.access_log() if line.get("server_id") == "leaver"])
    assert (lines[0]["client_gone"], lines[0].get("fault")) == (True, None)


@pytest.mark.parametrize("second", [request("POST", MCP, call(id=2), JSON), b"P", b"\r\n"], ids=["whole", "P", "CRLF"])
@pytest.mark.parametrize("begun", [False, True], ids=["before the answer", "during the answer"])
def test_a_pipelined_request_does_not_break_the_first_answer(stage, second, begun):
    body = [b'{"jsonrpc":"2.0",', b'"id":1,', b'"result":{"a":1}}']
    pipelined = threading.Event()

    def script(connection):
        connection.read_request()
        if begun:
            connection.send(CHUNKED + chunk(body[0]))
        assert pipelined.wait(PATIENCE)
        time.sleep(0.05)
        connection.send(b"" if begun else CHUNKED + chunk(body[0]))
        for piece in body[1:]:
            connection.send(chunk(piece))
            time.sleep(0.02)
        connection.send(LAST_CHUNK)
        while True:
            connection.read_request()
            connection.send(response(200, result(2)))

    with stage.playing(script) as upstream, stage.client() as client:
        # What answers a request has not begun before it is whole.
        answer = client.begin("GET", MCP) if begun else client.begin("POST", MCP, call(id=1), JSON)
        _wait_for_request(upstream.connection())
        if begun:
            assert answer.read_head().status == 200
        client.send(second)
        pipelined.set()
        if not begun:
            assert answer.read_head().status == 200
        assert b"".join(read_all(answer)) == b"".join(body)


def test_two_requests_in_one_packet(stage):
    """The second is answered, or the first answer announces a close: it is never lost on a connection that lives on."""
    with stage.playing(answering(response(200, result(1)))) as upstream, stage.client() as client:
        client.send(request("POST", MCP, call(id=1), JSON) + request("POST", MCP, call(id=2), JSON))
        first = client.read_response()
        assert (first.status, first.json) == (200, result(1))
        if first.header("connection") == "close":
            client.wait_closed()
            assert len(upstream.requests) == 1
        else:
            assert client.read_response().status == 200
            assert len(upstream.requests) == 2


@BOTH
def test_many_who_leave_leave_nothing_behind(stage, protocol):
    with stage.playing(streaming) as upstream:
        clients = [stage.client(protocol) for _ in range(8)]
        each = 5 if protocol == "h2" else 1
        calls = [(client, client.begin("GET", MCP, b"", JSON)) for client in clients for _ in range(each)]
        for _, answer in calls:
            assert answer.read_piece() if protocol == "h2" else answer.read_head()
        for client, answer in calls:
            leave(client, answer, "rst")
        for connection in upstream.connections:
            closed_at(connection)
        for client in clients:
            client.close()
    assert len(upstream.connections) == len(calls)
    wait_until(lambda: stage.world.metrics()["outrigger_connections"] == 0)
    assert stage.world.metrics()["outrigger_streams"] == 0


def _wait_for_request(connection):
    wait_until(lambda: connection.requests, what="the request at the upstream")
