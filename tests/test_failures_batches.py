"""A batch gets one error for each of its requests, and nothing for what is none.

Only with `profile: generic`: ContextForge takes no batches.
"""

import json

import pytest

from harness import JSON, answering, response
from harness.stage import BOTH, MCP, a_stage, call, result

stage = a_stage(profiles=("generic",))

BATCH = b"[" + b",".join([call(id=1), call("notifications/x", id=None), call(id="b")]) + b"]"
LOST = {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "Batches are not supported"}}

REPLACED = {
    "a page": (response(502, "<h1>Sorry</h1>", {"Content-Type": "text/html"}), 502, -32603),
    "accepted": (response(202), 502, -32603),
    "half": (response(200, '[{"id":1,"result"', {"Content-Type": "application/json"}), 502, -32603),
    "no answers": (response(200, {"detail": "no"}), 200, -32603),
    "one answer": (response(200, result(id="c")), 200, -32603),
    "not all are answers": (response(200, [result(id=1), 7]), 200, -32603),
    "one error for all": (response(400, LOST), 400, -32600),
}


@BOTH
@pytest.mark.parametrize("case", REPLACED)
def test_every_request_gets_its_error(stage, protocol, case):
    answer, status, code = REPLACED[case]
    with stage.playing(answering(answer)), stage.client(protocol) as client:
        reply = client.ask("POST", MCP, BATCH, JSON)
        assert (reply.status, [error["id"] for error in reply.json]) == (status, [1, "b"])
        assert {error["error"]["code"] for error in reply.json} == {code}


@BOTH
@pytest.mark.parametrize("answers", [[result(id="b"), result(id=1)], [{**LOST, "id": 1}]])
def test_answers_leave_as_they_are(stage, protocol, answers):
    with stage.playing(answering(response(200, answers))), stage.client(protocol) as client:
        assert client.ask("POST", MCP, BATCH, JSON).body == json.dumps(answers).encode()


@BOTH
@pytest.mark.parametrize("status", [200, 202, 400, 500])
def test_a_batch_without_requests_is_owed_nothing(stage, protocol, status):
    batch = b"[" + call("notifications/x", id=None) + b"]"
    with stage.playing(answering(response(status, {"detail": "x"}))), stage.client(protocol) as client:
        reply = client.ask("POST", MCP, batch, JSON)
        assert (reply.status, reply.body) == (202 if status < 300 else status, b"")
