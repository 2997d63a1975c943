"""P4 on real ContextForge, 1.0.0rc1 and 1.0.7: the address that an HTTP+SSE client is given leads back to us.

Seed 1, https://github.com/IBM/mcp-context-forge/issues/424, and its six test cases. The gateway believes any
`X-Forwarded-Proto` and knows no public host, so a client that ends TLS elsewhere is sent astray.
"""

import json
import subprocess
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx
import pytest

from harness import Outrigger, free_port
from harness.contextforge import ContextForge
from harness.mcp import McpSession
from harness.nginx import Nginx
from harness.paths import TESTS, python

#: The client of Python SDK 1.x compares origins as strings, so they are wanted whole.
WAYS = ["http", "https", "nginx", "nginx-takes-prefix-off", "nginx-leaves-prefix-on"]


@pytest.fixture(scope="module", params=["1.0.0rc1", "1.0.7"])
def gateways(request, tmp_path_factory, pki):
    """Two gateways that have nothing in common.

    For every message of HTTP+SSE rc1 calls itself at its public address, so it must know the authority of who answers.
    """
    with ExitStack() as ends:

        def make(name):
            env = {"SSL_CERT_FILE": str(pki.ca)}
            running = ContextForge(tmp_path_factory.mktemp(name), request.param, gateways=1, settings=env)
            ends.callback(running.end)
            return running

        yield [make("one"), make("other")]


@pytest.fixture(scope="module")
def gateway(gateways):
    return gateways[0]


class Front:
    """A sidecar in front of a gateway, with a listener for every way in; `urls` tells what each is called."""

    def __init__(self, folder, pki, peers):
        self.ca = str(pki.ca)
        identity = pki.issue("localhost")
        ports = {way: free_port() for way in WAYS}
        self.nginx = Nginx(
            folder / "nginx",
            identity,
            {
                "/": f"http://127.0.0.1:{ports['nginx']}",
                "/off/": f"http://127.0.0.1:{ports['nginx-takes-prefix-off']}/",
                "/on/": f"http://127.0.0.1:{ports['nginx-leaves-prefix-on']}",
            },
        )
        behind = f"https://localhost:{self.nginx.port}"
        trusting = {"trusted_proxies": ["127.0.0.0/8"]}
        settings = {
            "http": {},
            "https": {"tls": identity.as_config()},
            "nginx": trusting,
            "nginx-takes-prefix-off": {"public_url": {"external_url": f"{behind}/off"}},
            "nginx-leaves-prefix-on": {"public_url": {"external_url": f"{behind}/on"}},
        }
        self.urls = {
            "http": f"http://localhost:{ports['http']}",
            "https": f"https://localhost:{ports['https']}",
            "nginx": behind,
            "nginx-takes-prefix-off": f"{behind}/off",
            "nginx-leaves-prefix-on": f"{behind}/on",
        }
        listeners = [
            {"name": way, "address": f"127.0.0.1:{port}", "upstream": "gateway", **settings[way]}
            for way, port in ports.items()
        ]
        config = {"listeners": listeners, "rewrite": {"endpoint": "absolute"}}
        self.world = Outrigger(folder / "outrigger", peers, config)

    def end(self):
        self.world.end()
        self.nginx.end()

    def get(self, way, path, **options):
        return httpx.stream("GET", self.urls[way] + path, verify=self.ca, trust_env=False, timeout=30, **options)


@pytest.fixture(scope="module")
def fronts(gateways, tmp_path_factory, pki):
    with ExitStack() as ends:

        def make(gateway):
            made = Front(tmp_path_factory.mktemp("front"), pki, gateway.peers)
            ends.callback(made.end)
            return made

        yield [make(gateway) for gateway in gateways]


@pytest.fixture(scope="module")
def front(fronts):
    return fronts[0]


def endpoint(stream) -> str:
    """The address in the first event."""
    with stream as answer:
        assert answer.status_code == 200, answer.read()
        lines = answer.iter_lines()
        assert next(lines) == "event: endpoint"
        return next(lines).removeprefix("data: ")


