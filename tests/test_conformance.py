"""P8: the official conformance suite finds through Outrigger what it finds without it, every request spliced."""

import pytest

from harness.conformance import run_scenario, run_suite
from harness.mcp import McpServers, ServerKind

SERVERS = ["conformance_python_v2"]
REVISIONS = ["2025-11-25", "2026-07-28"]
#: What every scored scenario together must at least say, so that an empty run cannot pass.
LEAST_CHECKS = {"2025-11-25": 70, "2026-07-28": 100}


@pytest.fixture(scope="module", params=SERVERS)
def servers(request, tmp_path_factory):
    running = McpServers(ServerKind(request.param, request.param), tmp_path_factory.mktemp(request.param))
    yield running
    running.end()


@pytest.fixture(scope="module")
def direct(servers, tmp_path_factory):
    """What the suite finds without Outrigger, by revision; each is run once."""
    found = {}

    def run(revision: str):
        if revision not in found:
            url = f"http://{servers.peers[0]}/servers/abc/mcp"
            found[revision] = run_suite(url, revision, tmp_path_factory.mktemp(f"direct-{revision}"))
        return found[revision]

    return run


@pytest.mark.parametrize("revision", REVISIONS)
def test_the_server_itself_conforms(revision, direct):
    """The control: the fixtures are right, so a difference would be Outrigger's."""
    result = direct(revision)
    assert result.passed, result.summary
    assert sum(result.checks.values()) >= LEAST_CHECKS[revision]


@pytest.mark.parametrize("revision", REVISIONS)
def test_nothing_changes_through_outrigger(revision, servers, direct, outrigger, tmp_path):
    # A listener of the modern era hears only what happens at its own instance, so there one instance serves.
    peers = servers.peers if revision == "2025-11-25" else servers.peers[:1]
    world = outrigger(peers, {"profile": "generic"})
    result = run_suite(f"{world.url}/servers/abc/mcp", revision, tmp_path / "suite")
    assert result.passed, result.summary
    assert result.checks == direct(revision).checks, result.summary
    assert {line["peer"] for line in world.access_log() if "peer" in line} == set(peers), "each of them had a part"


def test_a_server_that_looks_at_no_host_is_protected(outrigger, tmp_path):
    """The control first: that server fails the scenario. Outrigger on loopback needs no setting to pass it."""
    kind = ServerKind("unguarded", "conformance_python_v2", unguarded=True)
    servers = McpServers(kind, tmp_path / "servers", count=1)
    try:
        scenario = "dns-rebinding-protection"
        direct = run_scenario(f"http://{servers.peers[0]}/servers/abc/mcp", scenario, tmp_path / "direct")
        assert not direct.passed, direct.summary
        world = outrigger(servers.peers, {"profile": "generic"})
        through = run_scenario(f"{world.url}/servers/abc/mcp", scenario, tmp_path / "through")
        assert through.passed, through.summary
        statuses = {status for _, _, status in through.checks}
        assert statuses == {"SUCCESS"}, through.checks
    finally:
        servers.end()
