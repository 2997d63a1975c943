"""Event streams: every event leaves as it came and when it came, however it was cut on the way."""

import random
import statistics
import threading
import time

import pytest

from harness import JSON, LAST_CHUNK, PATIENCE, chunk, event, event_stream_head, response
from harness.stage import BOTH, MCP, a_stage, call, read_all, read_cut, result

#: Seconds that an undisturbed event may take: Outrigger needs under a millisecond, a held packet 40.
DELAY = 0.02

stage = a_stage(hop="always")

WAYS = pytest.mark.parametrize(
    ("method", "path"), [("POST", MCP), ("GET", MCP), ("GET", "/mcp"), ("GET", "/sse"), ("GET", "/events")]
)


def begin(client, method, path):
    return client.begin(method, path, call() if method == "POST" else b"", {"Accept": "text/event-stream"})


@BOTH
@WAYS
def test_events_are_not_held_back(stage, protocol, method, path):
    """The next event is sent only when the one before has come, so a held event would hang the test."""
    sent, came = [], threading.Semaphore(1)

    def script(connection):
        connection.read_request()
        connection.send(event_stream_head())
        for number in range(20):
            assert came.acquire(timeout=PATIENCE)
            time.sleep(0.005)
            sent.append(time.monotonic())
            connection.send(chunk(event({"n": number}, id=str(number))))
        connection.send(LAST_CHUNK)

    delays = []
    with stage.playing(script), stage.client(protocol) as client:
        answer = begin(client, method, path)
        assert answer.read_head().header("content-type") == "text/event-stream"
        for number in range(20):
            assert answer.read_piece() == event({"n": number}, id=str(number))
            delays.append(time.monotonic() - sent[number])
            came.release()
        assert answer.read_piece() == b""
    assert statistics.quantiles(delays, n=4)[0] < DELAY, delays


@BOTH
def test_the_head_of_a_stream_does_not_wait_for_its_first_event(stage, protocol):
    go_on = threading.Event()

    def script(connection):
        connection.read_request()
        connection.send(event_stream_head())
        assert go_on.wait(PATIENCE)
        connection.send(chunk(event("late")) + LAST_CHUNK)

    with stage.playing(script), stage.client(protocol) as client:
        answer = begin(client, "GET", MCP)
        assert answer.read_head().status == 200
        go_on.set()
        assert read_all(answer) == [event("late")]


