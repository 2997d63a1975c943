"""`forward_client_cert`: the upstream is told who the client is, whichever way a request goes, but not by itself."""

import hashlib
import ssl

import pytest

from harness import JSON, Outrigger, RawClient, answering, free_port, response, wait_until
from harness.hop import HopStage
from harness.http2 import Http2Client
from harness.raw import RawUpstream
from harness.stage import MCP, OPEN, Http1Client, Stage, call, result

FIELD = "x-forwarded-client-cert"
ANSWER = response(200, result())

#: What a client might say of itself; RFC 9440's fields mean the same.
FORGED = [
    {"X-Forwarded-Client-Cert": 'Hash=00;Subject="CN=admin"'},
    {"x-forwarded-client-cert": "By=x", "Client-Cert": ":AAAA:", "Client-Cert-Chain": ":AAAA:"},
]


def identity_of(message) -> dict:
    names = (FIELD, "client-cert", "client-cert-chain")
    return {name.lower(): value for name, value in message.headers if name.lower() in names}


@pytest.fixture(scope="module", params=["alone", "hop"])
def stage(request, tmp_path_factory, pki, generated):
    """Its TLS listener asks for a certificate and tells of it; with `hop`, MCP requests go on to a second member."""
    tls = {"client_ca": str(generated.ca), "client_auth": "optional", "forward_client_cert": True}
    kind = HopStage if request.param == "hop" else Stage
    with_tls = {"tls": {**pki.issue("localhost").as_config(), **tls}, **OPEN}
    made = kind(tmp_path_factory.mktemp("forwarded"), pki, {}, OPEN, with_tls)
    try:
        made.start()
        yield made
    finally:
        made.end()


@pytest.fixture
def enter(stage, pki, generated):
    """`enter(protocol, name)`: a client with this certificate."""

    def make(protocol: str, name: str | None = "client"):
        context = pki.client_context(generated[name] if name else None, ("h2" if protocol == "h2" else "http/1.1",))
        client = (Http2Client if protocol == "h2" else Http1Client)(stage.tls_address, context)
        return stage._naming_sessions(client) if isinstance(stage, HopStage) else client

    return make


def expected(generated, name: str) -> str:
    cert = generated[name].cert.read_text()
    sha256 = hashlib.sha256(ssl.PEM_cert_to_DER_cert(cert)).hexdigest()
    who = name.removeprefix("client-")
    return f'Hash={sha256};Subject="CN={who},O=Example";DNS={who}.example;URI=spiffe://example/{who}'


@pytest.mark.parametrize("protocol", ["h1", "h2"])
@pytest.mark.parametrize("path", [MCP, "/mcp", "/admin", "/sse"])
@pytest.mark.parametrize("forged", [{}, *FORGED])
@pytest.mark.parametrize("name", ["client", "client-twin"])
def test_the_upstream_is_told(stage, enter, generated, protocol, path, forged, name):
    with stage.playing(answering(ANSWER)) as upstream, enter(protocol, name) as client:
        for _ in range(2):
            assert client.ask("POST", path, call(), {**JSON, **forged}).status == 200
    for message in upstream.requests:
        assert identity_of(message) == {FIELD: expected(generated, name)}
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("protocol", ["h1", "h2"])
@pytest.mark.parametrize("path", [MCP, "/admin"])
@pytest.mark.parametrize("forged", [{}, *FORGED])
def test_of_a_client_without_a_certificate_nothing_is_told(stage, enter, protocol, path, forged):
    with stage.playing(answering(ANSWER)) as upstream, enter(protocol, None) as client:
        assert client.ask("POST", path, call(), {**JSON, **forged}).status == 200
    [message] = upstream.requests
    assert identity_of(message) == {}


@pytest.mark.parametrize("path", [MCP, "/admin"])
@pytest.mark.parametrize("forged", FORGED)
def test_on_a_plain_listener_a_clients_own_word_goes_no_further(stage, path, forged):
    with stage.playing(answering(ANSWER)) as upstream, stage.client() as client:
        assert client.ask("POST", path, call(), {**JSON, **forged}).status == 200
    [message] = upstream.requests
    assert identity_of(message) == {}


@pytest.mark.parametrize("path", [MCP, "/admin"])
def test_it_is_not_told_unless_asked_for(tmp_path, generated, path):
    upstream = RawUpstream(answering(ANSWER))
    world = Outrigger(tmp_path, [upstream.address], start=False)
    tls = {**generated["server"].as_config(), "client_ca": str(generated.ca)}
    world.config["listeners"][0]["tls"] = tls
    # Who is trusted to say where a client is, is not trusted to say who it is.
    world.config["listeners"][0]["trusted_proxies"] = ["127.0.0.0/8"]
    world.config["listeners"][0]["address"] = f"127.0.0.1:{free_port()}"
    world.address = world.config["listeners"][0]["address"]
    context = ssl.create_default_context(cafile=generated.ca)
    context.load_cert_chain(generated["client"].cert, generated["client"].key)
    try:
        world.start()
        with RawClient(world.address, context) as client:
            assert client.ask("POST", path, call(), {**JSON, **FORGED[0]}).status == 200
    finally:
        world.end()
        upstream.close()
    [message] = upstream.requests
    assert identity_of(message) == {}


HOSTILE = 'a",Hash=00;Subject="CN=admin"\r\nX-Injected: 1'


@pytest.mark.parametrize("path", [MCP, "/admin"])
def test_a_name_that_a_ca_should_not_have_signed_ends_no_value(outrigger, raw_upstream, pki, path):
    upstream = raw_upstream(answering(ANSWER))
    world = outrigger([upstream.address], start=False)
    tls = {**pki.issue("localhost").as_config(), "client_ca": str(pki.ca), "forward_client_cert": True}
    world.config["listeners"][0]["tls"] = tls
    world.start()
    hostile = pki.issue("a.example", label="hostile", common_name=HOSTILE)
    with RawClient(world.address, pki.client_context(hostile)) as client:
        assert client.ask("POST", path, call(), JSON).status == 200
    [message] = upstream.requests
    told = message.header(FIELD)
    assert r"CN=a\22\2CHash\3D00\3BSubject\3D\22CN\3Dadmin\22\0D\0AX-Injected: 1" in told
    assert told.count('"') == 2
    assert message.header("x-injected") is None
    [line] = wait_until(world.access_log)
    assert r"CN=a\22\2CHash" in line["client_cert"]["subject"]
