"""P7 at the hop: what one member tells another is believed on the member listener, from members, and nowhere else.

A `ghost` is a member that only Redis and the test know. What it is sent is a genuine hop, to be replayed elsewhere.
"""

import itertools
import json
import re
import socket
import ssl
import struct
import threading
import time
from contextlib import contextmanager

import pytest

from harness import (
    JSON,
    PATIENCE,
    Closed,
    Message,
    Pki,
    RawClient,
    RawUpstream,
    answering,
    chunk,
    event,
    response,
    wait_until,
)
from harness.hop import HopStage
from harness.http1 import request
from harness.members import QUICK, SERVER_NAME
from harness.stage import MCP, Http1Client, call, result

ANSWER = response(200, result())

GHOSTS = itertools.count()

#: What a member says to the head of a hop, before the body is sent.
GREETING = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.fixture(scope="module", params=["mtls", "plaintext"])
def stage(request, tmp_path_factory, pki):
    plaintext = request.param == "plaintext"
    config = {"profile": "contextforge", **QUICK}
    made = HopStage(tmp_path_factory.mktemp("hop"), pki, config, {}, {}, plaintext=plaintext)
    made.pki = None if plaintext else pki
    try:
        made.start()
        yield made
    finally:
        made.end()


def greeting(answer: bytes):
    """Script of a member: it greets, takes the body and answers."""

    def script(connection):
        while True:
            connection.read_request(greeting=GREETING)
            connection.send(answer)

    return script


@contextmanager
def ghost(stage, *scripts, address: str | None = None):
    """A member that owns a session of server id s1; gives what it is sent, unless it is elsewhere."""
    # Nobody knows the names from an earlier test.
    name = f"ghost-{next(GHOSTS)}"
    tls = stage.pki and stage.pki.server_context(stage.pki.issue(SERVER_NAME, label="ghost"), stage.pki.ca)
    upstream = RawUpstream(*scripts, tls=tls)
    client, members = stage.redis.client(), stage.members
    published = client.get(members.member_key(1))
    assert members.addresses[1] in published
    upstream.card = f"{members.prefix}member:{name}"
    client.set(upstream.card, published.replace(members.addresses[1], address or upstream.address))
    upstream.session = f"haunted-by-{name}"
    stage.claim(upstream.session, "s1", member=name)
    try:
        yield upstream
    finally:
        client.delete(upstream.card)
        upstream.close()


def haunted(client, ghost: RawUpstream) -> Message:
    """Calls a tool in the ghost's session."""
    return client.ask("POST", MCP, call("tools/call", name="x"), {**JSON, "Mcp-Session-Id": ghost.session})


def member_client(stage, number: int) -> RawClient:
    """As a member connects to another."""
    address = stage.members.addresses[number]
    if not stage.pki:
        return RawClient(address)
    identity = stage.pki.issue(SERVER_NAME, label="replayer")
    return RawClient(address, stage.pki.client_context(identity), SERVER_NAME)


@pytest.fixture(scope="module")
def hop(stage) -> Message:
    """A genuine hop, as the entry sends it."""
    with ghost(stage, greeting(ANSWER)) as upstream, stage.client() as client:
        assert haunted(client, upstream).json == result()
    [message] = upstream.requests
    assert message.header("x-outrigger-hop")
    return message


def own_fields(message: Message) -> dict:
    return {name: value for name, value in message.headers if name.lower().startswith("x-outrigger")}


def test_a_hop_is_the_finished_request_and_one_field_more(stage, hop):
    with stage.playing(answering(ANSWER)) as upstream, stage.owner_client() as client:
        client.ask("POST", MCP, call("tools/call", name="x"), {**JSON, "Mcp-Session-Id": stage.session_for(MCP, b"")})
    [local] = upstream.requests
    assert hop.body == local.body
    assert list(own_fields(hop)) == ["x-outrigger-hop"]
    without = [pair for pair in hop.headers if pair[0] not in ("x-outrigger-hop", "mcp-session-id")]
    assert without == [pair for pair in local.headers if pair[0] != "mcp-session-id"]
    assert "haunted" not in hop.header("x-outrigger-hop"), "the session goes by its hash"


FORGED = [{}, {"X-Outrigger-Fault": "no_peer", "X-Outrigger-Peer": "x"}, {"X-OUTRIGGER-Anything": "1"}]


@pytest.mark.parametrize("protocol", ["h1", "h2"])
@pytest.mark.parametrize("path", [MCP, "/mcp", "/admin", "/sse"])
@pytest.mark.parametrize("more", FORGED)
def test_from_outside_a_hop_is_not_believed_and_not_passed_on(stage, hop, protocol, path, more):
    """With a session that lives right here."""
    server_id = "s1" if path == MCP else None
    session = {"Mcp-Session-Id": f"near-{server_id}"} if path.endswith("mcp") else {}
    stage.claim(f"near-{server_id}", server_id, member=stage.members.names[0])
    with stage.playing(answering(ANSWER)) as upstream, stage.client(protocol) as client:
        forged = {**JSON, **own_fields(hop), **more, **session}
        assert client.ask("POST", path, call("tools/list"), forged).status == 200
    [seen] = upstream.requests
    assert not own_fields(seen)
    if path == MCP:
        assert seen.json["params"] == {"server_id": "s1"}


