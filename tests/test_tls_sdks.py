"""The SDKs' own clients, by certificate: sessions and streams as without one, and nobody comes in without."""

from contextlib import ExitStack

import pytest

from harness import Outrigger, wait_until
from harness.mcp import CLIENTS, SERVER_KINDS, McpServers, SdkClient


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    running = McpServers(SERVER_KINDS["python-v2"], tmp_path_factory.mktemp("servers"))
    yield running
    running.end()


@pytest.fixture(scope="module")
def world(tmp_path_factory, servers, generated):
    made = Outrigger(tmp_path_factory.mktemp("world"), servers.peers, {"profile": "generic"}, start=False)
    tls = {**generated["server"].as_config(), "client_ca": str(generated.ca), "forward_client_cert": True}
    made.config["listeners"][0]["tls"] = tls
    made.start()
    made.public = f"https://localhost:{made.port}{servers.kind.path}"
    yield made
    made.end()


@pytest.fixture(scope="module")
def jobs(tmp_path_factory, world, servers, generated):
    """All at once: each client with a right certificate, with a stranger's, and without one."""
    with ExitStack() as ends:

        def begin(client: str, name: str | None):
            folder = tmp_path_factory.mktemp("clients")
            made = SdkClient(client, folder, generated.ca, generated[name] if name else None)
            ends.callback(made.end)
            return made.begin(world.public, servers.kind)

        yield {
            (client, name): begin(client, name) for client in CLIENTS for name in ("client", "client-stranger", None)
        }


@pytest.mark.parametrize("client", CLIENTS)
def test_with_its_certificate_it_gets_along(world, jobs, client):
    report = jobs[client, "client"].report()
    assert report["counts"] == [1, 2, 3]
    assert report["slow"] == "4 steps"
    assert report["announced"]
    assert len(set(report["instances"])) == 1, "one session, one owner"
    assert report["after_delete"] == 404


@pytest.mark.parametrize("name", ["client-stranger", None])
@pytest.mark.parametrize("client", CLIENTS)
def test_with_a_wrong_one_or_none_it_does_not(jobs, client, name):
    with pytest.raises(AssertionError, match="failed"):
        jobs[client, name].report()


def test_every_request_is_told_of_with_its_certificate(world, jobs):
    for client in CLIENTS:
        jobs[client, "client"].report()
    lines = wait_until(world.access_log)
    assert {line["client_cert"]["subject"] for line in lines} == {"CN=client,O=Example"}
