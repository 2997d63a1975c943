"""A stage: one Outrigger for all tests of a file, entered by HTTP/1.1 or HTTP/2, and an upstream scripted by each test.

    stage = a_stage({"timeouts": {"first_byte": "300ms"}})          # a fixture of this file

    @BOTH
    def test_…(stage, protocol):
        with stage.playing(answering(response(200, result()))) as upstream, stage.client(protocol) as client:
            assert client.ask("POST", MCP, call("tools/list"), JSON).status == 200
        assert len(upstream.requests) == 1

The process starts once per file, because starting takes a second; the upstream listens on the same port for every test.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .http1 import Closed, Message, request
from .http2 import Http2Client, Stream
from .outrigger import Outrigger, merged
from .pki import Pki
from .ports import free_port
from .raw import Connection, RawClient, RawUpstream, Script
from .waiting import PATIENCE, wait_until

#: A scoped MCP route, and the server id that it carries.
MCP = "/servers/s1/mcp"
SERVER_ID = "s1"

#: A listener that may be called anything by anybody; the tests' own would take only this machine's names.
OPEN = {"allowed_hosts": ["*"], "allowed_origins": ["*"]}

#: Runs a test over HTTP/1.1 and over HTTP/2 (TLS).
BOTH = pytest.mark.parametrize("protocol", ["h1", "h2"])


def call(method: str = "tools/list", id: object = 7, **params) -> bytes:
    """A JSON-RPC request; `id=None` makes a notification."""
    message = {"jsonrpc": "2.0", "method": method}
    message |= {} if id is None else {"id": id}
    message |= {"params": params} if params else {}
    return json.dumps(message, separators=(",", ":")).encode()


def result(id: object = 7, **result) -> dict:
    """The answer to `call`; of an empty one Outrigger would make an error."""
    return {"jsonrpc": "2.0", "id": id, "result": result or {"ok": True}}


class Http1Client(RawClient):
    """A raw client that can hold one answer half read, as an HTTP/2 stream can be."""

    def begin(self, method: str, path: str, body: bytes = b"", headers: dict | list = ()) -> "Http1Call":
        self.send(request(method, path, body, headers))
        return Http1Call(self, method)


class Http1Call:
    """The answer to come on a connection, read like a `http2.Stream`."""

    def __init__(self, client: Http1Client, method: str):
        self._client = client
        self._method = method
        self._head: Message | None = None
        self._left: int | None = None  # of the Content-Length

    def read_head(self, patience: float = PATIENCE) -> Message:
        self._head = self._client.read_head(patience)
        length = self._head.header("content-length")
        self._left = None if length is None else int(length)
        return self._head

    def read_piece(self, patience: float = PATIENCE) -> bytes:
        """A chunk, or what has come of a body of known length; b"" at its end; Closed if it was cut."""
        if self._left is None:
            assert self._head.header("transfer-encoding") == "chunked", (
                f"sent until close:\n{self._head.raw_head.decode()}"
            )
            return self._client.read_chunk(patience)
        if self._left == 0:
            return b""
        piece = self._client.read_some(patience)
        self._left -= len(piece)
        assert self._left >= 0, f"{-self._left} bytes beyond Content-Length"
        return piece

    def read_response(self, patience: float = PATIENCE) -> Message:
        return self._client.read_response(patience, to=self._method)


Client = Http1Client | Http2Client
Call = Http1Call | Stream


def read_all(call: Call, patience: float = PATIENCE) -> list[bytes]:
    """The pieces of a body to its orderly end."""
    return list(iter(lambda: call.read_piece(patience), b""))


def read_cut(call: Call, patience: float = PATIENCE) -> bytes:
    """What came of a body before it was cut; AssertionError if it ends as if it were whole."""
    got = b""
    try:
        for piece in iter(lambda: call.read_piece(patience), b""):
            got += piece
    except Closed:
        return got
    raise AssertionError(f"the client cannot see that the answer was cut after {len(got)} bytes: {got[-80:]!r}")


def leave(client: Client, call: Call, how: str) -> float:
    """Goes away in the middle: `fin`, `rst` (HTTP/2: of the stream) or `abort` (HTTP/2: the connection). The moment."""
    moment = time.monotonic()
    if isinstance(call, Http1Call):
        client.reset() if how == "rst" else client.close()
    elif how == "rst":
        call.reset()
    else:
        client.abort()
    return moment


def closed_at(connection: Connection, patience: float = PATIENCE) -> float:
    """When Outrigger closed this connection to the upstream, whose script must be reading (`wait_closed`)."""
    return wait_until(lambda: connection.closed_at, patience, f"upstream connection {connection.number} closed")


#: Ways of going away, by protocol.
LEAVING = pytest.mark.parametrize(("protocol", "how"), [("h1", "fin"), ("h1", "rst"), ("h2", "rst"), ("h2", "abort")])


class Stage:
    """See above. `config` is laid over Outrigger's; `plain` and `tls` are laid over the two listeners."""

    def __init__(self, folder: Path, pki: Pki, config: dict, plain: dict, tls: dict):
        self.port = free_port()
        self._tls = pki.client_context(alpn=("h2",))
        self._tls_http1 = pki.client_context()
        self.tls_address = f"127.0.0.1:{free_port()}"
        listeners = [
            {"name": "plain", "address": f"127.0.0.1:{free_port()}", "upstream": "gateway", **plain},
            {
                "name": "tls",
                "address": self.tls_address,
                "tls": pki.issue("localhost").as_config(),
                "upstream": "gateway",
                **tls,
            },
        ]
        self.peer = f"127.0.0.1:{self.port}"
        self.world = self._make(folder, pki, merged({"listeners": listeners}, config))

    def _make(self, folder: Path, pki: Pki, config: dict) -> Outrigger:
        return Outrigger(folder, [self.peer], config, start=False)

    #: The field that the stage itself adds to requests, if any.
    adds = frozenset()

    def metrics(self) -> dict[str, float]:
        """Counted by whoever is on the way."""
        return self.world.metrics()

    def start(self) -> None:
        self.world.start()

    def end(self) -> None:
        self.world.end()

    @contextmanager
    def playing(self, *scripts: Script) -> Iterator[RawUpstream]:
        """The upstream of this test, as `RawUpstream(*scripts)`; afterwards a script's failed assertion is raised.

        What this test asked is over before the next one listens on the same port: a request that is sent again would be
        its guest.
        """
        upstream = RawUpstream(*scripts, port=self.port)
        try:
            yield upstream
        except BaseException:
            for connection in upstream.connections:
                connection.error = None
            raise
        finally:
            upstream.close()
            nothing_runs = lambda: self.world.metrics()["outrigger_requests_in_flight"] == 0  # noqa: E731
            wait_until(nothing_runs, what="every request of this upstream is over", every=0.002)

    def client(self, protocol: str = "h1", **options) -> Client:
        """`h1` (plaintext), `h1-tls` or `h2` (TLS)."""
        if protocol == "h2":
            return Http2Client(self.tls_address, self._tls, **options)
        if protocol == "h1-tls":
            return Http1Client(self.tls_address, self._tls_http1)
        return Http1Client(self.world.address)


def a_stage(
    config: dict | None = None,
    plain: dict | None = None,
    tls: dict | None = None,
    profiles: tuple = ("contextforge",),
    hop: str = "long",
) -> Callable:
    """A fixture for one file; with several `profiles` its tests run on a stage of each.

    They run on a `hop.HopStage` of each profile, too: `always`, `never`, or (`long`) where `-m long` asks for it.
    """
    hops = {"always": [()], "long": [pytest.mark.long], "never": []}[hop]
    params = [pytest.param((profile, Stage), id=profile) for profile in profiles]
    params += [
        pytest.param((profile, None), id=f"{profile}-hop", marks=marks) for profile in profiles for marks in hops
    ]

    @pytest.fixture(scope="module", params=params)
    def stage(request, tmp_path_factory, pki):
        # Imported late, because that module is made from this one.
        from .hop import HopStage

        profile, kind = request.param
        settings = {"profile": profile, **(config or {})}
        made = (kind or HopStage)(tmp_path_factory.mktemp("stage"), pki, settings, plain or {}, tls or {})
        made.profile = profile
        try:
            made.start()
            yield made
        finally:
            made.end()

    return stage
