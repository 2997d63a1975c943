"""The kinds of load. Each is an endless coroutine that asks, checks the answer to the letter and counts; the event
streams must show every number once and in order until the load itself ends them."""

import asyncio
import itertools
import json
import random
import ssl
import zlib
from dataclasses import dataclass, field

from .http1 import Answer, Http1
from .http2 import Http2, UnprocessedError
from .resumed import Resuming
from .tally import Tally, WrongAnswerError

PATH = "/servers/load/mcp"
#: How many clients each kind has.
CLIENTS = {
    "busy": 8,
    "busy-tls": 2,
    "thinking": 8,
    "large": 2,
    "slow": 6,
    "pass": 2,
    "fresh": 4,
    "session": 4,
    "h2": 12,
    "h2-slow": 3,
    "resumed": 2,
}
#: Connections that the HTTP/2 clients share.
POOLS = 3
_numbers = itertools.count(1)


@dataclass
class Load:
    """Where to send it and how much; without `plain`, everything by TLS. `rates` are requests per second and kind, all
    workers of a kind together."""

    plain: str | None
    tls: str
    http1_tls: ssl.SSLContext
    http2_tls: ssl.SSLContext
    tally: Tally
    rates: dict[str, float]
    naive: bool = False
    #: Set when no further request is to be made.
    ending: asyncio.Event = field(default_factory=asyncio.Event)

    def workers(self) -> list:
        """Every coroutine that makes requests."""
        pools = [Pool(self) for _ in range(POOLS)]
        return [self.worker(kind, number, pools) for kind, count in CLIENTS.items() for number in range(count)]

    def worker(self, kind: str, number: int, pools: list["Pool"]):
        """Client `number` of its kind."""
        match kind:
            case "pass":
                return self.passing()
            case "fresh":
                return self.fresh(tls=number == 3)
            case "session":
                return self.session(tls=number == 3)
            case "resumed":
                return self.resumed()
            case "h2" | "h2-slow":
                return self.multiplexed(kind, pools[number % POOLS])
            case _:
                return self.kept(kind, tls=kind == "busy-tls" or (kind == "slow" and number % 2 == 1))

    # -- the kinds

    async def kept(self, kind: str, tls: bool = False) -> None:
        """One request after another on a kept-alive connection; `thinking` pauses up to 2.5 s between two."""
        client = self.http1(tls)
        async for _ in self.beat(kind):
            call, check = message(_TOOL.get(kind, "echo"), _TEXT.get(kind, ""))
            with self.tally.request(kind):
                check(await client.ask(b"POST", PATH.encode(), call))

    async def fresh(self, tls: bool) -> None:
        """A connection for each request."""
        async for _ in self.beat("fresh"):
            client, (call, check) = self.http1(tls), message()
            with self.tally.request("fresh"):
                check(await client.ask(b"POST", PATH.encode(), call))
            client.close()

    async def passing(self) -> None:
        """What is no MCP, through Pingora's own proxy."""
        client = self.http1()
        async for _ in self.beat("pass"):
            path = f"/health/{next(_numbers)}"
            with self.tally.request("pass"):
                answer = await client.ask(b"GET", path.encode())
                if answer.status != 200 or json.loads(answer.body) != {"path": path}:
                    raise WrongAnswerError(f"status {answer.status}: {answer.body[:80]!r}")

    async def session(self, tls: bool) -> None:
        """A session that every request must find its owner by, on whatever connection and generation."""
        client = self.http1(tls)
        fields, owner = b"", None
        async for _ in self.beat("session"):
            call, check = message("echo" if fields else "", "")
            with self.tally.request("session"):
                answer = await client.ask(b"POST", PATH.encode(), call, fields)
                port = check(answer)["port"]
                if not fields:
                    fields, owner = b"Mcp-Session-Id: %b\r\n" % answer.field(b"mcp-session-id"), port
                elif port != owner:
                    raise WrongAnswerError("answered by another than the session's owner")

    async def resumed(self) -> None:
        """A TLS connection for each request, with the session of the last one."""
        client = Resuming(self.tls, self.http1_tls)
        async for _ in self.beat("resumed"):
            call, check = message()
            with self.tally.request("resumed"):
                check(await asyncio.to_thread(client.ask, PATH.encode(), call))
                self.tally.connections["resumed (TLS)" if client.resumed else "not resumed (TLS)"] += 1

    async def multiplexed(self, kind: str, pool: "Pool") -> None:
        """Streams of shared HTTP/2 connections."""
        async for _ in self.beat(kind):
            call, check = message(_TOOL.get(kind, "echo"))
            with self.tally.request(kind):
                check(await pool.ask("POST", PATH, call))

    async def stream(self, number: int) -> None:
        """An event stream for the whole run: GET and POST, over HTTP/1.1 and HTTP/2."""
        kind = f"{'get' if number % 2 else 'post'}-{'h2' if number // 2 % 2 else 'h1'}"
        call = b"" if number % 2 else message("stream")[0]
        method = "GET" if number % 2 else "POST"
        seen = -1
        try:
            self.tally.streams[f"{kind} opened"] += 1
            async for seen in numbers(self.pieces(kind.endswith("h2"), method, call)):
                self.tally.events += 1
                if seen == 0:
                    self.tally.streams["begun"] += 1
        except asyncio.CancelledError:
            return
        except Exception as error:  # noqa: BLE001 - every failure is a finding
            self.tally.broken.append(f"{kind} after event {seen}: {type(error).__name__} {error}")
        else:
            self.tally.broken.append(f"{kind} after event {seen}: ended")

    # -- inside

    def http1(self, tls: bool = False) -> Http1:
        if tls or not self.plain:
            return Http1(self.tls, self.tally, self.http1_tls, looks=not self.naive)
        return Http1(self.plain, self.tally, looks=not self.naive)

    async def http2(self) -> Http2:
        return await Http2.open(self.tls, self.tally, self.http2_tls)

    async def pieces(self, h2: bool, method: str, call: bytes):
        while h2:
            try:
                client = await self.http2()
                async for piece in client.stream(method, PATH, call):
                    yield piece
                return
            except UnprocessedError:
                self.tally.connections["sent again (h2)"] += 1
        async for piece in self.http1().stream(method.encode(), PATH.encode(), call):
            yield piece

    async def beat(self, kind: str):
        """Yields at one client's share of the kind's rate, never to catch up; thinkers at random pauses."""
        rate = self.rates.get(kind, 0) / CLIENTS[kind]
        if not rate:
            return
        loop = asyncio.get_running_loop()
        pause = random.random() / rate
        while True:
            try:
                async with asyncio.timeout(max(pause, 0)):
                    await self.ending.wait()
                return
            except TimeoutError:
                began = loop.time()
                yield
            pause = random.uniform(0.1, 2.5) if kind == "thinking" else 1 / rate - (loop.time() - began)


