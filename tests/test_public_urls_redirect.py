"""A redirect that only adds a slash never reaches the client: it would have to send its message again, and many refuse.

ContextForge 1.0.0rc1 answers a POST to /mcp so, with an absolute `http://` address.
"""

import threading

import pytest

from harness import JSON, LAST_CHUNK, answering, chunk, event, event_stream_head, response
from harness.stage import BOTH, MCP, OPEN, a_stage, call, read_all, result

stage = a_stage(plain=OPEN, tls=OPEN)

HOST = "mcp.example.com"


def redirect(location, status=307, body=b""):
    return response(status, body, {"Location": location})


def ask(stage, protocol, answers, path=MCP, method="POST", fields=JSON):
    body = call("tools/call", 7, name="add") if method == "POST" else b""
    with stage.playing(answering(*answers)) as upstream, stage.client(protocol) as client:
        named = {"authority": HOST} if protocol == "h2" else {}
        fields = fields if protocol == "h2" else {"Host": HOST, **fields}
        answer = client.begin(method, path, body, fields, **named).read_response()
    return answer, upstream


@BOTH
@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("location", ["{path}/", "http://mcp.example.com{path}/", "http://127.0.0.1:{port}{path}/"])
@pytest.mark.parametrize("path", [MCP, "/mcp", "/messages?session_id=a"])
def test_it_is_followed_with_the_body_on_the_same_connection(stage, protocol, status, location, path):
    base, mark, query = path.partition("?")
    location = location.format(path=base, port=stage.port) + mark + query
    answer, upstream = ask(stage, protocol, [redirect(location, status, b"Moved"), response(200, result())], path)
    assert (answer.status, answer.json) == (200, result())
    first, second = upstream.requests
    assert (first.path, second.path) == (path, f"{base}/{mark}{query}")
    assert second.body == first.body != b""
    assert second.headers == first.headers
    assert len(upstream.connections) == 1


@BOTH
def test_away_from_a_slash_as_well(stage, protocol):
    answer, upstream = ask(stage, protocol, [redirect(MCP), response(200, result())], f"{MCP}/")
    assert answer.status == 200
    assert [message.path for message in upstream.requests] == [f"{MCP}/", MCP]


@BOTH
def test_a_stream_is_followed_and_a_session_goes_with_it(stage, protocol):
    def script(connection):
        connection.read_request()
        connection.send(redirect("/mcp/"))
        assert connection.read_request().header("mcp-session-id") == "a1"
        connection.send(event_stream_head() + chunk(event("x")) + LAST_CHUNK)

    with stage.playing(script), stage.client(protocol) as client:
        answer = client.begin("GET", "/mcp", b"", {"Accept": "text/event-stream", "Mcp-Session-Id": "a1"})
        assert answer.read_head().status == 200
        assert b"".join(read_all(answer)) == event("x")


@BOTH
def test_it_is_followed_once(stage, protocol):
    answer, upstream = ask(stage, protocol, [redirect(f"{MCP}/"), redirect(f"http://{HOST}{MCP}")])
    assert answer.status == 307
    assert answer.header("location") == f"{'https' if protocol == 'h2' else 'http'}://{HOST}{MCP}", "made public"
    assert len(upstream.requests) == 2


@BOTH
@pytest.mark.parametrize(
    ("status", "location"),
    [
        (302, f"{MCP}/"),
        (301, f"{MCP}/"),
        (303, f"{MCP}/"),
        (308, "/login"),
        (307, "/servers/s2/mcp/"),
        (307, f"{MCP}//"),
        (307, f"{MCP}/?a=b"),
        (307, f"https://login.example.com{MCP}/"),
        (307, "/login"),
        (307, "mcp/"),
    ],
)
def test_any_other_is_the_clients_to_follow(stage, protocol, status, location):
    answer, upstream = ask(stage, protocol, [redirect(location, status)])
    assert (answer.status, answer.header("location")) == (status, location)
    assert len(upstream.requests) == 1


@BOTH
def test_what_passes_is_not_followed(stage, protocol):
    answer, upstream = ask(stage, protocol, [redirect("/admin/")], "/admin")
    assert (answer.status, answer.header("location"), len(upstream.requests)) == (307, "/admin/", 1)


@BOTH
def test_a_new_connection_where_the_old_one_ends(stage, protocol):
    def closes(connection):
        connection.read_request()
        connection.send(response(307, b"", {"Location": f"{MCP}/", "Connection": "close"}))

    with stage.playing(closes, answering(response(200, result()))) as upstream, stage.client(protocol) as client:
        assert client.ask("POST", MCP, call(), JSON).status == 200
    assert [message.path for message in upstream.requests] == [MCP, f"{MCP}/"]


def test_an_answer_that_never_ends_is_left_behind(stage):
    """Nobody waits for the rest of a redirect."""
    over = threading.Event()

    def endless(connection):
        connection.read_request()
        connection.send(
            b"HTTP/1.1 307 X\r\nLocation: " + MCP.encode() + b"/\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"x")
        )
        connection.wait_closed()
        over.set()

    with stage.playing(endless, answering(response(200, result()))), stage.client() as client:
        assert client.ask("POST", MCP, call(), JSON).status == 200
        assert over.wait(5)


def test_the_same_peer_is_asked(outrigger, raw_upstream):
    """Peers do not know each other's state: the second request goes where the first one went."""

    def script(connection):
        while True:
            slash = connection.read_request().path.endswith("/")
            connection.send(response(200, result()) if slash else redirect(f"{MCP}/"))

    upstreams = [raw_upstream(script) for _ in range(3)]
    world = outrigger([upstream.address for upstream in upstreams])
    for _ in range(12):
        with world.client() as client:
            assert client.ask("POST", MCP, call(), JSON).status == 200
    for upstream in upstreams:
        paths = [message.path for message in upstream.requests]
        assert paths == [MCP, f"{MCP}/"] * (len(paths) // 2)
    assert sum(len(upstream.requests) for upstream in upstreams) == 24
