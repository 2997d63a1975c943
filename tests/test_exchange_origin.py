"""Outrigger says who a request comes from: trusted hops alone are believed, and internal fields never come in."""

import pytest

from harness import JSON, answering, response
from harness.stage import BOTH, MCP, OPEN, a_stage, call, result

#: The plaintext listener trusts this machine, the TLS listener nobody.
stage = a_stage(plain={"trusted_proxies": ["127.0.0.0/8"], **OPEN}, profiles=("contextforge", "generic"))

ANSWERS = answering(response(200, result()))
PATHS = pytest.mark.parametrize("path", [MCP, "/mcp", "/admin"])

CLAIMS = {
    "X-Forwarded-For": "6.6.6.6, 198.51.100.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "mcp.example.com",
    "X-Forwarded-Port": "8443",
}
OTHERS = {
    "Forwarded": "for=6.6.6.6;proto=https",
    "X-Real-IP": "6.6.6.6",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-Server": "evil",
    "X-Forwarded-Scheme": "https",
    "X-Forwarded-Ssl": "on",
    "X-Outrigger-Hop": "1",
}


def ask(stage, protocol, path, fields):
    # To a member this field says that a request goes round in a circle (test_hop_trust).
    fields = {name: value for name, value in fields.items() if name != "X-Outrigger-Hop" or not stage.adds}
    with stage.playing(ANSWERS) as upstream, stage.client(protocol) as client:
        assert client.ask("POST", path, call(), {**JSON, **fields}).status == 200
    return upstream.requests[0]


@PATHS
def test_a_trusted_hop_is_believed(stage, path):
    seen = ask(stage, "h1", path, {**CLAIMS, **OTHERS})
    assert seen.header("x-forwarded-for") == "198.51.100.7", "the nearest address that is no trusted hop"
    assert seen.header("x-forwarded-proto") == "https"
    assert seen.header("x-forwarded-host") == seen.header("host") == "mcp.example.com:8443"
    assert seen.header("x-forwarded-port") == "8443"
    assert {name: seen.header(name) for name in OTHERS} == dict.fromkeys(OTHERS)


@PATHS
@pytest.mark.parametrize("protocol", ["h1-tls", "h2"])
def test_anybody_else_is_not(stage, protocol, path):
    seen = ask(stage, protocol, path, {**CLAIMS, **OTHERS})
    assert seen.header("x-forwarded-for") == "127.0.0.1"
    assert seen.header("x-forwarded-proto") == "https", "as the listener saw it"
    assert seen.header("x-forwarded-host") == seen.header("host") == "localhost"
    assert seen.header("x-forwarded-port") == "443"
    assert {name: seen.header(name) for name in OTHERS} == dict.fromkeys(OTHERS)


@PATHS
def test_a_plaintext_client_cannot_claim_https(outrigger, raw_upstream, path):
    upstream = raw_upstream(ANSWERS)
    world = outrigger([upstream.address])
    with world.client() as client:
        client.ask("POST", path, call(), {**JSON, **CLAIMS})
    assert upstream.requests[0].header("x-forwarded-proto") == "http"
    assert upstream.requests[0].header("x-forwarded-for") == "127.0.0.1"
    assert upstream.requests[0].header("x-forwarded-host") == "localhost"
    assert upstream.requests[0].header("x-forwarded-port") == "80"


@PATHS
@pytest.mark.parametrize(
    ("claims", "wanted"),
    [
        ({"X-Forwarded-For": "junk"}, {"x-forwarded-for": "127.0.0.1"}),
        ({"X-Forwarded-For": "[2001:db8::1]:443"}, {"x-forwarded-for": "2001:db8::1"}),
        ({"X-Forwarded-For": "198.51.100.7, 127.0.0.2"}, {"x-forwarded-for": "198.51.100.7"}),
        ({"X-Forwarded-Proto": "javascript"}, {"x-forwarded-proto": "http"}),
        ({"X-Forwarded-Proto": "http, HTTPS"}, {"x-forwarded-proto": "https"}),
        ({"X-Forwarded-Host": "evil.example/path"}, {"host": "localhost"}),
        ({"X-Forwarded-Host": "user@evil.example"}, {"host": "localhost"}),
        ({"X-Forwarded-Host": "evil.example, mcp.example.com:8443"}, {"host": "mcp.example.com:8443"}),
        ({"X-Forwarded-Port": "1, 8443"}, {"host": "localhost:8443", "x-forwarded-port": "8443"}),
        ({"X-Forwarded-Port": "443"}, {"host": "localhost", "x-forwarded-port": "80"}),
        ({"X-Forwarded-Port": "8443 junk"}, {"host": "localhost", "x-forwarded-port": "80"}),
    ],
)
def test_of_a_trusted_hops_claims_only_sound_ones_count(stage, path, claims, wanted):
    seen = ask(stage, "h1", path, claims)
    assert {name: seen.header(name) for name in wanted} == wanted


FORWARDED = 'for=6.6.6.6;host=evil, for="[2001:db8::1]:4711";Proto=HTTPS;by=_a;host="mcp.example.com:8443"'


@PATHS
def test_forwarded_says_the_same(stage, path):
    """RFC 7239; the last element is the hop's own."""
    seen = ask(stage, "h1", path, {"Forwarded": FORWARDED})
    assert seen.header("x-forwarded-for") == "2001:db8::1"
    assert seen.header("x-forwarded-proto") == "https"
    assert seen.header("x-forwarded-host") == seen.header("host") == "mcp.example.com:8443"
    assert seen.header("forwarded") is None


@PATHS
@pytest.mark.parametrize("name", ["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port"])
def test_forwarded_counts_for_nothing_beside_the_other_family(stage, path, name):
    """A proxy that writes one family lets a client's own words in the other one through."""
    seen = ask(stage, "h1", path, {"Forwarded": FORWARDED, name: "junk!"})
    assert seen.header("x-forwarded-for") == "127.0.0.1"
    assert seen.header("x-forwarded-proto") == "http"
    assert seen.header("host") == "localhost"


INTERNAL = {
    "X-Forwarded-Internally": "true",
    "x-original-worker": "w1",
    "X-Mcp-Session-Id": "abc",
    "X-Authenticated-User": "admin@example.com",
    "X-ContextForge-Mcp-Runtime-Auth": "secret",
    "x-contextforge-anything": "1",
}


@PATHS
@BOTH
def test_the_gateways_internal_fields_do_not_come_in_from_outside(stage, protocol, path):
    """P7. They are ContextForge's; in front of another server they are ordinary fields."""
    seen = ask(stage, protocol, path, INTERNAL)
    wanted = INTERNAL if stage.profile == "generic" else dict.fromkeys(INTERNAL)
    assert {name: seen.header(name) for name in INTERNAL} == wanted
