"""Clients that begin sessions, call `count` by whichever member, and write it all down. One event loop, one thread."""

import asyncio
import json
import random
import threading
import time
from contextlib import suppress
from itertools import count

import httpx

from harness.members import HOST

from .history import Call, History

#: Longer than any pause that a scenario makes.
_TIMEOUT = 20
_HEADERS = {"Accept": "application/json, text/event-stream", "Host": HOST}
_HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "chaos", "version": "1"}}


class Clients:
    """`number` clients on the members at `urls`, at work from `begin` to `end`; what they saw is in `history`."""

    def __init__(self, urls: list[str], number: int, seed: int):
        self.history = History()
        #: (owner, MCP session id, label) of every session that nobody was told is lost, when all is over.
        self.living: list[tuple[int, str, str]] = []
        self._urls, self._number, self._seed = urls, number, seed
        self._stop = threading.Event()
        self._labels = count()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._work()), daemon=True)
        self._failure: BaseException | None = None

    def begin(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Waits for the last answers; raises what a client could not make sense of."""
        self._stop.set()
        self._thread.join(2 * _TIMEOUT)
        assert not self._thread.is_alive(), "a client still waits for an answer"
        if self._failure:
            raise self._failure

    async def _work(self) -> None:
        try:
            async with asyncio.TaskGroup() as clients:
                for number in range(self._number):
                    clients.create_task(self._client(random.Random(f"{self._seed}-{number}"), number))
        except BaseException as failure:  # noqa: BLE001 - raised by end()
            self._failure = failure

    async def _client(self, rng: random.Random, number: int) -> None:
        limits = httpx.Limits(max_keepalive_connections=6)
        async with httpx.AsyncClient(headers=_HEADERS, timeout=_TIMEOUT, trust_env=False, limits=limits) as http:
            while not self._stop.is_set():
                owner = rng.randrange(len(self._urls))
                session = await self._initialize(http, owner)
                if session is None:
                    await asyncio.sleep(0.1)
                    continue
                await self._talk(http, rng, owner, session, pairs=number % 4 == 0)

    async def _initialize(self, http: httpx.AsyncClient, owner: int) -> str | None:
        hello = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": _HELLO}
        with suppress(httpx.TransportError):
            answer = await http.post(self._urls[owner], json=hello)
            if answer.status_code == 200:
                return answer.headers["mcp-session-id"]
        return None

    async def _talk(self, http, rng: random.Random, owner: int, session: str, pairs: bool) -> None:
        """Until the session is told to be lost, or has been used enough; some are kept to the end."""
        label = f"{'abc'[owner]}{next(self._labels)}"
        calls = rng.randrange(10, 150)
        while not self._stop.is_set() and calls > 0:
            entries = [rng.randrange(len(self._urls)) for _ in range(2 if pairs else 1)]
            calls -= len(entries)
            asked = [self.call(http, owner, entry, session, label, concurrent=pairs) for entry in entries]
            outcomes = await asyncio.gather(*asked)
            if 404 in outcomes:
                return
            await asyncio.sleep(rng.uniform(0, 0.04) if set(outcomes) == {200} else rng.uniform(0.05, 0.2))
        if self._stop.is_set():
            self.living.append((owner, session, label))
        else:
            with suppress(httpx.TransportError):
                await http.delete(self._urls[rng.randrange(len(self._urls))], headers={"Mcp-Session-Id": session})

    async def call(self, http, owner: int, entry: int, session: str, label: str, concurrent: bool = False):
        """One call of `count`, written down; its outcome."""
        call = Call(label, owner, entry, f"{label}-{len(self.history.calls)}", time.monotonic(), concurrent=concurrent)
        self.history.calls.append(call)
        params = {"name": "count", "arguments": {}}
        message = {"jsonrpc": "2.0", "id": call.id, "method": "tools/call", "params": params}
        try:
            answer = await http.post(self._urls[entry], json=message, headers={"Mcp-Session-Id": session})
        except httpx.TransportError:
            call.done = time.monotonic()
            return call.outcome
        call.done = time.monotonic()
        call.outcome = answer.status_code
        call.retry_after = "retry-after" in answer.headers
        with suppress(ValueError):
            body = answer.json()
            call.answered_id = body.get("id")
            if "result" in body:
                counted = json.loads(body["result"]["content"][0]["text"])
                call.instance, call.count = counted["name"], counted["count"]
        return call.outcome

    def ask_the_living(self) -> list[str]:
        """When all is well again: every session that was not told to be lost is asked by every member."""

        async def asking() -> list[str]:
            lost = []
            async with httpx.AsyncClient(headers=_HEADERS, timeout=_TIMEOUT, trust_env=False) as http:
                for owner, session, label in self.living:
                    for entry in range(len(self._urls)):
                        outcome = await self.call(http, owner, entry, session, label)
                        if outcome != 200:
                            lost.append(f"{label} by member {entry}: {outcome}")
            return lost

        return asyncio.run(asking())
