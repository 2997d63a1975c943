"""A request whose end two parsers could see in two places is refused, and nothing of it reaches the upstream."""

from contextlib import suppress

import pytest

from harness import Closed, answering, response, wait_until
from harness.stage import MCP, a_stage, result

stage = a_stage({"timeouts": {"request_head": "1s", "request_body": "1s"}})

PATHS = pytest.mark.parametrize("path", [MCP, "/mcp", "/admin"])

#: What a smuggler hides behind the first request.
SECOND = b"GET /admin/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKED_BODY = b"0\r\n\r\n"


def ask(stage, path: str, fields: bytes, body: bytes, version: bytes = b"1.1"):
    """Status of the answer (None: closed without one), and what the upstream saw."""
    with stage.playing(answering(response(200, result()))) as upstream, stage.client("h1") as client:
        client.send(
            b"POST " + path.encode() + b" HTTP/" + version + b"\r\nHost: localhost\r\n" + fields + b"\r\n" + body
        )
        try:
            answer = client.read_response()
            status = answer.status
            client.wait_closed()
        except Closed:
            status = None
    return status, upstream


@PATHS
@pytest.mark.parametrize("protocol", ["h1", "h1-tls"])
@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 0\r\nX-Between: 1\r\nTransfer-Encoding: chunked\r\n",
        b"CONTENT-LENGTH: 5\r\ntransfer-ENCODING: CHUNKED\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: identity\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: gzip, chunked\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding:\tchunked\r\n",
        b"Content-Length:5\r\nTransfer-Encoding:chunked\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding : chunked\r\n",
        b"Content-Length: 5\nTransfer-Encoding: chunked\r\n",
    ],
)
def test_two_framings_are_refused(stage, path, protocol, fields):
    with stage.playing(answering(response(200, result()))) as upstream, stage.client(protocol) as client:
        client.send(
            b"POST " + path.encode() + b" HTTP/1.1\r\nHost: localhost\r\n" + fields + b"\r\n" + CHUNKED_BODY + SECOND
        )
        answer = client.read_response()
        # 501 (RFC 9112 section 6.1) where the coding alone would do.
        assert (answer.status, answer.header("connection")) in ((400, "close"), (501, "close"))
        client.wait_closed()
    assert upstream.requests == []


@PATHS
@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 5\r\nContent-Length: 0\r\n",
        b"Content-Length: 0\r\nContent-Length: 5\r\n",
        b"Content-Length: 5, 6\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: -5\r\n",
        b"Content-Length: 0x5\r\n",
        b"Content-Length: 5 5\r\n",
        b"Content-Length: 5,\r\n",
        b"Content-Length: \r\n",
        b"Content-Length: five\r\n",
        b"Content-Length: 99999999999999999999999999\r\n",
        b"Content-Length : 5\r\n",
        b"Content-Length: 5\r\n Content-Length: 0\r\n",
        b"X: 1\r\n\tContent-Length: 5\r\n",
        b"Content-Length: 5\x00\r\n",
        b"X: a\x00b\r\nContent-Length: 5\r\n",
        b"X: a\rTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b": 1\r\nContent-Length: 5\r\n",
        b"no colon\r\nContent-Length: 5\r\n",
        b"X(: 1\r\nContent-Length: 5\r\n",
    ],
)
def test_a_length_that_is_none_is_refused(stage, path, fields):
    status, upstream = ask(stage, path, fields, b"12345" + SECOND)
    assert status in (400, 413)
    assert upstream.requests == []


@PATHS
@pytest.mark.parametrize(
    "fields",
    [
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: identity, chunked\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Transfer-Encoding: \r\n",
        b"Transfer-Encoding: \x0bchunked\r\n",
        b"Transfer-Encoding: 'chunked'\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
        b"Transfer-Encoding\r\n: chunked\r\n",
        b"X: y\r\n Transfer-Encoding: chunked\r\n",
    ],
)
def test_a_coding_that_is_not_chunked_is_refused(stage, path, fields):
    status, upstream = ask(stage, path, fields, CHUNKED_BODY + SECOND)
    assert status in (400, 411, 501)
    assert upstream.requests == []


