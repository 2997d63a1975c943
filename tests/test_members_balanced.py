"""Real SDK clients through an ordinary load balancer and several members see what they see of one server alone.

nginx sends each request to the next member, so that every second request of a session enters by a member that does not
own it: POSTs and their event streams, the GET stream, a resumed stream, the messages of HTTP+SSE, and the DELETE.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from harness.balancer import Balancer
from harness.mcp import CLIENTS, SERVER_KINDS, McpServers, SdkClient
from harness.members import Members
from harness.redis import RedisServer
from test_sdk_matrix import Case, comparable

SERVERS = ("python-v1", "python-v1-sse", "typescript-v1", "typescript-v1-sse", "python-v2", "typescript-v2")


@pytest.fixture(scope="module")
def balanced(tmp_path_factory, pki):
    """`balanced(server, client)`: a Case; its clients dial the balancer. Two members with an instance each."""
    folder = tmp_path_factory.mktemp("balanced")
    with ExitStack() as ends, ThreadPoolExecutor(len(SERVERS)) as at_once:
        worlds = {server: ends.enter_context(ExitStack()) for server in SERVERS}
        clients = {client: SdkClient(client, folder / "clients") for client in CLIENTS}
        for client in clients.values():
            ends.callback(client.end)
        redis = RedisServer(folder / "redis")
        ends.callback(redis.end)

        def begin(server: str) -> dict[str, Case]:
            kind = SERVER_KINDS[server]
            servers = McpServers(kind, folder / server)
            worlds[server].callback(servers.end)
            # All share one Redis, as services of one cluster may.
            peers = [[peer] for peer in servers.peers]
            members = Members(folder / server, redis, peers, pki, prefix=f"{server}:", start=False)
            worlds[server].callback(members.end)
            members.start()
            balancer = Balancer(folder / server / "nginx", [member.address for member in members.all])
            worlds[server].callback(balancer.end)
            direct, through = f"http://{servers.peers[0]}{kind.path}", f"{balancer.url}{kind.path}"
            return {
                name: Case(
                    client.begin(direct, kind), [client.begin(through, kind) for _ in range(2)], balancer.address
                )
                for name, client in clients.items()
            }

        begun = {server: at_once.submit(begin, server) for server in SERVERS}
        yield lambda server, client: begun[server].result()[client]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("server", SERVERS)
def test_a_client_sees_no_difference(server, client, balanced):
    kind, case = SERVER_KINDS[server], balanced(server, client)
    direct = case.direct.report()
    for report in (job.report() for job in case.through):
        assert len(set(report["instances"])) == 1, f"one session was answered by {report['instances']}"
        assert report["host"] == case.address, "the upstream must see the host that the client dialled"
        if kind.path.endswith("/mcp"):
            assert report["server_id"] == "abc"
        assert comparable(report, kind, owned=True) == comparable(direct, kind, owned=True)
