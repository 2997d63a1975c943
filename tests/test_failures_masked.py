"""HTTP+SSE: an answer of nothing masks a failure (in ContextForge to this day), unless its method may return nothing.

The message may come by another generation than the one that holds the stream, or by another member.
"""

import json
import random
import threading

import pytest

from harness import JSON, chunk, event, event_stream_head, response, wait_until
from harness.stage import BOTH, a_stage, call

stage = a_stage()
#: Takes batches, and another path for messages than the one that the server names below.
generic = a_stage({"routes": {"message": ["/servers/{server_id}/message"]}}, profiles=("generic",), hop="never")

ENDPOINT = event("/servers/s1/message?session_id=abc", name="endpoint")


class Sse:
    """Script of an upstream: holds one stream, takes messages, and says on the stream what the test wants."""

    def __init__(self, session: str = "abc", path: str = "/servers/s1/message"):
        self.session = session
        self.path = path
        self.stream = None
        self.messages = []
        self._open = threading.Event()

    def __call__(self, connection):
        while True:
            message = connection.read_request()
            if message.method == "GET":
                endpoint = f"{self.path}?session_id={self.session}"
                connection.send(event_stream_head() + chunk(event(endpoint, name="endpoint")))
                self.stream = connection
                self._open.set()
                connection.wait_closed(patience=60)
                return
            self.messages.append(message.json)
            connection.send(response(202, b"Accepted"))

    def say(self, data: bytes) -> None:
        assert self._open.wait(10)
        self.stream.send(chunk(data))


def hollow(id: object, framing: str = "\r\n") -> bytes:
    """As ContextForge writes it."""
    data = json.dumps({"jsonrpc": "2.0", "result": {}, "id": id})
    return f"event: message{framing}data: {data}{framing}retry: 5000{framing}{framing}".encode()


def opened(client, path="/servers/s1/sse"):
    stream = client.begin("GET", path, b"", {"Accept": "text/event-stream"})
    assert stream.read_head().status == 200
    read_to(stream, b"session_id=abc\n\n")
    return stream


def read_to(stream, mark: bytes) -> bytes:
    got = b""
    while not got.endswith(mark):
        piece = stream.read_piece(patience=5)
        assert piece, f"the stream ended after {got!r}"
        got += piece
    return got


def post(stage, message: bytes, session: str = "abc") -> None:
    with stage.client() as client:
        path = f"/servers/s1/message?session_id={session}"
        assert client.ask("POST", path, message, JSON).status == 202


def the_error(got: bytes, id: object) -> dict:
    lines = got.decode().replace("\r\n", "\n").split("\n")
    assert (lines[0], lines[2]) == ("event: message", "retry: 5000"), "the other lines stay"
    answer = json.loads(lines[1].removeprefix("data: "))
    assert (answer["jsonrpc"], answer["id"]) == ("2.0", id)
    return answer["error"]


