"""`errors.status: ok`: failed requests come with HTTP 200, for clients that drop their session at any other status.

401, 403 and a session's 404 stay what they are, because clients act on them; so does what tells them which transport a
server speaks, and what is no request.
"""

import pytest

from harness import JSON, answering, response
from harness.stage import BOTH, MCP, a_stage, call

stage = a_stage({"errors": {"status": "ok"}, "limits": {"body": "2KiB"}})

ERROR = {"jsonrpc": "2.0", "id": 7, "error": {"code": -32602, "message": "Unknown tool"}}
SESSION = {**JSON, "Mcp-Session-Id": "some-session"}
MESSAGE = "/servers/s1/message?session_id=x"


@BOTH
@pytest.mark.parametrize(
    ("answer", "status"),
    [
        pytest.param(response(500, {"detail": "x"}), 200, id="500"),
        pytest.param(response(400, ERROR), 200, id="400, an error"),
        pytest.param(response(502, "<p>", {"Content-Type": "text/html"}), 200, id="a page"),
        pytest.param(response(429, "", {"Retry-After": "5"}), 200, id="429"),
        pytest.param(response(202), 200, id="accepted"),
        pytest.param(response(401, {"detail": "x"}, {"WWW-Authenticate": "Bearer"}), 401, id="401"),
        pytest.param(response(403, ERROR), 403, id="403"),
        pytest.param(response(404, {"detail": "Session not found"}), 404, id="a session's 404"),
    ],
)
def test_a_failed_request(stage, protocol, answer, status):
    with stage.playing(answering(answer)), stage.client(protocol) as client:
        reply = client.ask("POST", MCP, call("tools/call"), SESSION)
        assert (reply.status, reply.json["id"]) == (status, 7)
        assert "error" in reply.json
        assert (reply.header("retry-after") == "5") == (b" 429 " in answer)
        assert (reply.header("www-authenticate") == "Bearer") == (b" 401 " in answer)


@BOTH
def test_a_404_without_a_session(stage, protocol):
    initialize = call("initialize", protocolVersion="2025-06-18")
    with stage.playing(answering(response(404, {"detail": "Server not found"}))), stage.client(protocol) as client:
        reply = client.ask("POST", MCP, initialize, JSON)
        assert (reply.status, reply.json["error"]["data"]["httpStatus"]) == (200, 404)


@BOTH
def test_a_failure_of_our_own(stage, protocol):
    """Nobody listens at the upstream's port."""
    with stage.client(protocol) as client:
        reply = client.ask("POST", "/servers/nobody/mcp", call("initialize"), JSON)
        assert (reply.status, reply.json["id"], reply.json["error"]["data"]["httpStatus"]) == (200, 7, 502)
        assert reply.header("retry-after")


@BOTH
@pytest.mark.parametrize(
    ("method", "path", "body"), [("GET", MCP, b""), ("POST", MCP, call(id=None)), ("POST", MESSAGE, call())]
)
def test_what_is_answered_elsewhere_or_not_at_all_keeps_its_status(stage, protocol, method, path, body):
    with stage.playing(answering(response(500, {"detail": "x"}))), stage.client(protocol) as client:
        assert client.ask(method, path, body, JSON).status == 500


@BOTH
def test_a_client_that_tries_the_newer_transport_first_is_told_to_open_a_stream(stage, protocol):
    """It POSTs where HTTP+SSE is spoken, and asks for the stream once that fails with 4xx (2025-03-26, transports)."""
    refusal = response(405, {"detail": "Method Not Allowed"}, {"Allow": "GET"})
    with stage.playing(answering(refusal)), stage.client(protocol) as client:
        reply = client.ask("POST", "/servers/s1/sse", call("initialize"), JSON)
        assert (reply.status, reply.header("allow"), reply.json["id"]) == (405, "GET", 7)


@BOTH
def test_what_is_no_request_keeps_the_status_of_its_refusal(stage, protocol):
    with stage.client(protocol) as client:
        assert client.ask("POST", MCP, b"{", JSON).status == 400
        assert client.ask("POST", MCP, b" " * 3000, JSON).status == 413
