"""The harness is believed only as far as it is tested: raw upstream and raw client, without Outrigger between them."""

import pytest

from harness import LAST_CHUNK, Closed, RawClient, answering, chunk, event, event_stream_head, request, response


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
