"""No failure looks like a success: the table of src/mcp/failure/table.rs, from outside.

Each row is an answer of the upstream and what becomes of it; every row is asked as a request, as a message of HTTP+SSE,
as a notification, as a GET and as a DELETE, and the client's connection must be good for another request.
"""

import json

import pytest

from harness import JSON, answering, response, wait_until
from harness.stage import BOTH, MCP, a_stage, call, result

stage = a_stage()

PAGE = "<html><head><title>502 Bad Gateway</title></head><body><h1>Sorry</h1></body></html>"
HTML = {"Content-Type": "text/html"}
AS_JSON = {"Content-Type": "application/json"}
ERROR = {"jsonrpc": "2.0", "id": 7, "error": {"code": -32602, "message": "Unknown tool", "data": {"a": 1}}}
LOST = {"jsonrpc": "2.0", "id": "server-error", "error": {"code": -32600, "message": "Session not found"}}
HEALTHY = response(200, result(a="healthy"))

SAME = object()  # every byte of the body, and the status
MENDED = object()  # but for the id


def bare(body, **members):
    """An answer object with other members than the healthy ones."""
    return {key: value for key, value in {**body, **members}.items() if value is not ...}


#: The upstream's status, body and fields; the client's status, and SAME, MENDED or a part of the error's message.
ROWS = {
    "a result": (200, result(a=1), {}, 200, SAME),
    "a result in other words": (200, ' {"result" : {"a":1e400}, "jsonrpc":"2.0" ,"id":7.0} ', AS_JSON, 200, SAME),
    "an error": (200, ERROR, {}, 200, SAME),
    "created": (201, result(a=1), {}, 201, SAME),
    "coded": (200, b"\x1f\x8b\x08\x00", {**AS_JSON, "Content-Encoding": "gzip"}, 200, SAME),
    "a page, coded": (200, b"\x1f\x8b\x08\x00", {**HTML, "Content-Encoding": "gzip"}, 502, "text/html in place of"),
    "elsewhere": (307, "", {"Location": "/mcp/"}, 307, SAME),
    "id null": (200, bare(result(a=1), id=None), {}, 200, MENDED),
    "no id": (200, bare(result(a=1), id=...), {}, 200, MENDED),
    "another's id": (200, bare(result(a=1), id="7"), {}, 200, MENDED),
    "no version": (200, bare(result(a=1), jsonrpc=...), {}, 200, MENDED),
    "an error, id server-error": (200, LOST, {}, 200, MENDED),
    "result {}": (200, {"jsonrpc": "2.0", "id": 7, "result": {}}, {}, 200, "tools/call holds nothing"),
    "result null": (200, {"jsonrpc": "2.0", "id": 7, "result": None}, {}, 200, "tools/call holds nothing"),
    "detail": (200, {"detail": "Not authenticated"}, {}, 200, "not a JSON-RPC answer: Not authenticated"),
    "{}": (200, {}, {}, 200, "not a JSON-RPC answer"),
    "null": (200, "null", AS_JSON, 200, "not a JSON-RPC answer"),
    "a list": (200, [ERROR], {}, 200, "not a JSON-RPC answer"),
    "a scalar": (200, "true", AS_JSON, 200, "not a JSON-RPC answer: true"),
    "error null": (200, {"jsonrpc": "2.0", "id": 7, "error": None}, {}, 200, "not a JSON-RPC answer"),
    "error a string": (200, {"jsonrpc": "2.0", "id": 7, "error": "oops"}, {}, 200, "not a JSON-RPC answer: oops"),
    "a request": (200, {"jsonrpc": "2.0", "id": 7, "method": "ping"}, {}, 200, "not a JSON-RPC answer"),
    "result and error": (
        200,
        {**result(a=1), "error": ERROR["error"]},
        {},
        200,
        "a result and an error: Unknown tool",
    ),
    "id twice": (200, '{"id":7,"id":8,"result":{"a":1}}', AS_JSON, 502, "read in two ways"),
    "half": (200, '{"jsonrpc":"2.0","id":7,"result":{"a":', AS_JSON, 502, "cut short"),
    "more behind": (200, json.dumps(result(a=1)) + "}", AS_JSON, 502, "not valid JSON"),
    "not UTF-8": (200, b'{"jsonrpc":"2.0","id":7,"result":"\xff"}', AS_JSON, 502, "not valid UTF-8"),
    "a page as JSON": (200, PAGE, AS_JSON, 502, "not valid JSON"),
    "a page": (200, PAGE, HTML, 502, "text/html in place of JSON: 502 Bad Gateway Sorry"),
    "a result as text": (200, json.dumps(result(a=1)), {"Content-Type": "text/plain"}, 502, "text/plain in place of"),
    "a result as nothing": (200, json.dumps(result(a=1)), {}, 502, "does not say what it is"),
    "empty JSON": (200, "", AS_JSON, 502, "is empty"),
    "empty": (200, "", {}, 502, "is empty"),
    "accepted": (202, "", {}, 502, "accepted the request without an answer (HTTP 202)"),
    "accepted, JSON": (202, {"status": "success"}, {}, 502, "accepted the request without an answer"),
    "no content": (204, "", {}, 502, "accepted the request without an answer (HTTP 204)"),
    "not modified": (304, "", {}, 502, "HTTP 304 Not Modified"),
    "400, an error": (400, ERROR, {}, 400, SAME),
    "400, modern": (400, bare(ERROR, error={"code": -32020, "message": "Header mismatch"}), {}, 400, SAME),
    "404, modern": (404, bare(ERROR, error={"code": -32601, "message": "Method not found"}), {}, 404, SAME),
    "400, id server-error": (400, LOST, {}, 400, MENDED),
    "404, id server-error": (404, LOST, {}, 404, MENDED),
    "400, text": (400, "bad header", {"Content-Type": "text/plain"}, 400, "HTTP 400 Bad Request: bad header"),
    "401": (401, {"detail": "No token"}, {}, 401, "HTTP 401 Unauthorized: No token"),
    "403": (403, {"detail": "Not yours"}, {}, 403, "HTTP 403 Forbidden: Not yours"),
    "404": (404, {"detail": "Server not found"}, {}, 404, "HTTP 404 Not Found: Server not found"),
    "405": (405, {"detail": "Method Not Allowed"}, {"Allow": "GET"}, 405, "HTTP 405 Method Not Allowed"),
    "406": (406, {"detail": "no"}, {}, 406, "HTTP 406"),
    "408": (408, "", {}, 408, "HTTP 408 Request Timeout"),
    "413": (413, "", {}, 413, "HTTP 413"),
    "415": (415, "", {}, 415, "HTTP 415 Unsupported Media Type"),
    "422": (422, {"detail": [{"loc": ["body"], "msg": "Field required"}]}, {}, 422, "Field required"),
    "429": (429, {"error": "Account locked", "message": "wait"}, {"Retry-After": "900"}, 429, "Account locked: wait"),
    "500": (
        500,
        {"error": "Internal forwarding error"},
        {},
        500,
        "HTTP 500 Internal Server Error: Internal f",
    ),
    "500, a result": (500, result(a=1), {}, 500, "HTTP 500"),
    "500, null": (500, "null", AS_JSON, 500, "HTTP 500"),
    "500, half": (500, '{"detail": "half', AS_JSON, 500, 'HTTP 500 Internal Server Error: {"detail": "half'),
    "502, a page": (502, PAGE, HTML, 502, "HTTP 502 Bad Gateway: 502 Bad Gateway Sorry"),
    "503": (503, "", {"Retry-After": "3"}, 503, "HTTP 503 Service Unavailable"),
    "503, a picture": (503, b"\x89PNG\x00", {"Content-Type": "image/png"}, 503, "HTTP 503"),
    "599": (599, "", {}, 599, "HTTP 599"),
}

