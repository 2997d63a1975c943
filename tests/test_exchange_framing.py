"""However the upstream frames an answer, the client can tell a whole one from a cut one, on HTTP/1.1 and on HTTP/2."""

import json

import pytest

from harness import JSON, LAST_CHUNK, answering, chunk, request, wait_until
from harness.stage import BOTH, MCP, a_stage, call, read_all, read_cut, result

stage = a_stage()

BODY = json.dumps(result(tools=["x" * 3000])).encode()
TYPE = "Content-Type: application/json\r\n"


def raw(fields: str, body: bytes = b"", version: str = "1.1") -> bytes:
    return f"HTTP/{version} 200 OK\r\n{TYPE}{fields}\r\n".encode() + body


def chunked(body: bytes, size: int) -> bytes:
    return b"".join(chunk(body[at : at + size]) for at in range(0, len(body), size)) + LAST_CHUNK


def ending(answer: bytes, how: str = "close"):
    """Script: the answer's end is the connection's."""

    def script(connection):
        connection.read_request()
        connection.send(answer)
        connection.reset() if how == "reset" else connection.close()

    return script


@BOTH
@pytest.mark.parametrize(
    "script",
    [
        pytest.param(answering(raw(f"Content-Length: {len(BODY)}\r\n", BODY)), id="length"),
        pytest.param(answering(raw("Transfer-Encoding: chunked\r\n", chunked(BODY, 700))), id="chunked"),
        pytest.param(answering(raw("Transfer-Encoding: chunked\r\n", chunked(BODY, 1))), id="chunks of one byte"),
        pytest.param(ending(raw("", BODY)), id="until close"),
        pytest.param(ending(raw("Connection: close\r\n", BODY)), id="until announced close"),
        pytest.param(ending(raw("", BODY, version="1.0")), id="HTTP/1.0"),
    ],
)
def test_every_framing_arrives_whole_and_framed(stage, protocol, script):
    with stage.playing(script), stage.client(protocol) as client:
        answer = client.begin("POST", MCP, call(), JSON)
        head = answer.read_head()
        assert b"".join(read_all(answer)) == BODY
        if protocol == "h2":
            assert head.header("transfer-encoding") is None
            assert head.header("connection") is None
            return
        assert head.start.startswith("HTTP/1.1 200 ")
        if head.header("transfer-encoding"):
            client.read_until(b"\r\n")
        # The connection is good for another request: nothing was left over and nothing is missing.
        assert client.ask("POST", MCP, call(), JSON).body == BODY


HTTP10 = b"POST /servers/s1/mcp HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(call()), call())


LENGTH = raw(f"Content-Length: {len(BODY)}\r\n", BODY)
CHUNKED = raw("Transfer-Encoding: chunked\r\n", chunked(BODY, 700))


@pytest.mark.parametrize("script", [answering(CHUNKED), ending(raw("", BODY))], ids=["chunked", "until close"])
def test_an_http10_client_gets_no_chunks(stage, script):
    with stage.playing(script), stage.client() as client:
        client.send(HTTP10)
        head = client.read_head()
        assert head.status == 200
        assert head.header("transfer-encoding") is None
        assert client.read_to_end() == BODY


def test_an_http10_client_gets_a_length_where_there_is_one(stage):
    with stage.playing(answering(LENGTH)), stage.client() as client:
        client.send(HTTP10)
        head = client.read_head()
        assert (head.status, head.header("content-length")) == (200, str(len(BODY)))
        assert client.read_to_end() == BODY


SOME = b"x" * 100
CUT = {
    "short of its length": raw("Content-Length: 5000\r\n", SOME),
    "no last chunk": raw("Transfer-Encoding: chunked\r\n", chunk(SOME)),
    "half a chunk": raw("Transfer-Encoding: chunked\r\n", chunk(SOME) + b"ff\r\nxx"),
    "half a last chunk": raw("Transfer-Encoding: chunked\r\n", chunk(SOME) + b"0\r\n"),
    "no chunk size": raw("Transfer-Encoding: chunked\r\n", chunk(SOME) + b"zz\r\nno size\r\n"),
}