@PATHS
def test_chunked_in_http10_is_refused(stage, path):
    """RFC 9112 section 6.1: the message is framed in a way that its sender cannot have meant."""
    status, upstream = ask(stage, path, b"Transfer-Encoding: chunked\r\n", CHUNKED_BODY + SECOND, version=b"1.0")
    assert status == 400
    assert upstream.requests == []


@PATHS
@pytest.mark.parametrize(
    "body",
    [
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"5 5\r\nhello\r\n0\r\n\r\n",
        b"\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"fffffffffffffffff1\r\nhello\r\n0\r\n\r\n",
        b"g\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_broken_chunks_end_the_connection(stage, path, body):
    """Whatever was relayed before the flaw showed is never followed by what stands behind it."""
    with stage.playing(answering(response(200, result()))) as upstream, stage.client() as client:
        head = b"POST " + path.encode() + b" HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.send(head + body + SECOND)
        client.wait_closed()
    assert not any(message.path == "/admin/smuggled" for message in upstream.requests)
    if path != "/admin":
        assert client.received.startswith(b"HTTP/1.1 400 ")
        assert upstream.requests == []


@PATHS
def test_the_same_length_twice_is_one_length(stage, path):
    """RFC 9112 section 6.3 lets a proxy refuse it or send one; never both."""
    status, upstream = ask(stage, path, b"Content-Length: 2\r\nContent-Length: 2\r\nConnection: close\r\n", b"{}")
    if status == 400:
        assert upstream.requests == []
    else:
        assert [message.all("content-length") for message in upstream.requests] in ([["2"]], [])


@pytest.mark.parametrize(
    "fields",
    [
        [("transfer-encoding", "chunked")],
        [("connection", "close")],
        [("upgrade", "websocket")],
        [("te", "gzip")],
        [("content-length", "1"), ("content-length", "2")],
        [("content-length", "x")],
        [("x-split", "a\r\nTransfer-Encoding: chunked")],
        [("x split", "a")],
        [("X-Upper", "a")],
        [("host", "other.example")],
    ],
    ids=lambda fields: fields[0][0],
)
@PATHS
def test_http2_fields_that_would_reframe_http1(stage, path, fields):
    """Malformed in HTTP/2 (RFC 9113 section 8.2): reset or refused, or at the least not passed on as they came."""
    with stage.playing(answering(response(200, result()))) as upstream, stage.client("h2") as client:
        answer = client.begin("POST", path, b"{}", fields)
        with suppress(Closed):
            answer.read_response()
    for message in upstream.requests:
        raw = message.raw_head.lower()
        assert b"upgrade" not in raw
        assert b"te: gzip" not in raw
        assert len(message.all("content-length") + message.all("transfer-encoding")) == 1
        assert message.all("host") == ["localhost"]
        assert message.body == b"{}" or path != "/admin"
        assert (message.header("connection") or "keep-alive") == "keep-alive"


@PATHS
@pytest.mark.parametrize(("announced", "sent"), [(10, 5), (5, 10)])
def test_http2_length_and_data_must_agree(stage, path, announced, sent):
    with stage.playing(answering(response(200, result()))) as upstream, stage.client("h2") as client:
        answer = client.begin("POST", path, None, {"content-length": str(announced)})
        answer.send(b"x" * sent, end=True)
        assert answer.wait_reset() == 1
        # The connection is sound.
        assert client.ask("POST", MCP, b'{"jsonrpc":"2.0","id":1,"method":"ping"}').status == 200
        wait_until(lambda: upstream.requests)
    whole = [message for message in upstream.requests if message.path != MCP or message.body.startswith(b"x")]
    assert whole == []


@PATHS
@pytest.mark.parametrize(
    "hosts",
    [b"", b"Host: a\r\nHost: b\r\n", b"Host: a, b\r\n", b"Host: a b\r\n", b"Host: a/b\r\n", b"Host : a\r\n"],
    ids=["none", "two", "a list", "with a space", "with a path", "space before the colon"],
)
def test_a_request_has_one_host(stage, path, hosts):
    """RFC 9112 section 3.2: refused; at the least the upstream never sees it."""
    body = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
    with stage.playing(answering(response(200, result()))) as upstream, stage.client() as client:
        head = b"POST %b HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n" % (path.encode(), hosts, len(body))
        client.send(head + body)
        status = client.read_response().status
    assert (status, upstream.requests) == (400, [])
