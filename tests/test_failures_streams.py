"""Event streams end honestly: with an error where the client would wait for ever, with a cut where it can resume."""

import gzip
import json
import threading
import time

import pytest

from harness import (
    JSON,
    LAST_CHUNK,
    Outrigger,
    RawClient,
    RawUpstream,
    chunk,
    event,
    event_stream_head,
    free_port,
    request,
)
from harness.stage import BOTH, MCP, a_stage, call, closed_at, read_all, read_cut, result

#: Seconds of silence until a comment comes.
KEEPALIVE = 0.3
stage = a_stage({"timeouts": {"stream_keepalive": "300ms", "response_idle": "100ms", "first_byte": "5s"}})

COMMENT = b":\n\n"
PROGRESS = event({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 7, "progress": 1}})
ANSWER = event(result(a=1))
MODERN = {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}


def streaming(*events: bytes, end: str):
    """Script: these events, then an end as HTTP wants it, a close, or a reset."""

    def script(connection):
        connection.read_request()
        connection.send(event_stream_head() + b"".join(map(chunk, events)))
        if end == "orderly":
            connection.send(LAST_CHUNK)
            connection.wait_closed()
        elif end == "reset":
            connection.reset()
        else:
            connection.close()

    return script


def begin(client, body: bytes = call("tools/call"), method: str = "POST", path: str = MCP):
    answer = client.begin(method, path, body, {**JSON, "Accept": "application/json, text/event-stream"})
    head = answer.read_head()
    assert (head.status, head.header("content-type")) == (200, "text/event-stream")
    return answer


ENDS = pytest.mark.parametrize("end", ["orderly", "close", "reset"])


@BOTH
@ENDS
@pytest.mark.parametrize("events", [(), (PROGRESS,), (b": wait\r\n\r\n", PROGRESS, event(result(id=8)))])
def test_a_stream_without_its_answer_ends_with_an_error(stage, protocol, events, end):
    with stage.playing(streaming(*events, end=end)), stage.client(protocol) as client:
        answer = client.ask("POST", MCP, call("tools/call"), JSON)
        assert answer.header("content-type") == "text/event-stream"
        whole = answer.body
        assert whole.startswith(b"".join(events))
        last = whole[len(b"".join(events)) :]
        assert last.startswith(b"event: message\ndata: ") and last.endswith(b"\n\n")
        error = json.loads(last[21:])
        assert (error["jsonrpc"], error["id"], error["error"]["code"]) == ("2.0", 7, -32603)
        if end != "orderly":
            # The client's connection lives on.
            assert client.ask("POST", MCP, call("tools/call"), JSON).body == whole


@BOTH
@ENDS
def test_a_stream_with_an_event_id_is_left_to_be_resumed(stage, protocol, end):
    first = event("", id="1")
    with stage.playing(streaming(first, PROGRESS, end=end)), stage.client(protocol) as client:
        answer = begin(client)
        if end == "orderly":
            assert b"".join(read_all(answer)) == first + PROGRESS
        else:
            assert (first + PROGRESS).startswith(read_cut(answer))


@BOTH
@ENDS
def test_a_modern_stream_cannot_be_resumed(stage, protocol, end):
    first = event({"jsonrpc": "2.0", "method": "x"}, id="1")
    with stage.playing(streaming(first, end=end)), stage.client(protocol) as client:
        whole = b"".join(read_all(begin(client, call("tools/call", **MODERN))))
        assert json.loads(whole[len(first) + 21 :])["id"] == 7


@BOTH
@pytest.mark.parametrize("end", ["orderly", "close"])
def test_a_subscription_ends_as_it_ended(stage, protocol, end):
    """An error would be an answer, and an answer would end it for good; its client asks anew."""
    with stage.playing(streaming(PROGRESS, end=end)), stage.client(protocol) as client:
        answer = begin(client, call("subscriptions/listen", **MODERN))
        if end == "orderly":
            assert b"".join(read_all(answer)) == PROGRESS
        else:
            assert PROGRESS.startswith(read_cut(answer))


@BOTH
@ENDS
@pytest.mark.parametrize("answer", [ANSWER, event({"jsonrpc": "2.0", "id": 7, "error": {"code": 1, "message": "m"}})])
def test_nothing_is_added_to_a_stream_with_its_answer(stage, protocol, answer, end):
    with stage.playing(streaming(PROGRESS, answer, end=end)), stage.client(protocol) as client:
        reply = begin(client)
        got = b"".join(read_all(reply)) if end == "orderly" else read_cut(reply)
        assert (PROGRESS + answer).startswith(got)
        assert end != "orderly" or got == PROGRESS + answer


@BOTH
def test_a_long_answer_is_known_for_one(stage, protocol):
    long = event({"result": {"content": [{"text": 'x"}{' * 100_000}]}, "jsonrpc": "2.0", "id": 7})
    pieces = [long[at : at + 30_000] for at in range(0, len(long), 30_000)]
    with stage.playing(streaming(*pieces, end="orderly")), stage.client(protocol) as client:
        assert b"".join(read_all(begin(client))) == long