_TOOL = {"slow": "slow", "h2-slow": "slow"}
_TEXT = {"large": "0123456789abcdef" * 4096}


class Pool:
    """One HTTP/2 connection at a time, replaced when it is told to go away."""

    def __init__(self, load: Load):
        self._load = load
        self._connection: Http2 | None = None
        self._opening = asyncio.Lock()

    async def ask(self, method: str, path: str, body: bytes) -> Answer:
        while True:
            async with self._opening:
                if not (self._connection and self._connection.usable):
                    self._connection = await self._load.http2()
            try:
                return await self._connection.ask(method, path, body)
            except UnprocessedError:
                self._load.tally.connections["sent again (h2)"] += 1


def message(tool: str = "echo", text: str = ""):
    """A call with an id of its own (`initialize` if no tool is named), and the check that gives its answer's result."""
    number = next(_numbers)
    call = {"jsonrpc": "2.0", "id": number, "method": "initialize", "params": {}}
    if tool:
        call |= {"method": "tools/call", "params": {"name": tool, "arguments": {"text": text}}}

    def check(answer: Answer) -> dict:
        if answer.status != 200:
            raise WrongAnswerError(f"status {answer.status}: {answer.body[:120]!r}")
        value = json.loads(answer.body)
        result = value.get("result", {})
        if value.get("id") != number:
            raise WrongAnswerError("the id of another request")
        if tool and (result.get("server_id") != "load" or result.get("crc") != zlib.crc32(text.encode())):
            raise WrongAnswerError("the upstream got another message")
        return result

    return json.dumps(call).encode(), check


async def numbers(pieces):
    """The numbers of the events in a stream, each once and in order, all of one stream; comments are passed over."""
    unread, expected, name = b"", 0, None
    async for piece in pieces:
        *events, unread = (unread + piece).split(b"\n\n")
        for event in events:
            if event.startswith(b":"):
                continue
            data = json.loads(event.partition(b"data: ")[2])
            name = name or data["stream"]
            if (data["stream"], data["number"]) != (name, expected) or not event.startswith(b"id: %d\n" % expected):
                raise WrongAnswerError(f"event {data['number']} where {expected} is due")
            yield expected
            expected += 1
