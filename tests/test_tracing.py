"""Spans of one sidecar: whose children they are, what they say, and what goes upstream in their name."""

import re

import pytest

from harness import (
    JSON,
    Outrigger,
    answering,
    chunk,
    event,
    event_stream_head,
    free_port,
    response,
    secrets,
    wait_until,
)
from harness.collector import Collector, Span
from harness.http1 import LAST_CHUNK, Message

CALL = (
    b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"add","_meta":{"traceparent":"00-of-the-body"}}}'
)
ANSWER = response(200, {"jsonrpc": "2.0", "id": 7, "result": {}})

TRACE, CLIENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{CLIENT}-01"

#: In the order in which they are entered.
ROOMS = ["identify", "locate", "rewrite request", "upstream", "normalise", "relay"]


def carried(request: Message) -> tuple[str, str, str]:
    """Trace, parent and flags that a request names."""
    version, trace, parent, flags = request.header("traceparent").split("-")
    assert version == "00"
    return trace, parent, flags


def ask(world: Outrigger, headers: dict | list = (), method: str = "POST", path: str = "/servers/abc/mcp", body=CALL):
    pairs = list(headers.items()) if isinstance(headers, dict) else list(headers)
    with world.client() as client:
        return client.ask(method, path, body, [*JSON.items(), *pairs])


def children(collector: Collector, of: Span) -> list[str]:
    found = sorted((span for span in collector.spans if span.parent == of.id), key=lambda span: span.start)
    return [span.name for span in found]


def test_every_room_is_a_span_of_the_trace_that_the_client_began(outrigger, raw_upstream, collector):
    upstream = raw_upstream(answering(ANSWER))
    world = outrigger([upstream.address])
    state = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
    assert ask(world, {"traceparent": PARENT, "tracestate": state}).status == 200
    spans = collector.wait(9)
    assert {span.trace for span in spans} == {TRACE}
    server, asking = collector.one("tools/call", "SERVER"), collector.one("upstream", "CLIENT")
    assert server.parent == CLIENT
    assert children(collector, server) == ROOMS
    assert children(collector, asking) == ["connect", "send and receive"]
    assert all(server.start <= span.start <= span.end <= server.end for span in spans)
    (request,) = upstream.requests
    assert carried(request) == (TRACE, asking.id, "01")
    assert request.header("tracestate") == state
    # What the body says of traces is between the client and the server.
    assert b'"_meta":{"traceparent":"00-of-the-body"}' in request.body


def test_a_span_says_what_was_asked_and_who_answered(outrigger, raw_upstream, collector):
    upstream = raw_upstream(answering(ANSWER))
    world = outrigger([upstream.address])
    ask(world)
    server, asking = collector.one("tools/call"), collector.one("upstream")
    (line,) = wait_until(world.access_log)
    assert line["trace_id"] == server.trace
    assert server.attributes == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "mcp.method.name": "tools/call",
        "gen_ai.operation.name": "execute_tool",
        "network.transport": "tcp",
        "network.protocol.name": "http",
        "client.address": "127.0.0.1",
        "outrigger.request": line["request"],
        "outrigger.listener": "public",
        "outrigger.route": "mcp",
        "outrigger.server_id": "abc",
        "outrigger.era": "legacy",
        "outrigger.upstream": "gateway",
        "outrigger.peer": upstream.address,
        "outrigger.attempts": 1,
    }
    host, _, port = upstream.address.rpartition(":")
    assert asking.attributes == {
        "server.address": host,
        "server.port": int(port),
        "outrigger.upstream": "gateway",
        "http.response.status_code": 200,
    }
    assert server.resource["service.name"] == "outrigger"
    assert server.resource["outrigger.generation"] == 1
    assert re.fullmatch(r"\d+\.\d+\.\d+", server.resource["service.version"])


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"traceparent": "nonsense"},
        {"traceparent": PARENT.upper()},
        {"traceparent": f"00-{'0' * 32}-{CLIENT}-01"},
        [("traceparent", PARENT), ("traceparent", PARENT)],
    ],
    ids=["none", "nonsense", "capitals", "zeros", "two"],
)
def test_what_cannot_be_continued_is_replaced(outrigger, raw_upstream, collector, fields):
    upstream = raw_upstream(answering(ANSWER))
    pairs = list(fields.items()) if isinstance(fields, dict) else fields
    ask(outrigger([upstream.address]), [*pairs, ("tracestate", "rojo=1")])
    server = collector.one("tools/call")
    assert server.parent == "" and server.trace not in (TRACE, "0" * 32)
    (request,) = upstream.requests
    assert carried(request) == (server.trace, collector.one("upstream").id, "01")
    assert request.all("tracestate") == []


def test_what_the_client_does_not_sample_is_not_sampled(outrigger, raw_upstream, collector):
    upstream = raw_upstream(answering(ANSWER))
    world = outrigger([upstream.address])
    ask(world, {"traceparent": PARENT.replace("-01", "-00")})
    ask(world, {"traceparent": PARENT})
    collector.wait(9 - 1)  # The connection is kept, so that none is opened.
    trace, parent, flags = carried(upstream.requests[0])
    assert (trace, flags) == (TRACE, "00") and parent != CLIENT


