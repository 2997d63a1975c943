"""P1 and P7 on real ContextForge 1.0.0rc1: a virtual server never shows or runs a tool outside it.

Seed 0, https://github.com/IBM/mcp-context-forge/issues/3018: a gateway that does not own the session forwards the
request without `params.server_id`, and the owner then answers for the whole gateway.
"""

import pytest

from harness import Outrigger
from harness.contextforge import ContextForge
from harness.mcp import McpSession

#: What a client may send in the hope of leaving its virtual server: extra params, extra headers.
ATTEMPTS = {
    "plain": ({}, {}),
    "another server id": ({"server_id": "0" * 32}, {}),
    "empty server id": ({"server_id": ""}, {}),
    "no server id": ({"server_id": None}, {}),
    "forwarded internally": ({}, {"x-forwarded-internally": "true"}),
    "forwarded internally, from loopback": ({}, {"X-Forwarded-Internally": "true", "X-Forwarded-For": "127.0.0.1"}),
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    running = ContextForge(tmp_path_factory.mktemp("contextforge"))
    yield running
    running.end()


@pytest.fixture(scope="module")
def sidecar(gateway, tmp_path_factory):
    """URL of the sidecar in front of some of the gateways; each is its own member with its own registry."""
    worlds = {}

    def make(*peers: str) -> str:
        if peers not in worlds:
            worlds[peers] = Outrigger(tmp_path_factory.mktemp("sidecar"), peers)
        return f"{worlds[peers].url}/servers/{gateway.server_id}/mcp/"

    yield make
    for world in worlds.values():
        world.end()


def direct(gateway, number: int) -> str:
    return f"http://{gateway.peers[number]}/servers/{gateway.server_id}/mcp/"


def call_hidden(session: McpSession, gateway, url: str, params: dict, headers: dict) -> dict:
    return session.ask(url, "tools/call", {"name": gateway.hidden, "arguments": {}, **params}, headers)


def assert_stays_inside(session: McpSession, gateway, url: str, params: dict, headers: dict) -> None:
    assert session.tools(url, params, headers) == set(gateway.shown)
    assert session.tools(url, params or None, headers) == set(gateway.shown)
    answer = call_hidden(session, gateway, url, params, headers)
    assert "error" in answer and "the secret" not in str(answer), answer
    added = session.ask(url, "tools/call", {"name": "tiny-add", "arguments": {"a": 2, "b": 3}, **params}, headers)
    assert added["result"]["content"][0]["text"] == "5"


class TestWithoutOutrigger:
    """The control: the holes are really there, so closing them proves something."""

    def test_a_gateway_that_is_not_the_owner_shows_and_runs_the_hidden_tool(self, gateway):
        session = McpSession(direct(gateway, 0), gateway.headers)
        assert session.tools(direct(gateway, 0)) == set(gateway.shown)
        assert gateway.hidden in session.tools(direct(gateway, 1))
        answer = call_hidden(session, gateway, direct(gateway, 1), {}, {})
        assert answer["result"]["content"][0]["text"] == "the secret"

    def test_a_client_that_says_it_is_a_gateway_sees_the_hidden_tool(self, gateway):
        session = McpSession(direct(gateway, 0), gateway.headers)
        forged = {"x-forwarded-internally": "true"}
        assert gateway.hidden in session.tools(direct(gateway, 0), headers=forged)


class TestThroughOutrigger:
    @pytest.mark.parametrize("attempt", ATTEMPTS)
    def test_every_session_stays_inside(self, attempt, gateway, sidecar):
        """Several sessions, so that both gateways own some."""
        url = sidecar(*gateway.peers)
        for _ in range(4):
            assert_stays_inside(McpSession(url, gateway.headers), gateway, url, *ATTEMPTS[attempt])

    @pytest.mark.parametrize("attempt", ATTEMPTS)
    @pytest.mark.parametrize(("owner", "entry"), [(0, 1), (1, 0)])
    def test_it_stays_inside_even_where_the_gateway_must_forward(self, attempt, owner, entry, gateway, sidecar):
        """The session is begun behind one sidecar, the request enters by another that knows only the other gateway."""
        session = McpSession(sidecar(gateway.peers[owner]), gateway.headers)
        assert_stays_inside(session, gateway, sidecar(gateway.peers[entry]), *ATTEMPTS[attempt])
