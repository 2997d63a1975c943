"""P4 in documents of protected resources (RFC 9728): clients compare `resource` with what they called."""

import json
import threading

import pytest

from harness import LAST_CHUNK, PATIENCE, answering, chunk, response
from harness.stage import BOTH, OPEN, a_stage, read_all, read_cut

stage = a_stage(plain=OPEN, tls=OPEN)
nested = a_stage(plain={"public_url": {"external_url": "https://mcp.example.com/gate"}, **OPEN})

WELL_KNOWN = "/.well-known/oauth-protected-resource"
PATHS = pytest.mark.parametrize("path", [WELL_KNOWN, f"{WELL_KNOWN}/servers/s1/mcp", f"/servers/s1{WELL_KNOWN}?x=/"])
HOST = "mcp.example.com:8443"


def document(origin, server):
    return (
        f'{{ "resource" : "{origin}/servers/s1/mcp","authorization_servers":["{server}", "https://as.example.com"],'
        f'"resource_documentation":"{origin}/doc", "bearer_methods_supported":["header"], "x": 1.50 }}'
    ).encode()


def ask(stage, protocol, path, answer, method="GET"):
    script = answering(answer) if isinstance(answer, bytes) else answer
    with stage.playing(script) as upstream, stage.client(protocol) as client:
        named = {"authority": HOST} if protocol == "h2" else {}
        fields = [("Accept-Encoding", "gzip"), *([] if protocol == "h2" else [("Host", HOST)])]
        return client.begin(method, path, b"", fields, **named).read_response(), upstream


JSON = {"Content-Type": "application/json; charset=utf-8"}


@BOTH
@PATHS
def test_the_resource_is_the_public_one(stage, protocol, path):
    inside, public = f"http://127.0.0.1:{stage.port}", f"{'https' if protocol == 'h2' else 'http'}://{HOST}"
    answer, upstream = ask(stage, protocol, path, response(200, document(inside, inside), JSON))
    expected = document(public, public).replace(f"{public}/doc".encode(), f"{inside}/doc".encode())
    assert answer.body == expected
    assert answer.header("content-length") in (None, str(len(expected)))
    assert upstream.requests[0].header("accept-encoding") == "identity"


@BOTH
def test_however_it_comes(stage, protocol):
    inside = f"http://127.0.0.1:{stage.port}"
    whole = document(inside, inside)

    def chunked(connection):
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        for at in range(len(whole)):
            connection.send(chunk(whole[at : at + 1]))
        connection.send(LAST_CHUNK)

    def until_closed(connection):
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + whole)

    for script in (chunked, until_closed):
        answer, _ = ask(stage, protocol, WELL_KNOWN, script)
        assert answer.json["resource"].endswith(f"//{HOST}/servers/s1/mcp")


def test_a_prefix_belongs_to_it(nested):
    inside = f"http://127.0.0.1:{nested.port}"
    for path in (WELL_KNOWN, f"/gate{WELL_KNOWN}", f"{WELL_KNOWN}/gate/servers/s1/mcp"):
        answer, upstream = ask(nested, "h1", path, response(200, document(inside, inside), JSON))
        assert answer.json["resource"] == "https://mcp.example.com/gate/servers/s1/mcp"
        assert "gate" not in upstream.requests[0].path


ELSEWHERE = document("https://elsewhere.example.com", "https://elsewhere.example.com")


@BOTH
@pytest.mark.parametrize(
    ("answer", "method", "path"),
    [
        (response(200, ELSEWHERE, JSON), "GET", WELL_KNOWN),
        (response(404, b"INSIDE", JSON), "GET", WELL_KNOWN),
        (response(200, b"INSIDE", {"Content-Type": "text/plain"}), "GET", WELL_KNOWN),
        (response(200, b"INSIDE", {**JSON, "Content-Encoding": "br"}), "GET", WELL_KNOWN),
        (response(200, b"INSIDE", JSON), "POST", WELL_KNOWN),
        (response(200, b"INSIDE", JSON), "GET", "/.well-known/oauth-authorization-server"),
        (response(200, b"INSIDE", JSON), "GET", "/admin"),
        (response(200, b'{"resource": "', JSON), "GET", WELL_KNOWN),
        (response(200, b"", JSON), "GET", WELL_KNOWN),
        (response(204, b"", JSON), "GET", WELL_KNOWN),
        (response(304, b"", {"ETag": '"1"'}), "GET", WELL_KNOWN),
    ],
)
def test_anything_else_stays(stage, protocol, answer, method, path):
    inside = f"http://127.0.0.1:{stage.port}"
    body = document(inside, inside)
    head, _, rest = answer.partition(b"\r\n\r\n")
    if rest == b"INSIDE":
        rest, head = body, head.replace(b"Content-Length: 6", f"Content-Length: {len(body)}".encode())
    read, _ = ask(stage, protocol, path, head + b"\r\n\r\n" + rest, method)
    assert (read.status, read.body) == (int(answer[9:12]), rest)


@BOTH
def test_a_head_has_no_body_to_wait_for(stage, protocol):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n"
    with stage.playing(answering(head)), stage.client(protocol) as client:
        for _ in range(2):
            answer = client.ask("HEAD", WELL_KNOWN)
            assert (answer.status, answer.body) == (200, b"")


@BOTH
def test_one_that_is_longer_than_any_real_one_is_let_go(stage, protocol):
    """Nothing is waited for any more: the end is sent only when the beginning has come."""
    inside = document(f"http://127.0.0.1:{stage.port}", "x")
    came = threading.Event()
    begin, end = inside[:-1] + b',"long":"' + b"x" * 70_000, b'"}'

    def script(connection):
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.send(chunk(begin))
        assert came.wait(PATIENCE)
        connection.send(chunk(end) + LAST_CHUNK)

    with stage.playing(script), stage.client(protocol) as client:
        answer = client.begin("GET", WELL_KNOWN, b"", {} if protocol == "h2" else {"Host": HOST})
        answer.read_head()
        read = b""
        while len(read) < len(begin):
            read += answer.read_piece()
        came.set()
        assert read + b"".join(read_all(answer)) == begin + end
    json.loads(read + end)


@BOTH
def test_one_that_is_cut_is_seen_to_be_cut(stage, protocol):
    inside = document(f"http://127.0.0.1:{stage.port}", "x")

    def script(connection):
        connection.read_request()
        connection.send(response(200, inside, JSON)[:-5])

    with stage.playing(script), stage.client(protocol) as client:
        answer = client.begin("GET", WELL_KNOWN, b"", {} if protocol == "h2" else {"Host": HOST})
        answer.read_head()
        assert b"resource" not in read_cut(answer)
