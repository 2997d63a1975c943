"""P1: every message with a method reaches the upstream with one params.server_id, the path's, whatever way it takes.

IBM/mcp-context-forge#3018 was one way of several that forgot it. All other bytes arrive as the client wrote them.
"""

import gzip
import json

import pytest

from harness import JSON, answering, chunk, free_port, request, response
from harness.stage import BOTH, MCP, a_stage, call, result

stage = a_stage(profiles=("contextforge", "generic"), hop="always")

ANSWER = response(200, result())

#: What the client writes, and what the upstream must read.
CASES = {
    "no params": (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"server_id":"s1"}}',
    ),
    "empty params": (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"server_id":"s1"}}',
    ),
    "params": (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"server_id":"s1","name":"x"}}',
    ),
    "fragile bytes": (
        b'{ "method" :"x",\t"id":12345678901234567890123,\r\n"params" : {"a":1e400,"b":"\\ud800","c":"\xc3\xa9\\/"}}',
        None,
    ),
    "another server id": (b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"server_id":"victim","a":1}}', None),
    "twice and escaped": (
        b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"server_id":"v","\\u0073erver_id":{"deep":[1]},"a":1}}',
        None,
    ),
    "nested ones are not ours": (
        b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"arguments":{"server_id":"theirs"},"_meta":{"server_id":"m"}}}',
        None,
    ),
    "a notification": (b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":3}}', None),
}


def check(seen, sent: bytes, wanted: bytes | None) -> None:
    """One server id, the path's, and the rest as sent."""
    assert int(seen.header("content-length")) == len(seen.body)
    if wanted is not None:
        assert seen.body == wanted
        return
    params = _pairs(seen.body)
    assert [value for name, value in params if name == "server_id"] == ["s1"]
    assert [pair for pair in params if pair[0] != "server_id"] == [p for p in _pairs(sent) if p[0] != "server_id"]
    for fragile in (b"12345678901234567890123", b"1e400", b'"\\ud800"', b'"\xc3\xa9\\/"', b"\t", b"\r\n"):
        assert (fragile in seen.body) == (fragile in sent)


def _pairs(body: bytes) -> list:
    """Members of `params`, with duplicates."""
    message = json.loads(body, object_pairs_hook=list, parse_float=str)
    return dict(message).get("params", [])


@BOTH
@pytest.mark.parametrize("path", [MCP, "/servers/s1/mcp/", "/servers/s%31/mcp", "/servers/s1/message?session_id=x"])
@pytest.mark.parametrize("case", CASES)
def test_every_message_has_the_paths_server_id(stage, protocol, path, case):
    sent, wanted = CASES[case]
    with stage.playing(answering(ANSWER)) as upstream, stage.client(protocol) as client:
        assert client.ask("POST", path, sent, JSON).status in (200, 202)
    check(upstream.requests[0], sent, wanted)
    assert upstream.requests[0].path == path


@pytest.mark.parametrize("case", CASES)
def test_chunked(stage, case):
    sent, wanted = CASES[case]
    head = request("POST", MCP, b"", [*JSON.items(), ("Transfer-Encoding", "chunked")])
    with stage.playing(answering(ANSWER)) as upstream, stage.client() as client:
        client.send(head + b"".join(chunk(sent[at : at + 5]) for at in range(0, len(sent), 5)) + b"0\r\n\r\n")
        assert client.read_response().status in (200, 202)
    check(upstream.requests[0], sent, wanted)


@BOTH
@pytest.mark.parametrize("case", CASES)
def test_gzip(stage, protocol, case):
    sent, wanted = CASES[case]
    with stage.playing(answering(ANSWER)) as upstream, stage.client(protocol) as client:
        assert client.ask("POST", MCP, gzip.compress(sent), {**JSON, "Content-Encoding": "gzip"}).status in (200, 202)
    check(upstream.requests[0], sent, wanted)


@BOTH
def test_sent_again_on_another_connection(stage, protocol):
    def dying_at_the_second(connection):
        connection.read_request()
        connection.send(ANSWER)
        connection.read_request()

    sent, wanted = CASES["no params"]
    with stage.playing(dying_at_the_second, answering(ANSWER)) as upstream, stage.client(protocol) as client:
        for _ in range(2):
            assert client.ask("POST", MCP, sent, JSON).status == 200
    assert len(upstream.requests) == 3
    for seen in upstream.requests:
        check(seen, sent, wanted)


@pytest.mark.parametrize("session", [None, "0123456789abcdef"])
def test_at_another_peer(outrigger, raw_upstream, session):
    """With a refusing peer, and with a session that nobody claimed."""
    live = raw_upstream(answering(ANSWER))
    dead = f"127.0.0.1:{free_port()}"
    world = outrigger([dead, live.address] if session is None else [live.address])
    sent, wanted = CASES["no params"]
    fields = JSON if session is None else {**JSON, "Mcp-Session-Id": session}
    with world.client() as client:
        for _ in range(4):
            assert client.ask("POST", MCP, sent, fields).status == 200
    assert len(live.requests) == 4
    for seen in live.requests:
        check(seen, sent, wanted)


@BOTH
@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","id":"s-1","result":{"action":"accept","content":{}}}',
        b'{"jsonrpc": "2.0", "id": 4, "error": {"code": -1, "message": "no"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"x","params":[1,2]}',
        b'{"jsonrpc":"2.0","id":1,"method":"x","params":null}',
    ],
)
def test_what_has_no_place_for_it_is_left_alone(stage, protocol, body):
    with stage.playing(answering(ANSWER)) as upstream, stage.client(protocol) as client:
        assert client.ask("POST", MCP, body, JSON).status in (200, 202)
    assert upstream.requests[0].body == body


@BOTH
@pytest.mark.parametrize(
    "path", ["/mcp", "/mcp/", "/message?session_id=y", "/admin", "/servers/s1/other", "/servers/s1/mcp/x"]
)
def test_no_other_path_is_spliced(stage, protocol, path):
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"server_id":"mine"}}'
    with stage.playing(answering(ANSWER)) as upstream, stage.client(protocol) as client:
        assert client.ask("POST", path, body, JSON).status == 200
    assert (upstream.requests[0].path, upstream.requests[0].body) == (path, body)


def test_a_listener_without_scope_splices_nothing(outrigger, raw_upstream):
    upstream = raw_upstream(answering(ANSWER))
    port = free_port()
    world = outrigger([upstream.address], {"listeners": [{"address": f"127.0.0.1:{port}", "scope": False}]})
    with world.client() as client:
        assert client.ask("POST", MCP, call(), JSON).status == 200
    assert upstream.requests[0].body == call()


def test_a_replaced_server_id_is_counted(stage):
    before = stage.metrics()["outrigger_server_id_replaced_total"]
    with stage.playing(answering(ANSWER)), stage.client() as client:
        client.ask("POST", MCP, CASES["another server id"][0], JSON)
        client.ask("POST", MCP, CASES["no params"][0], JSON)
    assert stage.metrics()["outrigger_server_id_replaced_total"] == before + 1
