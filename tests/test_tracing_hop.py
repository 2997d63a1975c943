"""A request that is forwarded to another member is one trace, from the client to the peer behind the second one."""

import pytest

from harness import JSON, answering, response, wait_until
from harness.members import HOST

TRACE, CLIENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def message(method: str) -> bytes:
    return b'{"jsonrpc":"2.0","id":1,"method":"%b","params":{}}' % method.encode()


@pytest.fixture
def upstreams(raw_upstream):
    """Of the first member and of the second; each begins a session of its own."""

    def make(name: str):
        result = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {}, "tools": []}
        answer = response(200, {"jsonrpc": "2.0", "id": 1, "result": result}, {"Mcp-Session-Id": f"session-of-{name}"})
        return raw_upstream(answering(answer))

    return [make("one"), make("two")]


def ask(world, method: str, fields: dict) -> int:
    with world.client() as client:
        return client.ask("POST", "/servers/abc/mcp", message(method), {**JSON, "Host": HOST, **fields}).status


def test_one_trace_over_the_hop(redis_server, members, pki, upstreams, collector):
    first, second = upstreams
    running = members(redis_server(), [[first.address], [second.address]], pki=pki)
    assert ask(running[1], "initialize", {}) == 200
    fields = {"Mcp-Session-Id": "session-of-two", "traceparent": f"00-{TRACE}-{CLIENT}-01", "tracestate": "rojo=1"}
    assert ask(running[0], "tools/list", fields) == 200

    of_trace = lambda name, kind: [span for span in collector.named(name, kind) if span.trace == TRACE]  # noqa: E731
    collector.one("hop", "CLIENT")
    wait_until(lambda: len(of_trace("tools/list", "SERVER")) == 2, what="both members' spans")
    entry, arrival = of_trace("tools/list", "SERVER")
    (hop,), (asking,) = of_trace("hop", "CLIENT"), of_trace("upstream", "CLIENT")
    assert [entry.parent, hop.parent, arrival.parent, asking.parent] == [CLIENT, entry.id, hop.id, arrival.id]
    assert hop.attributes["outrigger.member"] == "two"
    assert (arrival.attributes["outrigger.from_member"], arrival.attributes["outrigger.listener"]) == ("one", "member")
    assert entry.attributes["outrigger.request"] == arrival.attributes["outrigger.request"]
    request = second.requests[-1]
    assert request.header("traceparent") == f"00-{TRACE}-{asking.id}-01"
    assert request.header("tracestate") == "rojo=1"
    assert not first.requests
