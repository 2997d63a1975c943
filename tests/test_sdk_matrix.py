"""P8: through Outrigger every SDK client gets from every SDK server what it gets directly; a session has one owner."""

import pytest

from harness import Outrigger
from harness.mcp import CLIENTS, SERVER_KINDS

LEGACY = [(client, kind.name) for kind in SERVER_KINDS.values() for client in CLIENTS]
MODERN = [
    (client, kind.name) for kind in SERVER_KINDS.values() if kind.dual_era for client in ("python_v2", "typescript_v2")
]


@pytest.fixture(scope="module")
def through(mcp_server, tmp_path_factory):
    """URL of one Outrigger in front of both instances of a kind: `through("python-v1")`."""
    worlds = {}

    def make(kind: str) -> Outrigger:
        if kind not in worlds:
            folder = tmp_path_factory.mktemp(f"outrigger-{kind}")
            worlds[kind] = Outrigger(folder, mcp_server(kind).peers, {"profile": "generic"})
        return worlds[kind]

    yield make
    for world in worlds.values():
        world.end()


@pytest.mark.parametrize(("client", "server"), LEGACY)
def test_a_client_of_the_handshake_era_sees_no_difference(client, server, mcp_server, through, run_client):
    compare(client, server, "legacy", mcp_server, through, run_client)


@pytest.mark.parametrize(("client", "server"), MODERN)
def test_a_client_of_the_stateless_era_sees_no_difference(client, server, mcp_server, through, run_client):
    compare(client, server, "auto", mcp_server, through, run_client)


def compare(client, server, mode, mcp_server, through, run_client):
    """Runs the client directly and twice through Outrigger, all at once."""
    kind, direct_peer, world = SERVER_KINDS[server], mcp_server(server).peers[0], through(server)
    runs = [run_client(client, f"http://{direct_peer}{kind.path}", kind, mode)]
    runs += [run_client(client, world.url + kind.path, kind, mode) for _ in range(2)]
    direct, *proxied = [run.report() for run in runs]

    owned = kind.stateful and direct["protocol"] != "2026-07-28"
    for report in proxied:
        if owned:
            assert len(set(report["instances"])) == 1, f"one session was answered by {report['instances']}"
        if not kind.reference:
            assert report["host"] == world.address, "the upstream must see the host that the client dialled"
            if kind.path.endswith("/mcp"):
                assert report["server_id"] == "abc"
        for seen in (report, direct):
            seen["progress"] = seen["progress"][: len(kind.progress)]
        assert comparable(report, owned) == comparable(direct, owned)


def comparable(report: dict, owned: bool) -> dict:
    """Without what may differ: the instance, the address, what Outrigger adds, and process-wide counts."""
    without = {"instances", "host", "server_id"} | (set() if owned else {"counts"})
    return {key: value for key, value in report.items() if key not in without}


def test_sessions_spread_over_both_peers(mcp_server, through, run_client):
    kind, world = SERVER_KINDS["python-v1"], through("python-v1")
    runs = [run_client("python_v1", world.url + kind.path, kind) for _ in range(6)]
    owners = {run.report()["instances"][0] for run in runs}
    assert owners == {"a", "b"}