@BOTH
@ENDS
@pytest.mark.parametrize("half", [b'data: {"jsonrpc":"2.0","id":7,"resu', b"event: mess", b"data: x\n", b": comm"])
def test_an_error_is_never_written_into_an_event(stage, protocol, half, end):
    with stage.playing(streaming(PROGRESS, half, end=end)), stage.client(protocol) as client:
        assert (PROGRESS + half).startswith(read_cut(begin(client)))


@BOTH
@pytest.mark.parametrize("end", ["orderly", "close"])
@pytest.mark.parametrize("path", [MCP, "/sse"])
def test_a_stream_of_a_get_ends_as_it_ended(stage, protocol, path, end):
    with stage.playing(streaming(PROGRESS, end=end)), stage.client(protocol) as client:
        answer = begin(client, b"", "GET", path)
        if end == "orderly":
            assert b"".join(read_all(answer)) == PROGRESS
        else:
            assert PROGRESS.startswith(read_cut(answer))


@BOTH
@pytest.mark.parametrize(("method", "path"), [("POST", MCP), ("GET", MCP), ("GET", "/sse")])
def test_an_idle_stream_gets_comments_between_its_events(stage, protocol, method, path):
    go_on = threading.Event()

    def script(connection):
        connection.read_request()
        connection.send(event_stream_head())
        assert go_on.wait(10)
        connection.send(chunk(PROGRESS))
        time.sleep(KEEPALIVE * 2.5)
        connection.send(chunk(ANSWER) + LAST_CHUNK)
        connection.wait_closed()

    with stage.playing(script), stage.client(protocol) as client:
        answer = begin(client, call("tools/call") if method == "POST" else b"", method, path)
        for _ in range(3):
            began = time.monotonic()
            assert answer.read_piece(patience=5) == COMMENT
            assert time.monotonic() - began > KEEPALIVE / 2
        go_on.set()
        rest = b"".join(read_all(answer))
    assert rest.replace(COMMENT, b"") == PROGRESS + ANSWER
    assert PROGRESS + COMMENT in rest


@BOTH
def test_no_comment_is_written_into_an_event(stage, protocol):
    first, second = ANSWER[:20], ANSWER[20:]

    def script(connection):
        connection.read_request()
        connection.send(event_stream_head() + chunk(first))
        time.sleep(KEEPALIVE * 3)
        connection.send(chunk(second) + LAST_CHUNK)
        connection.wait_closed()

    with stage.playing(script), stage.client(protocol) as client:
        whole = b"".join(read_all(begin(client)))
        assert ANSWER in whole and whole.replace(COMMENT, b"") == ANSWER


HOLLOW = event({"jsonrpc": "2.0", "id": 7, "result": {}})


@BOTH
@pytest.mark.parametrize("cut", [len(HOLLOW), 1, 30])
def test_an_answer_of_nothing_masks_a_failure_here_too(stage, protocol, cut):
    pieces = [HOLLOW[at : at + cut] for at in range(0, len(HOLLOW), cut)]
    events = [PROGRESS, *pieces, PROGRESS]
    with stage.playing(streaming(*events, end="orderly")), stage.client(protocol) as client:
        whole = client.ask("POST", MCP, call("tools/call"), JSON).body
    assert whole.startswith(PROGRESS + b"data: ") and whole.endswith(b"\n\n" + PROGRESS)
    error = json.loads(whole[len(PROGRESS) + 6 : -len(PROGRESS)])
    assert (error["jsonrpc"], error["id"], error["error"]["code"]) == ("2.0", 7, -32603)


@BOTH
def test_unless_it_answers_another_or_may_be_one_of_nothing(stage, protocol):
    other = event({"jsonrpc": "2.0", "id": 8, "result": {}})
    for method, events in [("tools/call", [other, ANSWER]), ("ping", [HOLLOW]), ("vendor/thing", [HOLLOW])]:
        with stage.playing(streaming(*events, end="orderly")), stage.client(protocol) as client:
            assert client.ask("POST", MCP, call(method), JSON).body == b"".join(events)


CODED = gzip.compress(ANSWER)


@BOTH
@pytest.mark.parametrize(("method", "path"), [("POST", MCP), ("GET", MCP), ("GET", "/sse")])
def test_a_stream_that_cannot_be_read_is_left_alone(stage, protocol, method, path):
    """Nobody asked for a coding. No comment fits between events that nobody sees, and nothing waits for their ends."""
    go_on = threading.Event()

    def script(connection):
        connection.read_request()
        connection.send(event_stream_head({"Content-Encoding": "gzip"}))
        time.sleep(KEEPALIVE * 2)
        connection.send(chunk(CODED[:20]))
        assert go_on.wait(10)
        connection.send(chunk(CODED[20:]) + LAST_CHUNK)
        connection.wait_closed()

    with stage.playing(script), stage.client(protocol) as client:
        answer = begin(client, call("tools/call") if method == "POST" else b"", method, path)
        assert answer.read_piece() == CODED[:20]
        go_on.set()
        assert b"".join(read_all(answer)) == CODED[20:]


