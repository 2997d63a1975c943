"""Over mTLS to the upstream the exchange owes the same: connections used again, nothing run twice, no cut unseen."""

import threading

import pytest

from harness import JSON, LAST_CHUNK, PATIENCE, answering, chunk, event, event_stream_head, response
from harness.stage import MCP, Http1Client, call, closed_at, read_cut, result

ANSWER = response(200, result(ok=True))


@pytest.fixture
def behind_tls(outrigger, raw_upstream, pki):
    """Starts an upstream that demands a client certificate, and Outrigger in front of it: `behind_tls(script, …)`."""

    def make(*scripts):
        context = pki.server_context(pki.issue("localhost"), client_ca=pki.ca)
        upstream = raw_upstream(*scripts, tls=context)
        identity = pki.issue("outrigger", label="outrigger")
        tls = {"ca": str(pki.ca), "server_name": "localhost", **identity.as_config()}
        world = outrigger([], {"upstreams": {"gateway": {"peers": [upstream.address], "tls": tls}}})
        return upstream, Http1Client(world.address)

    return make


def dying_at_the_second(connection):
    connection.read_request()
    connection.send(ANSWER)
    connection.read_request()


@pytest.mark.parametrize("path", [MCP, "/admin"])
def test_one_handshake_serves_many_requests(behind_tls, path):
    upstream, client = behind_tls(answering(ANSWER))
    with client:
        for _ in range(5):
            assert client.ask("POST", path, call(), JSON).json == result(ok=True)
    assert [len(connection.requests) for connection in upstream.connections] == [5]


def test_what_may_run_twice_is_sent_again_and_a_call_is_not(behind_tls):
    upstream, client = behind_tls(dying_at_the_second, dying_at_the_second, answering(ANSWER))
    with client:
        assert client.ask("POST", MCP, call("tools/list"), JSON).status == 200
        assert client.ask("POST", MCP, call("tools/list"), JSON).status == 200
        answer = client.ask("POST", MCP, call("tools/call", id=3), JSON)
        assert (answer.status, answer.json["id"]) == (502, 3)
        assert client.ask("POST", MCP, call("tools/call", id=4), JSON).status == 200
    assert [len(connection.requests) for connection in upstream.connections] == [2, 2, 1]


def test_events_leave_one_by_one_and_leaving_is_noticed(behind_tls):
    came = threading.Semaphore(1)

    def stream(connection):
        connection.read_request()
        connection.send(event_stream_head())
        for number in range(10):
            assert came.acquire(timeout=PATIENCE)
            connection.send(chunk(event({"n": number})))
        connection.wait_closed()

    upstream, client = behind_tls(stream)
    answer = client.begin("GET", MCP, b"", JSON)
    answer.read_head()
    for number in range(10):
        assert answer.read_piece() == event({"n": number})
        came.release()
    client.reset()
    closed_at(upstream.connection())


@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
def test_an_end_without_close_notify_is_a_cut(behind_tls, framing):
    def script(connection):
        connection.read_request()
        body = chunk(b"[1,") if "chunked" in framing else b"[1,"
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{framing}\r\n\r\n".encode()
        connection.send(head + body)

    upstream, client = behind_tls(script)
    with client:
        answer = client.begin("GET", MCP)
        answer.read_head()
        assert b"[1,".startswith(read_cut(answer))


def test_a_tls_stream_that_ends_orderly_is_whole(behind_tls):
    _, client = behind_tls(answering(event_stream_head() + chunk(event("only")) + LAST_CHUNK))
    with client:
        for _ in range(2):
            assert client.ask("GET", MCP).body == event("only")
