"""A stage of two members: the session's owner is the one, and clients come in by the other, so that every request hops.

    stage = a_stage(hop="always")                 # the tests of this file run on a Stage and on a HopStage

Whatever a test asks of an MCP route names a session that the second member owns, unless it names one itself. Both
members have the same scripted upstream, because what cannot hop (no session yet) is answered by the first one's peer.
"""

import hashlib
import json
import re
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from .http1 import response
from .members import Members
from .outrigger import Outrigger
from .pki import Pki
from .ports import free_port
from .raw import answering
from .redis import RedisServer
from .stage import MCP, Client, Http1Client, Stage, call, result

_MCP = re.compile(r"^(?:/servers/(?P<id>[^/]+))?/mcp/?(?:\?.*)?$")
_MESSAGE = re.compile(r"^(?:/servers/(?P<id>[^/]+))?/(?:message|messages/)\?.*?session_?[iI]d=(?P<session>[^&]+)")


class HopStage(Stage):
    """See above; `owner_client()` enters by the owner instead."""

    adds = frozenset({"mcp-session-id"})

    def __init__(self, *args, plaintext: bool = False):
        self._plaintext = plaintext
        super().__init__(*args)

    def _make(self, folder: Path, pki: Pki, config: dict) -> Outrigger:
        self.redis = RedisServer(folder / "redis")
        # The listeners of the configuration are the entry's; the owner has one of its own, in plaintext.
        common = {key: value for key, value in config.items() if key != "listeners"}
        plain = {**config["listeners"][0], "address": f"127.0.0.3:{free_port()}"}
        own = [{"listeners": config["listeners"]}, {"listeners": [plain]}]
        trust = None if self._plaintext else pki
        self.members = Members(folder, self.redis, [[self.peer]] * 2, trust, common, own, start=False)
        self.owner = self.members[1]
        self._claimed: set[bytes] = set()
        self._template: dict = {}
        return self.members[0]

    def start(self) -> None:
        self.members.start()
        script = answering(response(200, result(), {"Mcp-Session-Id": "the-first"}))
        with Stage.playing(self, script), Http1Client(self.owner.address) as client:
            assert client.ask("POST", MCP, call("initialize")).status == 200
        [key] = self.members.session_keys()
        self._template = json.loads(self.redis.client().get(key))

    def metrics(self) -> dict[str, float]:
        counted = [member.metrics() for member in self.members.all]
        return {name: sum(metrics.get(name, 0) for metrics in counted) for name in counted[0]}

    def end(self) -> None:
        self.members.end()
        self.redis.end()

    @contextmanager
    def playing(self, *scripts):
        # What an earlier test was answered may have released its sessions.
        self._claimed.clear()
        with super().playing(*scripts) as upstream:
            yield upstream

    def client(self, protocol: str = "h1", **options) -> Client:
        return self._naming_sessions(super().client(protocol, **options))

    def owner_client(self) -> Client:
        """Plaintext HTTP/1.1, by the member that owns the sessions."""
        return self._naming_sessions(Http1Client(self.owner.address))

    def claim(self, session: str, server_id: str | None = None, **changes) -> str:
        """Makes `session` the second member's, in Redis, as that member would; the key."""
        digest = hashlib.sha256(f"gateway\0{session}".encode()).hexdigest()
        claim = {"server_id": server_id, **changes}
        # As the binary writes it, in the same order: equal claims are equal bytes.
        claim = {name: value for name, value in (self._template | claim).items() if value is not None}
        text = json.dumps(claim, separators=(",", ":"))
        key = f"{self.members.prefix}session:{digest}"
        self.redis.client().set(key, text, px=3_600_000)
        return key

    def session_for(self, path: str, body: bytes | None) -> str | None:
        """The session that a request to this path names; claimed. None where it names none."""
        if message := _MESSAGE.match(path):
            self.claim(message["session"], _server_id(message), transport="http-sse")
            return None
        route = _MCP.match(path)
        if not route or b'"initialize"' in (body or b""):
            return None
        server_id = _server_id(route)
        session = f"session-of-{server_id}"
        if session not in self._claimed:
            self.claim(session, server_id)
            self._claimed.add(session)
        return session

    def _naming_sessions(self, client: Client) -> Client:
        for verb in ("ask", "begin"):
            setattr(client, verb, self._naming_session(getattr(client, verb)))
        return client

    def _naming_session(self, send: Callable) -> Callable:
        def sending(method, path, body=b"", headers=(), *rest, **options):
            pairs = list(headers.items()) if isinstance(headers, dict) else list(headers)
            if "mcp-session-id" not in {name.lower() for name, _ in pairs}:
                session = self.session_for(path, body)
                pairs += [("Mcp-Session-Id", session)] if session else []
            return send(method, path, body, pairs, *rest, **options)

        return sending


def _server_id(path: re.Match) -> str | None:
    return unquote(path["id"]) if path["id"] else None
