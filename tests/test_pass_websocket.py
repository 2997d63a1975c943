"""An Upgrade passes: after the 101 bytes go both ways untouched, as long as either likes, and the end is passed on."""

import time

import pytest

from harness import JSON, answering, response, wait_until
from harness.stage import MCP, a_stage, call, closed_at, result

#: Time-outs shorter than the silence below: none of them may count after the 101.
stage = a_stage({"timeouts": {"first_byte": "1s", "response_idle": "1s", "idle": "1s", "write": "1s"}}, hop="never")

SILENCE = 2.0
#: Seconds in which an end is passed on, even by a busy machine.
AT_ONCE = 2.0

HANDSHAKE = (
    b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mcp\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: mcp\r\n\r\n"
)
#: Frames to the letter: masked text, ping, binary with every byte, and one that is no frame at all.
FROM_CLIENT = b"\x81\x85\x01\x02\x03\x04" + b"igohn" + b"\x89\x80\x00\x00\x00\x00" + bytes(range(256))
FROM_SERVER = b"\x81\x05hello\x8a\x00\x82\x7e\x01\x00" + bytes(range(256)) + b"\r\n\r\n0\r\n\r\n"

PATHS = pytest.mark.parametrize("path", ["/ws", "/admin/ws?token=%20x"])
LISTENERS = pytest.mark.parametrize("protocol", ["h1", "h1-tls"])


def echoing(connection):
    """Script: switches, greets, and then sends back what comes."""
    connection.requests.append(connection.read_head())
    connection.send(SWITCH + FROM_SERVER)
    while True:
        connection.send(connection.read_some())


def upgraded(client, path):
    client.send(HANDSHAKE % path.encode())
    head = client.read_head()
    assert head.status == 101
    assert head.header("upgrade").lower() == "websocket"
    assert head.header("connection").lower() == "upgrade"
    assert head.header("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert head.header("sec-websocket-protocol") == "mcp"
    return head


@LISTENERS
@PATHS
def test_bytes_pass_both_ways(stage, protocol, path):
    with stage.playing(echoing) as upstream, stage.client(protocol) as client:
        upgraded(client, path)
        assert client.read_exactly(len(FROM_SERVER)) == FROM_SERVER
        for _ in range(3):
            client.send(FROM_CLIENT)
            assert client.read_exactly(len(FROM_CLIENT)) == FROM_CLIENT
        big = FROM_CLIENT * 2000
        client.send_slowly(big, piece=60_000, pause=0)
        assert client.read_exactly(len(big)) == big
    seen = upstream.requests[0]
    assert (seen.path, seen.header("upgrade")) == (path, "websocket")
    assert "upgrade" in seen.header("connection").lower()
    assert seen.header("sec-websocket-key") == "dGhlIHNhbXBsZSBub25jZQ=="
    assert seen.header("x-forwarded-for") == "127.0.0.1"


@LISTENERS
def test_a_long_silence_breaks_nothing(stage, protocol):
    with stage.playing(echoing), stage.client(protocol) as client:
        upgraded(client, "/ws")
        client.read_exactly(len(FROM_SERVER))
        time.sleep(SILENCE)
        client.send(FROM_CLIENT)
        assert client.read_exactly(len(FROM_CLIENT)) == FROM_CLIENT


@LISTENERS
def test_frames_leave_as_they_come(stage, protocol):
    with stage.playing(echoing), stage.client(protocol) as client:
        upgraded(client, "/ws")
        client.read_exactly(len(FROM_SERVER))
        delays = []
        for number in range(20):
            started = time.monotonic()
            client.send(bytes([number]))
            assert client.read_exactly(1) == bytes([number])
            delays.append(time.monotonic() - started)
        assert sorted(delays)[5] < 0.02, delays


@LISTENERS
def test_the_clients_end_is_passed_on(stage, protocol):
    def listening(connection):
        connection.read_head()
        connection.send(SWITCH)
        connection.wait_closed()

    with stage.playing(listening) as upstream, stage.client(protocol) as client:
        upgraded(client, "/ws")
        left = time.monotonic()
        client.close()
        assert closed_at(upstream.connection()) - left < AT_ONCE


@LISTENERS
def test_the_upstreams_end_is_passed_on(stage, protocol):
    def parting(connection):
        connection.read_head()
        connection.send(SWITCH + b"\x88\x02\x03\xe8")

    with stage.playing(parting), stage.client(protocol) as client:
        upgraded(client, "/ws")
        assert client.read_to_end() == b"\x88\x02\x03\xe8"


@LISTENERS
@pytest.mark.parametrize("status", [200, 400, 403, 426])
def test_a_refused_upgrade_is_an_ordinary_answer(stage, protocol, status):
    answers = answering(response(status, "no", {"Sec-WebSocket-Version": "13"}))
    with stage.playing(answers), stage.client(protocol) as client:
        client.send(HANDSHAKE % b"/ws")
        answer = client.read_response()
        assert (answer.status, answer.body, answer.header("sec-websocket-version")) == (status, b"no", "13")


@LISTENERS
@pytest.mark.parametrize("how", ["fin", "rst"])
def test_an_upgrade_that_nobody_answers_ends_when_the_client_leaves(stage, protocol, how):
    def silent(connection):
        connection.requests.append(connection.read_head())
        connection.wait_closed()

    with stage.playing(silent) as upstream, stage.client(protocol) as client:
        client.send(HANDSHAKE % b"/ws")
        wait_until(lambda: upstream.requests, what="the request at the upstream")
        left = time.monotonic()
        client.reset() if how == "rst" else client.close()
        assert closed_at(upstream.connection()) - left < AT_ONCE


def test_an_upgraded_connection_is_not_used_again(stage):
    with stage.playing(echoing, answering(response(200, "fresh"))) as upstream:
        with stage.client() as client:
            upgraded(client, "/ws")
            client.read_exactly(len(FROM_SERVER))
        with stage.client() as client:
            assert client.ask("GET", "/admin").body == b"fresh"
    assert len(upstream.connections) == 2


@LISTENERS
@pytest.mark.parametrize("path", [MCP, "/mcp"])
def test_an_mcp_path_knows_no_upgrade(stage, protocol, path):
    """MCP has no transport by Upgrade; a message that asks for one must not slip past the splice."""
    fields = {**JSON, "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "x"}
    with stage.playing(answering(response(200, result()))) as upstream, stage.client(protocol) as client:
        assert client.ask("POST", path, call(), fields).status == 200
    seen = upstream.requests[0]
    assert seen.header("upgrade") is None
    assert seen.json.get("params") == ({"server_id": "s1"} if path == MCP else None)
