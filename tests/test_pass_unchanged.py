"""What is no MCP message passes as it is: methods, paths and queries to the byte, bodies of any size as they come."""

import hashlib
import threading

import pytest

from harness import LAST_CHUNK, PATIENCE, answering, chunk, request, response, wait_until
from harness.stage import BOTH, MCP, OPEN, a_stage, closed_at, read_cut

#: Far smaller than what passes here: the limit is for messages.
stage = a_stage({"limits": {"body": "64KiB"}}, plain=OPEN, tls=OPEN, hop="never")

ANSWERS = answering(response(200, "seen", {"Content-Type": "text/plain"}))
BINARY = bytes(range(256)) * 40


@BOTH
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "POST", "PROPFIND", "M-SEARCH"])
@pytest.mark.parametrize("body", [b"", BINARY], ids=["no body", "binary"])
def test_methods_and_bodies(stage, protocol, method, body):
    with stage.playing(ANSWERS) as upstream, stage.client(protocol) as client:
        answer = client.ask(method, "/admin/x", body, {"content-length": str(len(body))} if body else {})
        assert (answer.status, answer.body) == (200, b"seen")
    assert (upstream.requests[0].method, upstream.requests[0].body) == (method, body)


@BOTH
@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "PATCH"])
def test_unusual_methods_on_an_mcp_path(stage, protocol, method):
    with stage.playing(ANSWERS) as upstream, stage.client(protocol) as client:
        assert client.ask(method, MCP, b"not JSON", {"Origin": "https://app.example"}).status == 200
    assert (upstream.requests[0].method, upstream.requests[0].body) == (method, b"not JSON")


@BOTH
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/?",
        "/admin?",
        "/admin?a=1&b=&&c=%20+%2B%&d=[x]{y}|z^`'~",
        "/admin?url=http://evil.example/servers/s1/mcp",
        "/resources/http%3A%2F%2Fexample.com%2Fa%20b",
        "/resources/http://example.com//a///b",
        "/a//b/",
        "/a/%2e%2e/b",
        "/a/../b/./c",
        "/a;v=1/b;w=2?c;d",
        "/caf%C3%A9/%E2%82%AC/%ff",
        "/servers/s1/mcp/tools",
        "/" + "long/" * 500,
    ],
)
def test_path_and_query_to_the_byte(stage, protocol, path):
    with stage.playing(ANSWERS) as upstream, stage.client(protocol) as client:
        assert client.ask("GET", path).status == 200
    assert upstream.requests[0].path == path


@pytest.mark.parametrize("path", ["/admin?q=caf\xe9", "/\xff\xfe?x=\x80"])
def test_bytes_outside_ascii(stage, path):
    """Not allowed in a request line, but sent by old clients; either as they came, or a 400."""
    with stage.playing(ANSWERS) as upstream, stage.client() as client:
        status = client.ask("GET", path).status
    assert (status, [message.path for message in upstream.requests]) in ((200, [path]), (400, []))


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("http://localhost/admin?x=1", "/admin?x=1"),
        ("http://other.example:81/admin", "/admin"),
        ("*", "*"),
    ],
)
def test_other_forms_of_the_request_target(stage, target, path):
    host = target.split("/")[2] if "//" in target else "localhost"
    with stage.playing(ANSWERS) as upstream, stage.client() as client:
        assert client.ask("OPTIONS", target, b"", {"Host": host}).status == 200
    assert upstream.requests[0].path == path


@BOTH
@pytest.mark.parametrize("status", [200, 201, 301, 307, 400, 401, 404, 418, 500, 503])
def test_answers_of_any_status(stage, protocol, status):
    fields = {"Location": "/login?next=%2F", "ETag": 'W/"1"', "Content-Type": "text/html"}
    with stage.playing(answering(response(status, BINARY, fields))), stage.client(protocol) as client:
        answer = client.ask("GET", "/admin")
    assert (answer.status, answer.body) == (status, BINARY)
    assert {name: answer.header(name) for name in fields} == fields


@BOTH
@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_a_body(stage, protocol, status):
    with stage.playing(answering(response(status, b"", {"ETag": '"1"'}))), stage.client(protocol) as client:
        for _ in range(2):
            answer = client.ask("GET", "/admin")
            assert (answer.status, answer.header("etag"), answer.body) == (status, '"1"', b"")


@BOTH
def test_head(stage, protocol):
    answers = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nETag: x\r\n\r\n")
    with stage.playing(answers) as upstream, stage.client(protocol) as client:
        for _ in range(2):
            answer = client.ask("HEAD", "/admin")
            assert (answer.status, answer.header("content-length"), answer.body) == (200, "5000", b"")
    assert [message.method for message in upstream.requests] == ["HEAD", "HEAD"]


