"""HTTP+SSE (2024-11-05) across members: messages meet the peer that holds their session's stream, wherever they enter.

Each of two scripted peers stands behind a member of its own and opens only its own sessions.
"""

import statistics
import time
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from harness import JSON, PATIENCE, chunk, event, event_stream_head, response, wait_until

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}

#: Of the SDKs: Python's, TypeScript's, Go's.
SPELLINGS = pytest.mark.parametrize("name", ["session_id", "sessionId", "sessionid"])


class Peer:
    """Opens streams, takes messages of its own sessions and answers them on their stream."""

    def __init__(self, raw_upstream, letter: str, name: str):
        self.streams, self.messages, self.strangers = {}, [], []

        def serve(connection):
            while True:
                message = connection.read_request()
                if message.method == "GET":
                    session = f"{letter}{len(self.streams)}"
                    self.streams[session] = connection
                    url = f"/servers/abc/message?{name}={session}"
                    connection.send(event_stream_head() + chunk(event(url, name="endpoint")))
                    connection.wait_closed()
                    return
                session = message.path.partition("=")[2]
                if session in self.streams:
                    self.messages.append(message)
                    self.streams[session].send(chunk(event({"jsonrpc": "2.0", "id": message.json["id"], "result": {}})))
                    connection.send(response(202, b"Accepted"))
                else:
                    self.strangers.append(message)
                    connection.send(response(404, b"no such session"))

        self.address = raw_upstream(serve).address


@pytest.fixture
def world(name, members, redis_server, raw_upstream, pki):
    peers = [Peer(raw_upstream, letter, name) for letter in "ab"]
    made = members(redis_server(), [[peer.address] for peer in peers], pki)
    made.peers = peers
    return made


@contextmanager
def opened(world, number: int):
    """A stream by way of member `number`: its lines, and the URL that it names."""
    headers = {"Accept": "text/event-stream"}
    with httpx.stream(
        "GET", f"{world[number].url}/servers/abc/sse", headers=headers, timeout=PATIENCE, trust_env=False, verify=False
    ) as stream:
        assert stream.status_code == 200
        lines = stream.iter_lines()
        yield lines, next(line for line in lines if line.startswith("data:"))[5:].strip()


def post(world, number: int, url: str, message: dict = PING) -> httpx.Response:
    options = {"headers": JSON, "timeout": PATIENCE, "trust_env": False, "verify": False}
    return httpx.post(world[number].url + url, json=message, **options)


@SPELLINGS
def test_messages_by_every_member_meet_their_stream(world, name):
    for opener in (0, 1):
        with opened(world, opener) as (lines, url):
            assert f"?{name}={'ab'[opener]}" in url
            for number, entry in enumerate([0, 1, 1, 0]):
                began = time.monotonic()
                assert post(world, entry, url, {**PING, "id": number}).status_code == 202
                answer = next(line for line in lines if line.startswith("data:"))
                assert f'"id": {number}' in answer
                assert time.monotonic() - began < 5
            peer = world.peers[opener]
            assert [message.json["params"] for message in peer.messages] == [{"server_id": "abc"}] * 4
            peer.messages.clear()
        assert not world.peers[1 - opener].messages
    assert not [message for peer in world.peers for message in peer.strangers]


@SPELLINGS
def test_its_id_under_another_server_id_is_unknown(world, name):
    with opened(world, 0) as (_, url):
        for entry in (0, 1):
            answer = post(world, entry, url.replace("abc", "abd"))
            assert (answer.status_code, answer.json()["id"]) == (404, 1)
    assert not world.peers[0].messages + world.peers[0].strangers + world.peers[1].strangers


@pytest.mark.parametrize("name", ["session_id"])
def test_the_end_of_the_stream_is_the_end_of_the_session(world, name):
    with opened(world, 0) as (_, url):
        assert post(world, 1, url).status_code == 202
        assert len(world.session_keys()) == 1
    wait_until(lambda: not world.session_keys(), what="a stream that ends releases its session")


@pytest.mark.parametrize("name", ["session_id"])
def test_a_dead_members_sessions_are_lost(world, name):
    with ExitStack() as streams:
        urls = [streams.enter_context(opened(world, 0))[1] for _ in range(5)]
        for url in urls:
            assert post(world, 1, url).status_code == 202
        world[0].kill()
        took = []
        for url in urls:
            began = time.monotonic()
            answer = post(world, 1, url)
            took.append(time.monotonic() - began)
            assert (answer.status_code, answer.json()["id"]) == (404, 1)
    assert statistics.median(took) < 0.25, took
    assert not world.peers[1].strangers
