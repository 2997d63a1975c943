"""A WebSocket that names a session goes to its owner, whichever member it enters by; bytes pass both ways, untouched.

Only with profile `generic`: behind ContextForge no passed request may use a session.
"""

import json

import pytest

from harness import JSON, response, wait_until
from harness.stage import call, result

SESSION = "5f0c-owned-by-two"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
FRAMES = bytes(range(256)) + b"\x81\x85\x01\x02\x03\x04igohn\r\n\r\n0\r\n\r\n"


class Peer:
    """Begins a session for whoever initializes, and echoes on every WebSocket."""

    def __init__(self, raw_upstream):
        self.upgrades, self.ended = [], 0

        def serve(connection):
            while True:
                message = connection.read_request()
                if message.method == "POST":
                    connection.send(response(200, result(message.json["id"]), {"Mcp-Session-Id": SESSION}))
                    continue
                self.upgrades.append(message)
                connection.send(SWITCH)
                try:
                    while True:
                        connection.send(connection.read_some())
                finally:
                    self.ended += 1

        self.address = raw_upstream(serve).address


@pytest.mark.parametrize("trust", ["mtls", "plaintext"])
def test_it_meets_its_session(trust, members, redis_server, raw_upstream, pki):
    peers = [Peer(raw_upstream), Peer(raw_upstream)]
    world = members(redis_server(), [[peer.address] for peer in peers], pki if trust == "mtls" else None)
    with world[1].client() as client:
        assert client.ask("POST", "/mcp", call("initialize"), JSON).status == 200
    for entry in (0, 1):
        with world[entry].client() as client:
            client.send(
                b"GET /ws?token=%20x HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"X-Outrigger-Hop: forged\r\nMcp-Session-Id: " + SESSION.encode() + b"\r\n\r\n"
            )
            assert client.read_head().status == 101
            for _ in range(3):
                client.send(FRAMES)
                assert client.read_exactly(len(FRAMES)) == FRAMES
        wait_until(lambda entry=entry: peers[1].ended == entry + 1, what="the client's going away reaches the peer")
    assert not peers[0].upgrades
    far, near = (upgrade.headers for upgrade in peers[1].upgrades)
    assert {name for name, _ in far} == {name for name, _ in near}
    assert not [name for name, _ in far if name.lower().startswith("x-outrigger")]
    line = wait_until(lambda: [line for line in world[0].access_log() if line["status"] == 101])
    assert (line[0]["member"], line[0]["route"]) == ("two", "pass")
    assert SESSION not in json.dumps(world[0].log() + world[1].log())
