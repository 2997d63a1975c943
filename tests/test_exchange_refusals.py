"""What is no JSON-RPC is refused in JSON-RPC, with the caller's id where it can be known, and reaches nobody."""

import pytest

from harness import JSON, answering, response
from harness.stage import BOTH, MCP, a_stage, call, result

stage = a_stage()

PARSE, INVALID = -32700, -32600

REFUSED = {
    "empty": (b"", PARSE, None),
    "white space": (b" \r\n", PARSE, None),
    "no JSON": (b"hello", PARSE, None),
    "half": (b'{"jsonrpc":"2.0","id":7,"method":"tools/list"', PARSE, 7),
    "half, id unsure": (b'{"jsonrpc":"2.0","method":"tools/list","id":7', PARSE, None),
    "more behind": (b'{"jsonrpc":"2.0","id":7,"method":"x"} x', PARSE, 7),
    "two messages": (b'{"jsonrpc":"2.0","id":7,"method":"x"}{"jsonrpc":"2.0","id":8,"method":"x"}', PARSE, 7),
    "trailing comma": (b'{"jsonrpc":"2.0","id":7,"method":"x",}', PARSE, 7),
    "single quotes": (b"{'jsonrpc':'2.0'}", PARSE, None),
    "NaN": (b'{"jsonrpc":"2.0","id":7,"method":"x","params":{"a":NaN}}', PARSE, 7),
    "comment": (b'{"jsonrpc":"2.0","id":7,/* */"method":"x"}', PARSE, 7),
    "control character": (b'{"jsonrpc":"2.0","id":7,"method":"a\nb"}', PARSE, 7),
    "byte order mark": (b"\xef\xbb\xbf" + call(), PARSE, None),
    "UTF-16": (call().decode().encode("utf-16"), PARSE, None),
    "not UTF-8": (b'{"jsonrpc":"2.0","id":7,"method":"x","params":{"a":"\xff"}}', PARSE, 7),
    "params twice": (b'{"jsonrpc":"2.0","id":"a","method":"x","params":{},"params":{}}', INVALID, "a"),
    "params twice, escaped": (b'{"jsonrpc":"2.0","id":"a","method":"x","params":{},"p\\u0061rams":{}}', INVALID, "a"),
    "method twice": (b'{"jsonrpc":"2.0","id":"a","method":"ping","method":"tools/call"}', INVALID, "a"),
    "id twice": (b'{"jsonrpc":"2.0","id":1,"method":"x","id":2}', INVALID, None),
    "a string": (b'"tools/list"', INVALID, None),
    "a number": (b"7", INVALID, None),
    "null": (b"null", INVALID, None),
}


@BOTH
@pytest.mark.parametrize("path", [MCP, "/mcp", "/servers/s1/message?session_id=x"])
@pytest.mark.parametrize("case", REFUSED)
def test_no_message_is_refused(stage, protocol, path, case):
    body, code, id = REFUSED[case]
    with stage.playing(answering(response(200, result()))) as upstream, stage.client(protocol) as client:
        answer = client.ask("POST", path, body, JSON)
        assert (answer.status, answer.header("content-type")) == (400, "application/json")
        assert (answer.json["jsonrpc"], answer.json["id"], answer.json["error"]["code"]) == ("2.0", id, code)
        # The client's connection lives on.
        assert client.ask("POST", path, call(), JSON).status == 200
    assert len(upstream.requests) == 1


@BOTH
@pytest.mark.parametrize(
    "id", [b"7", b"-0.5e3", b"123456789012345678901234567890", b'"a\\u0001\\ud800"', b'""', b"null"]
)
def test_the_id_comes_back_byte_for_byte(stage, protocol, id):
    body = b'{"jsonrpc":"2.0","method":"tools/call","params":{},"id": ' + id + b" }"
    with stage.playing(lambda connection: connection.read_request()), stage.client(protocol) as client:
        answer = client.ask("POST", MCP, body, JSON)
    assert answer.status == 502
    assert b'"id":' + id + b"," in answer.body


@BOTH
def test_a_notification_gets_no_body(stage, protocol):
    with stage.playing(lambda connection: connection.read_request()), stage.client(protocol) as client:
        for body in (call("notifications/x", id=None), b'{"jsonrpc":"2.0","id":"s","result":{}}'):
            answer = client.ask("POST", MCP, body, JSON)
            assert (answer.status, answer.body, answer.header("content-type")) == (502, b"", None)


@BOTH
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_what_is_no_message_gets_a_sentence(stage, protocol, method):
    with stage.playing(lambda connection: connection.read_request()), stage.client(protocol) as client:
        answer = client.ask(method, MCP)
        assert answer.status == 502
        assert answer.header("content-type").startswith("text/plain")


@BOTH
@pytest.mark.parametrize("ids", [["a", "b"], ["a b"], [""], ["caf\xe9"], ["x" * 2000]])
def test_a_malformed_session_id_is_refused(stage, protocol, ids):
    with stage.playing(answering(response(200, result()))) as upstream, stage.client(protocol) as client:
        answer = client.ask("POST", MCP, call(), [*JSON.items(), *(("Mcp-Session-Id", id) for id in ids)])
        assert (answer.status, answer.json["id"], answer.json["error"]["code"]) == (400, 7, INVALID)
    assert upstream.requests == []
