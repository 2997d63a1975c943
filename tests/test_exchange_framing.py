"""However the upstream frames an answer, the client can tell a whole one from a cut one, on HTTP/1.1 and on HTTP/2."""

import json

import pytest

from harness import JSON, LAST_CHUNK, RawClient, answering, chunk, request, response
from harness.stage import BOTH, MCP, a_stage, call, read_all, read_cut, result

stage = a_stage()

BODY = json.dumps(result(tools=["x" * 3000])).encode()
TYPE = "Content-Type: application/json\r\n"


def raw_answer(head: str, body: bytes = b"") -> bytes:
    return f"HTTP/1.1 200 OK\r\n{TYPE}{head}\r\n".encode() + body


def chunked(body: bytes, size: int) -> bytes:
    return b"".join(chunk(body[at : at + size]) for at in range(0, len(body), size)) + LAST_CHUNK


def until_close(answer: bytes):
    """Script: the answer's end is the connection's."""

    def script(connection):
        connection.read_request()
        connection.send(answer)
        connection.close()

    return script


@BOTH
@pytest.mark.parametrize(
    "script",
    [
        pytest.param(answering(raw_answer(f"Content-Length: {len(BODY)}\r\n", BODY)), id="length"),
        pytest.param(answering(raw_answer("Transfer-Encoding: chunked\r\n", chunked(BODY, 700))), id="chunked"),
        pytest.param(
            answering(raw_answer("Transfer-Encoding: chunked\r\n", chunked(BODY, 1))), id="chunks of one byte"
        ),
        pytest.param(until_close(raw_answer("", BODY)), id="until close"),
        pytest.param(until_close(raw_answer("Connection: close\r\n", BODY)), id="until announced close"),
        pytest.param(until_close(b"HTTP/1.0 200 OK\r\n" + TYPE.encode() + b"\r\n" + BODY), id="HTTP/1.0"),
    ],
)
def test_every_framing_arrives_whole_and_framed(stage, protocol, script):
    with stage.playing(script), stage.client(protocol) as client:
        answer = client.begin("POST", MCP, call(), JSON)
        head = answer.read_head()
        assert b"".join(read_all(answer)) == BODY
        if protocol == "h1":
            assert head.start.startswith("HTTP/1.1 200 ")
            assert (head.header("content-length") is None) != (head.header("transfer-encoding") is None)
            if head.header("transfer-encoding"):
                client.read_until(b"\r\n")
            # The connection is good for another request: nothing was left over and nothing is missing.
            assert client.ask("POST", MCP, call(), JSON).body == BODY
        else:
            assert head.header("transfer-encoding") is None and head.header("connection") is None


@pytest.mark.parametrize(
    "script",
    [answering(raw_answer("Transfer-Encoding: chunked\r\n", chunked(BODY, 700))), until_close(raw_answer("", BODY))],
)
def test_an_http10_client_gets_no_chunks(stage, script):
    with stage.playing(script), stage.client() as client:
        client.send(
            b"POST /servers/s1/mcp HTTP/1.0\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(call()), call())
        )
        head = client.read_head()
        assert head.status == 200 and head.header("transfer-encoding") is None
        assert client.read_to_end() == BODY


def test_an_http10_client_gets_a_length_where_there_is_one(stage):
    with stage.playing(answering(response(200, BODY))), stage.client() as client:
        client.send(b"POST /servers/s1/mcp HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(call()), call()))
        head = client.read_head()
        assert (head.status, head.header("content-length")) == (200, str(len(BODY)))
        assert client.read_to_end() == BODY


@BOTH
@pytest.mark.parametrize("ending", ["close", "reset"])
@pytest.mark.parametrize(
    "cut",
    [
        pytest.param(raw_answer("Content-Length: 5000\r\n", b"x" * 100), id="short of its length"),
        pytest.param(raw_answer("Transfer-Encoding: chunked\r\n", chunk(b"x" * 100)), id="no last chunk"),
        pytest.param(raw_answer("Transfer-Encoding: chunked\r\n", chunk(b"x" * 100) + b"ff\r\nxx"), id="half a chunk"),
        pytest.param(
            raw_answer("Transfer-Encoding: chunked\r\n", chunk(b"x" * 100) + b"0\r\n"), id="half a last chunk"
        ),
        pytest.param(
            raw_answer("Transfer-Encoding: chunked\r\n", chunk(b"x" * 100) + b"zz\r\nno size\r\n"), id="no chunk size"
        ),
    ],
)
def test_a_cut_answer_looks_cut(stage, protocol, cut, ending):
    def script(connection):
        connection.read_request()
        connection.send(cut)
        seen_by_client.acquire(timeout=5)
        connection.reset() if ending == "reset" else connection.close()

    import threading

    seen_by_client = threading.Semaphore(0)
    with stage.playing(script), stage.client(protocol) as client:
        answer = client.begin("POST", MCP, call(), JSON)
        assert answer.read_head().status == 200
        seen_by_client.release()
        assert read_cut(answer).startswith(b"x" * 100)
