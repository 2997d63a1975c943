"""Tasks of the stateless era (SEP-2663): every request about one reaches the instance that created it.

Two real servers that keep their tasks in memory: at the wrong one a task would not be found.
"""

import json
import signal
import statistics
import threading
import time

import httpx
import pytest

from harness import JSON, LAST_CHUNK, PATIENCE, answering, chunk, event, response
from harness.mcp import McpServers, ServerKind
from harness.members import HOST
from harness.stage import MCP, a_stage, read_all, result

KIND = ServerKind("python-v2-tasks", "tasks_python_v2")
TASKS = 20

stage = a_stage({"profile": "generic"})


@pytest.fixture
def servers(tmp_path):
    running = McpServers(KIND, tmp_path / "servers")
    yield running
    running.end()


@pytest.fixture
def world(outrigger, servers):
    return outrigger(servers.peers, {"profile": "generic", "threads": 2})


@pytest.fixture
def http():
    """Every request may use another connection, hence another worker thread."""
    limits = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(timeout=PATIENCE, trust_env=False, verify=False, limits=limits) as client:
        yield client


def modern(method: str, name: str, /, **params) -> tuple[dict, dict]:
    """Fields and message; `name` is what the message is about, as `Mcp-Name` mirrors it."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}},
        "progressToken": "p",
    }
    fields = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": method,
        "Mcp-Name": name,
    }
    return fields, {"jsonrpc": "2.0", "id": 7, "method": method, "params": {**params, "_meta": meta}}


def post(http: httpx.Client, url: str, method: str, name: str, /, **params) -> httpx.Response:
    fields, message = modern(method, name, **params)
    return http.post(url, json=message, headers=fields)


def begin(http: httpx.Client, url: str, progress: bool) -> tuple[str, str]:
    """A new task: its id and its instance."""
    answer = post(http, url, "tools/call", "begin", name="begin", arguments={"progress": progress})
    assert answer.status_code == 200, answer.text
    streamed = answer.headers["content-type"].startswith("text/event-stream")
    assert streamed == progress
    text = answer.text.rpartition("data: ")[2] if streamed else answer.text
    task = json.loads(text)["result"]
    assert task["resultType"] == "task"
    return task["taskId"], task["statusMessage"]


def about(http: httpx.Client, url: str, task_id: str, method: str = "tasks/get", mirrored: str | None = None, **params):
    return post(http, url, method, mirrored or task_id, taskId=task_id, **params)


@pytest.mark.parametrize("progress", [False, True], ids=["json", "events"])
def test_requests_about_a_task_reach_the_instance_that_created_it(world, http, progress):
    url = f"{world.url}/servers/abc/mcp"
    tasks = [begin(http, url, progress) for _ in range(TASKS)]
    assert {instance for _, instance in tasks} == {"a", "b"}
    for _ in range(3):
        for task_id, instance in tasks:
            task = about(http, url, task_id).json()["result"]
            assert (task["taskId"], task["statusMessage"]) == (task_id, instance)
    for task_id, _ in tasks:
        assert about(http, url, task_id, "tasks/update", inputResponses={}).status_code == 200
        assert about(http, url, task_id, "tasks/cancel").status_code == 200
        task = about(http, url, task_id).json()["result"]
        assert (task["updates"], task["status"]) == (1, "cancelled")
    assert world.metrics()["outrigger_tasks_claimed_total"] == TASKS
    assert world.metrics()["outrigger_sessions_claimed_total"] == 0


def test_the_body_names_the_task_whatever_the_field_mirrors(world, http):
    """This server does not compare the two, so that a route by the field would be a route to the wrong instance."""
    url = f"{world.url}/mcp"
    tasks = dict(map(reversed, (begin(http, url, progress=False) for _ in range(TASKS))))
    for mirrored in (tasks["a"], tasks["b"], "none"):
        for instance, task_id in tasks.items():
            task = about(http, url, task_id, mirrored=mirrored).json()["result"]
            assert task["statusMessage"] == instance


def test_a_reload_forgets_no_task(world, http):
    url = f"{world.url}/mcp"
    tasks = [begin(http, url, progress=False) for _ in range(TASKS)]
    world.reload()
    for task_id, instance in tasks:
        assert about(http, url, task_id).json()["result"]["statusMessage"] == instance


def test_a_task_is_found_from_every_member(members, redis_server, servers, http):
    """Each member has one of the servers; every request enters at the member that has the other."""
    pair = members(redis_server(), [[peer] for peer in servers.peers])
    http.headers["Host"] = HOST
    for number, instance in enumerate("abab"):
        own, other = pair.url(number % 2), pair.url(1 - number % 2)
        task_id, created_at = begin(http, own, progress=number > 1)
        assert created_at == instance
        assert about(http, other, task_id).json()["result"]["statusMessage"] == instance
        assert about(http, other, task_id, "tasks/cancel").status_code == 200
        assert about(http, own, task_id).json()["result"]["status"] == "cancelled"
    task_id, _ = begin(http, pair.url(0), progress=False)
    pair[0].kill()
    answer = about(http, pair.url(1), task_id)
    assert (answer.status_code, answer.json()["id"], answer.json()["error"]["code"]) == (400, 7, -32602)


def test_a_task_exists_only_under_its_own_server_id_and_is_no_session(world, http):
    task_id, instance = begin(http, f"{world.url}/servers/abc/mcp", progress=False)
    for elsewhere in ("/servers/abd/mcp", "/mcp"):
        answer = about(http, world.url + elsewhere, task_id)
        assert (answer.status_code, answer.json()["id"], answer.json()["error"]["code"]) == (400, 7, -32602)
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    for session in (task_id, f"task:{task_id}"):
        http.delete(f"{world.url}/servers/abc/mcp", headers={"Mcp-Session-Id": session})
        http.post(f"{world.url}/servers/abc/mcp", json=ping, headers={"Mcp-Session-Id": session})
    assert about(http, f"{world.url}/servers/abc/mcp", task_id).json()["result"]["statusMessage"] == instance


def test_tasks_of_a_dead_instance_are_not_found_at_once(world, servers, http):
    url = f"{world.url}/mcp"
    tasks = [begin(http, url, progress=False) for _ in range(TASKS)]
    servers.instances["a"].signal(signal.SIGKILL)
    servers.instances["a"].wait()
    took = []
    for task_id, instance in tasks:
        began = time.monotonic()
        answer = about(http, url, task_id)
        took.append(1000 * (time.monotonic() - began))
        if instance == "a":
            assert (answer.status_code, answer.json()["id"], answer.json()["error"]["code"]) == (400, 7, -32602)
        else:
            assert answer.json()["result"]["statusMessage"] == "b"
    print(f"a task of a dead instance was not found after {statistics.median(took):.1f} ms, at most {max(took):.1f} ms")
    assert statistics.median(took) < 250, took


def in_two(content_type: str, text: bytes, last: int) -> tuple:
    """A script that answers byte by byte, and with the `last` bytes only once the event is set."""
    go_on = threading.Event()
    head = response(200, b"", {"Content-Type": content_type, "Transfer-Encoding": "chunked"})

    def serve(connection):
        connection.read_request()
        pieces = [chunk(bytes([byte])) for byte in text]
        connection.send(head + b"".join(pieces[:-last]))
        assert go_on.wait(PATIENCE)
        connection.send(b"".join(pieces[-last:]) + LAST_CHUNK)

    return serve, go_on


CREATED = json.dumps(result(resultType="task", taskId="t1", status="working"))


@pytest.mark.parametrize(
    ("content_type", "text"),
    [
        ("application/json", CREATED.encode()),
        ("application/json; charset=utf-8", CREATED.replace("t1", "t2").encode() + b"\n"),
    ],
)
def test_the_task_of_an_answer_that_drips_is_claimed_before_it_leaves(stage, content_type, text):
    claimed = lambda: stage.world.metrics()["outrigger_tasks_claimed_total"]  # noqa: E731
    before = claimed()
    fields, message = modern("tools/call", "begin", name="begin")
    serve, go_on = in_two(content_type, text, 1)
    go_on.set()
    with stage.playing(serve), stage.client() as client:
        assert client.ask("POST", MCP, json.dumps(message).encode(), {**JSON, **fields}).body == text
        assert claimed() == before + 1


def test_no_byte_of_a_stream_waits_and_the_task_is_claimed_before_the_one_that_tells_it(stage):
    text, last = event("{}") + event(CREATED.replace("t1", "t3")), 1
    claimed = lambda: stage.world.metrics()["outrigger_tasks_claimed_total"]  # noqa: E731
    before = claimed()
    fields, message = modern("tools/call", "begin", name="begin")
    serve, go_on = in_two("text/event-stream", text, last)
    with stage.playing(serve), stage.client() as client:
        call = client.begin("POST", MCP, json.dumps(message).encode(), {**fields, "Content-Type": "application/json"})
        assert call.read_head().status == 200
        got = b""
        while len(got) < len(text) - last:
            got += call.read_piece()
        assert claimed() == before
        go_on.set()
        while len(got) < len(text):
            got += call.read_piece()
        assert claimed() == before + 1
        assert got == text
        assert read_all(call) == []


@pytest.mark.parametrize("method", ["tasks/get", "subscriptions/listen"])
def test_an_answer_about_a_task_creates_none(stage, method):
    claimed = stage.world.metrics()["outrigger_tasks_claimed_total"]
    fields, message = modern(method, "t9", taskId="t9")
    answers = answering(response(200, json.loads(CREATED.replace("t1", "t9"))))
    with stage.playing(answers), stage.client() as client:
        assert client.ask("POST", MCP, json.dumps(message).encode(), {**JSON, **fields}).status == 200
    assert stage.world.metrics()["outrigger_tasks_claimed_total"] == claimed