EVERY_ROW = pytest.mark.parametrize("row", ROWS)


def upstream_of(row: str):
    status, body, fields, *_ = ROWS[row]
    return answering(response(status, body, fields), HEALTHY)


def assert_good(client):
    """Another request on the same connection is answered as ever; of another session, because a 404 ends its own."""
    assert client.ask("POST", "/servers/s2/mcp", call("tools/call", name="x"), JSON).json == result(a="healthy")


def said(body) -> bytes:
    body = json.dumps(body) if isinstance(body, dict | list) else body
    return body if isinstance(body, bytes) else body.encode()


@BOTH
@EVERY_ROW
def test_to_a_request(stage, protocol, row):
    status, body, _, expected, outcome = ROWS[row]
    with stage.playing(upstream_of(row)) as upstream, stage.client(protocol) as client:
        answer = client.ask("POST", MCP, call("tools/call", name="x"), JSON)
        assert answer.status == expected
        if outcome is SAME:
            assert answer.body == said(body)
        elif outcome is MENDED:
            assert answer.json == {**body, "id": 7, "jsonrpc": "2.0"}
        else:
            assert answer.header("content-type") == "application/json"
            assert (answer.json["jsonrpc"], answer.json["id"]) == ("2.0", 7)
            error = answer.json["error"]
            assert (error["code"], error["data"]["httpStatus"]) == (-32603, status)
            assert error["message"].startswith("The upstream") and outcome in error["message"]
        assert_good(client)
    assert len(upstream.requests) == 2


