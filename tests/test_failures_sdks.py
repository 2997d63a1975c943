"""Failures as SDK clients meet them: nobody hangs, each arrives as an error of its request, and sessions live on.

Real clients call a server that fails in every way, through Outrigger in both modes of `errors.status` and without it.
Run with `-s`, the table is printed.
"""

import json
from contextlib import ExitStack

import pytest

from harness import LAST_CHUNK, Closed, Outrigger, chunk, event, event_stream_head, response
from harness.mcp import CLIENTS, FaultClient
from harness.raw import RawUpstream

#: Seconds that a client waits for the end of a call, and Outrigger for a first byte.
PATIENCE, FIRST_BYTE = 6, 1
SESSION = {"Mcp-Session-Id": "a-session"}
HTML = {"Content-Type": "text/html"}
PAGE = "<html><body><h1>502 Bad Gateway</h1></body></html>"
TEXT = {"content": [{"type": "text", "text": "fine"}]}


def result(id, value: dict) -> dict:
    return {"jsonrpc": "2.0", "id": id, "result": value}


def hang_up(connection, reset: bool = False) -> None:
    """The end of the connection is that of its script."""
    connection.reset() if reset else connection.close()
    raise Closed(b"", reset)


def broken_json(connection, id) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n")
    connection.send(b'{"jsonrpc":"2.0","id":')
    hang_up(connection)


def cut_stream(connection, id) -> None:
    connection.send(event_stream_head() + chunk(b": working\n\n"))
    hang_up(connection)


def resumable_stream(connection, id) -> None:
    """The answer comes to whoever asks for what came after event 1 (`Faulty`)."""
    connection.send(event_stream_head() + chunk(event("", id=f"1-of-{json.dumps(id)}") + b"retry: 50\n\n"))
    hang_up(connection)


def sends(answer):
    return lambda connection, id: connection.send(answer(id))


FAULTS = {
    "500 {detail}": sends(lambda id: response(500, {"detail": "Internal Server Error"})),
    "502, a page": sends(lambda id: response(502, PAGE, HTML)),
    "503, Retry-After": sends(lambda id: response(503, "", {"Retry-After": "1"})),
    "429, Retry-After": sends(lambda id: response(429, {"error": "Account locked"}, {"Retry-After": "1"})),
    "400, error, id server-error": sends(
        lambda id: response(400, {"jsonrpc": "2.0", "id": "server-error", "error": {"code": -32600, "message": "no"}})
    ),
    "403 {detail}": sends(lambda id: response(403, {"detail": "Forbidden"})),
    "401 {detail}": sends(lambda id: response(401, {"detail": "Unauthorized"}, {"WWW-Authenticate": "Bearer"})),
    "404 {detail}": sends(lambda id: response(404, {"detail": "Session not found"})),
    "200 {detail}": sends(lambda id: response(200, {"detail": "Not authenticated"})),
    "200, a page": sends(lambda id: response(200, PAGE, HTML)),
    "200, nothing": sends(lambda id: response(200, "", {"Content-Type": "application/json"})),
    "200, null": sends(lambda id: response(200, "null", {"Content-Type": "application/json"})),
    "200, half a JSON": broken_json,
    "200, result {}": sends(lambda id: response(200, result(id, {}))),
    "200, error, id server-error": sends(
        lambda id: response(200, {"jsonrpc": "2.0", "id": "server-error", "error": {"code": -32603, "message": "no"}})
    ),
    "202, nothing": sends(lambda id: response(202)),
    "stream ends without answer": sends(lambda id: event_stream_head() + chunk(b": working\n\n") + LAST_CHUNK),
    "stream breaks off": cut_stream,
    "stream breaks off after an id": resumable_stream,
    "connection reset": lambda connection, id: hang_up(connection, reset=True),
    "silence": lambda connection, id: connection.wait_closed(60),
}

#: What is no failure in the end.
RESUMED = "stream breaks off after an id"
#: What `errors.status: ok` leaves alone, because clients act on it.
ACTED_ON = {"401 {detail}", "403 {detail}", "404 {detail}"}


