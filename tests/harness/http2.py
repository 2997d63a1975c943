"""An HTTP/2 client over TLS that shows what happened on each stream: heads, data as it came, resets, GOAWAYs.

Blocking, with patience, and driven by the test's own thread: frames are read while a test waits for something.
GOAWAY frames are kept from the h2 library, which would end its running streams at the first one, against RFC 9113 §6.8.
"""

import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress

import h2.config
import h2.connection
import h2.events
import h2.settings

from . import secrets
from .http1 import Closed, Message
from .raw import DIALLED
from .waiting import PATIENCE

_HEAD = 9
_GOAWAY = 7


class Stream:
    """One request and its answer."""

    def __init__(self, client: "Http2Client", number: int):
        self.number = number
        self.interim: list[int] = []  # statuses of 1xx heads
        self._body = bytearray()
        self.ended = False
        self.reset_code: int | None = None  # error code of the RST_STREAM that came
        self._client = client
        self._head: Message | None = None
        self._given = 0

    @property
    def body(self) -> bytes:
        """Every byte of data that came."""
        return bytes(self._body)

    def send(self, data: bytes, end: bool = False, patience: float = PATIENCE) -> None:
        """Data frames, as the other end's windows allow."""
        self._client.send_data(self, data, end, patience)

    def drip(self, piece: bytes = b"x", pause: float = 0.05, patience: float = PATIENCE) -> None:
        """See `raw.Connection.drip`."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            self.send(piece)
            with suppress(TimeoutError):
                self.read_head(pause)
                return
        raise AssertionError(f"stream {self.number} takes piece after piece for {patience:g} s")

    def reset(self, code: int = 8) -> None:
        """RST_STREAM, by default CANCEL."""
        self._client.reset(self, code)

    def read_head(self, patience: float = PATIENCE) -> Message:
        self._client.pump(lambda: self._head or self._over, patience, f"head of stream {self.number}")
        return self._head or self._raise()

    def read_piece(self, patience: float = PATIENCE) -> bytes:
        """What has come of the body, at least one byte; b"" at its end; Closed if it was cut."""
        self._client.pump(
            lambda: len(self._body) > self._given or self._over, patience, f"data of stream {self.number}"
        )
        piece, self._given = bytes(self._body[self._given :]), len(self._body)
        return piece if piece or self.ended else self._raise()

    def read_response(self, patience: float = PATIENCE) -> Message:
        """The whole answer; Closed if it was cut."""
        message = self.read_head(patience)
        self._client.pump(lambda: self._over, patience, f"end of stream {self.number}")
        if not self.ended:
            self._raise()
        message.body = self.body
        return message

    def wait_reset(self, patience: float = PATIENCE) -> int:
        """Error code of the RST_STREAM that is waited for."""
        self._client.pump(lambda: self.reset_code is not None or self.ended, patience, f"reset of stream {self.number}")
        assert self.reset_code is not None, f"stream {self.number} ended orderly with {self.body[-200:]!r}"
        return self.reset_code

    @property
    def _over(self) -> bool:
        return self.ended or self.reset_code is not None or self._client.closed

    def _raise(self):
        raise Closed(self.body, self.reset_code is not None)


class Http2Client:
    """One connection. `window` bytes may be in flight per stream; while `reading` is False none is given back."""

    def __init__(self, address: str, tls: ssl.SSLContext, server_name: str = "localhost", window: int = 65535):
        host, _, port = address.rpartition(":")
        sock = socket.create_connection((host, int(port)), timeout=PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = tls.wrap_socket(sock, server_hostname=server_name)
        DIALLED.append(self)
        assert self._sock.selected_alpn_protocol() == "h2", "the listener did not choose h2"
        self.reading = True
        self.closed = False
        self.goaways: list[int] = []  # error codes
        self._streams: dict[int, Stream] = {}
        self._unparsed = b""
        # The tests send what an honest library would not.
        config = h2.config.H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
        self._h2 = h2.connection.H2Connection(config)
        self._h2.local_settings[h2.settings.SettingCodes.INITIAL_WINDOW_SIZE] = window
        self._h2.initiate_connection()
        self._flush()

    def begin(
        self, method: str, path: str, body: bytes | None = b"", headers: dict | list = (), authority: str = "localhost"
    ) -> Stream:
        """Sends head and body; with `body=None` the stream stays open for `send`."""
        pairs = list(headers.items()) if isinstance(headers, dict) else list(headers)
        secrets.note_head(path, pairs)
        fields = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
        pseudo = [(":method", method), (":scheme", "https"), (":authority", authority), (":path", path)]
        stream = Stream(self, self._h2.get_next_available_stream_id())
        self._streams[stream.number] = stream
        self._h2.send_headers(stream.number, pseudo + fields, end_stream=body == b"")
        self._flush()
        if body:
            stream.send(body, end=True)
        return stream

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict | list = (), patience: float = PATIENCE
    ) -> Message:
        """One request and its whole answer."""
        return self.begin(method, path, body, headers).read_response(patience)

    def send_data(self, stream: Stream, data: bytes, end: bool, patience: float) -> None:
        rest = memoryview(data)
        while rest or end:
            if stream.reset_code is not None or stream.ended:
                return  # the answer is there already, nobody reads on
            room = min(self._h2.local_flow_control_window(stream.number), self._h2.max_outbound_frame_size)
            if rest and room == 0:
                free = lambda: self._over(stream) or self._h2.local_flow_control_window(stream.number) > 0  # noqa: E731
                self.pump(free, patience, "room to send")
                continue
            piece, rest = bytes(rest[:room]), rest[room:]
            last = end and not rest
            self._h2.send_data(stream.number, piece, end_stream=last)
            self._flush()
            if last:
                return

    def reset(self, stream: Stream, code: int) -> None:
        self._h2.reset_stream(stream.number, code)
        self._flush()

    def pump(self, condition: Callable[[], object], patience: float, what: str) -> None:
        """Reads frames until `condition`; TimeoutError after `patience` seconds."""
        deadline = time.monotonic() + patience
        while not condition():
            self._sock.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                data = self._sock.recv(65536)
            except TimeoutError:
                raise TimeoutError(f"not within {patience:g} s: {what}") from None
            except (ConnectionError, ssl.SSLError):
                data = b""
            if data:
                self._take(data)
            else:
                self.closed = True
                if not condition():
                    raise Closed(b"", False)

    def wait_closed(self, patience: float = PATIENCE) -> None:
        """Until the other end closes the connection."""
        self.pump(lambda: self.closed, patience, "end of the connection")

    def close(self) -> None:
        self._sock.close()

    def abort(self) -> None:
        """Ends the TCP connection under TLS and HTTP/2, without a word of either."""
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # -- inside

    def _over(self, stream: Stream) -> bool:
        return stream.ended or stream.reset_code is not None

    def _flush(self) -> None:
        self._sock.settimeout(PATIENCE)
        try:
            self._sock.sendall(self._h2.data_to_send())
        except (ConnectionError, ssl.SSLError):
            self.closed = True

    def _take(self, data: bytes) -> None:
        self._unparsed += data
        while len(self._unparsed) >= _HEAD:
            size = _HEAD + int.from_bytes(self._unparsed[:3])
            if len(self._unparsed) < size:
                break
            frame, self._unparsed = self._unparsed[:size], self._unparsed[size:]
            if frame[3] == _GOAWAY:
                self.goaways.append(int.from_bytes(frame[13:17]))
                continue
            for event in self._h2.receive_data(frame):
                self._note(event)
        self._flush()

    def _note(self, event: h2.events.Event) -> None:
        stream = self._streams.get(getattr(event, "stream_id", None))
        match event:
            case h2.events.InformationalResponseReceived():
                stream.interim.append(_message(event.headers).status)
            case h2.events.ResponseReceived():
                stream._head = _message(event.headers)
            case h2.events.DataReceived():
                stream._body += event.data
                if self.reading and event.flow_controlled_length:
                    self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                stream.ended = True
            case h2.events.StreamReset() if stream:
                stream.reset_code = int(event.error_code)


def _message(headers) -> Message:
    pairs = [(_text(name), _text(value)) for name, value in headers]
    secrets.note_head("", pairs)
    status = dict(pairs)[":status"]
    return Message(f"HTTP/2 {status} ", [pair for pair in pairs if not pair[0].startswith(":")], b"")


def _text(value: bytes | str) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