@BOTH
@EVERY_ROW
def test_to_a_message_of_http_sse(stage, protocol, row):
    """Its answer comes by the stream; only a status of failure is one."""
    status, body, _, expected, outcome = ROWS[row]
    path = "/servers/s1/message?session_id=x"
    with stage.playing(upstream_of(row)), stage.client(protocol) as client:
        answer = client.ask("POST", path, call("tools/call", name="x"), JSON)
        if status < 300 or outcome is SAME:
            assert (answer.status, answer.body) == (status, said(body) if status not in (204, 304) else b"")
        else:
            assert (answer.status, answer.json["id"]) == (expected, 7)
            assert "error" in answer.json


@BOTH
@EVERY_ROW
@pytest.mark.parametrize("message", ["notification", "response"])
def test_to_what_is_owed_nothing(stage, protocol, row, message):
    status, *_ = ROWS[row]
    body = call("notifications/x", id=None) if message == "notification" else b'{"jsonrpc":"2.0","id":1,"result":{}}'
    with stage.playing(upstream_of(row)), stage.client(protocol) as client:
        answer = client.ask("POST", MCP, body, JSON)
        assert (answer.status, answer.body) == (202 if status < 300 else status, b"")
        assert_good(client)


@BOTH
@EVERY_ROW
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_to_what_is_no_message(stage, protocol, row, method):
    status, body, *_ = ROWS[row]
    with stage.playing(upstream_of(row)), stage.client(protocol) as client:
        answer = client.ask(method, MCP)
        assert (answer.status, answer.body) == (status, said(body) if status not in (204, 304) else b"")


IDS = [b"7", b"-0.5e3", b"123456789012345678901234567890", b'"a\\u0001\\ud800"', '"é"'.encode(), b'""', b"null"]


@BOTH
@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize("row", ["another's id", "no id", "half", "500", "401", "accepted"])
def test_the_id_comes_back_byte_for_byte(stage, protocol, row, id):
    body = b'{"jsonrpc":"2.0","method":"tools/call","params":{},"id": ' + id + b" }"
    with stage.playing(upstream_of(row)), stage.client(protocol) as client:
        answer = client.ask("POST", MCP, body, JSON)
    assert b'"id":' + id + b"," in answer.body.replace(b'"id": ', b'"id":')


@BOTH
def test_an_id_in_other_words_is_the_same_id(stage, protocol):
    body = b'{"jsonrpc": "2.0", "id": "\\u00e9", "result": {"a": 1}}'
    with stage.playing(answering(response(200, body, AS_JSON))), stage.client(protocol) as client:
        assert client.ask("POST", MCP, call("tools/call", id="é"), JSON).body == body


