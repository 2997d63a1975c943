"""An HTTP/1.1 client on one connection that keeps the rules of RFC 9112 §9: it heeds `Connection: close`, and looks for
a close before it writes again. With `looks=False` it is the naive client that writes at once."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass

from .tally import CutError, Tally

#: Seconds that anything may take: longer than a slow call and a restart of the worker together.
PATIENCE = 30.0

_ACCEPT = b"Accept: application/json, text/event-stream\r\n"


@dataclass
class Answer:
    """`head` in lower case."""

    status: int
    head: bytes
    body: bytes = b""

    @property
    def last(self) -> bool:
        """This connection takes no further request."""
        return b"\r\nconnection: close" in self.head

    def field(self, name: bytes) -> bytes | None:
        """A field of the head, in lower case like all of it."""
        at = self.head.find(b"\r\n" + name + b":")
        return self.head[at + len(name) + 3 :].split(b"\r\n", 1)[0].strip() if at >= 0 else None


class Http1:
    """A connection that is opened when it is needed and given up when it is over."""

    def __init__(self, address: str, tally: Tally, tls: ssl.SSLContext | None = None, looks: bool = True):
        host, _, port = address.rpartition(":")
        self._address = (host, int(port))
        self._host = address.encode()
        self._tally = tally
        self._tls = tls
        self._looks = looks
        self._socket: socket.socket | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, method: bytes, path: bytes, body: bytes = b"", fields: bytes = b"") -> Answer:
        """One request and its whole answer."""
        async with asyncio.timeout(PATIENCE):
            answer = await self._send(method, path, body, fields)
            answer.body = await self._body(answer.head)
        if answer.last:
            self._tally.connections["closed as announced"] += 1
            self.close()
        return answer

    async def stream(self, method: bytes, path: bytes, body: bytes = b"") -> AsyncIterator[bytes]:
        """The pieces of an answer that does not end by itself."""
        async with asyncio.timeout(PATIENCE):
            answer = await self._send(method, path, body, b"")
        if answer.status != 200 or b"\r\ntransfer-encoding: chunked" not in answer.head:
            raise CutError(begun=True)
        while piece := await self._chunk():
            yield piece

    def close(self) -> None:
        if self._writer:
            # Without TLS's farewell, which would be waited for.
            self._writer.transport.abort()
        self._writer = self._reader = self._socket = None

    async def _send(self, method: bytes, path: bytes, body: bytes, fields: bytes) -> Answer:
        if self._writer and self._looks and self._over():
            self._tally.connections["noticed closed"] += 1
            self.close()
        if not self._writer:
            await self._open()
        head = b"%b %b HTTP/1.1\r\nHost: %b\r\n%b" % (method, path, self._host, _ACCEPT)
        if method == b"POST":
            head += b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
        try:
            self._writer.write(head + fields + b"\r\n" + body)
            await self._writer.drain()
            head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            raise self._ended(error) from error
        return Answer(int(head[9:12]), head)

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await loop.sock_connect(self._socket, self._address)
            name = {"ssl": self._tls, "server_hostname": "localhost"} if self._tls else {}
            self._reader, self._writer = await asyncio.open_connection(sock=self._socket, limit=1 << 20, **name)
        except BaseException:
            self._socket.close()
            raise
        self._tally.connections["opened"] += 1

    def _over(self) -> bool:
        """Whether anything came while nothing was asked: the close, or its announcement."""
        if self._reader.at_eof() or self._reader.exception():
            return True
        try:
            return self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) is not None
        except BlockingIOError:
            return False
        except OSError:
            return True

    async def _body(self, head: bytes) -> bytes:
        try:
            if b"\r\ntransfer-encoding: chunked" in head:
                body = b""
                while piece := await self._chunk():
                    body += piece
                return body
            length = head.find(b"\r\ncontent-length:")
            return await self._reader.readexactly(int(head[length + 17 :].split(b"\r\n", 1)[0])) if length >= 0 else b""
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            self.close()
            raise CutError(begun=True, reset=isinstance(error, ConnectionError)) from error

    async def _chunk(self) -> bytes:
        """b"" at the answer's end."""
        try:
            size = int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16)
            return (await self._reader.readexactly(size + 2))[:-2]
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            self.close()
            raise CutError(begun=True, reset=isinstance(error, ConnectionError)) from error

    def _ended(self, error: Exception) -> CutError:
        self.close()
        begun = isinstance(error, asyncio.IncompleteReadError) and bool(error.partial)
        return CutError(begun, reset=isinstance(error, ConnectionError))
