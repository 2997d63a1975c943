"""P1 and P2 over the hop: what an owner receives and answers is the same, whichever member a request enters by.

Seed 0, https://github.com/IBM/mcp-context-forge/issues/3018: a request that was forwarded between two instances lost
its `params.server_id`. Here every request is sent twice, through the session's owner and through another member, and
both must be the same bytes at the upstream, and so must both answers.
"""

import gzip
import json
import socket
from pathlib import Path

import pytest

from harness import (
    JSON,
    LAST_CHUNK,
    RawUpstream,
    answering,
    chunk,
    event,
    event_stream_head,
    request,
    response,
    wait_until,
)
from harness.hop import HopStage
from harness.stage import MCP, call, result

#: In /proc/net/tcp.
ESTABLISHED = "01"

ANSWER = response(200, result(text="caf\u00e9"), {"X-From-Upstream": "1", "Server": "scripted"})


@pytest.fixture(scope="module", params=[("contextforge", "mtls"), ("generic", "plaintext")], ids="-".join)
def stage(request, tmp_path_factory, pki):
    profile, between = request.param
    made = HopStage(tmp_path_factory.mktemp("hop"), pki, {"profile": profile}, {}, {}, plaintext=between == "plaintext")
    made.profile = profile
    try:
        made.start()
        yield made
    finally:
        made.end()


def both_ways(stage, script, method: str, path: str, body: bytes, headers) -> tuple[RawUpstream, list]:
    """The upstream that was asked by the owner and then over the hop, and both answers as they came."""
    answers = []
    with stage.playing(script) as upstream:
        for client in (stage.owner_client(), stage.client()):
            with client:
                client.ask(method, path, body, headers)
                answers.append(client.received)
    return upstream, answers


def assert_same(upstream: RawUpstream, answers: list[bytes], hidden=()) -> None:
    local, hopped = upstream.requests
    assert hopped.raw_head == local.raw_head
    assert hopped.body == local.body
    assert same(answers[1]) == same(answers[0])
    for text in (b"x-outrigger", *hidden):
        assert text not in local.raw_head.lower()


def same(answer: bytes) -> tuple:
    """What a client sees of an answer: its date is a moment's, and where framing fields stand is nobody's business."""
    head, _, body = answer.partition(b"\r\n\r\n")
    start, *fields = head.split(b"\r\n")
    return start, sorted(field for field in fields if not field.lower().startswith(b"date:")), body


REQUESTS = {
    "no params": call("tools/list"),
    "params": call("tools/call", name="x", arguments={"a": [1, {"b": None}]}),
    "another server id": call("tools/list", server_id="victim"),
    "twice and escaped": b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"server_id":"v","\\u0073erver_id":1,"a":1}}',
    "fragile bytes": b'{ "method" :"x",\t"id":12345678901234567890123,\r\n"params" : {"a":1e400,"b":"\\ud800"}}',
    "a text as id": call("tools/list", id="\u00fc"),
    "a notification": call("notifications/progress", id=None, progress=1),
    "a response": b'{"jsonrpc":"2.0","id":"r1","result":{"roots":[]}}',
    "an error response": b'{"jsonrpc":"2.0","id":"r1","error":{"code":-1,"message":"no"}}',
    "params that are a list": b'{"jsonrpc":"2.0","id":1,"method":"x","params":[1]}',
    "large": call("tools/call", name="x", filling="x" * 3_000_000),
}


@pytest.mark.parametrize("path", [MCP, "/servers/s%31/mcp/?a=b&c", "/mcp", "/servers/s1/message?session_id=x"])
@pytest.mark.parametrize("name", REQUESTS)
def test_a_message_is_the_same_at_the_upstream(stage, name, path):
    headers = [
        *JSON.items(),
        ("X-Odd-CASE", "1"),
        ("x-odd-case", "2"),
        ("Authorization", "Bearer secret"),
        ("Cookie", "a"),
    ]
    upstream, answers = both_ways(stage, answering(ANSWER), "POST", path, REQUESTS[name], headers)
    assert_same(upstream, answers)
    scoped = path.startswith("/servers/")
    params = json.loads(upstream.requests[0].body, parse_float=str).get("params", {})
    if scoped and isinstance(params, dict) and b'"method"' in REQUESTS[name]:
        assert params["server_id"] == "s1"
        for seen in upstream.requests:
            assert seen.body.count(b'"server_id"') == 1, "spliced once, not once per member"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_what_has_no_body_is_the_same_at_the_upstream(stage, method):
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "e1", "Mcp-Protocol-Version": "2025-06-18"}
    upstream, answers = both_ways(stage, answering(response(405, b"no")), method, MCP, b"", headers)
    assert_same(upstream, answers)
    assert upstream.requests[0].method == method
    assert upstream.requests[0].header("last-event-id") == "e1"


