"""Batches (MCP 2025-03-26 only): every message in one is spliced by the same rule.

ContextForge never runs one and hangs on some, so in its profile they are refused.
"""

import pytest

from harness import JSON, answering, response
from harness.stage import BOTH, MCP, a_stage, result

stage = a_stage(profiles=("contextforge", "generic"))

BATCH = (
    b'[{"jsonrpc":"2.0","id":1,"method":"tools/list"}, {"jsonrpc":"2.0","method":"notifications/x","params":{"a":1}},'
    b'{"jsonrpc":"2.0","id":"s","result":{}},\n{"jsonrpc":"2.0","id":"two","method":"x","params":{"server_id":"v"}}]'
)


@BOTH
def test_a_batch(stage, protocol):
    answers = answering(response(200, [result(1), result("two")]))
    with stage.playing(answers) as upstream, stage.client(protocol) as client:
        answer = client.ask("POST", MCP, BATCH, JSON)
    if stage.profile == "generic":
        assert answer.json == [result(1), result("two")]
        messages = upstream.requests[0].json
        assert [message.get("params") for message in messages] == [
            {"server_id": "s1"},
            {"server_id": "s1", "a": 1},
            None,
            {"server_id": "s1"},
        ]
        assert b"}},\n{" in upstream.requests[0].body
    else:
        assert answer.status == 400
        assert [(error["id"], error["error"]["code"]) for error in answer.json] == [(1, -32600), ("two", -32600)]
        assert upstream.requests == []


@BOTH
def test_a_batch_without_requests_gets_no_body(stage, protocol):
    batch = b'[{"jsonrpc":"2.0","method":"notifications/x"},{"jsonrpc":"2.0","id":"s","result":{}}]'
    with stage.playing(answering(response(202))) as upstream, stage.client(protocol) as client:
        answer = client.ask("POST", MCP, batch, JSON)
    assert answer.body == b""
    assert (answer.status, len(upstream.requests)) == ((202, 1) if stage.profile == "generic" else (400, 0))


@BOTH
@pytest.mark.parametrize("batch", [b"[]", b" [ ] ", b"[1]", b'["x",null]', b"[" + b"{}," * 1024 + b"{}]"])
def test_what_is_no_batch_is_refused_or_left_to_the_upstream(stage, protocol, batch):
    answers = answering(response(400, {"jsonrpc": "2.0", "id": None}))
    with stage.playing(answers) as upstream, stage.client(protocol) as client:
        answer = client.ask("POST", MCP, batch, JSON)
        assert answer.status == 400
    if upstream.requests:
        assert stage.profile == "generic"
        assert upstream.requests[0].body == batch


def test_a_batch_whose_upstream_is_silent_gets_an_error_for_each_request(stage):
    if stage.profile == "contextforge":
        pytest.skip("batches are refused there")
    with stage.playing(lambda connection: connection.read_request()), stage.client() as client:
        answer = client.ask("POST", MCP, BATCH, JSON)
        assert (answer.status, [error["id"] for error in answer.json]) == (502, [1, "two"])