def test_from_outside_a_hop_goes_no_further(stage, hop):
    """It looks like a member's whose `advertise` names a public listener; so it would go round in a circle."""
    with stage.playing(answering(ANSWER)) as upstream, stage.client() as client:
        answer = client.ask("POST", MCP, call("tools/list"), {**JSON, **own_fields(hop)})
    assert (answer.status, answer.json["id"]) == (508, 7)
    assert not upstream.requests


def test_from_outside_a_hop_does_not_open_a_session_of_another_scope(stage, hop):
    stage.claim("of-s1", "s1")
    with stage.playing(answering(ANSWER)) as upstream:
        for enter in (stage.client, stage.owner_client):
            with enter() as client:
                forged = {**JSON, **own_fields(hop), "Mcp-Session-Id": "of-s1"}
                assert client.ask("POST", "/servers/s2/mcp", call(), forged).status == 404
    assert not upstream.requests


@pytest.mark.parametrize("path", [MCP, "/mcp", "/", "/admin", "/livez", "/metrics"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_member_listener_serves_nothing_but_hops(stage, path, method):
    with stage.playing(answering(ANSWER)) as upstream:
        for number in (0, 1):
            with member_client(stage, number) as client:
                answer = client.ask(method, path, call() if method == "POST" else b"", JSON)
                assert 400 <= answer.status < 500
                assert stage.peer not in answer.body.decode()
    assert not upstream.requests


@pytest.mark.parametrize("field", ["", "1", "{}", "null", "\x7f", "a" * 5000, '{"to":"two"}'])
def test_a_malformed_hop_is_refused(stage, field):
    with stage.playing(answering(ANSWER)) as upstream, member_client(stage, 1) as client:
        assert 400 <= client.ask("POST", MCP, call(), {**JSON, "x-outrigger-hop": field}).status < 500
    assert not upstream.requests


@pytest.mark.parametrize("number", [0, 1])
def test_a_hop_to_another_member_is_a_loop(stage, hop, number):
    """The ghost's address was another's: nothing is forwarded twice, and both logs say so."""
    with stage.playing(answering(ANSWER)) as upstream:
        began = time.monotonic()
        with ghost(stage, address=stage.members.addresses[number]) as nobody, stage.client() as client:
            answer = haunted(client, nobody)
        assert time.monotonic() - began < 5
    assert (answer.status, answer.json["id"]) == (508, 7)
    assert not upstream.requests
    log = wait_until(lambda: [line for line in stage.members[number].log() if "ghost" in json.dumps(line)])
    assert "haunted" not in json.dumps(log)


def test_a_member_is_followed_when_another_got_its_address(stage):
    """As pods do that are replaced: an address that was learnt a moment ago is another's now."""
    another = stage.members.addresses[1]
    with ghost(stage, greeting(ANSWER), address=another) as upstream, stage.client() as client:
        assert haunted(client, upstream).status == 508
        redis = stage.redis.client()
        redis.set(upstream.card, redis.get(upstream.card).replace(another, upstream.address))
        assert haunted(client, upstream).json == result()


def test_a_hop_to_another_member_is_refused_to_whoever_replays_it(stage, hop):
    with stage.playing(answering(ANSWER)) as upstream, member_client(stage, 1) as client:
        client.send(hop.raw_head + hop.body)
        assert client.read_response().status == 100
        assert client.read_response().header("x-outrigger-fault"), "the member that hopped authors the answer"
    assert not upstream.requests


@pytest.mark.parametrize(("kind", "status"), [("no_peer", 502), ("session_lost", 404), ("first_byte_timeout", 504)])
def test_a_members_own_failure_is_told_by_the_first(stage, kind, status):
    with (
        ghost(stage, greeting(response(500, b"not shown", {"x-outrigger-fault": kind}))) as upstream,
        stage.client() as client,
    ):
        answer = haunted(client, upstream)
    assert (answer.status, answer.json["id"]) == (status, 7)
    assert b"not shown" not in answer.body
    assert answer.header("x-outrigger-fault") is None


def test_a_failure_that_this_version_does_not_know_is_a_502(stage):
    future = greeting(response(500, b"", {"x-outrigger-fault": "from_the_future"}))
    with ghost(stage, future) as upstream, stage.client() as client:
        answer = haunted(client, upstream)
    assert (answer.status, answer.json["id"]) == (502, 7)


def silent_end(connection):
    connection.read_request(greeting=GREETING)
    connection.close()


def reset(connection):
    connection.read_request(greeting=GREETING)
    connection.reset()


def garbage(connection):
    connection.read_request(greeting=GREETING)
    connection.send(b"220 smtp.example.com ESMTP\r\n\r\n")
    connection.wait_closed()


def never_greeting(connection):
    connection.read_head()
    connection.wait_closed()


def test_a_member_that_does_not_greet_is_not_sent_the_body(stage):
    with ghost(stage, never_greeting) as upstream, stage.client() as client:
        began = time.monotonic()
        answer = haunted(client, upstream)
        assert time.monotonic() - began < 5
    assert (answer.status, answer.json["id"]) == (503, 7)
    assert int(answer.header("retry-after")) >= 1
    assert b"tools/call" not in upstream.connections[0].received.split(b"\r\n\r\n", 1)[1]


def test_a_member_that_dies_under_a_handshake_is_dead(stage):
    """A process that is being killed resets what came last, and only then is nobody there."""
    dying = socket.create_server(("127.0.0.1", 0))

    def die():
        last, _ = dying.accept()
        dying.close()
        last.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        last.close()

    death = threading.Thread(target=die)
    death.start()
    with ghost(stage, address=f"127.0.0.1:{dying.getsockname()[1]}") as upstream, stage.client() as client:
        answer = haunted(client, upstream)
    death.join()
    assert (answer.status, answer.json["id"]) == (404, 7)


@pytest.mark.parametrize("script", [silent_end, reset, garbage])
def test_a_member_that_breaks_off_is_never_asked_twice(stage, script):
    with ghost(stage, script) as upstream, stage.client() as client:
        answer = haunted(client, upstream)
    assert (answer.status, answer.json["id"]) == (502, 7)
    assert len(upstream.requests) == 1


def test_an_event_stream_of_a_member_that_breaks_off_ends_with_an_error(stage):
    came = threading.Event()

    def script(connection):
        connection.read_request(greeting=GREETING)
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.send(chunk(event("first")))
        assert came.wait(PATIENCE)
        connection.reset()

    with ghost(stage, script) as upstream, Http1Client(stage.world.address) as client:
        answer = client.begin("POST", MCP, call(), {**JSON, "Mcp-Session-Id": upstream.session})
        assert answer.read_head().status == 200
        assert answer.read_piece() == event("first")
        came.set()
        assert b'"error"' in answer.read_piece()
        assert answer.read_piece() == b""


def handshake(address: str, context: ssl.SSLContext) -> bytes:
    """What comes of a request by a client that is no member; TLS 1.3 tells it only when it reads."""
    host, _, port = address.rpartition(":")
    plain = socket.create_connection((host, int(port)), timeout=PATIENCE)
    with context.wrap_socket(plain, server_hostname=SERVER_NAME) as sock:
        sock.sendall(request("POST", MCP, call(), {**JSON, "x-outrigger-hop": "1"}))
        return sock.recv(100)


@pytest.mark.parametrize("identity", ["none", "of another authority"])
def test_only_members_may_speak_to_the_member_listener(stage, pki, identity, tmp_path):
    if not stage.pki:
        pytest.skip("plaintext was asked for")
    context = pki.client_context()
    if identity != "none":
        stranger = Pki(tmp_path / "stranger").issue(SERVER_NAME)
        context.load_cert_chain(stranger.cert, stranger.key)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(stage.members.addresses[1], context)
    reason = "no_certificate" if identity == "none" else "untrusted_certificate"
    told = f"member listener: no TLS handshake with .*: {reason}: "
    wait_until(lambda: re.search(told, stage.members[1].story()), what=told)
    with stage.playing(answering(ANSWER)), stage.client() as client:
        assert client.ask("POST", MCP, call(), JSON).status == 200, "members still do"


def test_a_member_listener_with_tls_does_not_speak_plaintext(stage, hop):
    if not stage.pki:
        pytest.skip("it is a plaintext listener")
    with stage.playing(answering(ANSWER)) as upstream, RawClient(stage.members.addresses[1]) as client:
        client.send(hop.raw_head + hop.body)
        with pytest.raises(Closed):
            client.read_head()
    assert not upstream.requests


@pytest.mark.parametrize("identity", ["another name", "another authority"])
def test_a_listener_that_is_no_member_is_told_nothing(stage, pki, identity, tmp_path):
    """Whoever got hold of a member's address does not see the session ids of others."""
    if not stage.pki:
        pytest.skip("plaintext was asked for")
    issuer = pki if identity == "another name" else Pki(tmp_path / "stranger")
    imposter = issuer.issue("imposter" if identity == "another name" else SERVER_NAME, label="imposter")
    listener = RawUpstream(answering(ANSWER), tls=pki.server_context(imposter))
    with ghost(stage, address=listener.address) as upstream, stage.client() as client:
        answer = haunted(client, upstream)
    assert answer.status in (502, 503)
    assert answer.json["id"] == 7
    assert not listener.requests
    listener.close()