def test_a_compressed_body_is_the_same_at_the_upstream(stage):
    headers = {**JSON, "Content-Encoding": "gzip"}
    body = gzip.compress(REQUESTS["params"])
    upstream, answers = both_ways(stage, answering(ANSWER), "POST", MCP, body, headers)
    assert_same(upstream, answers, hidden=[b"content-encoding"])


def test_a_chunked_body_is_the_same_at_the_upstream(stage):
    with stage.playing(answering(ANSWER)) as upstream:
        session = stage.session_for(MCP, b"")
        head = request("POST", MCP, b"", [*JSON.items(), ("Mcp-Session-Id", session), ("Transfer-Encoding", "chunked")])
        answers = []
        for client in (stage.owner_client(), stage.client()):
            with client:
                body = REQUESTS["params"]
                client.send(head + b"".join(chunk(body[at : at + 7]) for at in range(0, len(body), 7)) + LAST_CHUNK)
                client.read_response()
                answers.append(client.received)
    assert_same(upstream, answers)


def test_a_batch(stage):
    batch = (
        b"[" + call("tools/list", id=1) + b"," + call("x", id=None) + b"," + call("tools/call", id="2", name="y") + b"]"
    )
    answer = response(200, [result(1), result("2")])
    if stage.profile == "contextforge":
        with stage.playing(answering(answer)) as upstream, stage.client() as client:
            assert client.ask("POST", MCP, batch, JSON).status == 400
        assert not upstream.requests
        return
    upstream, answers = both_ways(stage, answering(answer), "POST", MCP, batch, JSON)
    assert_same(upstream, answers)
    assert upstream.requests[1].body.count(b'"server_id":"s1"') == 3


@pytest.mark.parametrize("body", [b'{"jsonrpc":"2.0","id":1,"method":"x"', b"", b"\xff", b'{"id":1,"id":2}'])
def test_what_is_refused_never_leaves_the_first_member(stage, body):
    with stage.playing(answering(ANSWER)) as upstream:
        answers = []
        for client in (stage.owner_client(), stage.client()):
            with client:
                assert client.ask("POST", MCP, body, JSON).status == 400
                answers.append(client.received)
    assert same(answers[0]) == same(answers[1])
    assert not upstream.requests


def test_a_body_as_large_as_the_limit_crosses(stage):
    """What has been spliced in comes on top of it."""
    body = call("tools/call", name="")
    body = body.replace(b'"name":""', b'"name":"%b"' % (b"x" * ((4 << 20) - len(body))))
    assert len(body) == 4 << 20
    upstream, answers = both_ways(stage, answering(ANSWER), "POST", MCP, body, JSON)
    assert_same(upstream, answers)


def reset(connection):
    connection.read_request()
    connection.reset()


def silent_end(connection):
    connection.read_request()
    connection.close()


def garbage(connection):
    connection.read_request()
    connection.send(b"SSH-2.0-OpenSSH\r\n\r\n")
    connection.wait_closed()


def until_close(connection):
    connection.read_request()
    connection.send(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"jsonrpc":"2.0","id":7,"result":{}}')
    connection.close()


def events(connection):
    connection.read_request()
    connection.send(event_stream_head({"X-Accel-Buffering": "no"}) + chunk(event({"n": 1}, id="1")))
    connection.send(chunk(b": comment\n\n" + event(result())) + LAST_CHUNK)
    connection.wait_closed()


ANSWERS = {
    "a result": answering(ANSWER),
    "accepted": answering(response(202)),
    "nothing": answering(response(204)),
    "an error": answering(response(200, {"jsonrpc": "2.0", "id": 7, "error": {"code": -1, "message": "no"}})),
    "another status": answering(response(299, result(), {"X-A": "1"}, reason="Odd Reason")),
    "bad request": answering(response(400, {"detail": "bad"})),
    "no token": answering(response(401, {"detail": "no"}, {"WWW-Authenticate": 'Bearer realm="x"'})),
    "not found": answering(response(404, {"jsonrpc": "2.0", "id": "x", "error": {"code": -32600, "message": "gone"}})),
    "too many": answering(response(429, b"slow down", {"Retry-After": "7"})),
    "an error page": answering(response(500, b"<html>oops</html>", {"Content-Type": "text/html"})),
    "unavailable": answering(response(503, b"", {"Retry-After": "3"})),
    "two cookies": answering(response(200, result(), [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])),
    "it says that it is a member": answering(
        response(200, result(), {"X-Outrigger-Fault": "session_lost", "X-Outrigger-Hop": "1"})
    ),
    "it says that it is a failing member": answering(response(502, b"", {"x-outrigger-fault": "no_peer"})),
    "events": events,
    "until close": until_close,
    "a reset": reset,
    "an end": silent_end,
    "no HTTP": garbage,
}


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("body", [call("tools/call", name="x"), call("x", id=None)], ids=["request", "notification"])
def test_an_answer_is_the_same_at_the_client(stage, name, body):
    answers = []
    for enter in (stage.owner_client, stage.client):
        with stage.playing(ANSWERS[name]) as upstream, enter() as client:
            client.ask("POST", MCP, body, JSON)
            answers.append(client.received)
        assert len(upstream.requests) == 1, "never sent again by anybody"
    assert same(answers[1]) == same(answers[0])
    assert b"x-outrigger" not in answers[0].lower()


