"""Fields of one connection stay on it, both ways; all others cross as they are."""

import pytest

from harness import JSON, answering, response
from harness.stage import BOTH, MCP, OPEN, a_stage, call, result

stage = a_stage(tls=OPEN)

HOP_BY_HOP = {
    "Connection": "keep-alive, X-Nominated, close-not",
    "Keep-Alive": "timeout=99",
    "Proxy-Connection": "keep-alive",
    "Proxy-Authorization": "Basic eDp5",
    "TE": "trailers, deflate",
    "Trailer": "X-Sum",
    "HTTP2-Settings": "AAMAAABkAAQAAP__",
    "X-Nominated": "secret",
}

#: End-to-end fields of clients, each with what makes it fragile.
KEPT = [
    ("Authorization", "Bearer eyJhbGciOiJub25lIn0.e30."),
    ("Cookie", "a=1; b=2"),
    ("Last-Event-ID", "event-7"),
    ("MCP-Protocol-Version", "2025-11-25"),
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ("User-Agent", "odd/1.0 (x; y)"),
    ("X-Repeated", "one"),
    ("X-Repeated", "two, three"),
    ("X-Latin", "caf\xe9"),
    ("X-Empty", ""),
]


def values(message, wanted) -> list:
    """Name (lower case) and value of all fields whose name is in `wanted`."""
    names = {name.lower() for name, _ in wanted}
    return sorted((name.lower(), value) for name, value in message.headers if name.lower() in names)


def expected(pairs) -> list:
    return sorted((name.lower(), value) for name, value in pairs)


@pytest.mark.parametrize("path", [MCP, "/admin"])
def test_hop_by_hop_fields_of_the_client_stay(stage, path):
    with stage.playing(answering(response(200, result()))) as upstream, stage.client() as client:
        client.ask("POST", path, call(), [*JSON.items(), *HOP_BY_HOP.items(), *KEPT])
    seen = upstream.requests[0]
    leaked = {name.lower() for name, _ in seen.headers} & {name.lower() for name in HOP_BY_HOP} - {"connection"}
    assert leaked == set()
    assert seen.header("connection") in (None, "keep-alive")
    assert values(seen, KEPT) == expected(KEPT)


@pytest.mark.parametrize("path", [MCP, "/admin"])
def test_fields_of_an_http2_client_arrive_as_http1_wants_them(stage, path):
    crumbs = [("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers")]
    kept = [pair for pair in KEPT if pair[0] != "Cookie"]
    with stage.playing(answering(response(200, result()))) as upstream, stage.client("h2") as client:
        client.begin(
            "POST", path, call(), [*JSON.items(), *crumbs, *kept], authority="mcp.example:8443"
        ).read_response()
    seen = upstream.requests[0]
    assert seen.start == f"POST {path} HTTP/1.1"
    assert seen.header("host") == "mcp.example:8443"
    assert seen.header("te") is None
    assert seen.header("cookie") == "a=1; b=2", "RFC 9113 section 8.2.3: crumbs become one field"
    assert values(seen, kept) == expected(kept)


ANSWERED = [
    ("Content-Type", "application/json; charset=utf-8"),
    ("Mcp-Session-Id", "5f3c-A.b~c"),
    ("Cache-Control", "no-cache, no-transform"),
    ("Set-Cookie", "a=1; Path=/"),
    ("Set-Cookie", "b=2; HttpOnly"),
    ("WWW-Authenticate", 'Bearer realm="x", error="invalid_token"'),
    ("Retry-After", "3"),
    ("X-Accel-Buffering", "no"),
    ("X-Latin", "caf\xe9"),
    ("Vary", "Origin"),
]


@BOTH
@pytest.mark.parametrize("path", [MCP, "/admin"])
def test_hop_by_hop_fields_of_the_upstream_stay(stage, protocol, path):
    requests_only = ("TE", "Proxy-Authorization", "HTTP2-Settings")
    hop = {name: value for name, value in HOP_BY_HOP.items() if name not in requests_only}
    hop |= {"Upgrade": "h2c", "Proxy-Authenticate": "Basic"}
    with stage.playing(answering(response(200, result(), [*hop.items(), *ANSWERED]))), stage.client(protocol) as client:
        reply = client.ask("POST", path, call(), JSON)
    leaked = {name.lower() for name, _ in reply.headers} & {name.lower() for name in hop} - {"connection"}
    assert leaked == set()
    assert reply.header("connection") == (None if protocol == "h2" else "keep-alive")
    assert values(reply, ANSWERED) == expected(ANSWERED)
    assert reply.json == result()


@BOTH
@pytest.mark.parametrize("path", [MCP, "/admin"])
def test_nothing_of_the_request_is_invented(stage, protocol, path):
    with stage.playing(answering(response(200, result()))) as upstream, stage.client(protocol) as client:
        client.ask("POST", path, call(), JSON)
    names = {name.lower() for name, _ in upstream.requests[0].headers}
    forwarded = {"x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto"}
    framing = {"host", "connection", "content-length", "transfer-encoding"}
    uncoded = {"accept-encoding"} if path == MCP else set()
    assert names <= {"content-type", "accept"} | forwarded | framing | uncoded | stage.adds
    assert forwarded <= names


@BOTH
def test_the_answer_has_one_date(stage, protocol):
    dated = response(200, result(), {"Date": "Tue, 15 Nov 1994 08:12:31 GMT"})
    with stage.playing(answering(dated)), stage.client(protocol) as client:
        assert client.ask("POST", MCP, call(), JSON).header("date")
