"""P4: every address in an answer's head is one that the client can use; addresses elsewhere stay as they are.

Seed 1, https://github.com/IBM/mcp-context-forge/issues/424: a gateway that does not know how it is called writes
addresses that lead nowhere.
"""

import pytest

from harness import JSON, answering, response
from harness.stage import BOTH, MCP, OPEN, a_stage, call, result

stage = a_stage(plain=OPEN, tls=OPEN)

#: MCP and what passes go by the same rule.
PATHS = pytest.mark.parametrize("path", [MCP, "/admin"])

#: What a client calls the listener, and what its addresses must therefore begin with.
NAMES = {
    "h1": ("mcp.example.com:8080", "http://mcp.example.com:8080"),
    "h2": ("MCP.example.com", "https://MCP.example.com"),
}


def ask(stage, protocol, path, answer_fields, status=200, host=None, fields=()):
    """The head of an answer with these fields."""
    host = host or NAMES[protocol][0]
    answers = answering(response(status, result(), list(answer_fields)))
    with stage.playing(answers) as upstream, stage.client(protocol) as client:
        named = {"authority": host} if protocol == "h2" else {}
        pairs = [*JSON.items(), *fields, *([] if protocol == "h2" else [("Host", host)])]
        answer = client.begin("POST", path, call(), pairs, **named).read_response()
    return answer, upstream


@BOTH
@PATHS
@pytest.mark.parametrize("name", ["Location", "Content-Location"])
@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("http://{host}/a?b=c#d", "{public}/a?b=c#d"),
        ("https://{host}/a", "{public}/a"),
        ("//{host}/a", "{public}/a"),
        ("http://{peer}/a", "{public}/a"),
        ("http://localhost:{port}", "{public}"),
        ("http://0.0.0.0:{port}/a", "{public}/a"),
        ("/a", "/a"),
        ("a/b", "a/b"),
        ("https://login.example.com/?back=http://{peer}/a", "https://login.example.com/?back=http://{peer}/a"),
        ("http://localhost:1/a", "http://localhost:1/a"),
        ("http://{host}@evil.example/a", "http://{host}@evil.example/a"),
        ("http://caf\xe9/a", "http://caf\xe9/a"),
    ],
)
def test_the_upstreams_own_addresses_become_public(stage, protocol, path, name, written, read):
    host, public = NAMES[protocol]
    words = {"host": host, "public": public, "peer": f"127.0.0.1:{stage.port}", "port": stage.port}
    answer, _ = ask(stage, protocol, path, [(name, written.format(**words))], status=201)
    assert answer.all(name) == [read.format(**words)]


@BOTH
@PATHS
def test_a_challenge_leads_to_public_metadata(stage, protocol, path):
    """RFC 9728 section 5.1; several challenges in one line, several lines, commas and addresses in quotes."""
    peer, (_, public) = f"http://127.0.0.1:{stage.port}", NAMES[protocol]
    written = [
        'Negotiate YWI=, Basic realm="a, \\"b\\", resource_metadata=\\"{}/x\\""',
        'Bearer error="invalid_token", resource_metadata="{}/.well-known/oauth-protected-resource/mcp", scope="a b"',
        'Bearer resource_metadata="https://as.example.com/y", error_uri="{}/z", DPoP resource_metadata="{}/w"',
    ]
    lines = [("WWW-Authenticate", line.format(peer, peer)) for line in written]
    answer, _ = ask(stage, protocol, path, lines, status=401)
    assert answer.status == 401
    assert answer.all("www-authenticate") == [
        written[0].format(peer),
        written[1].format(public),
        written[2].format(peer, public),
    ]


@BOTH
@PATHS
def test_the_upstream_is_told_what_is_public(stage, protocol, path):
    host, public = NAMES[protocol]
    _, upstream = ask(stage, protocol, path, [], fields=[("X-Forwarded-Port", "1"), ("X-Forwarded-Proto", "ftp")])
    seen = upstream.requests[0]
    assert seen.header("host") == seen.header("x-forwarded-host") == host
    assert seen.header("x-forwarded-proto") == public.split(":")[0]
    assert seen.header("x-forwarded-port") == {"h1": "8080", "h2": "443"}[protocol]


def test_a_default_port_is_not_said(stage):
    """Clients in Python compare origins as strings."""
    answer, upstream = ask(stage, "h2", MCP, [("Location", "http://mcp.example.com/a")], 201, "mcp.example.com:443")
    assert answer.header("location") == "https://mcp.example.com/a"
    assert upstream.requests[0].header("host") == "mcp.example.com:443", "servers may ask for a port"


PAGE = ("Origin", "https://app.example.com")
READABLE = ("Access-Control-Allow-Origin", "https://app.example.com")
EXPOSED = "access-control-expose-headers"


@BOTH
@pytest.mark.parametrize(
    ("asked", "answered", "exposed"),
    [
        ([PAGE], [READABLE], ["Mcp-Session-Id"]),
        (
            [PAGE],
            [READABLE, (EXPOSED, "Content-Length, X-Request-ID")],
            ["Content-Length, X-Request-ID", "Mcp-Session-Id"],
        ),
        ([PAGE], [READABLE, (EXPOSED, "mcp-session-id")], ["mcp-session-id"]),
        ([PAGE], [READABLE, (EXPOSED, "*")], ["*"]),
        ([PAGE], [READABLE, ("Access-Control-Allow-Credentials", "true"), (EXPOSED, "*")], ["*", "Mcp-Session-Id"]),
        ([PAGE], [], []),
        ([], [READABLE], []),
    ],
)
def test_a_page_may_read_its_sessions_id(stage, protocol, asked, answered, exposed):
    answer, _ = ask(stage, protocol, MCP, [("Mcp-Session-Id", "s1"), *answered], fields=asked)
    assert answer.all(EXPOSED) == exposed
