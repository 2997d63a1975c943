"""Room 10: one line per request, however it ends, that says what happened and gives nothing away; the counters agree.

Every request and answer of these tests carries canaries wherever a secret may lie; afterwards all that the binary
wrote, at its most talkative, is searched for them."""

import re
from collections import Counter
from contextlib import suppress

import pytest

from harness import (
    JSON,
    LAST_CHUNK,
    Closed,
    Outrigger,
    RawClient,
    RawUpstream,
    chunk,
    event,
    event_stream_head,
    free_port,
    request,
    response,
    wait_until,
)
from harness.http2 import Http2Client

CANARY = "canary"
SECRETS = {
    "Authorization": f"Bearer {CANARY}-token",
    "Cookie": f"session={CANARY}-cookie",
    "Mcp-Session-Id": f"{CANARY}-session",
    "Last-Event-ID": f"{CANARY}-event",
    "X-Forwarded-For": f"{CANARY}-hop",
    "User-Agent": f"{CANARY}-agent",
}
HEADERS = {**JSON, **SECRETS}
QUERY = f"?access_token={CANARY}-query&sessionId={CANARY}-sse"
MCP = f"/servers/tools/mcp{QUERY}"

#: Always there, and there where they say something; nothing else may be.
ALWAYS = {
    *("time", "level", "role", "target", "request", "listener", "client", "method", "route"),
    *("attempts", "status", "request_bytes", "response_bytes", "duration_ms"),
}
SOMETIMES = {
    *(
        "server_id",
        "session",
        "era",
        "rpc_method",
        "message",
        "upstream",
        "peer",
        "first_byte_ms",
        "fault",
        "normalised",
        "client_gone",
    ),
}


def call(tool: str) -> bytes:
    secret = f'"{CANARY}-argument"'
    return b'{"jsonrpc":"2.0","id":"%b","method":"tools/call","params":{"name":"%b","arguments":{"password":%b}}}' % (
        f"{CANARY}-id".encode(),
        tool.encode(),
        secret.encode(),
    )


def upstream_script(connection) -> None:
    """Does what the path or the called tool says; its answers are full of canaries."""
    secrets = {"Set-Cookie": f"{CANARY}-set-cookie", "Mcp-Session-Id": f"{CANARY}-session", "X-Secret": f"{CANARY}-x"}
    while True:
        message = connection.read_request()
        asked = message.path + message.body.decode()
        if "no-answer" in asked:
            return None
        if "reset" in asked:
            return connection.reset()
        if "malformed" in asked:
            return connection.send(f"HTTP/1.1 200 OK\r\nthis is no field {CANARY}-malformed\r\n\r\n".encode())
        if "silent" in asked:
            connection.wait_closed()
            return None
        if "cut" in asked:
            return connection.send(response(200, f'{{"{CANARY}-body":1}}', {**secrets, "Content-Length": "1000"}))
        if "stream" in asked:
            connection.send(event_stream_head(secrets) + chunk(event({"canary": f"{CANARY}-event"})))
            if "endless" in asked:
                connection.wait_closed()
            connection.send(LAST_CHUNK)
        elif "failing" in asked:
            connection.send(response(500, {"detail": f"{CANARY}-detail"}, secrets))
        elif "moved" in asked:
            connection.send(response(302, b"", {**secrets, "Location": f"/login?next={CANARY}-location"}))
        elif message.body and b'"id"' not in message.body:
            connection.send(response(202, b"", secrets))
        else:
            answer = {"jsonrpc": "2.0", "id": f"{CANARY}-id", "result": {"content": f"{CANARY}-result"}}
            connection.send(response(200, answer, secrets))


@pytest.fixture(scope="module", params=["info", "trace"])
def world(request, pki, tmp_path_factory):
    upstream = RawUpstream(upstream_script)
    config = {
        "log": {"level": request.param},
        "timeouts": {"first_byte": "2s", "request_body": "1s", "request_head": "1s"},
        "limits": {"body": "64KiB"},
        "upstreams": {"nobody": {"peers": ["127.0.0.1:1"]}},
    }
    world = Outrigger(tmp_path_factory.mktemp("access"), [upstream.address], config, start=False)
    world.secure, world.nobody = (f"127.0.0.1:{free_port()}" for _ in range(2))
    tls = pki.issue("localhost").as_config()
    world.config["listeners"] += [
        {"name": "secure", "address": world.secure, "upstream": "gateway", "tls": tls},
        {"name": "closed", "address": world.nobody, "upstream": "nobody"},
    ]
    world.start()
    yield world
    world.end()
    upstream.close()


# -- the ways a request can end: what the client does, and what the line must say


def ask(method="POST", path=MCP, body=b"", headers=HEADERS):
    def act(world, _):
        with world.client() as client, suppress(Closed):
            client.ask(method, path, body, headers)

    return act


