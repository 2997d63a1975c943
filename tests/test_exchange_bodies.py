"""Request bodies in every framing and coding arrive whole, decoded, with one length; too much or broken is refused."""

import gzip
import json
import zlib

import pytest

from harness import JSON, answering, chunk, request, response
from harness.stage import BOTH, MCP, SERVER_ID, a_stage, call, result

LIMIT = 256 * 1024

stage = a_stage({"limits": {"body": "256KiB"}})

ANSWERS = answering(response(200, result()))


def filling(size: int, id: object = 7) -> bytes:
    """A request of exactly `size` bytes."""
    body = call("tools/call", id=id, name="")
    return body.replace(b'"name":""', b'"name":"' + b"x" * (size - len(body)) + b'"')


def spliced(body: bytes) -> dict:
    message = json.loads(body)
    message["params"]["server_id"] = SERVER_ID
    return message


def pieces(body: bytes, *sizes: int):
    """The body cut into chunks of these sizes, over and over."""
    at = turn = 0
    while at < len(body):
        size = sizes[turn % len(sizes)]
        yield body[at : at + size]
        at, turn = at + size, turn + 1


CHUNKED = request("POST", MCP, b"", [*JSON.items(), ("Transfer-Encoding", "chunked")])


@pytest.mark.parametrize("protocol", ["h1", "h1-tls"])
@pytest.mark.parametrize("sizes", [(1,), (7, 1, 300), (4096,), (65537, 3)])
@pytest.mark.parametrize("size", [200, 70_000])
def test_chunked_bodies_are_joined(stage, protocol, sizes, size):
    body = filling(size)
    with stage.playing(ANSWERS) as upstream, stage.client(protocol) as client:
        for _ in range(2):
            client.send(CHUNKED + b"".join(chunk(piece) for piece in pieces(body, *sizes)) + b"0\r\n\r\n")
            assert client.read_response().status == 200
    for seen in upstream.requests:
        assert seen.header("transfer-encoding") is None
        assert int(seen.header("content-length")) == len(seen.body)
        assert seen.json == spliced(body)


def test_a_chunked_body_byte_by_byte(stage):
    wire = b"4;ext=1\r\n" + call()[:4] + b"\r\n" + chunk(call()[4:]) + b"0\r\nX-Trailer: t\r\n\r\n"
    with stage.playing(ANSWERS) as upstream, stage.client() as client:
        client.send_slowly(CHUNKED + wire, pause=0.0002)
        assert client.read_response().status == 200
        assert client.ask("POST", MCP, call(), JSON).status == 200
    assert upstream.requests[0].json["method"] == "tools/list"
    assert upstream.requests[0].header("x-trailer") is None


def test_a_body_of_known_length_byte_by_byte(stage):
    with stage.playing(ANSWERS) as upstream, stage.client() as client:
        client.send_slowly(request("POST", MCP, call(), JSON), pause=0.0002)
        assert client.read_response().status == 200
    assert upstream.requests[0].json["method"] == "tools/list"


@pytest.mark.parametrize("sizes", [(1,), (1000, 1), (16384,)])
@pytest.mark.parametrize("length", [True, False], ids=["with length", "without"])
def test_http2_data_in_any_frames(stage, sizes, length):
    # Pingora's HTTP/2 takes some hundred tiny frames in a row for an attack.
    body = filling(80 if sizes == (1,) else 200_000)
    fields = {**JSON, **({"content-length": str(len(body))} if length else {})}
    with stage.playing(ANSWERS) as upstream, stage.client("h2") as client:
        answer = client.begin("POST", MCP, None, fields)
        for piece in pieces(body, *sizes):
            answer.send(piece)
        answer.send(b"", end=True)
        assert answer.read_response().status == 200
    assert upstream.requests[0].json == spliced(body)


def test_many_large_bodies_at_once_on_one_connection(stage):
    with stage.playing(ANSWERS) as upstream, stage.client("h2") as client:
        bodies = [filling(100_000 + number, id=number) for number in range(16)]
        calls = [client.begin("POST", MCP, body, JSON) for body in bodies]
        assert [answer.read_response().status for answer in calls] == [200] * len(bodies)
    assert {seen.json["id"]: seen.json for seen in upstream.requests} == {n: spliced(b) for n, b in enumerate(bodies)}


@BOTH
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_body_where_none_belongs_does_not_shift_what_follows(stage, protocol, method):
    body = b"GET /evil HTTP/1.1\r\nHost: x\r\n\r\n"
    with stage.playing(ANSWERS) as upstream, stage.client(protocol) as client:
        for _ in range(2):
            assert client.ask(method, MCP, body, {"content-length": str(len(body))}).status == 200
    assert [(seen.method, seen.path, seen.body) for seen in upstream.requests] in (
        [(method, MCP, body)] * 2,
        [(method, MCP, b"")] * 2,
    )


# -- Expect


@pytest.mark.parametrize("path", [MCP, "/admin"])
def test_expect_100_continue(stage, path):
    body = call()
    fields = [*JSON.items(), ("Expect", "100-Continue"), ("Content-Length", str(len(body)))]
    head = request("POST", path, b"", fields)

    def script(connection):
        head = connection.read_head()
        if head.header("expect"):
            connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.read_exactly(int(head.header("content-length")))
        connection.requests.append(head)
        connection.send(response(200, result()))
        connection.wait_closed()

    with stage.playing(script) as upstream, stage.client() as client:
        client.send(head)
        assert client.read_head().status == 100
        client.send(body)
        answer = client.read_response()
        assert answer.status == 200
    if path == MCP:
        assert upstream.requests[0].header("expect") is None
        assert answer.header("connection") != "close", "nothing speaks against another request on it"


