"""1xx heads before the final one are read past, however they are cut; 101 to a request without Upgrade is refused."""

import pytest

from harness import JSON, response, wait_until
from harness.stage import BOTH, MCP, a_stage, call, result

stage = a_stage()

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\nX-Hint: 1\r\n\r\n"
FINAL = response(200, result(ok=True), {"X-Final": "1"})


def one_by_one(*pieces):
    """Script: each piece once the one before has left the socket, so that they arrive apart."""

    def script(connection):
        while True:
            connection.read_request()
            for piece in pieces:
                connection.send_slowly(piece, piece=len(piece), pause=0.03)

    return script


def slowly(answer):
    def script(connection):
        while True:
            connection.read_request()
            connection.send_slowly(answer, pause=0.0002)

    return script


@BOTH
@pytest.mark.parametrize(
    "script",
    [
        pytest.param(one_by_one(CONTINUE + FINAL), id="100 together"),
        pytest.param(one_by_one(EARLY_HINTS + EARLY_HINTS + CONTINUE + FINAL), id="several together"),
        pytest.param(one_by_one(CONTINUE, EARLY_HINTS, FINAL), id="apart"),
        pytest.param(one_by_one(EARLY_HINTS[:20], EARLY_HINTS[20:] + FINAL[:9], FINAL[9:]), id="split"),
        pytest.param(slowly(CONTINUE + EARLY_HINTS + FINAL), id="byte by byte"),
    ],
)
def test_interim_heads_are_read_past(stage, protocol, script):
    with stage.playing(script) as upstream, stage.client(protocol) as client:
        for _ in range(2):
            reply = client.ask("POST", MCP, call(), JSON)
            while protocol == "h1" and reply.status < 200:
                reply = client.read_response()
            assert (reply.status, reply.json, reply.header("x-final")) == (200, result(ok=True), "1")
            assert reply.header("x-hint") is None
    assert len(upstream.connections) == 1, "the connection was not used again"


@BOTH
def test_a_101_that_nobody_asked_for_is_refused(stage, protocol):
    def script(connection):
        connection.read_request()
        connection.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: evil\r\nConnection: Upgrade\r\n\r\nraw bytes")
        connection.wait_closed()

    with stage.playing(script) as upstream, stage.client(protocol) as client:
        reply = client.ask("POST", MCP, call(id=12), JSON)
        assert (reply.status, reply.json["id"]) == (502, 12)
        assert b"raw bytes" not in reply.body
        wait_until(lambda: upstream.connection().closed, what="the switched connection closed")
