"""Requests of the stateless era (2026-07-28): their fields arrive untouched, and a stray session id means nothing."""

import json

import pytest

from harness import JSON, answering, response
from harness.stage import BOTH, MCP, a_stage, result

stage = a_stage(profiles=("contextforge", "generic"))

ANSWERS = answering(response(200, result()))

FIELDS = {
    "MCP-Protocol-Version": "2026-07-28",
    "Mcp-Method": "tools/call",
    "Mcp-Name": "caf=?base64?Y2Fmw6k=?=",
    "Mcp-Param-Region": "eu-west 1",
    "Mcp-Param-x_Y-9": "=?base64?AAEC/w==?=",
    "Mcp-Param-Empty": "",
}


def modern(version: str = "2026-07-28", method: str = "tools/call") -> bytes:
    meta = {"io.modelcontextprotocol/protocolVersion": version, "io.modelcontextprotocol/clientCapabilities": {}}
    message = {"jsonrpc": "2.0", "id": 7, "method": method, "params": {"name": "caf\xe9", "_meta": meta}}
    return json.dumps(message).encode()


@BOTH
def test_their_fields_arrive_untouched(stage, protocol):
    with stage.playing(ANSWERS) as upstream, stage.client(protocol) as client:
        assert client.ask("POST", MCP, modern(), {**JSON, **FIELDS}).status == 200
    assert {name: upstream.requests[0].header(name) for name in FIELDS} == FIELDS
    assert upstream.requests[0].json["params"]["server_id"] == "s1"
    assert upstream.requests[0].json["params"]["_meta"] == json.loads(modern())["params"]["_meta"]


@BOTH
@pytest.mark.parametrize("ids", [["stray"], ["one", "two"], ["not valid"], [""]])
@pytest.mark.parametrize("version", ["2026-07-28", "2027-01-31"])
def test_a_stray_session_id_is_removed_and_ignored(stage, protocol, ids, version):
    fields = [*JSON.items(), *FIELDS.items(), *(("Mcp-Session-Id", id) for id in ids)]
    with stage.playing(ANSWERS) as upstream, stage.client(protocol) as client:
        assert client.ask("POST", MCP, modern(version), fields).status == 200
    assert upstream.requests[0].all("mcp-session-id") == []


@BOTH
@pytest.mark.parametrize("version", ["2025-11-25", "2025-06-18", "latest", ""])
def test_the_body_decides_not_the_field(stage, protocol, version):
    """A legacy body keeps its session id whatever the field says."""
    fields = {**JSON, "MCP-Protocol-Version": "2026-07-28", "Mcp-Session-Id": "abc"}
    with stage.playing(ANSWERS) as upstream, stage.client(protocol) as client:
        assert client.ask("POST", MCP, modern(version), fields).status == 200
    assert upstream.requests[0].header("mcp-session-id") == "abc"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_request_without_a_body_is_of_the_old_era(stage, method):
    with stage.playing(ANSWERS) as upstream, stage.client() as client:
        fields = {"MCP-Protocol-Version": "2025-11-25", "Mcp-Session-Id": "abc", "Last-Event-ID": "9"}
        client.ask(method, MCP, b"", fields)
    assert {name: upstream.requests[0].header(name) for name in fields} == fields


def test_a_session_id_that_a_modern_answer_mints_means_nothing(stage):
    """It goes to the client as it is, and no session is claimed for it."""
    claimed = stage.metrics()["outrigger_sessions_claimed_total"]
    with stage.playing(answering(response(200, result(), {"Mcp-Session-Id": "minted"}))), stage.client() as client:
        client.ask("POST", MCP, modern(), {**JSON, **FIELDS})
    assert stage.metrics()["outrigger_sessions_claimed_total"] == claimed
