"""Short answers are judged whole, long ones by their beginning; neither is held for longer than that takes."""

import json
import threading
import time

import pytest

from harness import JSON, LAST_CHUNK, answering, chunk, response
from harness.stage import BOTH, MCP, a_stage, call, read_all, read_cut, result

stage = a_stage({"timeouts": {"response_idle": "500ms"}})

#: What Outrigger holds of an answer at most.
HOLD = 64 * 1024

HEALTHY = response(200, result(a="healthy"))
TEXT = "x" * (4 * HOLD)
EARLY = json.dumps({"jsonrpc": "2.0", "id": 7, "result": {"content": [{"text": TEXT}]}}).encode()
#: As ContextForge and the TypeScript SDK write it.
LATE = json.dumps({"result": {"content": [{"text": TEXT}]}, "jsonrpc": "2.0", "id": 7}).encode()
LATE_WRONG = LATE.replace(b'"id": 7', b'"id": "server-error"')


def framed(body: bytes, framing: str, status: int = 200) -> bytes:
    """The head and the body, to the end of its framing."""
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n"
    if framing == "length":
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    pieces = [body[at : at + 10_000] for at in range(0, len(body), 10_000)]
    return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + b"".join(map(chunk, pieces)) + LAST_CHUNK


FRAMINGS = pytest.mark.parametrize("framing", ["length", "chunked"])


def ending(answer: bytes):
    """Script: sends this and closes; connections after it are healthy."""

    def script(connection):
        connection.read_request()
        connection.send(answer)
        connection.close()

    return script


@BOTH
@FRAMINGS
@pytest.mark.parametrize("body", [EARLY, LATE], ids=["id first", "id last"])
def test_a_long_answer_leaves_as_it_is(stage, protocol, framing, body):
    with stage.playing(answering(framed(body, framing), HEALTHY)) as upstream, stage.client(protocol) as client:
        answer = client.ask("POST", MCP, call("tools/call"), JSON)
        assert (answer.status, answer.body) == (200, body)
        assert answer.header("content-length") == (str(len(body)) if framing == "length" else None)
        assert client.ask("POST", MCP, call("tools/call"), JSON).json == result(a="healthy")
    assert len(upstream.connections) == 1


@BOTH
def test_a_long_answer_does_not_wait_for_its_end(stage, protocol):
    """The upstream sends the second half only when the client has the first."""
    has_come = threading.Event()
    wire, half = framed(LATE, "length"), len(LATE) // 2

    def script(connection):
        connection.read_request()
        connection.send(wire[:-half])
        assert has_come.wait(10)
        connection.send(wire[-half:])
        connection.wait_closed()

    with stage.playing(script), stage.client(protocol) as client:
        answer = client.begin("POST", MCP, call("tools/call"), JSON)
        assert answer.read_head(patience=5).status == 200
        got = b""
        while len(got) < len(LATE) - half:
            got += answer.read_piece(patience=5)
        has_come.set()
        assert got + b"".join(read_all(answer)) == LATE


@BOTH
@pytest.mark.parametrize("id", [7, "server-error"])
def test_an_error_that_is_shorter_than_promised_arrives_whole(stage, protocol, id):
    """Its status tells more than that its body breaks off, and here the body does, too."""
    error = {"jsonrpc": "2.0", "id": id, "error": {"code": -32602, "message": "Unknown tool"}}
    begun = response(400, error, {"Content-Length": "200"})
    with stage.playing(ending(begun), answering(HEALTHY)), stage.client(protocol) as client:
        answer = client.ask("POST", MCP, call("tools/call"), JSON)
        assert (answer.status, answer.json) == (400, {**error, "id": 7})
        assert client.ask("POST", "/servers/s2/mcp", call("tools/call"), JSON).json == result(a="healthy")


@BOTH
def test_a_short_answer_that_drips_arrives_whole(stage, protocol):
    body = json.dumps(result(a="b" * 500)).encode()

    def script(connection):
        connection.read_request()
        connection.send_slowly(framed(body, "chunked"), piece=7, pause=0.002)
        connection.wait_closed()

    with stage.playing(script), stage.client(protocol) as client:
        answer = client.ask("POST", MCP, call("tools/call"), JSON)
        assert (answer.status, answer.body) == (200, body)


@BOTH
@FRAMINGS
def test_an_early_wrong_id_of_a_long_answer_is_mended(stage, protocol, framing):
    body = EARLY.replace(b'"id": 7', b'"id": "server-error"')
    with stage.playing(answering(framed(body, framing))), stage.client(protocol) as client:
        assert client.ask("POST", MCP, call("tools/call"), JSON).body == EARLY