def faulty(connection) -> None:
    """Script of a healthy server but for the tools that are named after faults."""
    while True:
        message = connection.read_request()
        if message.method != "POST":
            last = message.header("last-event-id")
            if not last:
                connection.send(response(405 if message.method == "GET" else 200, ""))
                continue
            answer = event(result(json.loads(last.removeprefix("1-of-")), TEXT), id="2")
            connection.send(event_stream_head() + chunk(answer) + LAST_CHUNK)
            continue
        call = message.json
        if "id" not in call:
            connection.send(response(202))
        elif call["method"] == "tools/call" and call["params"]["name"] != "ok":
            FAULTS[call["params"]["name"]](connection, call["id"])
        else:
            connection.send(response(200, result(call["id"], _healthy(call)), SESSION))


def _healthy(call: dict) -> dict:
    if call["method"] == "initialize":
        named = {"name": "faulty", "version": "1"}
        # Of the era whose streams can be resumed.
        version = min(call["params"]["protocolVersion"], "2025-11-25")
        return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": named}
    if call["method"] == "tools/list":
        return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ["ok", *FAULTS]]}
    return TEXT


MODES = ("direct", "preserve", "ok")


EVERY_CLIENT = pytest.mark.parametrize("client", [*CLIENTS, pytest.param("rmcp", marks=pytest.mark.long)])


@pytest.fixture(scope="module")
def table(request, tmp_path_factory):
    """(client, mode) → fault → how the call of it ended, and the call after it."""
    tests = [item for item in request.session.items if "table" in item.fixturenames]
    clients = dict.fromkeys(item.callspec.params["client"] for item in tests)
    folder = tmp_path_factory.mktemp("faults")
    with ExitStack() as ends:
        upstream = RawUpstream(faulty)
        ends.callback(upstream.close)
        urls = {"direct": f"http://{upstream.address}/mcp"}
        for mode in MODES[1:]:
            settings = {"profile": "generic", "errors": {"status": mode}, "timeouts": {"first_byte": f"{FIRST_BYTE}s"}}
            world = Outrigger(folder / mode, [upstream.address], settings, start=False)
            ends.callback(world.end)
            world.start()
            urls[mode] = f"{world.url}/mcp"
        jobs = {}
        for name in clients:
            client = FaultClient(name, folder / "clients")
            ends.callback(client.end)
            for mode, url in urls.items():
                jobs[name, mode] = client.begin(url, list(FAULTS), PATIENCE)
        found = {case: job.report() for case, job in jobs.items()}
    print("\n" + markdown(found))
    return found


def markdown(found: dict) -> str:
    """The call that failed / the call after it on the same session."""
    lines = ["| fault | client | without Outrigger | preserve | ok |", "|---|---|---|---|---|"]
    for fault in FAULTS:
        for client in dict.fromkeys(client for client, _ in found):
            cells = [" / ".join(found[client, mode][fault]) for mode in MODES]
            lines.append(f"| {fault} | {client} | {' | '.join(cells)} |")
    return "\n".join(lines)


@pytest.mark.parametrize("mode", ["preserve", "ok"])
@EVERY_CLIENT
def test_nobody_hangs_and_no_failure_is_a_result(table, client, mode):
    ends = table[client, mode]
    assert {fault: end for fault, end in ends.items() if "hang" in end} == {}
    assert [fault for fault, (end, _) in ends.items() if end == "result"] == [RESUMED]


@EVERY_CLIENT
def test_each_failure_is_an_error_of_its_request_and_the_session_lives_on(table, client):
    wrong = {
        fault: ends
        for fault, ends in table[client, "ok"].items()
        if fault not in ACTED_ON | {RESUMED} and not (ends[0].startswith("error -32") and ends[1] == "result")
    }
    assert wrong == {}


@EVERY_CLIENT
def test_without_outrigger_a_client_is_worse_off(table, client):
    """The control: some calls never end, or end as if nothing had failed."""
    ends = table[client, "direct"]
    assert [fault for fault, (end, _) in ends.items() if end in ("hang", "result") and fault != RESUMED]
