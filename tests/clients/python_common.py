"""What a Python SDK client does with a server, and what it reports; the same on SDK 1.x and 2.x."""

import argparse
import asyncio
import json
import os
import ssl
import sys
import traceback


class Wire:
    """Listens at the HTTP client: which answers came, and the session id that was given."""

    def __init__(self, http_client):
        self.answers = set()
        self.session = None
        self._http_client = http_client
        http_client.event_hooks = {"response": [self._see]}

    async def _see(self, response):
        self.answers.add(f"{response.request.method} {response.status_code}")
        self.session = response.headers.get("mcp-session-id", self.session)


def with_certificate(create):
    """`create_mcp_http_client`, or the like of it for a client that shows the certificate $CLIENT_CERT names."""
    if not (cert := os.environ.get("CLIENT_CERT")):
        return create
    context = ssl.create_default_context()
    context.load_cert_chain(cert)
    kind = type(create())
    # The SDK's function takes no TLS context; its own client follows redirects, too.
    return lambda: kind(verify=context, follow_redirects=True, timeout=60)


class Heard:
    """What came in beside answers."""

    def __init__(self):
        self.logs = []
        self.announced = asyncio.Event()

    async def log(self, params):
        self.logs.append(params.data)

    async def message(self, message):
        # SDK 1.x wraps notifications in a root model, 2.x does not.
        if type(getattr(message, "root", message)).__name__ == "ResourceListChangedNotification":
            self.announced.set()


async def exercise(client, heard: Heard, resumable: bool, has_stream: bool) -> dict:
    """Lists and calls everything; `client` is a session of SDK 1.x or a Client of SDK 2.x."""
    tools = sorted(tool.name for tool in (await client.list_tools()).tools)
    report = {"tools": tools, "instances": []}
    if "whoami" not in tools:
        return report | await _exercise_reference_server(client)
    report["instances"].append(json.loads(await call(client, "whoami"))["name"])

    report["counts"] = []
    for _ in range(3):
        answer = json.loads(await call(client, "count"))
        report["instances"].append(answer["name"])
        report["counts"].append(answer["count"])

    seen = json.loads(await call(client, "seen"))
    report["host"] = seen["headers"].get("host")
    report["server_id"] = seen["params"].get("server_id")

    report["progress"] = []
    report["slow"] = await call(client, "slow", {"steps": 4}, progress_callback=_into(report["progress"]))

    # Two at once on one session: the answers must not be mixed up.
    both = await asyncio.gather(call(client, "slow", {"steps": 2}), call(client, "slow", {"steps": 5}))
    report["concurrent"] = list(both)

    if resumable:
        report["resumed"] = await call(client, "hang_up")
        report["logs"] = sorted(heard.logs)
    if has_stream:
        report["announced"] = await _announced(client, heard)
    return report


async def call(client, tool: str, arguments: dict | None = None, **options) -> str:
    result = await client.call_tool(tool, arguments or {}, **options)
    text = result.content[0].text
    if getattr(result, "isError", None) or getattr(result, "is_error", None):
        raise RuntimeError(f"{tool}: {text}")
    return text


async def after_delete(http_client_factory, url: str, session: str | None) -> int | None:
    """Status of a call on the session that was just ended."""
    if session is None:
        return None
    headers = {"mcp-session-id": session, "accept": "application/json, text/event-stream"}
    body = {"jsonrpc": "2.0", "id": 99, "method": "tools/list"}
    async with http_client_factory() as client:
        return (await client.post(url, json=body, headers=headers)).status_code


def serve(main) -> None:
    """Reads jobs from standard input, one JSON object a line, and runs `main(job)` for each, all at once.

    A job has `url`, `transport` (streamable or sse), `mode` (auto asks for the modern era first, SDK 2.x only),
    `resumable` (the server has an event store: try `hang_up`) and `streamless` (the server has no stream of its own to
    announce on). Its line on standard output is `{"job": id, "report": {...}}` or `{"job": id, "error": traceback}`.
    One process for many jobs, because starting one costs more than all that it then does. Ends with its input.
    """
    asyncio.run(_serve(main))


async def _serve(main) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    running = set()
    async for line in reader:
        running.add(task := asyncio.create_task(_run(main, argparse.Namespace(**json.loads(line)))))
        task.add_done_callback(running.discard)


async def _run(main, job) -> None:
    try:
        outcome = {"report": await asyncio.wait_for(main(job), 150)}
    except Exception:
        outcome = {"error": traceback.format_exc()}
    print(json.dumps({"job": job.id, **outcome}), flush=True)


async def _exercise_reference_server(client) -> dict:
    """@modelcontextprotocol/server-everything has tools of its own."""
    progress = []
    arguments = {"duration": 2, "steps": 4}
    slow = await call(client, "trigger-long-running-operation", arguments, progress_callback=_into(progress))
    names = [json.loads(await call(client, "get-env")).get("OUTRIGGER_INSTANCE") for _ in range(3)]
    echo = await call(client, "echo", {"message": "\u00e9\U0001f6f6"})
    return {"instances": names, "slow": slow, "progress": progress, "echo": echo}


async def _announced(client, heard: Heard) -> bool:
    """Announcements are lost until the GET stream stands, so it is asked for again until one comes."""
    for _ in range(100):
        await call(client, "announce")
        try:
            await asyncio.wait_for(heard.announced.wait(), 0.25)
            return True
        except TimeoutError:
            continue
    return False


def _into(steps: list):
    async def on_progress(progress, total, message):
        steps.append(progress)

    return on_progress