def ask_h2(method="POST", path=MCP, body=b""):
    def act(world, pki):
        with Http2Client(world.secure, pki.client_context(alpn=("h2",))) as client:
            client.ask(method, path, body, HEADERS)

    return act


def ask_closed(path=MCP, body=b""):
    def act(world, _):
        with RawClient(world.nobody) as client:
            client.ask("POST", path, body, HEADERS)

    return act


def leave(path=MCP, body=b"", after: bytes = b"", method="POST"):
    """Goes away, once `after` has come."""

    def act(world, _):
        upstream_busy = world.metrics()["outrigger_connections"]
        with world.client() as client:
            client.send(request(method, path, body, HEADERS))
            if after:
                client.read_until(after)
            else:
                wait_until(lambda: world.metrics()["outrigger_connections"] > upstream_busy)

    return act


def leave_h2_stream(world, pki):
    with Http2Client(world.secure, pki.client_context(alpn=("h2",))) as client:
        stream = client.begin("GET", f"/servers/endless-stream/mcp{QUERY}", headers=HEADERS)
        stream.read_head()
        stream.read_piece()
        stream.reset()


def half_a_body(world, _):
    with world.client() as client:
        client.send(request("POST", MCP, headers=[*HEADERS.items(), ("Content-Length", "100")]) + b'{"canary-half')
        client.read_response()


MCP_REQUEST = {"route": "mcp", "method": "POST", "server_id": "tools", "rpc_method": "tools/call", "message": "request"}
SENT = {"upstream": "gateway", "attempts": 1}
NOTIFICATION = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"secret":"canary-progress"}}'
GONE = {"client_gone": True}

ENDS = {
    "answered": (ask(body=call("ok")), {**MCP_REQUEST, **SENT, "status": 200, "request_bytes": len(call("ok"))}),
    "answered over h2": (ask_h2(body=call("ok")), {**MCP_REQUEST, **SENT, "status": 200, "listener": "secure"}),
    "notification": (ask(body=NOTIFICATION), {**SENT, "route": "mcp", "status": 202, "message": "notification"}),
    "batch": (ask(body=b"[" + call("ok") + b"]"), {"route": "mcp", "status": 400, "fault": "batch_refused"}),
    "stream that ends": (ask("GET", f"/servers/stream/mcp{QUERY}"), {**SENT, "route": "mcp", "status": 200}),
    "session ended": (ask("DELETE"), {"method": "DELETE", "route": "mcp", "status": 200}),
    "no JSON": (ask(body=b'{"canary-broken": '), {"status": 400, "fault": "bad_message", "attempts": 0}),
    "too large": (
        ask(body=b'{"canary-large": "' + b"x" * 70_000 + b'"}'),
        {"route": "mcp", "status": 413, "fault": "body_too_large", "attempts": 0},
    ),
    "too slow a body": (half_a_body, {"route": "mcp", "status": 408, "fault": "body_too_slow"}),
    "unknown coding": (
        ask(body=call("ok"), headers={**HEADERS, "Content-Encoding": f"{CANARY}-coding"}),
        {"status": 415, "fault": "unsupported_encoding"},
    ),
    "internal path": (
        ask(path=f"/_internal/{CANARY}{QUERY}"),
        {"route": "refused", "status": 404, "fault": "no_such_path"},
    ),
    "ambiguous path": (ask(path=f"/x/../mcp{QUERY}"), {"route": "refused", "status": 400, "fault": "ambiguous_path"}),
    "nobody there": (
        ask_closed(body=call("ok")),
        {**MCP_REQUEST, "status": 502, "fault": "no_peer", "listener": "closed"},
    ),
    "no answer": (ask(body=call("no-answer")), {**MCP_REQUEST, "status": 502, "fault": "no_answer"}),
    "reset": (ask(body=call("reset")), {**MCP_REQUEST, "status": 502, "fault": "no_answer"}),
    "malformed answer": (ask(body=call("malformed")), {**MCP_REQUEST, "status": 502, "fault": "malformed_answer"}),
    "silent upstream": (ask(body=call("silent")), {**MCP_REQUEST, "status": 504, "fault": "first_byte_timeout"}),
    "cut answer": (ask(body=call("cut")), {**MCP_REQUEST, "fault": "answer_broken"}),
    "failure upstream": (ask(body=call("failing")), {**MCP_REQUEST, **SENT, "status": 500, "normalised": "status"}),
    "gone before the answer": (leave(body=call("silent")), {"route": "mcp", "status": 0, **GONE}),
    "gone inside a stream": (
        leave(f"/servers/endless-stream/mcp{QUERY}", after=b"data:", method="GET"),
        {"route": "mcp", "status": 200, "method": "GET", **GONE},
    ),
    "gone inside an h2 stream": (leave_h2_stream, {"status": 200, "listener": "secure", **GONE}),
    "passed": (ask("GET", f"/admin/{CANARY}{QUERY}"), {**SENT, "route": "pass", "method": "GET", "status": 200}),
    "passed over h2": (ask_h2("GET", f"/admin/{CANARY}{QUERY}"), {**SENT, "route": "pass", "status": 200}),
    "passed, moved": (ask("GET", f"/moved{QUERY}"), {"route": "pass", "status": 302}),
    "passed, no answer": (ask("POST", f"/no-answer{QUERY}", b"canary-body"), {"route": "pass", "status": 502}),
    "passed, malformed": (ask("GET", f"/malformed{QUERY}"), {"route": "pass", "status": 502}),
    "passed, nobody there": (ask_closed(f"/admin{QUERY}"), {"route": "pass", "status": 502, "fault": "no_peer"}),
    "passed, gone": (leave(f"/silent{QUERY}"), {"route": "pass", "status": 0, **GONE}),
    "no session there": (ask(path=f"/messages/{QUERY}", body=call("ok")), {"route": "message"}),
    "HTTP+SSE": (ask("GET", f"/servers/stream/sse{QUERY}"), {"route": "sse", "method": "GET", "status": 200}),
}


