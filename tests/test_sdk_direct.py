"""The control: every SDK client gets along with every SDK server without Outrigger, else the matrix proves nothing."""

import pytest

from harness.mcp import CLIENTS, SERVER_KINDS


@pytest.mark.parametrize("server", SERVER_KINDS)
def test_every_client_gets_along_with_it(server, mcp_server, run_client):
    servers = mcp_server(server)
    kind = servers.kind
    runs = {client: run_client(client, f"http://{servers.peers[0]}{kind.path}", kind) for client in CLIENTS}
    for client, run in runs.items():
        report = run.report()
        assert set(report["instances"]) == {"a"}, client
        assert report["progress"][: len(kind.progress)] == kind.progress, client
        if kind.stateful and not kind.reference:
            assert report["counts"] == [1, 2, 3], client
            assert report["announced"] is True, client
        if kind.resumable and not kind.reference:
            assert report["resumed"] == "resumed" and report["logs"] == ["after", "before"], client
