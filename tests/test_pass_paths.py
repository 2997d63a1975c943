"""A path that can be read in two ways around an MCP route is refused; the gateway's internal ones do not exist."""

import pytest

from harness import answering, response
from harness.stage import BOTH, a_stage, call, result

stage = a_stage(profiles=("contextforge", "generic"), hop="never")

ANSWERS = answering(response(200, result()))

AMBIGUOUS = [
    "//servers/s1/mcp",
    "/servers/s1//mcp",
    "/servers/s1/x/../mcp",
    "/servers/s1/%2e%2e/s2/mcp",
    "/./mcp",
    "/x/../mcp",
    "/servers%2Fs1%2Fmcp",
    "/servers/s1%2fmcp",
    "/servers/s1%5Cmcp",
    "/servers\\s1\\mcp",
    "/servers/s1/%256dcp",
    "/servers/s1/MCP",
    "/Servers/s1/mcp",
    "/servers/s1/mcp;x=1",
    "/servers/s1/mcp%00",
    "/servers/s%0d1/mcp",
    "/servers/s1/mcp//",
    "/servers/s1/mcp/.",
    "/servers/%ff/mcp",
    "//sse",
    "/messages//",
]
#: ContextForge 1.0.0rc1 serves MCP wherever a path ends so, and takes the server id from anywhere in it.
ENDS_LIKE_MCP = [
    "/foo/mcp",
    "/foo/mcp/",
    "/servers//mcp",
    "/x/servers/s1/mcp",
    "/servers/s1/s2/mcp",
    "/servers/s1%2Fs2/mcp",
]
INTERNAL = [
    "/_internal",
    "/_internal/",
    "/_internal/mcp/rpc",
    "/_INTERNAL/mcp/rpc",
    "//_internal/mcp/rpc",
    "/%5finternal/mcp/rpc",
    "/%255finternal/mcp/rpc",
    "/x/../_internal/mcp/rpc",
    "/_internal%2fmcp%2frpc",
    "/_internal;x/mcp/rpc",
]


def ask(stage, protocol, method, path):
    with stage.playing(ANSWERS) as upstream, stage.client(protocol) as client:
        answer = client.ask(method, path, call() if method == "POST" else b"")
    return answer.status, len(upstream.requests)


@BOTH
@pytest.mark.parametrize("method", ["POST", "GET", "PUT"])
@pytest.mark.parametrize("path", AMBIGUOUS)
def test_ambiguous_paths_are_refused(stage, protocol, method, path):
    assert ask(stage, protocol, method, path) == (400, 0)
    assert ask(stage, protocol, method, path + "?a=b") == (400, 0)


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("path", ENDS_LIKE_MCP)
def test_contextforge_has_no_other_mcp_paths(stage, method, path):
    assert ask(stage, "h1", method, path) == ((400, 0) if stage.profile == "contextforge" else (200, 1))


def test_no_path_that_passes_may_use_a_session(stage):
    path = "/.well-known/oauth-protected-resource/servers/s1/mcp"
    with stage.playing(ANSWERS) as upstream, stage.client() as client:
        assert client.ask("GET", path, b"", {"Mcp-Session-Id": "abc"}).status == 200
    expected = None if stage.profile == "contextforge" else "abc"
    assert upstream.requests[0].header("mcp-session-id") == expected


@BOTH
@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("path", INTERNAL)
def test_internal_paths_do_not_exist(stage, protocol, method, path):
    assert ask(stage, protocol, method, path) == ((404, 0) if stage.profile == "contextforge" else (200, 1))


@pytest.mark.parametrize(("path", "status"), [("//servers/s1/mcp", 400), ("/_internal/x", 404)])
def test_the_absolute_form_opens_nothing(stage, path, status):
    if stage.profile == "generic" and status == 404:
        pytest.skip("internal paths are ContextForge's")
    assert ask(stage, "h1", "POST", "http://localhost" + path) == (status, 0)


def test_the_absolute_form_is_spliced_too(stage):
    with stage.playing(ANSWERS) as upstream, stage.client() as client:
        assert client.ask("POST", "http://localhost/servers/s1/mcp", call()).status == 200
    assert upstream.requests[0].path == "/servers/s1/mcp"
    assert upstream.requests[0].json["params"] == {"server_id": "s1"}


def test_an_authority_that_contradicts_host_is_refused_or_wins(stage):
    """RFC 9112 section 3.2.2: Host is then to be ignored."""
    with stage.playing(ANSWERS) as upstream, stage.client() as client:
        answer = client.ask("POST", "http://real.example/servers/s1/mcp", call(), {"Host": "other.example"})
    hosts = [message.header("host") for message in upstream.requests]
    assert (answer.status, hosts) in ((200, ["real.example"]), (400, []))


def test_connect_is_not_tunnelled(stage):
    with stage.playing(ANSWERS) as upstream, stage.client() as client:
        client.send(b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n")
        assert client.read_head().status >= 400
    assert upstream.requests == []