@BOTH
@FRAMINGS
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(LATE_WRONG, id="wrong id"),
        pytest.param(LATE.replace(b', "id": 7', b""), id="no id"),
        pytest.param(LATE[:-1], id="no last bracket"),
        pytest.param(LATE + b"}", id="a bracket too many"),
        pytest.param(LATE[:-1] + b', "error": {"code": 1, "message": "m"}}', id="an error as well"),
    ],
)
def test_a_long_answer_that_turns_out_wrong_is_cut(stage, protocol, framing, body):
    """Its head has left, so only this tells the client at once."""
    with stage.playing(answering(framed(body, framing))), stage.client(protocol) as client:
        answer = client.begin("POST", MCP, call("tools/call"), JSON)
        assert answer.read_head().status == 200
        assert body.startswith(read_cut(answer))


@BOTH
@FRAMINGS
@pytest.mark.parametrize("status", [200, 500])
def test_a_long_body_that_begins_like_no_answer_is_replaced(stage, protocol, framing, status):
    body = json.dumps({"detail": "Not authenticated", "more": TEXT}).encode()
    with stage.playing(answering(framed(body, framing, status), HEALTHY)) as upstream, stage.client(protocol) as client:
        answer = client.ask("POST", MCP, call("tools/call"), JSON)
        assert (answer.status, answer.json["id"], answer.json["error"]["code"]) == (status, 7, -32603)
        assert "Not authenticated" in answer.json["error"]["message"]
        client.ask("POST", MCP, call("tools/call"), JSON)
    # A member asked by another relays as fast as it can, and may be at the end before that one has read enough.
    assert len(upstream.connections) == 2 or stage.adds, "a long rest is not read to its end"


@BOTH
@pytest.mark.parametrize("status", [200, 401, 503])
@pytest.mark.parametrize(
    "answer",
    [
        b"Content-Length: 5000\r\n\r\n" + b'{"jsonrpc":"2.0","id":7,"result":{"a":1}}',
        b"Transfer-Encoding: chunked\r\n\r\n" + chunk(b'{"jsonrpc":"2.0","id":7,"result":{"a":1}}'),
        b"Transfer-Encoding: chunked\r\n\r\n" + chunk(b'{"detail": "x') + b"zz\r\n",
        b"Content-Length: 5000\r\n\r\n",
    ],
    ids=["short of its length", "no last chunk", "no chunk size", "nothing"],
)
def test_a_short_answer_that_breaks_off_is_a_failure(stage, protocol, status, answer):
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nX-Kept: yes\r\n".encode()
    with stage.playing(ending(head + answer), answering(HEALTHY)), stage.client(protocol) as client:
        reply = client.ask("POST", MCP, call("tools/call"), JSON)
        assert reply.status == (502 if status == 200 else status)
        assert (reply.json["id"], reply.json["error"]["code"]) == (7, -32603)
        # A status of failure says more than that its body broke off.
        assert (reply.header("x-kept") == "yes") == (status != 200)
        assert client.ask("POST", MCP, call("tools/call"), JSON).json == result(a="healthy")


@BOTH
@pytest.mark.parametrize("status", [200, 403])
def test_a_short_answer_that_falls_silent_is_a_failure(stage, protocol, status):
    def script(connection):
        connection.read_request()
        connection.send(framed(b"{" + b" " * 50, "length", status)[:-50])
        connection.wait_closed()

    with stage.playing(script), stage.client(protocol) as client:
        began = time.monotonic()
        reply = client.ask("POST", MCP, call("tools/call"), JSON)
        assert 0.4 < time.monotonic() - began < 5
        # Over a hop either member may be the first to lose its patience.
        silent = {504, 502} if stage.adds else {504}
        assert reply.status in (silent if status == 200 else {status})
        assert reply.json["id"] == 7


@BOTH
@pytest.mark.parametrize("body", [b"", b"Accepted", b'{"status":"success"}'])
def test_a_connection_whose_answer_was_replaced_is_used_again(stage, protocol, body):
    answers = [response(202, body), response(202, body), response(500, body), HEALTHY]
    with stage.playing(answering(*answers)) as upstream, stage.client(protocol) as client:
        assert client.ask("POST", MCP, call("notifications/x", id=None), JSON).status == 202
        assert client.ask("POST", MCP, call("tools/call"), JSON).status == 502
        assert client.ask("POST", MCP, call("tools/call"), JSON).status == 500
        assert client.ask("POST", MCP, call("tools/call"), JSON).json == result(a="healthy")
    assert len(upstream.connections) == 1


@BOTH
def test_a_client_that_leaves_while_its_answer_is_held_is_noticed(stage, protocol):
    def script(connection):
        connection.read_request()
        connection.send(framed(LATE, "length")[:1000])
        connection.wait_closed(patience=5)

    with stage.playing(script) as upstream, stage.client(protocol) as client:
        client.begin("POST", MCP, call("tools/call"), JSON)
        upstream.connection()
        client.close()