@BOTH
@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("cut", CUT.values(), ids=CUT)
def test_a_cut_answer_looks_cut(stage, protocol, cut, how):
    """One to a request does not leave before it is whole: test_failures_long.py."""
    with stage.playing(ending(cut, how)), stage.client(protocol) as client:
        answer = client.begin("GET", MCP)
        assert answer.read_head().status == 200
        assert (SOME + b"xx").startswith(read_cut(answer))


def test_a_cut_answer_is_accounted_once_and_by_its_name(stage):
    faults = lambda: {name: n for name, n in stage.world.metrics().items() if "faults_total" in name}  # noqa: E731
    before = faults()
    with stage.playing(ending(CUT["no last chunk"])), stage.client() as client:
        answer = client.begin("GET", "/servers/accounted/mcp")
        answer.read_head()
        read_cut(answer)
    lines = wait_until(lambda: [line for line in stage.world.access_log() if line.get("server_id") == "accounted"])
    assert [line["fault"] for line in lines] == ["answer_broken"]
    assert sum(faults().values()) - sum(before.values()) == 1


@BOTH
def test_half_a_json_answer_sent_until_close_is_no_success(stage, protocol):
    """Nothing in HTTP tells it from a whole one, but the JSON does (P3)."""
    with stage.playing(ending(raw("", BODY[:-100]))), stage.client(protocol) as client:
        answer = client.ask("POST", MCP, call(), JSON)
        assert (answer.status, answer.json["id"], answer.json["error"]["code"]) == (502, 7, -32603)


@pytest.mark.parametrize("path", [MCP, "/admin"])
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_a_client_that_wants_no_keep_alive_gets_none(stage, path, version):
    with stage.playing(answering(LENGTH)) as upstream, stage.client() as client:
        head = b"POST %b HTTP/%b\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        client.send(head % (path.encode(), version, len(call())) + call())
        answer = client.read_response()
        assert (answer.body, answer.header("connection")) == (BODY, "close")
        client.wait_closed()
        # The upstream's connection is another matter.
        with stage.client() as other:
            other.send(request("POST", path, call(), JSON))
            assert other.read_response().body == BODY
    assert len(upstream.connections) == 1


@BOTH
def test_what_stands_beyond_the_length_is_not_relayed(stage, protocol):
    first = LENGTH + b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsmuggled!"
    with stage.playing(answering(first), answering(LENGTH)) as upstream, stage.client(protocol) as client:
        for _ in range(2):
            assert client.ask("POST", MCP, call(), JSON).body == BODY
    assert len(upstream.connections) == 2, "a connection with bytes left over was used again"


@BOTH
@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length 5\r\n\r\n12345",
        b"HTTP/1.1 200 OK\r\nContent Length: 5\r\n\r\n12345",
        b"HTTP/1.1 200 OK\r\nX-Zero: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n12345",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n12345",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n123456",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Le",
        b"\x16\x03\x01\x00\x05hello",
    ],
)
def test_a_malformed_answer_is_a_502_with_the_id(stage, protocol, answer):
    with stage.playing(ending(answer)) as upstream, stage.client(protocol) as client:
        reply = client.ask("POST", MCP, call("tools/call", id="r-1", name="x"), JSON)
        assert reply.status == 502
        assert reply.header("content-type") == "application/json"
        assert (reply.json["id"], reply.json["error"]["code"]) == ("r-1", -32603)
    assert len(upstream.requests) == 1


@BOTH
def test_head_on_an_mcp_path_has_a_head_only(stage, protocol):
    answers = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nX-Mark: here\r\n\r\n")
    with stage.playing(answers) as upstream, stage.client(protocol) as client:
        for _ in range(2):
            reply = client.ask("HEAD", MCP)
            assert (reply.status, reply.header("x-mark"), reply.body) == (200, "here", b"")
            assert reply.header("content-length") in ("1000", None)
    assert [message.method for message in upstream.requests] == ["HEAD", "HEAD"]


@BOTH
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_an_answer_without_body_ends_at_once(stage, protocol, answer):
    with stage.playing(answering(answer)) as upstream, stage.client(protocol) as client:
        for _ in range(2):
            reply = client.ask("POST", MCP, call("notifications/initialized", id=None), JSON)
            assert (reply.status, reply.body, reply.header("transfer-encoding")) == (202, b"", None)
    assert len(upstream.connections) == 1
