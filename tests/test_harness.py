"""The harness is believed only as far as it is tested: its raw ends, its Redis and its network, without Outrigger."""

import sys

import pytest
import redis

from harness import (
    LAST_CHUNK,
    Closed,
    RawClient,
    answering,
    chunk,
    event,
    event_stream_head,
    free_port,
    request,
    response,
)
from harness.redis import PASSWORD, USER


def test_messages_pass_to_the_letter(raw_upstream):
    upstream = raw_upstream(answering(response(200, {"a": 1}), response(202)))
    sent = request("POST", "/mcp", b'{"x":1}', [("X-Odd-CASE", "1"), ("x-odd-case", "2")])
    with RawClient(upstream.address) as client:
        client.send(sent)
        assert client.read_response().json == {"a": 1}
        assert client.ask("POST", "/second").status == 202
    connection = upstream.connection()
    assert connection.received.startswith(sent)
    assert connection.requests[0].all("x-odd-case") == ["1", "2"]
    assert connection.requests[0].body == b'{"x":1}'
    assert [message.path for message in upstream.requests] == ["/mcp", "/second"]


def test_a_stream_is_read_chunk_by_chunk_and_then_whole(raw_upstream):
    def stream(connection):
        connection.read_request()
        connection.send_slowly(event_stream_head() + chunk(event({"n": 1}, id="a")))
        connection.send(chunk(event("x\ny", name="m")) + LAST_CHUNK)
        connection.wait_closed()

    upstream = raw_upstream(stream)
    with RawClient(upstream.address) as client:
        client.send(request("GET", "/mcp"))
        assert client.read_head().header("content-type") == "text/event-stream"
        assert client.read_chunk() == b'id: a\ndata: {"n": 1}\n\n'
        assert client.read_chunk() == b"event: m\ndata: x\ndata: y\n\n"
        assert client.read_chunk() == b""


def test_reset_and_close_are_told_apart(raw_upstream):
    upstream = raw_upstream(lambda c: (c.read_request(), c.reset()), lambda c: (c.read_request(), c.close()))
    for reset in (True, False):
        client = RawClient(upstream.address)
        client.send(request("GET", "/"))
        with pytest.raises(Closed) as closed:
            client.read_head()
        assert closed.value.reset is reset


def test_a_failed_assertion_in_a_script_is_raised(raw_upstream):
    def wrong(connection):
        assert connection.read_request().path == "/other"

    upstream = raw_upstream(wrong)
    client = RawClient(upstream.address)
    client.send(request("GET", "/this"))
    client.wait_closed()
    with pytest.raises(AssertionError, match="connection 0 failed"):
        upstream.close()
    upstream.connections[0].error = None


def test_tls_at_both_ends_asks_for_the_clients_certificate(raw_upstream, pki):
    server, client = pki.issue("localhost", label="server"), pki.issue("client", label="client")
    upstream = raw_upstream(answering(response(200, {})), tls=pki.server_context(server, client_ca=pki.ca))
    with RawClient(upstream.address, pki.client_context(client)) as connection:
        assert connection.ask("GET", "/").status == 200
    with pytest.raises((Closed, OSError)), RawClient(upstream.address, pki.client_context()) as connection:
        connection.ask("GET", "/")


def test_a_redis_with_users_and_tls_lets_nobody_else_in(redis_server, pki):
    server = redis_server(login=True, tls=pki, rights="~outrigger:* +get")
    assert server.client().ping()
    assert server.url == f"rediss://{USER}:{PASSWORD}@{server.address}"
    restricted = server.client(username=USER)
    assert restricted.get("outrigger:x") is None
    with pytest.raises(redis.exceptions.NoPermissionError):
        restricted.get("other")
    with pytest.raises(redis.exceptions.ConnectionError):
        server.client(ssl_certfile=None, ssl_keyfile=None).ping()


def test_a_paused_redis_is_silent_and_a_stopped_one_refuses(redis_server):
    server = redis_server()
    impatient = server.client(socket_timeout=0.1)
    server.pause()
    with pytest.raises(redis.exceptions.TimeoutError):
        impatient.ping()
    server.resume()
    assert server.client().set("x", 1)
    server.stop()
    with pytest.raises(redis.exceptions.ConnectionError):
        impatient.ping()
    server.restart()
    assert server.client().get("x") is None


def test_sentinels_make_the_replica_master(sentinels):
    before = sentinels.master()
    sentinels.client().set("x", 1)
    assert sentinels.fail_over() is not before
    assert sentinels.client().role()[0] == "master"


def test_a_cluster_has_three_masters(redis_cluster):
    for number in range(50):
        redis_cluster.client().set(f"key-{number}", number)
    assert all(server.client().dbsize() for server in redis_cluster.servers)


def test_a_place_that_is_cut_off_is_still_seen_from_the_front(namespaces, start):
    places = [namespaces.place("first"), namespaces.place("second")]
    port = free_port()
    server = start("server", [*places[1].launcher, sys.executable, "-m", "http.server", port, "--bind", "0.0.0.0"])
    server.wait_ready(lambda: server.listens(port))

    def reaches_back(number: int) -> bool:
        code = f"import socket; socket.create_connection(('{places[1].back}', {port}), 0.5)"
        return start(f"probe-{number}", [*places[0].launcher, sys.executable, "-c", code]).wait() == 0

    assert reaches_back(1)
    namespaces.cut_off(1)
    assert not reaches_back(2)
    RawClient(f"{places[1].front}:{port}").close()
    namespaces.join_again(1)
    assert reaches_back(3)
