"""P4 where the file says what is public: `public_url` stands above what the client wrote, and may have a path."""

import pytest

from harness import JSON, answering, response
from harness.stage import BOTH, MCP, OPEN, a_stage, call, result

EXTERNAL = {"public_url": {"external_url": "http://mcp.example.com:8000/gate/way"}, **OPEN}

stage = a_stage(plain=EXTERNAL, tls=EXTERNAL)
https = a_stage(plain={"public_url": {"protocol": "https"}, **OPEN})

PATHS = pytest.mark.parametrize("path", [MCP, "/admin"])


def ask(stage, protocol, path, location=None, host="internal:4444"):
    answers = answering(response(201, result(), {"Location": location} if location else {}))
    with stage.playing(answers) as upstream, stage.client(protocol) as client:
        named = {"authority": host} if protocol == "h2" else {}
        fields = JSON if protocol == "h2" else {"Host": host, **JSON}
        answer = client.begin("POST", path, call(), fields, **named).read_response()
    return answer, upstream


@PATHS
def test_the_scheme_is_what_the_file_says(https, path):
    answer, upstream = ask(https, "h1", path, "http://mcp.example.com/a", "mcp.example.com")
    assert answer.header("location") == "https://mcp.example.com/a"
    seen = upstream.requests[0]
    assert seen.header("host") == "mcp.example.com"
    assert (seen.header("x-forwarded-proto"), seen.header("x-forwarded-port")) == ("https", "443")


@BOTH
@PATHS
@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("https://mcp.example.com:8000/a", "http://mcp.example.com:8000/gate/way/a"),
        ("http://mcp.example.com:8000/gate/way/a", "http://mcp.example.com:8000/gate/way/a"),
        ("/a?b", "/gate/way/a?b"),
        ("/gate/way/a", "/gate/way/a"),
        ("a", "a"),
        ("https://internal:4444/a", "https://internal:4444/a"),
    ],
)
def test_everything_is_what_the_file_says(stage, protocol, path, written, read):
    answer, upstream = ask(stage, protocol, path, written)
    assert answer.header("location") == read
    seen = upstream.requests[0]
    assert seen.header("host") == seen.header("x-forwarded-host") == "mcp.example.com:8000"
    assert (seen.header("x-forwarded-proto"), seen.header("x-forwarded-port")) == ("http", "8000")


def test_but_the_host_stays_as_the_client_wrote_it_if_it_means_the_same(stage):
    answer, upstream = ask(stage, "h1", MCP, "/a", "MCP.Example.com:8000")
    assert upstream.requests[0].header("host") == "MCP.Example.com:8000"
    assert answer.header("location") == "/gate/way/a"


@BOTH
@pytest.mark.parametrize(
    ("asked", "inside"),
    [
        ("/gate/way/servers/s1/mcp", "/servers/s1/mcp"),
        ("/servers/s1/mcp", "/servers/s1/mcp"),
        ("/gate/way/admin/?a=/gate/way", "/admin/?a=/gate/way"),
        ("/gate/way", "/"),
        ("/gate/way?a", "/?a"),
        ("/gate/ways/admin", "/gate/ways/admin"),
        ("/.well-known/openid-configuration/gate/way", "/.well-known/openid-configuration"),
    ],
)
def test_the_prefix_is_taken_off_if_it_is_there(stage, protocol, asked, inside):
    """A proxy in front may have taken it off, or not."""
    _, upstream = ask(stage, protocol, asked)
    assert upstream.requests[0].path == inside


def test_a_whole_url_in_the_request_line_has_it_too(stage):
    _, upstream = ask(stage, "h1", "http://internal:4444/gate/way/admin?a=b")
    assert upstream.requests[0].path == "/admin?a=b"


@BOTH
def test_behind_the_prefix_every_rule_holds(stage, protocol):
    """A message gets its server id, and no way around a route leads through the prefix."""
    _, upstream = ask(stage, protocol, f"/gate/way{MCP}")
    assert upstream.requests[0].json["params"] == {"server_id": "s1"}
    for path in ["/gate/way//servers/s1/mcp", "/gate/way/../servers/s1/mcp", "/gate/way/_internal/mcp/rpc"]:
        answer, upstream = ask(stage, protocol, path)
        assert (answer.status in (400, 404), upstream.requests) == (True, []), path