@pytest.mark.long
def test_a_stream_whose_machine_is_gone_ends_like_any_other(namespaces, tmp_path):
    """Packets vanish, and nobody is told; our own comments would keep the client waiting for ever."""

    def script(connection):
        connection.read_request()
        connection.send(event_stream_head() + chunk(PROGRESS))
        connection.wait_closed()

    place = namespaces.place("pod-one")
    upstream = RawUpstream(script, host=namespaces.redis_host)
    keepalive = {"timeouts": {"stream_keepalive": "1s"}}
    world = Outrigger(tmp_path, [upstream.address], keepalive, host=place.front, launcher=place.launcher)
    try:
        with world.client() as client:
            client.send(request("POST", MCP, call("tools/call"), JSON))
            assert client.read_head().status == 200
            assert client.read_chunk() == PROGRESS
            namespaces.cut_off(0)
            got = b"".join(iter(lambda: client.read_chunk(patience=60), b""))
            assert json.loads(got.replace(COMMENT, b"")[21:])["id"] == 7
    finally:
        world.end()
        upstream.close()


@pytest.mark.long
@pytest.mark.parametrize("comments", ["1s", None])
def test_a_client_whose_machine_is_gone_leaves_its_stream(namespaces, tmp_path, comments):
    """Many servers allow a session one stream: nobody who comes back may be refused for the sake of one who is gone.

    With comments, these are not acknowledged; without, nothing is under way that could be missed.
    """

    go_on = threading.Event()

    def script(connection):
        connection.read_request()
        connection.send(event_stream_head() + chunk(PROGRESS))
        connection.wait_closed(patience=60)
        go_on.set()

    def staying(connection):
        connection.read_request()
        connection.send(event_stream_head() + chunk(PROGRESS))
        assert go_on.wait(90)
        connection.send(chunk(ANSWER) + LAST_CHUNK)
        connection.wait_closed()

    place = namespaces.place("pod-one")
    upstream = RawUpstream(script, staying, host=namespaces.front_host)
    world = Outrigger(tmp_path, [upstream.address], start=False, host=place.front, launcher=place.launcher)
    back = f"{place.back}:{free_port()}"
    world.config["listeners"].append({"name": "back", "address": back, "upstream": "gateway"})
    world.config["timeouts"] = {"stream_keepalive": comments}
    world.start()
    try:
        with RawClient(back) as gone, world.client() as stays:
            for client in (gone, stays):
                client.send(request("GET", "/mcp", headers={"Accept": "text/event-stream"}))
                assert client.read_head().status == 200
                assert client.read_chunk() == PROGRESS
            cut_at = time.monotonic()
            namespaces.cut_off(0)
            # Time for packets that are lost and come again.
            assert closed_at(upstream.connections[0], patience=60) - cut_at > 25
            # Who is silent, and there, is not given up.
            rest = b"".join(iter(lambda: stays.read_chunk(patience=60), b""))
            assert rest.replace(COMMENT, b"") == ANSWER
    finally:
        world.end()
        upstream.close()


@BOTH
def test_a_stream_that_lives_by_itself_gets_none(stage, protocol):
    def script(connection):
        connection.read_request()
        connection.send(event_stream_head())
        for _ in range(12):
            connection.send(chunk(b": ping\n\n"))
            time.sleep(KEEPALIVE / 6)
        connection.send(chunk(ANSWER) + LAST_CHUNK)
        connection.wait_closed()

    with stage.playing(script), stage.client(protocol) as client:
        assert b"".join(read_all(begin(client))) == b": ping\n\n" * 12 + ANSWER


def test_comments_can_be_switched_off(outrigger, raw_upstream):
    go_on = threading.Event()

    def script(connection):
        connection.read_request()
        connection.send(event_stream_head())
        assert go_on.wait(10)
        connection.send(chunk(ANSWER) + LAST_CHUNK)
        connection.wait_closed()

    upstream = raw_upstream(script)
    world = outrigger([upstream.address], {"timeouts": {"response_idle": "50ms", "idle": "200ms"}}, start=False)
    world.config["timeouts"]["stream_keepalive"] = None
    world.start()
    with world.client() as client:
        client.send(b"GET /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.read_head().status == 200
        with pytest.raises(TimeoutError):
            client.read_chunk(patience=1)
        go_on.set()
        assert client.read_chunk() == ANSWER


def test_an_error_at_the_end_is_accounted_for(stage):
    name = 'outrigger_normalised_total{reason="stream_ended"}'
    before = stage.metrics().get(name, 0)
    with stage.playing(streaming(end="close")), stage.client() as client:
        read_all(begin(client))
    assert stage.metrics()[name] == before + 1