BIG = b"0123456789abcdef" * (10 << 16)


@BOTH
@pytest.mark.parametrize("framing", ["length", "none"])
def test_a_big_upload_is_streamed(stage, protocol, framing):
    """The upstream has read the first megabyte before the client sends the last one."""
    begun, received = threading.Event(), []

    def script(connection):
        head = connection.read_head()
        digest, size = hashlib.sha256(), 0
        length = head.header("content-length")
        while length is None or size < int(length):
            piece = connection.read_chunk() if length is None else connection.read_some()
            if not piece:
                break
            digest.update(piece)
            size += len(piece)
            if size > 1 << 20:
                begun.set()
        received.append((size, digest.hexdigest()))
        connection.send(response(200, "whole"))
        connection.wait_closed()

    with stage.playing(script), stage.client(protocol) as client:
        first, rest = BIG[: 2 << 20], BIG[2 << 20 :]
        fields = {"content-length": str(len(BIG))} if framing == "length" else {"Transfer-Encoding": "chunked"}
        if protocol == "h2":
            answer = client.begin("PUT", "/upload", None, fields if framing == "length" else {})
            answer.send(first)
            assert begun.wait(PATIENCE), "the upload was held back until it was whole"
            answer.send(rest, end=True)
            reply = answer.read_response()
        else:
            frame = (lambda data: data) if framing == "length" else chunk
            client.send(request("PUT", "/upload", b"", fields) + frame(first))
            assert begun.wait(PATIENCE), "the upload was held back until it was whole"
            client.send(frame(rest) + (b"" if framing == "length" else LAST_CHUNK))
            reply = client.read_response()
        assert (reply.status, reply.body) == (200, b"whole")
    assert received == [(len(BIG), hashlib.sha256(BIG).hexdigest())]


@BOTH
@pytest.mark.parametrize("framing", ["length", "chunked", "until close"])
def test_a_big_download_arrives_whole(stage, protocol, framing):
    def script(connection):
        connection.read_request()
        head = {
            "length": f"Content-Length: {len(BIG)}\r\n",
            "chunked": "Transfer-Encoding: chunked\r\n",
            "until close": "",
        }[framing]
        connection.send(f"HTTP/1.1 200 OK\r\n{head}\r\n".encode())
        connection.send(chunk(BIG) + LAST_CHUNK if framing == "chunked" else BIG)
        connection.finish_sending()
        connection.wait_closed()

    with stage.playing(script), stage.client(protocol) as client:
        assert client.ask("GET", "/download").body == BIG


@BOTH
@pytest.mark.parametrize("framing", ["Content-Length: 5000", "Transfer-Encoding: chunked"])
def test_a_cut_answer_looks_cut(stage, protocol, framing):
    def script(connection):
        connection.read_request()
        body = b"x" * 100
        connection.send(b"HTTP/1.1 200 OK\r\n" + framing.encode() + b"\r\n\r\n")
        connection.send(chunk(body) if "chunked" in framing else body)

    with stage.playing(script), stage.client(protocol) as client:
        answer = client.begin("GET", "/download")
        answer.read_head()
        assert (b"x" * 100).startswith(read_cut(answer))


@BOTH
def test_an_upstream_that_says_nothing_is_a_502(stage, protocol):
    with stage.playing(lambda connection: connection.read_request()), stage.client(protocol) as client:
        assert client.ask("POST", "/admin", b"x").status == 502


@BOTH
def test_a_post_is_never_sent_twice(stage, protocol):
    def dying_at_the_second(connection):
        connection.read_request()
        connection.send(response(200, "one"))
        connection.read_request()

    with stage.playing(dying_at_the_second, ANSWERS) as upstream, stage.client(protocol) as client:
        assert client.ask("POST", "/admin", b"1").status == 200
        assert client.ask("POST", "/admin", b"2").status == 502
    assert [message.body for message in upstream.requests] == [b"1", b"2"]


def test_a_client_that_leaves_an_upload_leaves_no_whole_request(stage):
    with stage.playing(answering(response(200))) as upstream:
        with stage.client() as client:
            client.send(request("PUT", "/upload", b"", {"Transfer-Encoding": "chunked"}) + chunk(b"half"))
            upload = upstream.connection()
            wait_until(lambda: b"half" in upload.received)
        closed_at(upload)
    assert upstream.requests == []