@pytest.mark.parametrize("end", ENDS)
def test_every_request_has_one_line_that_says_how_it_ended(end, world, pki):
    act, expected = ENDS[end]
    wait_until(lambda: world.metrics()["outrigger_connections"] == 0, what="earlier connections are over")
    before = quiet_access_log(world)
    act(world, pki)
    wait_until(lambda: len(world.access_log()) > len(before), what="the line")
    (line,) = quiet_access_log(world)[len(before) :]
    assert {key: line.get(key) for key in expected} == expected
    well_formed(line)


def quiet_access_log(world) -> list[dict]:
    """The access lines, once as many are there as requests are counted."""
    wait_until(lambda: len(world.access_log()) == world.metrics()["outrigger_request_duration_seconds_count"])
    return world.access_log()


def well_formed(line: dict) -> None:
    assert set(line) >= ALWAYS, f"missing: {ALWAYS - set(line)}"
    assert set(line) <= ALWAYS | SOMETIMES, f"undocumented: {set(line) - ALWAYS - SOMETIMES}"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert re.fullmatch(r"[0-9a-f]{16}", line["request"])
    assert (line["level"], line["role"], line["client"]) == ("info", "worker 1", "127.0.0.1")
    assert re.fullmatch(r"[0-9a-f]{6,16}", line.get("session", "00000000"))
    assert line["duration_ms"] >= line.get("first_byte_ms", 0) >= 0
    assert line.get("client_gone", True) is True


def test_requests_have_ids_of_their_own(world):
    ids = [line["request"] for line in quiet_access_log(world)]
    assert len(set(ids)) == len(ids) > 1


def test_the_counters_agree_with_the_lines(world):
    lines, metrics = quiet_access_log(world), world.metrics()
    classes = Counter((line["route"], f"{line['status'] // 100}xx" if line["status"] else "none") for line in lines)
    for (route, status), number in classes.items():
        assert metrics[f'outrigger_requests_total{{route="{route}",status="{status}"}}'] == number, (route, status)
    assert sum(value for name, value in metrics.items() if name.startswith("outrigger_requests_total")) == len(lines)
    for fault, number in Counter(line["fault"] for line in lines if "fault" in line).items():
        assert metrics[f'outrigger_faults_total{{kind="{fault}"}}'] == number, fault
    assert metrics["outrigger_streams"] == 0
    assert metrics["outrigger_connections"] == 0


def test_refused_heads_give_nothing_away(world):
    """These are no requests yet: they have a counter, and no line."""
    before = quiet_access_log(world)
    for head in (
        f"GET /{CANARY}-path HTTP/1.1\r\nno field at all {CANARY}-field\r\n\r\n",
        f"{CANARY}-method\x01 / HTTP/1.1\r\n\r\n",
        f"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\nX: {CANARY}-x\r\n\r\n",
        f"GET /{CANARY * 20_000} HTTP/1.1\r\n\r\n",
        f"GET /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: {CANARY}-length\r\n\r\n",
    ):
        with world.client() as client, suppress(Closed, OSError):
            client.send(head.encode())
            client.finish_sending()
            client.read_to_end()
    assert quiet_access_log(world) == before


def test_nothing_that_was_written_holds_a_secret(world):
    """Runs last: whatever the binary wrote in this module."""
    quiet_access_log(world)
    written = world.process.out.read_text() + world.process.err.read_text()
    assert written.count('"target":"access"') > 1
    found = [line for line in written.splitlines() if CANARY in line]
    assert not found, f"{len(found)} lines, among them:\n" + "\n".join(line[:600] for line in found[:5])
