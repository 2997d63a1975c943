"""P8: through Outrigger every SDK client gets from every SDK server what it gets directly; a session has one owner.

All servers, all Outriggers and all clients work at once: `matrix` begins everything, each test waits for its own part.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from harness import Outrigger
from harness.mcp import CLIENTS, SERVER_KINDS, Job, McpServers, SdkClient

CASES = [(server, client, "legacy") for server in SERVER_KINDS for client in CLIENTS]
CASES += [
    (kind.name, client, "auto")
    for kind in SERVER_KINDS.values()
    if kind.dual_era
    for client in ("python_v2", "typescript_v2")
]


@dataclass
class Case:
    """One client against one kind of server: once without Outrigger, twice through it."""

    direct: Job
    through: list[Job]
    #: host:port that the clients of `through` dialled.
    address: str


@pytest.fixture(scope="module")
def matrix(request, tmp_path_factory):
    """`matrix(server, client, mode)`: a Case. Two instances of each server, one Outrigger in front of both."""
    selected = {item.callspec.params["server"] for item in request.session.items if "matrix" in item.fixturenames}
    folder = tmp_path_factory.mktemp("matrix")
    worlds = {server: ExitStack() for server in SERVER_KINDS if server in selected}
    with ThreadPoolExecutor(4) as at_once, ExitStack() as ends:
        ends.callback(lambda: list(at_once.map(ExitStack.close, worlds.values())))
        # Clients end first, so that nobody else has to wait for their connections.
        clients = {client: SdkClient(client, folder / "clients") for client in CLIENTS}
        for client in clients.values():
            ends.callback(client.end)

        def begin(server: str) -> dict[tuple[str, str], Case]:
            kind = SERVER_KINDS[server]
            servers = McpServers(kind, folder / server)
            worlds[server].callback(servers.end)
            world = Outrigger(folder / server / "outrigger", servers.peers, {"profile": "generic"}, start=False)
            worlds[server].callback(world.end)
            world.start()
            direct, through = f"http://{servers.peers[0]}{kind.path}", f"{world.url}{kind.path}"
            return {
                (client, mode): Case(
                    clients[client].begin(direct, kind, mode),
                    [clients[client].begin(through, kind, mode) for _ in range(2)],
                    world.address,
                )
                for case_server, client, mode in CASES
                if case_server == server
            }

        begun = {server: at_once.submit(begin, server) for server in worlds}
        yield lambda server, client, mode: begun[server].result()[client, mode]


@pytest.mark.parametrize(("server", "client", "mode"), CASES)
def test_a_client_gets_along_with_a_server(server, client, mode, matrix):
    """The control: without Outrigger everything works, else the comparison proves nothing."""
    kind, report = SERVER_KINDS[server], matrix(server, client, mode).direct.report()
    modern = report["protocol"] == "2026-07-28"
    assert modern == (mode == "auto")
    assert set(report["instances"]) == {"a"}
    assert report["progress"][: len(kind.progress)] == kind.progress
    if kind.reference:
        return
    assert report["slow"] == "4 steps"
    assert report["concurrent"] == ["2 steps", "5 steps"]
    if kind.stateful and not modern:
        assert report["counts"] == [1, 2, 3]
        assert report["announced"] is True
    if kind.resumable and not modern:
        assert report["resumed"] == "resumed"
        assert report["logs"] == ["after", "before"]


@pytest.mark.parametrize(("server", "client", "mode"), CASES)
def test_a_client_sees_no_difference(server, client, mode, matrix):
    kind, case = SERVER_KINDS[server], matrix(server, client, mode)
    direct = case.direct.report()
    owned = kind.stateful and direct["protocol"] != "2026-07-28"
    for report in (job.report() for job in case.through):
        if owned:
            assert len(set(report["instances"])) == 1, f"one session was answered by {report['instances']}"
        if not kind.reference:
            assert report["host"] == case.address, "the upstream must see the host that the client dialled"
            if kind.path.endswith("/mcp"):
                assert report["server_id"] == "abc"
        assert comparable(report, kind, owned) == comparable(direct, kind, owned)


def comparable(report: dict, kind, owned: bool) -> dict:
    """Without what may differ: the instance, the address, what Outrigger adds, and process-wide counts."""
    without = {"instances", "host", "server_id"} | (set() if owned else {"counts"})
    steps = {"progress": report["progress"][: len(kind.progress)]}
    return {key: value for key, value in report.items() if key not in without} | steps