def test_a_body_that_would_be_too_large_is_not_asked_for(stage):
    head = request("POST", MCP, b"", [("Expect", "100-continue"), ("Content-Length", str(LIMIT + 1))])
    with stage.playing() as upstream, stage.client() as client:
        client.send(head)
        assert client.read_response().status == 413
    assert upstream.connections == []


# -- size


@BOTH
@pytest.mark.parametrize("framing", ["length", "none"])
def test_the_largest_body_passes_and_one_byte_more_does_not(stage, protocol, framing):
    for size, status in ((LIMIT, 200), (LIMIT + 1, 413)):
        body = filling(size)
        with stage.playing(ANSWERS) as upstream, stage.client(protocol) as client:
            if framing == "length":
                answer = client.ask("POST", MCP, body, {**JSON, "content-length": str(size)})
            elif protocol == "h1":
                client.send(CHUNKED + b"".join(chunk(piece) for piece in pieces(body, 30_000)) + b"0\r\n\r\n")
                answer = client.read_response()
            else:
                answer = client.ask("POST", MCP, body, JSON)
            assert answer.status == status, size
        assert len(upstream.requests) == (1 if status == 200 else 0)
    assert str(LIMIT) in answer.body.decode()


def test_the_reply_to_a_body_far_too_large_is_readable(stage):
    """The client is still sending when it is refused, and must not lose the reply to a reset."""
    with stage.playing() as upstream, stage.client() as client:
        client.send(request("POST", MCP, b"", {"Content-Length": str(10 << 20)}) + b"x" * (200 * 1024))
        answer = client.read_response()
        assert (answer.status, answer.header("connection")) == (413, "close")
    assert upstream.connections == []


def test_a_stream_too_large_leaves_its_connection_usable(stage):
    with stage.playing(ANSWERS), stage.client("h2") as client:
        answer = client.begin("POST", MCP, None, JSON)
        answer.send(b"x" * (3 * LIMIT), end=True)
        assert answer.read_head().status == 413
        assert client.ask("POST", MCP, call(), JSON).status == 200


# -- codings

CODINGS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZip": gzip.compress,
    "deflate": zlib.compress,
    "identity": bytes,
}


@BOTH
@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("size", [300, LIMIT])
def test_a_coded_body_is_decoded_and_spliced(stage, protocol, coding, size):
    body = filling(size)
    with stage.playing(ANSWERS) as upstream, stage.client(protocol) as client:
        answer = client.ask("POST", MCP, CODINGS[coding](body), {**JSON, "Content-Encoding": coding})
        assert answer.status == 200
    seen = upstream.requests[0]
    assert seen.header("content-encoding") is None
    assert seen.json == spliced(body)


def test_a_gzip_body_of_several_members(stage):
    body = call("tools/call", name="x")
    coded = gzip.compress(body[:20]) + gzip.compress(body[20:])
    with stage.playing(ANSWERS) as upstream, stage.client() as client:
        assert client.ask("POST", MCP, coded, {**JSON, "Content-Encoding": "gzip"}).status == 200
    assert upstream.requests[0].json == spliced(body)


@BOTH
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_bomb_is_a_413(stage, protocol, coding):
    bomb = CODINGS[coding](b'{"x":"' + b"0" * (16 << 20) + b'"}')
    assert len(bomb) < LIMIT
    with stage.playing() as upstream, stage.client(protocol) as client:
        assert client.ask("POST", MCP, bomb, {**JSON, "Content-Encoding": coding}).status == 413
    assert upstream.connections == []


@BOTH
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("garbage", ["noise", "cut", "no end", "flipped"])
def test_garbage_is_a_400(stage, protocol, coding, garbage):
    whole = CODINGS[coding](filling(3000))
    body = {
        "noise": call(),
        "cut": whole[: len(whole) // 2],
        "no end": whole[:-3],
        "flipped": whole[:-4] + bytes(byte ^ 0xFF for byte in whole[-4:]),
    }[garbage]
    with stage.playing() as upstream, stage.client(protocol) as client:
        assert client.ask("POST", MCP, body, {**JSON, "Content-Encoding": coding}).status == 400
        assert client.ask("POST", MCP, b"", {**JSON, "Content-Encoding": coding}).status == 400
    assert upstream.connections == []


@BOTH
@pytest.mark.parametrize("fields", [["br"], ["zstd"], ["gzip, gzip"], ["gzip", "gzip"], ["gzip, br"], ["identity, br"]])
def test_another_coding_is_a_415_that_says_which_would_do(stage, protocol, fields):
    with stage.playing() as upstream, stage.client(protocol) as client:
        pairs = [*JSON.items(), *(("Content-Encoding", value) for value in fields)]
        answer = client.ask("POST", MCP, call(), pairs)
        assert answer.status == 415
        assert {coding.strip() for coding in answer.header("accept-encoding").split(",")} >= {"gzip", "deflate"}
    assert upstream.connections == []


@BOTH
def test_a_coded_body_of_another_path_passes_as_it_is(stage, protocol):
    coded = gzip.compress(b"anything")
    with stage.playing(ANSWERS) as upstream, stage.client(protocol) as client:
        assert client.ask("POST", "/admin", coded, {"Content-Encoding": "gzip"}).status == 200
    assert (upstream.requests[0].header("content-encoding"), upstream.requests[0].body) == ("gzip", coded)


@BOTH
def test_answers_are_asked_for_uncoded(stage, protocol):
    """What comes back must be readable by the rooms behind; without the field any coding is welcome (RFC 9110)."""
    with stage.playing(ANSWERS) as upstream, stage.client(protocol) as client:
        client.ask("POST", MCP, call(), {**JSON, "Accept-Encoding": "gzip, br"})
    assert upstream.requests[0].header("accept-encoding") == "identity"