@BOTH
@pytest.mark.parametrize("framing", ["length", "until close"])
def test_a_stream_without_chunks_is_not_held_back_either(stage, protocol, framing):
    events = [*(event({"n": number}) for number in range(5)), event(result())]
    came = threading.Semaphore(1)

    def script(connection):
        connection.read_request()
        length = f"Content-Length: {sum(map(len, events))}\r\n" if framing == "length" else ""
        connection.send(f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{length}\r\n".encode())
        for piece in events:
            assert came.acquire(timeout=PATIENCE)
            connection.send(piece)
        connection.finish_sending()
        connection.wait_closed()

    with stage.playing(script), stage.client(protocol) as client:
        answer = begin(client, "POST", MCP)
        answer.read_head()
        for piece in events:
            assert answer.read_piece() == piece
            came.release()
        assert answer.read_piece() == b""


#: What a stream may hold that somebody might want to tidy up (WHATWG HTML section 9.2).
ODD = (
    b"\xef\xbb\xbfdata: after a byte order mark\n\n"
    b": comment\n:\n\n"
    b"retry: 1500\r\nid: 1\r\ndata: CRLF\r\n\r\n"
    b"data: CR\r\rid\rdata\r\r"
    b"event: message\ndata:no space\ndata:  two spaces\ndata\n\n"
    b'id: zero\x00byte\ndata: {"jsonrpc":"2.0","method":"x","params":{"server_id":"other"}}\n\n'
    b"data: caf\xc3\xa9 \xf0\x9f\x8e\x89\ndata: \xff\xfe not UTF-8\n\n"
    b"event: endpoint\ndata: /messages/?session_id=abc\n\n"
    b"unknown: field\ndata: " + b"long " * 5000 + b"\n\n"
    b"data: never finished"
)


@BOTH
@WAYS
@pytest.mark.parametrize("cut", ["whole", "bytes", "random"])
def test_the_bytes_of_a_stream_are_not_touched(stage, protocol, method, path, cut):
    rng = random.Random(7)

    def script(connection):
        connection.read_request()
        wire = b""
        at = 0
        while at < len(ODD):
            size = {"whole": len(ODD), "bytes": 1 if at < 800 else 4000, "random": rng.randrange(1, 200)}[cut]
            wire += chunk(ODD[at : at + size])
            at += size
        connection.send(event_stream_head())
        if cut == "whole":
            connection.send(wire)
        else:
            connection.send_slowly(wire, piece=rng.randrange(700, 1100), pause=0.0005)
        connection.send(LAST_CHUNK)

    with stage.playing(script), stage.client(protocol) as client:
        answer = begin(client, method, path)
        answer.read_head()
        assert b"".join(read_all(answer)) == ODD


@BOTH
@pytest.mark.parametrize("path", ["/sse", "/servers/s1/sse"])
def test_an_endpoint_event_arrives_whole_wherever_it_is_cut(stage, protocol, path):
    first = b": hello\n\nevent: endpoint\r\ndata: /servers/s1/message?session_id=0123\r\n\r\n"
    then = event({"n": 1})

    def script(connection):
        connection.read_request()
        connection.send(event_stream_head())
        for at in range(len(first)):
            connection.send_slowly(chunk(first[at : at + 1]), piece=6, pause=0.0005)
        connection.send(chunk(then) + LAST_CHUNK)

    with stage.playing(script), stage.client(protocol) as client:
        answer = begin(client, "GET", path)
        answer.read_head()
        assert b"".join(read_all(answer)) == first + then


@BOTH
def test_a_comment_before_the_endpoint_event_is_not_held(stage, protocol):
    go_on = threading.Event()

    def script(connection):
        connection.read_request()
        connection.send(event_stream_head() + chunk(b": wait\n\n"))
        assert go_on.wait(PATIENCE)
        connection.send(chunk(b"event: endpoint\ndata: /messages/?session_id=9\n\n") + LAST_CHUNK)

    with stage.playing(script), stage.client(protocol) as client:
        answer = begin(client, "GET", "/sse")
        answer.read_head()
        assert answer.read_piece() == b": wait\n\n"
        go_on.set()
        assert read_all(answer) == [b"event: endpoint\ndata: /messages/?session_id=9\n\n"]


@BOTH
@pytest.mark.parametrize("path", [MCP, "/sse"])
def test_a_stream_cut_in_an_event_looks_cut(stage, protocol, path):
    def script(connection):
        connection.read_request()
        connection.send(event_stream_head() + chunk(event("whole")) + chunk(b"event: endpoint\ndata: ha"))

    with stage.playing(script), stage.client(protocol) as client:
        answer = begin(client, "GET", path)
        answer.read_head()
        assert event("whole").startswith(read_cut(answer)[: len(event("whole"))])


def test_streams_of_one_connection_do_not_wait_for_each_other(stage):
    turns = {number: threading.Semaphore(0) for number in range(20)}

    def script(connection):
        number = connection.read_request().json["id"]
        connection.send(event_stream_head())
        for turn in range(3):
            assert turns[number].acquire(timeout=PATIENCE)
            connection.send(chunk(event(result(number, turn=turn))))
        connection.send(LAST_CHUNK)

    with stage.playing(script), stage.client("h2") as client:
        answers = {number: client.begin("POST", MCP, call(id=number), JSON) for number in turns}
        for answer in answers.values():
            answer.read_head()
        for turn in range(3):
            for number in random.Random(turn).sample(sorted(turns), len(turns)):
                turns[number].release()
                assert answers[number].read_piece() == event(result(number, turn=turn))
        assert [answer.read_piece() for answer in answers.values()] == [b""] * len(turns)


@BOTH
def test_fields_that_keep_a_stream_flowing_arrive(stage, protocol):
    fields = {"X-Accel-Buffering": "no", "Mcp-Session-Id": "abc", "MCP-Protocol-Version": "2025-11-25"}

    def script(connection):
        connection.read_request()
        head = event_stream_head(fields).replace(b"no-cache", b"no-cache, no-transform")
        connection.send(head + chunk(event("x")) + LAST_CHUNK)

    with stage.playing(script), stage.client(protocol) as client:
        head = begin(client, "GET", MCP).read_head()
    assert head.header("cache-control") == "no-cache, no-transform"
    assert {name: head.header(name) for name in fields} == fields


@BOTH
def test_a_stream_that_ended_gives_its_connection_back(stage, protocol):
    def script(connection):
        connection.read_request()
        connection.send(event_stream_head() + chunk(event(result())) + LAST_CHUNK)
        connection.read_request()
        connection.send(response(200, result(again=True)))
        connection.wait_closed()

    with stage.playing(script) as upstream, stage.client(protocol) as client:
        assert client.ask("POST", MCP, call(), JSON).body == event(result())
        assert client.ask("POST", MCP, call(), JSON).json == result(again=True)
    assert len(upstream.connections) == 1