@pytest.mark.parametrize("ending", ["DELETE", "not found"])
def test_an_end_by_another_member_releases_the_session(stage, ending):
    script = answering(response(200 if ending == "DELETE" else 404, b""))
    key = stage.claim("to-end", "s1")
    with stage.playing(script), stage.client() as client:
        if ending == "DELETE":
            client.ask("DELETE", MCP, b"", {"Mcp-Session-Id": "to-end"})
        else:
            client.ask("POST", MCP, call(), {**JSON, "Mcp-Session-Id": "to-end"})
    wait_until(lambda: not stage.redis.client().exists(key), what="its claim is gone")


def test_another_server_id_opens_no_session_over_the_hop(stage):
    key = stage.claim("of-s1", "s1")
    with stage.playing(answering(ANSWER)) as upstream, stage.client() as client:
        for path in ("/servers/s2/mcp", "/mcp", "/servers/S1/mcp"):
            for method, body in (("POST", call()), ("GET", b""), ("DELETE", b"")):
                assert client.ask(method, path, body, {**JSON, "Mcp-Session-Id": "of-s1"}).status == 404
    assert not upstream.requests
    assert stage.redis.client().exists(key)


def test_one_connection_carries_one_request_after_the_other(stage):
    body = call("tools/call", name="x")
    with stage.playing(answering(ANSWER)), stage.client() as client:
        assert client.ask("POST", MCP, body, JSON).status == 200
        kept = connections_to(stage.members.addresses[1])
        for _ in range(5):
            assert client.ask("POST", MCP, body, JSON).status == 200
            used = connections_to(stage.members.addresses[1])
            assert used and used <= kept, "another one was opened"


def test_a_connection_outlives_what_fails_behind_it(stage):
    """A peer that died costs each of its sessions an answer, and none of them a handshake between the members."""
    used = []
    with stage.client() as client:
        for number in range(5):
            stage.claim(f"lost-{number}", "s1")
            answer = client.ask("POST", MCP, call(), {**JSON, "Mcp-Session-Id": f"lost-{number}"})
            assert answer.status == 404
            used.append(connections_to(stage.members.addresses[1]))
    assert all(used) and all(later <= used[0] for later in used), "another one was opened"


def connections_to(address: str) -> set[str]:
    """The near ends of what is connected to an address of this machine."""
    host, _, port = address.partition(":")
    far = f"{int.from_bytes(socket.inet_aton(host), 'little'):08X}:{int(port):04X}"
    sockets = [line.split()[1:4] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {near for near, end, state in sockets if end == far and state == ESTABLISHED}


def test_both_members_account_for_the_request(stage):
    """One line each, which can be brought together; and the entry's says who the owner was."""
    path = "/servers/told/mcp"
    with stage.playing(answering(ANSWER)), stage.client() as client:
        assert client.ask("POST", path, call("tools/call", name="x"), JSON).status == 200

    def lines(world) -> list[dict]:
        return [line for line in world.access_log() if line.get("server_id") == "told"]

    [entry] = wait_until(lambda: lines(stage.world), what="the entry's line")
    [owner] = wait_until(lambda: lines(stage.owner), what="the owner's line")
    assert entry["request"] == owner["request"]
    assert entry["session"] == owner["session"]
    assert (entry["status"], owner["status"]) == (200, 200)
    assert entry["member"] == stage.members.names[1]
    assert owner["peer"] == stage.peer
    assert (entry["rpc_method"], owner["rpc_method"]) == ("tools/call", "tools/call")
    assert owner["client"] == entry["client"] == "127.0.0.1"
    assert "session-of" not in json.dumps(stage.world.log() + stage.owner.log())
