"""An HTTP/2 client that keeps RFC 9113 §6.8: after GOAWAY its streams run on, new ones go to a new connection, and a
stream above the last id was never looked at, so it may be sent again.

`Frames` is the protocol without any I/O. GOAWAY is taken out before the h2 library sees it: that library closes the
connection in its mind at the first one, and with it streams that the server still serves."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from .http1 import PATIENCE, Answer
from .tally import CutError, Tally

_GOAWAY = 0x7
_FRAME_HEAD = 9


class UnprocessedError(Exception):
    """The server has not looked at this stream; sending it again is safe."""


class GoneAway:
    """The event of a GOAWAY frame."""

    def __init__(self, frame: bytes):
        self.last_stream = int.from_bytes(frame[9:13], "big") & 0x7FFF_FFFF
        self.error_code = int.from_bytes(frame[13:17], "big")


class Frames:
    """Bytes in, events out; `h2` is the library's connection."""

    def __init__(self):
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self._unread = b""

    def receive(self, data: bytes) -> Iterator[object]:
        """Events of the h2 library, and `GoneAway`."""
        self._unread += data
        whole = 0
        while len(self._unread) >= whole + _FRAME_HEAD:
            end = whole + _FRAME_HEAD + int.from_bytes(self._unread[whole : whole + 3], "big")
            if len(self._unread) < end:
                break
            if self._unread[whole + 3] == _GOAWAY:
                yield from self.h2.receive_data(self._unread[:whole])
                yield GoneAway(self._unread[whole:end])
                self._unread, whole = self._unread[end:], 0
            else:
                whole = end
        ready, self._unread = self._unread[:whole], self._unread[whole:]
        yield from self.h2.receive_data(ready)


class _Stream:
    """One request on its way: its answer's head, then pieces of the body, then None or the error."""

    def __init__(self):
        self.head: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.pieces: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()

    def fail(self, error: Exception) -> None:
        if not self.head.done():
            self.head.set_exception(error)
            # Nobody may be left to ask.
            self.head.exception()
        self.pieces.put_nowait(error)


class Http2(asyncio.Protocol):
    """One connection. `open` makes it; `usable` says whether it takes a new stream."""

    def __init__(self, authority: str, tally: Tally):
        self.usable = True
        self._authority = authority
        self._tally = tally
        self._frames = Frames()
        self._streams: dict[int, _Stream] = {}
        self._window = asyncio.Event()
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, address: str, tally: Tally, tls: ssl.SSLContext) -> "Http2":
        host, _, port = address.rpartition(":")
        loop = asyncio.get_running_loop()
        make = lambda: cls(address, tally)  # noqa: E731
        async with asyncio.timeout(PATIENCE):
            _, connection = await loop.create_connection(make, host, int(port), ssl=tls, server_hostname="localhost")
        tally.connections["opened (h2)"] += 1
        return connection

    async def ask(self, method: str, path: str, body: bytes = b"", fields: list[tuple[str, str]] = ()) -> Answer:
        """One request and its whole answer."""
        async with asyncio.timeout(PATIENCE):
            number, stream = await self._send(method, path, body, fields)
            answer = await stream.head
            async for piece in self._pieces(number, stream):
                answer.body += piece
        return answer

    async def stream(self, method: str, path: str, body: bytes = b"") -> AsyncIterator[bytes]:
        """The pieces of an answer that does not end by itself."""
        async with asyncio.timeout(PATIENCE):
            number, stream = await self._send(method, path, body, ())
            answer = await stream.head
        if answer.status != 200:
            raise CutError(begun=True)
        async for piece in self._pieces(number, stream):
            yield piece

    def close(self) -> None:
        self.usable = False
        self._transport.abort()

    # -- asyncio's side

    def connection_made(self, transport) -> None:
        self._transport = transport
        self._flush()

    def data_received(self, data: bytes) -> None:
        try:
            for event in self._frames.receive(data):
                self._take(event)
        except h2.exceptions.ProtocolError as error:
            self._fail_all(error)
            self._transport.abort()
        self._flush()

    def connection_lost(self, error) -> None:
        self._fail_all(None)

    # -- inside

    async def _send(self, method, path, body, fields) -> tuple[int, _Stream]:
        if not self.usable:
            raise UnprocessedError
        h2 = self._frames.h2
        number, stream = h2.get_next_available_stream_id(), _Stream()
        self._streams[number] = stream
        head = [(":method", method), (":scheme", "https"), (":authority", self._authority), (":path", path)]
        head += [("accept", "application/json, text/event-stream"), *fields]
        if body:
            head += [("content-type", "application/json"), ("content-length", str(len(body)))]
        h2.send_headers(number, head, end_stream=not body)
        while body and number in self._streams:
            size = min(h2.local_flow_control_window(number), h2.max_outbound_frame_size, len(body))
            if size > 0:
                h2.send_data(number, body[:size], end_stream=size == len(body))
                body = body[size:]
            else:
                self._window.clear()
                self._flush()
                await self._window.wait()
        self._flush()
        return number, stream

    async def _pieces(self, number: int, stream: _Stream) -> AsyncIterator[bytes]:
        while (piece := await stream.pieces.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def _take(self, event: object) -> None:
        match event:
            case h2.events.ResponseReceived():
                head = dict(event.headers)
                lines = "".join(f"\r\n{name}: {value}" for name, value in event.headers).lower().encode()
                if stream := self._streams.get(event.stream_id):
                    stream.head.set_result(Answer(int(head[":status"]), lines + b"\r\n"))
            case h2.events.DataReceived():
                self._frames.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if stream := self._streams.get(event.stream_id):
                    stream.pieces.put_nowait(event.data)
            case h2.events.StreamEnded():
                if stream := self._streams.pop(event.stream_id, None):
                    stream.pieces.put_nowait(None)
            case h2.events.StreamReset():
                if stream := self._streams.pop(event.stream_id, None):
                    stream.fail(CutError(begun=stream.head.done(), reset=True))
                self._window.set()
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                self._window.set()
            case GoneAway():
                self._go_away(event)

    def _go_away(self, event: GoneAway) -> None:
        if self.usable:
            self._tally.connections["told to go away (h2)"] += 1
        self.usable = False
        for number in [number for number in self._streams if number > event.last_stream]:
            self._streams.pop(number).fail(UnprocessedError())

    def _fail_all(self, error: Exception | None) -> None:
        self.usable = False
        for stream in self._streams.values():
            stream.fail(error or CutError(begun=stream.head.done()))
        self._streams.clear()
        self._window.set()

    def _flush(self) -> None:
        if data := self._frames.h2.data_to_send():
            self._transport.write(data)
