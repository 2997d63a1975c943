"""P4 for real clients: each SDK's own check of the endpoint's origin is passed, over TLS and by any form of the event.

Clients in Python compare scheme and host as strings, those in TypeScript origins; the servers know of no TLS.
"""

from contextlib import ExitStack

import pytest

from harness import Outrigger, free_port
from harness.mcp import CLIENTS, SERVER_KINDS, McpServers, SdkClient

SERVERS = ["python-v1-sse", "python-v2-sse", "typescript-v1-sse"]
FORMS = ["path", "absolute"]
PREFIX = "/gate"


@pytest.fixture(scope="module")
def clients(tmp_path_factory, pki):
    with ExitStack() as ends:
        made = {}
        for name in CLIENTS:
            made[name] = SdkClient(name, tmp_path_factory.mktemp("clients"), pki.ca)
            ends.callback(made[name].end)
        yield made


@pytest.fixture(scope="module", params=SERVERS)
def servers(request, tmp_path_factory):
    running = McpServers(SERVER_KINDS[request.param], tmp_path_factory.mktemp(request.param))
    yield running
    running.end()


@pytest.fixture(scope="module", params=FORMS)
def world(request, servers, tmp_path_factory, pki):
    tls = pki.issue("localhost").as_config()
    ports = [free_port(), free_port()]
    listeners = [
        {"name": "tls", "address": f"127.0.0.1:{ports[0]}", "upstream": "gateway", "tls": tls},
        {
            "name": "prefixed",
            "address": f"127.0.0.1:{ports[1]}",
            "upstream": "gateway",
            "tls": tls,
            "public_url": {"external_url": f"https://localhost:{ports[1]}{PREFIX}"},
        },
    ]
    config = {"profile": "generic", "rewrite": {"endpoint": request.param}, "listeners": listeners}
    running = Outrigger(tmp_path_factory.mktemp("world"), servers.peers, config)
    running.urls = {"": f"https://localhost:{ports[0]}", PREFIX: f"https://localhost:{ports[1]}{PREFIX}"}
    yield running
    running.end()


@pytest.fixture(scope="module")
def jobs(world, servers, clients):
    """All clients at once, each without and with a prefix."""
    return {
        (client, prefix): clients[client].begin(url + servers.kind.path, servers.kind)
        for client in CLIENTS
        for prefix, url in world.urls.items()
    }


@pytest.mark.parametrize("prefix", ["", PREFIX])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_gets_along_over_tls(world, jobs, client, prefix):
    report = jobs[client, prefix].report()
    assert report["counts"] == [1, 2, 3]
    assert report["slow"] == "4 steps"
    assert len(set(report["instances"])) == 1, "one session, one owner"
    assert report["host"] == world.urls[prefix].split("/")[2]