class TestWithoutOutrigger:
    """The control: what is wrong is really wrong."""

    @pytest.mark.parametrize("scheme", ["https", "javascript"])
    def test_a_gateway_believes_any_scheme_of_anybody(self, gateway, scheme):
        headers = gateway.headers | {"X-Forwarded-Proto": scheme}
        url = f"http://{gateway.peers[0]}/servers/{gateway.server_id}/sse"
        assert endpoint(httpx.stream("GET", url, headers=headers, trust_env=False)).startswith(f"{scheme}://")

    def test_and_redirects_to_the_host_that_it_sees(self, gateway):
        answer = httpx.post(f"http://{gateway.peers[0]}/mcp", headers={"Host": "inside:4444"}, trust_env=False)
        redirected = "http://inside:4444/mcp/" if gateway.version == "1.0.0rc1" else None
        assert answer.headers.get("location") == redirected


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("scope", ["server", "all"])
def test_the_endpoint_is_where_the_client_came_in(gateway, front, way, scope):
    """Direct http; TLS at the sidecar; an HTTPS reverse proxy in front, also with a path of its own."""
    prefix = f"/servers/{gateway.server_id}" if scope == "server" else ""
    address = endpoint(front.get(way, f"{prefix}/sse", headers=gateway.headers))
    assert address.startswith(f"{front.urls[way]}{prefix}/message?session_id="), address


@pytest.mark.parametrize("way", WAYS)
def test_a_strict_client_works_by_it(gateway, front, way):
    url = f"{front.urls[way]}/servers/{gateway.server_id}/sse"
    command = [python("mcp1"), TESTS / "contextforge" / "sse_client.py", url, gateway.token]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        env={"SSL_CERT_FILE": front.ca, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"tools": sorted(gateway.shown), "added": "5"}


@pytest.mark.parametrize("proto", ["https", "http", "javascript"])
def test_a_forwarded_scheme_counts_from_a_trusted_proxy_only(gateway, front, proto):
    headers = gateway.headers | {"X-Forwarded-Proto": proto, "Forwarded": f"proto={proto}"}
    for way in ("http", "https"):
        assert urlsplit(endpoint(front.get(way, "/sse", headers=headers))).scheme == way
    assert urlsplit(endpoint(front.get("nginx", "/sse", headers=headers))).scheme == "https", "nginx wrote its own"


def test_a_message_to_the_bare_endpoint_needs_no_redirect(gateway, front):
    """rc1 sends /mcp to an absolute http:// address with a slash; behind TLS clients refuse that."""
    url = f"{front.urls['http']}/mcp"
    session = McpSession(url, gateway.headers)
    assert gateway.hidden in session.tools(url), "not a virtual server's"


@pytest.mark.parametrize(("member", "way"), [(0, "https"), (1, "http")])
def test_gateways_behind_http_and_https_use_each_other(gateways, fronts, member, way):
    """A gateway that is registered at another one is a client like any other."""
    here, there = gateways[member], gateways[1 - member]
    registration = {
        "name": f"over-{way}",
        "url": f"{fronts[1 - member].urls[way]}/servers/{there.server_id}/sse",
        "transport": "SSE",
        "auth_type": "bearer",
        "auth_token": there.token,
        "visibility": "public",
    }
    with httpx.Client(headers=here.headers, trust_env=False, timeout=60) as client:
        answer = client.post(f"{fronts[member].urls['http']}/gateways", json=registration)
    assert answer.is_success, answer.text
    url = f"{fronts[member].urls['http']}/mcp"
    session = McpSession(url, here.headers)
    assert {f"over-{way}-{name}" for name in there.shown} <= session.tools(url)
    added = session.ask(url, "tools/call", {"name": f"over-{way}-tiny-add", "arguments": {"a": 2, "b": 3}})
    assert added["result"]["content"][0]["text"] == "5"
