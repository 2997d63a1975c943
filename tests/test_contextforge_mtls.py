"""P5 on real ContextForge: strict-mTLS servers are registered, probed and used by a gateway that knows nothing of mTLS.

Seed 3, https://github.com/IBM/mcp-context-forge/issues/3579, NET-01 with its own steps: the certificates as it makes
them, a Python MCP server with `ssl.CERT_REQUIRED`, the registration, a tool call. 1.0.0rc1 alone fails at the
registration; 1.0.7 registers, but reads resources without the certificate and hands out an empty text.
"""

import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from harness import Outrigger, Process, free_port, wait_until
from harness.contextforge import ContextForge
from harness.paths import TESTS, python

#: Step 1.1, word for word.
TRUST_CHAIN = """
# Create CA
openssl req -x509 -newkey rsa:4096 -keyout ca.key -out ca.crt -days 365 -nodes -subj "/CN=Test CA"
# Create Server Cert (CN must match the registration URL)
openssl genrsa -out server.key 2048
openssl req -new -key server.key -out server.csr -subj "/CN=localhost"
openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -days 365
# Create Client Cert
openssl genrsa -out client.key 2048
openssl req -new -key client.key -out client.csr -subj "/CN=Client"
openssl x509 -req -in client.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out client.crt -days 365
"""

#: How the servers are reached: transport, path at the server, path that leads to the server, ContextForge's word.
SERVERS = {
    "sse": ("/sse", "", "SSE"),
    "streamable-http": ("/mcp", "/tools/streamable", "STREAMABLEHTTP"),
}

#: Beats of the gateway's own health check that a server has to be alive for.
BEATS = 3


