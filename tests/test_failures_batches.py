"""A batch gets one error for each of its requests, and nothing for what is none.

Only with `profile: generic`: ContextForge takes no batches.
"""

import json
import threading

import pytest

from harness import JSON, LAST_CHUNK, answering, chunk, response, wait_until
from harness.stage import BOTH, MCP, a_stage, call, read_all, result

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
@pytest.mark.parametrize("answers", [[result(id="b"), result(id=1)], [{**LOST, "id": 1}, result(id="b")]])
def test_answers_leave_as_they_are(stage, protocol, answers):
    with stage.playing(answering(response(200, answers))), stage.client(protocol) as client:
        assert client.ask("POST", MCP, BATCH, JSON).body == json.dumps(answers).encode()


@BOTH
@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("answers", [[result(id="b")], [{**LOST, "id": 1}], [{**LOST, "id": "x"}, result(id=1)]])
def test_what_the_answers_leave_out_gets_its_error(stage, protocol, status, answers):
    """Its client would wait for ever; what came stays as the upstream wrote it."""
    with stage.playing(answering(response(status, answers))), stage.client(protocol) as client:
        reply = client.ask("POST", MCP, BATCH, JSON)
        assert reply.status == status
        assert reply.body.startswith(json.dumps(answers).encode()[:-1] + b",")
        [missing] = {1, "b"} - {answer["id"] for answer in answers}
        [error] = reply.json[len(answers) :]
        assert (error["id"], error["error"]["code"]) == (missing, -32603)
        assert error["error"]["data"] == {"httpStatus": status}


@BOTH
@pytest.mark.parametrize("framing", [{}, {"Transfer-Encoding": "chunked"}], ids=["length", "chunked"])
def test_a_single_answer_to_a_batch_becomes_the_first_of_its_answers(stage, protocol, framing):
    answer = json.dumps(result(id="b")).encode()
    body = chunk(answer) + LAST_CHUNK if framing else answer
    sent = response(200, body, {"Content-Type": "application/json", **framing})
    with stage.playing(answering(sent)), stage.client(protocol) as client:
        reply = client.ask("POST", MCP, BATCH, JSON)
        assert reply.body.startswith(b"[" + answer + b",")
        assert [element["id"] for element in reply.json] == ["b", 1]


def test_what_was_left_out_is_counted(stage):
    name = 'outrigger_normalised_total{reason="unanswered"}'
    before = stage.metrics().get(name, 0)
    with stage.playing(answering(response(200, [result(id=1)]))), stage.client() as client:
        client.ask("POST", MCP, BATCH, JSON)
        wait_until(lambda: stage.metrics().get(name, 0) == before + 1, what="it is counted")


@BOTH
def test_answers_that_are_longer_than_what_is_held_leave_as_they_come(stage, protocol):
    """The upstream sends the second half only when the client has the first."""
    has_come = threading.Event()
    body = json.dumps([result(id=1, text="x" * 300_000)]).encode()
    wire, half = response(200, body, {"Content-Type": "application/json"}), len(body) // 2

    def script(connection):
        connection.read_request()
        connection.send(wire[:-half])
        assert has_come.wait(10)
        connection.send(wire[-half:])
        connection.wait_closed()

    with stage.playing(script), stage.client(protocol) as client:
        answer = client.begin("POST", MCP, BATCH, JSON)
        assert answer.read_head().status == 200
        got = b""
        while len(got) < len(body) - half:
            got += answer.read_piece()
        has_come.set()
        assert got + b"".join(read_all(answer)) == body


@BOTH
@pytest.mark.parametrize("status", [200, 202, 400, 500])
def test_a_batch_without_requests_is_owed_nothing(stage, protocol, status):
    batch = b"[" + call("notifications/x", id=None) + b"]"
    with stage.playing(answering(response(status, {"detail": "x"}))), stage.client(protocol) as client:
        reply = client.ask("POST", MCP, batch, JSON)
        assert (reply.status, reply.body) == (202 if status < 300 else status, b"")