def test_the_sampler_is_the_operators(outrigger, raw_upstream, collector, monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    upstream = raw_upstream(answering(ANSWER))
    world = outrigger([upstream.address])
    ask(world, {"traceparent": PARENT})
    world.stop()
    assert collector.exports == []
    assert carried(upstream.requests[0])[2] == "00"


@pytest.mark.parametrize("path", ["/servers/abc/mcp", "/admin/tools"])
def test_without_a_collector_the_fields_pass_as_they_are(outrigger, raw_upstream, path):
    upstream = raw_upstream(answering(ANSWER))
    world = outrigger([upstream.address])
    fields = [("TraceParent", "No-Parent"), ("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "no list")]
    ask(world, fields, path=path)
    (request,) = upstream.requests
    assert request.all("traceparent") == ["No-Parent", PARENT]
    assert request.all("tracestate") == ["a=1", "no list"]
    (line,) = wait_until(world.access_log)
    assert "trace_id" not in line
    assert world.metrics()["outrigger_spans_exported_total"] == 0


def test_what_passes_is_traced_too(outrigger, raw_upstream, collector):
    upstream = raw_upstream(answering(response(200, "page")))
    world = outrigger([f"127.0.0.1:{free_port()}", upstream.address])
    for _ in range(4):
        # By chance the dead peer is asked first, or not at all.
        assert ask(world, {"traceparent": PARENT, "tracestate": "a=1"}, "GET", "/admin/tools", b"").status == 200
    wait_until(lambda: len(collector.named("GET", "SERVER")) == 4)
    servers, asked = collector.named("GET", "SERVER"), collector.named("upstream", "CLIENT")
    assert {span.parent for span in servers} == {CLIENT}
    assert {span.parent for span in asked} == {span.id for span in servers}
    good = [span for span in asked if not span.error]
    assert [carried(request) for request in upstream.requests] == [(TRACE, span.id, "01") for span in good]
    assert {request.header("tracestate") for request in upstream.requests} == {"a=1"}
    assert all(span.attributes["error.type"] == "connect_failed" for span in asked if span.error)


def test_a_redirect_that_is_followed_is_asked_for_in_a_span_of_its_own(outrigger, raw_upstream, collector):
    upstream = raw_upstream(answering(response(307, b"", {"Location": "/servers/abc/mcp/"}), ANSWER))
    assert ask(outrigger([upstream.address])).status == 200
    collector.one("tools/call")
    first, second = collector.named("upstream")
    assert [carried(request)[1] for request in upstream.requests] == [first.id, second.id]
    assert [span.attributes["http.response.status_code"] for span in (first, second)] == [307, 200]


def test_a_failure_is_told_by_its_kind(outrigger, collector):
    world = outrigger([f"127.0.0.1:{free_port()}"])
    answer = ask(world)
    server, asking = collector.one("tools/call"), collector.one("upstream")
    assert answer.status == server.attributes["http.response.status_code"] == 502
    assert server.error and server.attributes["error.type"] == "no_peer"
    assert asking.error and asking.attributes["error.type"] == "no_peer"


def test_a_clients_mistake_is_no_error_of_ours(outrigger, collector):
    answer = ask(outrigger(["127.0.0.1:1"]), body=b"no json")
    assert answer.status == 400
    server = collector.one("POST")
    assert not server.error and server.attributes["error.type"] == "bad_message"


def test_a_stream_is_relayed_for_as_long_as_it_lives(outrigger, raw_upstream, collector):
    def stream(connection):
        connection.read_request()
        connection.send(event_stream_head() + chunk(event("begun")))
        connection.read_some()

    upstream = raw_upstream(stream)
    world = outrigger([upstream.address])
    with world.open_stream() as client:
        collector.one("upstream")
        assert not collector.named("relay"), "it goes on"
        client.close()
    relay, server = collector.one("relay"), collector.one("GET")
    assert server.attributes["outrigger.client_gone"] is True
    assert relay.end <= server.end


def test_spans_hold_no_secret(outrigger, raw_upstream, collector):
    """Whoever reads traces cannot take a session over."""
    answer = response(200, {"jsonrpc": "2.0", "id": 7, "result": {}}, {"Mcp-Session-Id": "session-of-the-span"})
    world = outrigger([raw_upstream(answering(answer)).address])
    hello = CALL.replace(b"tools/call", b"initialize")
    ask(world, body=hello, path="/servers/abc/mcp?access_token=token-of-the-span")
    named = {"Mcp-Session-Id": "session-of-the-span", "Authorization": "Bearer bearer-of-the-span"}
    ask(world, named)
    ask(world, named, "GET", "/reset/password-of-the-span", b"")
    ask(world, {}, body=CALL.replace(b"tools/call", b"method-of-the-span"))
    world.stop()
    text = repr(collector.exports)
    assert "initialize" in text and "outrigger.session" in text
    assert not secrets.leaked(text)
    assert "of-the-span" not in text


def test_an_unknown_method_makes_no_name(outrigger, raw_upstream, collector):
    ask(outrigger([raw_upstream(answering(ANSWER)).address]), body=CALL.replace(b"tools/call", b"made/up"))
    assert "mcp.method.name" not in collector.one("POST").attributes


def test_the_end_of_a_chunked_answer_ends_the_trace(outrigger, raw_upstream, collector):
    def script(connection):
        connection.read_request()
        connection.send(event_stream_head() + chunk(event({"jsonrpc": "2.0", "id": 7, "result": {}})) + LAST_CHUNK)

    assert ask(outrigger([raw_upstream(script).address])).status == 200
    assert collector.one("tools/call").attributes["http.response.status_code"] == 200