@pytest.fixture(scope="module")
def certs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("certs")
    subprocess.run(["sh", "-ec", TRUST_CHAIN], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def strict(certs, tmp_path_factory) -> dict[str, "Strict"]:
    """Step 1.2: a server for each transport."""
    with ExitStack() as ends:
        servers = {}
        for transport in SERVERS:
            servers[transport] = Strict(transport, certs, tmp_path_factory.mktemp("strict"))
            ends.callback(servers[transport].process.end)
        yield servers


class Strict:
    """A strict-mTLS MCP server."""

    def __init__(self, transport: str, certs: Path, folder: Path):
        self.port = free_port()
        argv = [python("mcp1"), TESTS / "contextforge" / "strict.py", self.port, transport]
        argv += [certs / "server.crt", certs / "server.key", certs / "ca.crt"]
        self.process = Process(transport, argv, folder)
        self.process.wait_ready(lambda: self.process.listens(self.port), 60)

    def requests(self) -> int:
        """What it answered so far; each came with a client certificate, or there had been no request."""
        return (self.process.out.read_text() + self.process.err.read_text()).count('HTTP/1.1"')


@pytest.fixture(scope="module")
def egress(certs, strict, tmp_path_factory) -> Callable[[str], str]:
    """Outrigger on both loopback addresses; gives the URL to register: one server has a port, the other one a path."""
    ports = {transport: free_port() for transport in SERVERS}
    files = {"ca": "ca.crt", "cert": "client.crt", "key": "client.key"}
    tls = {"server_name": "localhost", **{key: str(certs / file) for key, file in files.items()}}
    upstreams = {
        transport: {"peers": [f"127.0.0.1:{server.port}"], "host": f"localhost:{server.port}", "tls": tls}
        for transport, server in strict.items()
    }

    def listener(transport: str) -> dict:
        prefix = SERVERS[transport][1]
        goes_to = {"paths": [{"path": prefix, "upstream": transport}]} if prefix else {"upstream": transport}
        addresses = [f"{host}:{ports[transport]}" for host in ("127.0.0.1", "[::1]")]
        return {"name": transport, "address": addresses, "scope": False, **goes_to}

    config = {"listeners": [listener(transport) for transport in SERVERS], "upstreams": {"gateway": None, **upstreams}}
    world = Outrigger(tmp_path_factory.mktemp("egress"), config=config)
    yield lambda transport: f"http://localhost:{ports[transport]}{SERVERS[transport][1]}{SERVERS[transport][0]}"
    world.end()


@pytest.fixture(scope="module", params=["1.0.0rc1", "1.0.7"])
def gateway(request, tmp_path_factory) -> "Gateway":
    settings = {"HEALTH_CHECK_INTERVAL": "1", "UNHEALTHY_THRESHOLD": "2"}
    running = ContextForge(tmp_path_factory.mktemp("gateway"), request.param, gateways=1, settings=settings)
    yield Gateway(running)
    running.end()


class Gateway:
    """ContextForge's own API."""

    def __init__(self, running: ContextForge):
        self.version = running.version
        url = f"http://{running.peers[0]}"
        self._http = httpx.Client(base_url=url, headers=running.headers, trust_env=False, timeout=60)

    def register(self, name: str, url: str, **more) -> httpx.Response:
        return self._http.post("/gateways", json={"name": name, "url": url, "visibility": "public", **more})

    def forget(self, registered: dict) -> None:
        assert self._http.delete(f"/gateways/{registered['id']}").is_success

    def known(self, registered: dict) -> dict:
        """What it thinks of a server by now."""
        return self._http.get(f"/gateways/{registered['id']}").json()

    def rpc(self, method: str, **params) -> dict:
        answer = self._http.post("/rpc", json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
        assert "result" in answer.json(), answer.text
        return answer.json()["result"]


@pytest.mark.parametrize("transport", SERVERS)
def test_a_strict_server_is_registered_probed_and_used(gateway, egress, strict, transport):
    registered = gateway.register(f"strict-{transport}", egress(transport), transport=SERVERS[transport][2])
    assert registered.is_success, registered.text
    registered = registered.json()
    try:
        tool = f"strict-{transport}-add"
        assert tool in {tool["name"] for tool in gateway.rpc("tools/list")["tools"]}
        sum_ = gateway.rpc("tools/call", name=tool, arguments={"a": 2, "b": 3})
        assert sum_["content"][0]["text"] == "5"
        assert gateway.rpc("resources/read", uri=f"memo://{transport}")["contents"][0]["text"] == "read over mTLS"

        before, seen = strict[transport].requests(), gateway.known(registered)["lastSeen"]
        probed = lambda: strict[transport].requests() >= before + BEATS  # noqa: E731
        wait_until(probed, what="the gateway's health checks at the server")
        wait_until(lambda: gateway.known(registered)["lastSeen"] > seen, what="the server was seen")
        known = gateway.known(registered)
        assert (known["enabled"], known["reachable"]) == (True, True)
    finally:
        gateway.forget(registered)


class TestWithoutOutrigger:
    """The control: what NET-01 says, on the very same servers."""

    def test_rc1_cannot_register_them(self, gateway, strict, certs):
        if gateway.version != "1.0.0rc1":
            pytest.skip("1.0.7 has fields for a client certificate")
        before = strict["sse"].requests()
        url = f"https://localhost:{strict['sse'].port}/sse"
        as_in_the_seed = {
            name: str(certs / file) for name, file in (("client_cert", "client.crt"), ("client_key", "client.key"))
        }
        as_in_the_seed = {"tls_config": {"ca_cert": str(certs / "ca.crt"), **as_in_the_seed}}
        for trust in (as_in_the_seed, {"ca_certificate": (certs / "ca.crt").read_text()}):
            refused = gateway.register("alone", url, **trust)
            assert refused.status_code == 502 and "Failed to initialize gateway" in refused.text
        assert strict["sse"].requests() == before

    def test_1_0_7_reads_their_resources_without_the_certificate(self, gateway, strict, certs):
        if gateway.version != "1.0.7":
            pytest.skip("1.0.0rc1 does not come so far")
        trust = {"ca_certificate": (certs / "ca.crt").read_text()}
        trust |= {"client_cert": str(certs / "client.crt"), "client_key": str(certs / "client.key")}
        url = f"https://localhost:{strict['sse'].port}/sse"
        registered = gateway.register("alone", url, **trust)
        assert registered.is_success, registered.text
        try:
            added = gateway.rpc("tools/call", name="alone-add", arguments={"a": 2, "b": 3})
            assert added["content"][0]["text"] == "5"
            assert gateway.rpc("resources/read", uri="memo://sse")["contents"][0]["text"] == ""
        finally:
            gateway.forget(registered.json())