@BOTH
def test_only_a_method_that_must_return_something_cannot_return_nothing(stage, protocol):
    nothing = {"jsonrpc": "2.0", "id": 7, "result": {}}
    with stage.playing(answering(response(200, nothing))), stage.client(protocol) as client:
        for method in ("ping", "logging/setLevel", "resources/subscribe", "vendor/thing"):
            assert client.ask("POST", MCP, call(method), JSON).json == nothing
        for method in ("initialize", "tools/list", "resources/read", "prompts/get", "completion/complete"):
            assert method in client.ask("POST", MCP, call(method), JSON).json["error"]["message"]


@BOTH
def test_what_clients_act_on_is_kept_and_what_described_the_body_is_not(stage, protocol):
    fields = [
        ("WWW-Authenticate", 'Bearer realm="a", error="invalid_token"'),
        ("WWW-Authenticate", "Basic"),
        ("Retry-After", "30"),
        ("X-RateLimit-Remaining", "0"),
        ("Access-Control-Allow-Origin", "*"),
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Language", "en"),
        ("ETag", '"x"'),
        ("Mcp-Session-Id", "minted-by-a-failure"),
    ]
    with stage.playing(answering(response(401, PAGE, fields))), stage.client(protocol) as client:
        answer = client.ask("POST", MCP, call("tools/call", name="x"), JSON)
        silent = client.ask("POST", MCP, call("notifications/x", id=None), JSON)
    for reply in (answer, silent):
        assert reply.all("www-authenticate") == ['Bearer realm="a", error="invalid_token"', "Basic"]
        assert reply.header("retry-after") == "30"
        assert (reply.header("x-ratelimit-remaining"), reply.header("access-control-allow-origin")) == ("0", "*")
        assert not [name for name in ("content-language", "etag", "mcp-session-id") if reply.header(name)]
    assert answer.header("content-type") == "application/json"
    assert answer.json["error"]["data"] == {
        "httpStatus": 401,
        "detail": "502 Bad Gateway Sorry",
        "contentType": "text/html",
        "retryAfter": 30,
    }


def test_a_detail_is_one_bounded_line(stage):
    text = "line one\r\n\tline\x1b[31m two\x00 " + "é" * 500
    with stage.playing(answering(response(500, text, {"Content-Type": "text/plain"}))), stage.client() as client:
        error = client.ask("POST", MCP, call("tools/call"), JSON).json["error"]
    assert error["data"]["detail"].startswith("line one line [31m two éé")
    assert len(error["data"]["detail"]) == 200


@pytest.mark.parametrize("row", ["result {}", "a page", "accepted", "401"])
def test_a_replaced_answer_is_accounted_for(stage, row):
    counted = lambda: {name: n for name, n in stage.metrics().items() if "normalised_total" in name}  # noqa: E731
    before = counted()
    with stage.playing(upstream_of(row)), stage.client() as client:
        client.ask("POST", f"/servers/accounted{list(ROWS).index(row)}/mcp", call("tools/call"), JSON)
    reason = {"result {}": "hollow_result", "a page": "content_type", "accepted": "accepted_only", "401": "status"}[row]
    name = f'outrigger_normalised_total{{reason="{reason}"}}'
    assert counted()[name] == before.get(name, 0) + 1
    server_id = f"accounted{list(ROWS).index(row)}"
    lines = lambda: [line for line in stage.world.access_log() if line.get("server_id") == server_id]  # noqa: E731
    [line] = wait_until(lines, what="the access line")
    assert line["normalised"] == reason and "fault" not in line


def test_a_failed_initialize_opens_no_session(stage):
    claimed = lambda: stage.metrics()["outrigger_sessions_claimed_total"]  # noqa: E731
    before = claimed()
    fields = {"Mcp-Session-Id": "of-a-failure"}
    with stage.playing(answering(response(200, {"detail": "no"}, fields))), stage.client() as client:
        answer = client.ask("POST", MCP, call("initialize"), JSON)
    assert (answer.json["error"]["code"], answer.header("mcp-session-id"), claimed()) == (-32603, None, before)
