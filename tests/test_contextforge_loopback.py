"""Gateways up to 1.0.4 call themselves at 127.0.0.1:PORT: where Outrigger listens there, what they forward is scoped.

The clients here go to ContextForge 1.0.0rc1 without Outrigger, so that only its own calls pass through one. Without
that listener the same gateways show the hidden tool: `TestWithoutOutrigger` in test_contextforge.py.
"""

import json
import uuid
from contextlib import ExitStack

import httpx
import pytest

from harness import Outrigger, free_port, wait_until
from harness.contextforge import ContextForge
from harness.mcp import McpSession

#: The README's recipe: the gateway's own calls go to `/rpc`, which is no route of MCP elsewhere.
RECIPE = {"routes": {"mcp": ["/servers/{server_id}/mcp", "/mcp", "/rpc"]}}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """Two gateways; each calls itself through an Outrigger of its own."""
    called = [free_port(), free_port()]
    with ExitStack() as ends:
        running = ContextForge(tmp_path_factory.mktemp("contextforge"), called=called)
        ends.callback(running.end)
        running.sidecars = []
        for port, peer in zip(called, running.peers, strict=True):
            config = {"listeners": [{"address": f"127.0.0.1:{port}", "upstream": "gateway"}], **RECIPE}
            world = Outrigger(tmp_path_factory.mktemp("sidecar"), [peer], config)
            ends.callback(world.end)
            running.sidecars.append(world)
        yield running


def at(gateway, number: int) -> str:
    return f"http://{gateway.peers[number]}/servers/{gateway.server_id}/mcp/"


@pytest.mark.parametrize(("begun", "asked"), [(0, 1), (1, 0), (0, 0)])
def test_a_forwarded_request_stays_in_its_virtual_server(gateway, begun, asked):
    session = McpSession(at(gateway, begun), gateway.headers)
    assert session.tools(at(gateway, asked)) == set(gateway.shown)
    hidden = session.ask(at(gateway, asked), "tools/call", {"name": gateway.hidden, "arguments": {}})
    assert "error" in hidden and "the secret" not in str(hidden), hidden
    added = session.ask(at(gateway, asked), "tools/call", {"name": "tiny-add", "arguments": {"a": 2, "b": 3}})
    assert added["result"]["content"][0]["text"] == "5"
    paths = {line["route"] for line in gateway.sidecars[begun].access_log()}
    assert "mcp" in paths, "the gateway did not call itself through Outrigger"


def test_a_failure_of_a_forwarded_call_is_none_of_its_results(gateway):
    """As another gateway would ask for it, but without a token; the bare gateway answers `{"result": {}}` to that."""
    refused = httpx.post(f"http://{gateway.peers[0]}/rpc", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    assert (refused.status_code, set(refused.json())) == (401, {"detail"})
    session = McpSession(at(gateway, 0), gateway.headers)
    session.tools(at(gateway, 0))
    redis = gateway.redis.client()
    owner = redis.get(f"mcpgw:pool_owner:{session.id}")
    channel = f"mcpgw:pool_rpc_response:{uuid.uuid4().hex}"
    heard = redis.pubsub()
    heard.subscribe(channel)
    asked = {"type": "rpc_forward", "response_channel": channel, "mcp_session_id": session.id, "headers": {}}
    asked |= {"method": "tools/list", "params": {}, "req_id": 7}
    name = owner.decode() if isinstance(owner, bytes) else owner
    assert redis.publish(f"mcpgw:pool_rpc:{name}", json.dumps(asked)) == 1
    answer = wait_until(lambda: _said(heard), what="the owner's answer")
    assert set(answer) == {"error"}, answer
    assert answer["error"]["data"]["httpStatus"] == 401


def _said(heard) -> dict | None:
    message = heard.get_message(ignore_subscribe_messages=True)
    return json.loads(message["data"]) if message else None
