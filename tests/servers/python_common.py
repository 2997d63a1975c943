"""What the servers on Python SDK 1.x and 2.x share: the tools, the event store, and the recording of what came in.

Only names that both SDKs have are imported here, so that one text serves both.
"""

import argparse
import asyncio
import json
import os
import re
from contextvars import ContextVar

from mcp.server.streamable_http import EventMessage, EventStore

#: The session of the running request or tool: the SDKs number streams per session, but keep one event store.
_session = ContextVar("session")


class Session:
    """One object per session, the same in every request of it."""

    def __init__(self):
        self.resumed = asyncio.Event()


class MemoryEventStore(EventStore):
    """Keeps every event of every stream of every session; ids are opaque to clients and ordered for us."""

    def __init__(self):
        self._events = []

    async def store_event(self, stream_id, message):
        self._events.append((_session.get(), stream_id, message))
        return f"{stream_id}::{len(self._events)}"

    async def replay_events_after(self, last_event_id, send_callback):
        stream_id, _, number = last_event_id.rpartition("::")
        for place, (session, stream, message) in enumerate(self._events[int(number) :], start=int(number) + 1):
            # A priming event has no message: it only gives the client an id.
            if (session, stream) == (_session.get(), stream_id) and message is not None:
                await send_callback(EventMessage(message, f"{stream_id}::{place}"))
        return stream_id


class Recording:
    """ASGI middleware in front of the SDK's application.

    Keeps the body as it came in `scope["raw_body"]`, knows the session of each request, and serves `/servers/{id}/…` as
    `/…`, as a gateway does. `/sessions` tells how many were begun, and how many of them are open.
    """

    _scoped = re.compile(r"^/servers/[^/]+(/(?:mcp|sse|message|messages/)$)")

    def __init__(self, app, open_sessions=None):
        """`open_sessions`: counts them."""
        self._app = app
        self._sessions = {}
        self._open = open_sessions

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] == "/sessions":
            text = json.dumps({"begun": len(self._sessions), "open": self._open()}).encode()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": text})
            return
        if scoped := self._scoped.match(scope["path"]):
            scope = {**scope, "path": scoped[1], "raw_path": scoped[1].encode()}
        scope["raw_body"] = b""
        # A session's own tasks inherit the context of the request that began it.
        headers = dict(scope["headers"])
        session = self._sessions.get(headers.get(b"mcp-session-id")) or Session()
        _session.set(session)

        async def keeping():
            message = await receive()
            scope["raw_body"] += message.get("body", b"")
            return message

        async def learning(message):
            if given := dict(message.get("headers", ())).get(b"mcp-session-id"):
                self._sessions.setdefault(given, session)
            await send(message)
            if message.get("body") and b"last-event-id" in headers:
                session.resumed.set()

        await self._app(scope, keeping, learning)


def register_tools(server, Context, name: str) -> None:  # noqa: N803 - the SDKs find the context by its type
    """The tools that every test server has; `name` tells instances apart."""
    counts = {}

    @server.tool()
    def whoami() -> str:
        """Which instance answers."""
        return json.dumps({"name": name, "pid": os.getpid()})

    @server.tool()
    def count(ctx: Context) -> str:
        """Calls of this tool so far in this session; a request without a session counts for the whole process."""
        request = ctx.request_context.request
        session = request.headers.get("mcp-session-id") or request.query_params.get("session_id")
        counts[session] = counts.get(session, 0) + 1
        return json.dumps({"name": name, "count": counts[session]})

    @server.tool()
    def seen(ctx: Context) -> str:
        """Headers and params of this very request."""
        request = ctx.request_context.request
        params = json.loads(request.scope["raw_body"]).get("params")
        return json.dumps({"headers": dict(request.headers), "params": params})

    @server.tool()
    async def slow(ctx: Context, steps: int = 3, pause: float = 0.05) -> str:
        """Reports progress `steps` times with `pause` seconds between.

        The pause before the answer is longer: the SDKs drop progress that is read together with the answer.
        """
        for step in range(1, steps + 1):
            await ctx.report_progress(step, steps, f"step {step}")
            await asyncio.sleep(pause)
        await asyncio.sleep(1)
        return f"{steps} steps"

    @server.tool()
    async def hang_up(ctx: Context) -> str:
        """Ends its own event stream before it answers, so that the client must resume (handshake era only).

        It speaks on only when the resumed stream has been primed: what comes between an SDK's look into the event store
        and its re-registering of the stream is lost ("replay→live-tail ordering window" in its streamable_http.py).
        """
        session = _session.get()
        session.resumed.clear()
        await ctx.info("before")
        await ctx.close_sse_stream()
        await asyncio.wait_for(session.resumed.wait(), 30)
        # In turns of the event loop, not in seconds: a busy machine may let it turn but once in that time.
        for _ in range(20):
            await asyncio.sleep(0.005)
        await ctx.info("after")
        return "resumed"

    @server.tool()
    async def announce(ctx: Context) -> str:
        """Sends a notification on the session's own stream."""
        await ctx.session.send_resource_list_changed()
        return "announced"


def open_sessions(manager) -> int:
    """Sessions that the SDK's session manager keeps and that nobody has closed."""
    return sum(not transport.is_terminated for transport in manager._server_instances.values())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", required=True, help="tells instances apart")
    parser.add_argument("--transport", choices=["streamable", "stateless", "sse"], default="streamable")
    parser.add_argument("--unguarded", action="store_true", help="take requests for any host, from any page")
    parser.add_argument("--json", action="store_true", help="answer with JSON instead of event streams")
    return parser.parse_args()
