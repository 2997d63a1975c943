"""P1 and P7 on real ContextForge 1.0.0rc1: a virtual server never shows or runs a tool outside it.

Seed 0, https://github.com/IBM/mcp-context-forge/issues/3018: a gateway that does not own the session forwards the
request without `params.server_id`, and the owner then answers for the whole gateway.
"""

import hashlib

import pytest

from harness import Outrigger, wait_until
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
    """The sidecar in front of some of the gateways; each is its own member with its own registry."""
    worlds = {}

    def make(*peers: str) -> Outrigger:
        if peers not in worlds:
            worlds[peers] = Outrigger(tmp_path_factory.mktemp("sidecar"), peers)
        return worlds[peers]

    yield make
    for world in worlds.values():
        world.end()


def through(world: Outrigger, gateway) -> str:
    return f"{world.url}/servers/{gateway.server_id}/mcp/"


def owner(world: Outrigger, session: McpSession) -> str:
    """Address of the gateway that the session's requests go to, by the access log."""
    name = hashlib.sha256(f"gateway\0{session.id}".encode()).hexdigest()[:12]
    lines = lambda: [line["peer"] for line in world.access_log() if line.get("session") == name]  # noqa: E731
    return wait_until(lines, what="the session in the access log")[0]


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

    @pytest.mark.parametrize("path", ["/x/mcp/", "/mcp/"])
    def test_a_session_of_a_virtual_server_opens_every_path_that_ends_like_mcp(self, path, gateway):
        session = McpSession(direct(gateway, 0), gateway.headers)
        assert gateway.hidden in session.tools(f"http://{gateway.peers[0]}{path}")


class TestThroughOutrigger:
    @pytest.mark.parametrize(("path", "status"), [("/x/mcp/", 400), ("/x/servers/{}/mcp", 400), ("/mcp/", 404)])
    def test_a_session_opens_its_own_virtual_server_only(self, path, status, gateway, sidecar):
        world = sidecar(*gateway.peers)
        session = McpSession(through(world, gateway), gateway.headers)
        assert session.post(world.url + path.format(gateway.server_id), "tools/list").status_code == status

    @pytest.mark.parametrize("attempt", ATTEMPTS)
    def test_every_session_stays_inside(self, attempt, gateway, sidecar):
        """As many sessions as it takes until each gateway has owned one."""
        world = sidecar(*gateway.peers)
        url, owners = through(world, gateway), set()
        for _ in range(20):
            session = McpSession(url, gateway.headers)
            assert_stays_inside(session, gateway, url, *ATTEMPTS[attempt])
            owners.add(owner(world, session))
            if owners == set(gateway.peers):
                return
        raise AssertionError(f"of {gateway.peers} only {owners} own sessions")

    @pytest.mark.parametrize("attempt", ATTEMPTS)
    @pytest.mark.parametrize(("begun", "entered"), [(0, 1), (1, 0)])
    def test_it_stays_inside_even_where_the_gateway_must_forward(self, attempt, begun, entered, gateway, sidecar):
        """The session is begun behind one sidecar, the request enters by another that knows only the other gateway."""
        session = McpSession(through(sidecar(gateway.peers[begun]), gateway), gateway.headers)
        other = through(sidecar(gateway.peers[entered]), gateway)
        assert_stays_inside(session, gateway, other, *ATTEMPTS[attempt])
