"""Checks of a real ContextForge: /health and /ready are open, its MCP wants a token and keeps no session of ours."""

import pytest

from harness import wait_until
from harness.contextforge import ContextForge
from harness.health import AT_ONCE, checked, checks, only_peer, wait_state


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    running = ContextForge(tmp_path_factory.mktemp("contextforge"), gateways=1)
    yield running
    running.end()


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_its_pages_are_open(outrigger, gateway, path):
    world = outrigger([], checked(gateway.peers, {"path": path, "interval": "5s", "timeout": "5s"}))
    wait_state(world, "healthy")


def test_without_a_token_its_mcp_is_closed(outrigger, gateway):
    world = outrigger([], checked(gateway.peers, {"mcp": "ping", "interval": "5s", "timeout": "5s"} | AT_ONCE))
    told = wait_state(world, "unhealthy")
    assert (told["reason"], told["last_check"]["detail"]) == ("wrong_status", "HTTP 401")


def test_with_a_token_it_answers_and_keeps_no_session(outrigger, gateway):
    """Without the slash that ContextForge wants it redirects, which is followed as for clients."""
    health = {"mcp": "ping", "path": f"/servers/{gateway.server_id}/mcp", "interval": "5s", "timeout": "5s"}
    world = outrigger([], checked(gateway.peers, health | {"headers": gateway.headers}))
    wait_until(lambda: checks(world, result="ok") >= 2, what="two checks")
    assert only_peer(world)["state"] == "healthy"
    assert gateway.token not in world.story()
    world.stop()
    # Its books in Redis say whose session was whose, also of those that are over, for five minutes.
    begun = {key.rpartition(":")[2] for key in gateway.redis.client().scan_iter("mcpgw:pool_owner:*")}
    story = gateway.gateway(0).err.read_text()
    assert len(begun) >= 2 and [id for id in begun if f"Terminating session: {id}" not in story] == []