@BOTH
@pytest.mark.parametrize("framing", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("cut", ["whole", "anywhere"])
def test_a_masked_failure_becomes_an_error(stage, protocol, framing, cut):
    upstream = Sse()
    rng = random.Random(7)
    with stage.playing(upstream), stage.client(protocol) as client:
        stream = opened(client)
        for id in (2, "two", 123456789012345678901234567890):
            post(stage, call("tools/call", id=id, name="x"))
            data = hollow(id, framing)
            at = 0
            while at < len(data):
                size = len(data) if cut == "whole" else rng.randrange(1, 20)
                upstream.say(data[at : at + size])
                at += size
            error = the_error(read_to(stream, (framing * 2).encode()).replace(framing.encode(), b"\n"), id)
            assert (error["code"], error["data"]["httpStatus"]) == (-32603, 200)
            assert error["message"].startswith("The upstream")


@BOTH
def test_what_may_be_answered_with_nothing_is_left_alone(stage, protocol):
    upstream = Sse()
    with stage.playing(upstream), stage.client(protocol) as client:
        stream = opened(client)
        for id, method in enumerate(["ping", "logging/setLevel", "resources/subscribe", "vendor/thing"]):
            post(stage, call(method, id=id))
            upstream.say(hollow(id))
            assert read_to(stream, b"\r\n\r\n") == hollow(id)
        # An id is good for one answer.
        upstream.say(hollow(0))
        the_error(read_to(stream, b"\r\n\r\n"), 0)


def test_what_a_batch_asks_is_not_known_so_its_answers_are_left_alone(generic):
    upstream = Sse()
    with generic.playing(upstream), generic.client() as client:
        stream = opened(client)
        post(generic, b"[" + call("ping", id=1) + b"," + call("tools/call", id=2) + b"]")
        for id in (1, 2):
            upstream.say(hollow(id))
            assert read_to(stream, b"\r\n\r\n") == hollow(id)
        upstream.say(hollow(3))
        the_error(read_to(stream, b"\r\n\r\n"), 3)


def test_a_stream_whose_messages_are_not_seen_is_left_alone(generic):
    """The server names a path that is none of `routes.message`."""
    upstream = Sse(path="/elsewhere")
    with generic.playing(upstream), generic.client() as client:
        stream = opened(client)
        with generic.client() as other:
            assert other.ask("POST", "/elsewhere?session_id=abc", call("ping"), JSON).status == 202
        upstream.say(hollow(7))
        assert read_to(stream, b"\r\n\r\n") == hollow(7)


@BOTH
def test_every_other_event_leaves_as_it_came(stage, protocol):
    upstream = Sse()
    events = [
        event({"jsonrpc": "2.0", "id": 2, "result": {"content": []}}),
        event({"jsonrpc": "2.0", "id": 2, "error": {"code": 1, "message": "m"}}),
        event({"jsonrpc": "2.0", "result": {}}),
        event({"jsonrpc": "2.0", "method": "x", "params": {"result": {}, "id": 2}}),
        b"event: keepalive\r\ndata: {}\r\nretry: 15000\r\n\r\n",
        b": a comment\n\n",
        event({"jsonrpc": "2.0", "id": 2, "result": {"text": "x" * 100_000}}),
        b"id: 5\ndata: not JSON\n\n",
    ]
    with stage.playing(upstream), stage.client(protocol) as client:
        stream = opened(client)
        for said in events:
            upstream.say(said)
            assert read_to(stream, said[-4:]) == said


def test_a_message_that_lands_in_a_newer_generation(outrigger, raw_upstream):
    upstream = Sse()
    world = outrigger([raw_upstream(upstream).address])
    with world.client() as client:
        client.send(b"GET /servers/s1/sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        assert client.read_head().status == 200
        assert client.read_chunk() == ENDPOINT
        world.reload()
        for id, method in enumerate(["ping", "tools/call"]):
            with world.client() as other:
                answer = other.ask("POST", "/servers/s1/message?session_id=abc", call(method, id=id), JSON)
                assert answer.status == 202
            upstream.say(hollow(id))
            got = client.read_chunk()
            assert (got == hollow(id)) == (method == "ping")
        assert b'"error"' in got


def test_a_message_that_enters_by_another_member(members, redis_server, raw_upstream, pki):
    upstream = Sse()
    address = raw_upstream(upstream).address
    world = members(redis_server(), [[address], [address]], pki)
    with world[0].client() as client:
        client.send(b"GET /servers/s1/sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        assert client.read_head().status == 200
        assert client.read_chunk() == ENDPOINT
        for id, method in enumerate(["ping", "tools/call"]):
            with world[1].client() as other:
                answer = other.ask("POST", "/servers/s1/message?session_id=abc", call(method, id=id), JSON)
                assert answer.status == 202
            upstream.say(hollow(id))
            got = client.read_chunk()
            assert (got == hollow(id)) == (method == "ping")
        assert b'"error"' in got


def test_a_repaired_event_is_accounted_for(stage):
    upstream = Sse()
    name = 'outrigger_normalised_total{reason="hollow_event"}'
    before = stage.metrics().get(name, 0)
    with stage.playing(upstream), stage.client() as client:
        stream = opened(client)
        post(stage, call("tools/call", id=2))
        upstream.say(hollow(2))
        the_error(read_to(stream, b"\r\n\r\n"), 2)
        wait_until(lambda: stage.metrics().get(name, 0) == before + 1, what="it is counted")
