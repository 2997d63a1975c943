"""Raw sockets at both ends of Outrigger: an upstream with a script per connection, a client that sends what it is told.

Both keep the exact bytes that came and the moment the other end closed. Everything blocks, with patience; scripts run
in threads of their own, and wait for as long as their test lasts.
"""

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from .http1 import Closed, Message, parse_head, request, response
from .waiting import PATIENCE, wait_until

#: Clients of the running test, HTTP/2 too. Conftest closes them at its end; left to the garbage collector, they would
#: be counted in later tests.
DIALLED: list = []

#: A script's patience. It waits for its test, whose own patience is what counts, or lies idle in a pool.
_LIFETIME = 20 * PATIENCE


class Connection:
    """One TCP (or TLS) connection of a test, seen from the test's end; `patience` holds where none is named."""

    def __init__(self, sock: socket.socket, number: int = 0, patience: float = PATIENCE):
        self.number = number
        self.patience = patience
        # Grown in place: what is added to `bytes` copies all that came before, which takes seconds for an upload.
        self._received = bytearray()
        self.opened_at = time.monotonic()
        self.closed_at: float | None = None  # when the other end closed or reset; None while open
        self.was_reset = False
        self.requests: list[Message] = []
        self.error: BaseException | None = None  # what the script raised, other than Closed
        self._sock = sock
        self._unread = bytearray()
        sock.settimeout(patience)
        if not isinstance(sock, ssl.SSLSocket):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def received(self) -> bytes:
        """Every byte that came, in order."""
        return bytes(self._received)

    # -- sending

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def send_slowly(self, data: bytes, piece: int = 1, pause: float = 0.001) -> None:
        """Each piece as a write of its own, so that the other end meets every cut."""
        for start in range(0, len(data), piece):
            self.send(data[start : start + piece])
            time.sleep(pause)

    def finish_sending(self) -> None:
        """Half-close: the other end reads EOF, we still read."""
        self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._sock.close()

    def reset(self) -> None:
        """Closes with RST instead of FIN."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def abandon(self) -> None:
        """Closes under a thread that may still be reading: close() alone would not wake it."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def drip(self, piece: bytes = b"x", pause: float = 0.05, patience: float = PATIENCE) -> None:
        """The piece again and again until the other end answers or closes; a limit on each read would never notice.

        AssertionError if it takes them all for `patience` seconds.
        """
        deadline = time.monotonic() + patience
        with suppress(Closed, BrokenPipeError, ConnectionResetError):
            while time.monotonic() < deadline:
                self.send(piece)
                with suppress(TimeoutError):
                    self._unread += self._receive(pause)
                    return
            raise AssertionError(f"connection {self.number} takes piece after piece for {patience:g} s")

    # -- receiving

    def read_some(self, patience: float | None = None) -> bytes:
        """What is there, at least one byte; Closed at the end, TimeoutError after `patience` seconds."""
        if self._unread:
            data, self._unread = bytes(self._unread), bytearray()
            return data
        return self._receive(patience)

    def read_exactly(self, size: int, patience: float | None = None) -> bytes:
        return self._read_while(lambda data: size if len(data) >= size else None, patience)

    def read_until(self, mark: bytes, patience: float | None = None) -> bytes:
        """Up to and with `mark`."""

        def end(data: bytearray):
            at = data.find(mark)
            return at + len(mark) if at >= 0 else None

        return self._read_while(end, patience)

    def read_to_end(self, patience: float | None = None) -> bytes:
        """Everything until the other end closes; a reset raises Closed."""
        data = bytearray()
        try:
            while True:
                data += self.read_some(patience)
        except Closed as closed:
            if closed.reset:
                raise Closed(bytes(data), True) from None
            return bytes(data)

    def read_head(self, patience: float | None = None) -> Message:
        """The head of the next message; its body is still unread."""
        return parse_head(self.read_until(b"\r\n\r\n", patience))

    def read_chunk(self, patience: float | None = None) -> bytes:
        """Payload of the next chunk; b"" is the last one (its trailers, if any, are still unread)."""
        size = int(self.read_until(b"\r\n", patience).split(b";")[0], 16)
        if size == 0:
            return b""
        data = self.read_exactly(size + 2, patience)
        assert data.endswith(b"\r\n"), f"chunk of {size} bytes is not followed by CRLF: {data[-20:]!r}"
        return data[:-2]

    def read_request(self, patience: float | None = None, greeting: bytes = b"") -> Message:
        """The next request with its body; also kept in `requests`. `greeting` is sent between the two."""
        message = self.read_head(patience)
        self.send(greeting)
        self._read_body(message, patience, to_end=False)
        self.requests.append(message)
        return message

    def read_response(self, patience: float | None = None, to: str = "POST") -> Message:
        """The next answer with its body; an answer `to` HEAD has none. 1xx come as they are."""
        message = self.read_head(patience)
        if to != "HEAD" and message.status >= 200 and message.status not in (204, 304):
            self._read_body(message, patience, to_end=True)
        return message

    def wait_closed(self, patience: float | None = None) -> float:
        """Reads (and keeps) until the other end closes or resets; the moment of it. AssertionError if it stays open."""
        try:
            while True:
                self._unread += self._receive(patience)
        except Closed:
            assert self.closed_at is not None
            return self.closed_at
        except TimeoutError:
            waited = patience or self.patience
            raise AssertionError(f"connection {self.number} is still open after {waited:g} s") from None

    @property
    def closed(self) -> bool:
        return self.closed_at is not None

    # -- inside

    def _receive(self, patience: float | None) -> bytes:
        self._sock.settimeout(patience or self.patience)
        try:
            data = self._sock.recv(65536)
        except (ConnectionError, ssl.SSLError) as error:
            self.was_reset = isinstance(error, ConnectionError)
            self.closed_at = self.closed_at or time.monotonic()
            raise Closed(self.received, self.was_reset) from error
        if not data:
            self.closed_at = self.closed_at or time.monotonic()
            raise Closed(self.received, False)
        self._received += data
        return data

    def _read_while(self, end: Callable[[bytearray], int | None], patience: float | None) -> bytes:
        deadline = time.monotonic() + (patience or self.patience)
        data, self._unread = self._unread, bytearray()
        while (at := end(data)) is None:
            try:
                data += self._receive(max(deadline - time.monotonic(), 0.001))
            except (Closed, TimeoutError):
                self._unread = data
                raise
        self._unread = data[at:]
        return bytes(data[:at])

    def _read_body(self, message: Message, patience: float | None, to_end: bool) -> None:
        if "chunked" in (message.header("transfer-encoding") or "").lower():
            message.body = b"".join(iter(lambda: self.read_chunk(patience), b""))
            while line := self.read_until(b"\r\n", patience)[:-2]:
                name, _, value = line.decode("latin-1").partition(":")
                message.trailers.append((name, value.strip()))
        elif (length := message.header("content-length")) is not None:
            message.body = self.read_exactly(int(length), patience)
        elif to_end:
            message.body = self.read_to_end(patience)


Script = Callable[[Connection], None]


class RawUpstream:
    """Listens on a port of its own; connection number n runs `scripts[n]`, the last script serves all later ones.

    A script that returns leaves the connection to be closed. `Closed` and broken pipes end a script quietly; anything
    else it raises is raised again by `close()`, which the fixture calls, so that it fails the test.
    """

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None, port: int = 0, host: str = "127.0.0.1"):
        self.connections: list[Connection] = []
        self.failed_handshakes: list[OSError] = []
        self._lock = threading.Lock()
        self._scripts: Sequence[Script] = scripts or (answering(response(200, {})),)
        self._tls = tls
        self._listener = socket.create_server((host, port), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self.address = f"{host}:{self.port}"
        self._open = True
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def requests(self) -> list[Message]:
        """Of all connections, by connection."""
        return [message for connection in self.connections for message in connection.requests]

    def connection(self, number: int = 0, patience: float = PATIENCE) -> Connection:
        """Waits for connection `number` (from 0)."""
        wait_until(lambda: len(self.connections) > number, patience, f"connection {number} at the upstream")
        return self.connections[number]

    def stop_listening(self) -> None:
        """From now on connecting is refused; what is open stays open."""
        self._open = False
        # Only shutdown wakes the thread that waits in accept.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def close(self) -> None:
        """Ends everything and raises what a script raised."""
        if self._open:
            self.stop_listening()
        with self._lock:
            self._closed = True
            for connection in self.connections:
                connection.abandon()
        for connection in self.connections:
            if connection.error:
                raise AssertionError(f"script of connection {connection.number} failed") from connection.error

    def _accept(self) -> None:
        while self._open:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            if self._tls:
                threading.Thread(target=self._handshake, args=(sock,), daemon=True).start()
            else:
                threading.Thread(target=self._run, args=(self._register(sock),), daemon=True).start()

    def _handshake(self, sock: socket.socket) -> None:
        """With TLS a connection counts from its finished handshake; a failed one is kept in `failed_handshakes`."""
        try:
            sock.settimeout(PATIENCE)
            self._run(self._register(self._tls.wrap_socket(sock, server_side=True)))
        except (ssl.SSLError, OSError) as error:
            self.failed_handshakes.append(error)
            sock.close()

    def _register(self, sock: socket.socket) -> Connection:
        with self._lock:
            connection = Connection(sock, len(self.connections), _LIFETIME)
            if self._closed:
                # Accepted in the last moment: nobody must meet this upstream after its test.
                connection.abandon()
            self.connections.append(connection)
        return connection

    def _run(self, connection: Connection) -> None:
        script = self._scripts[min(connection.number, len(self._scripts) - 1)]
        try:
            script(connection)
        except (Closed, BrokenPipeError, ConnectionResetError):
            pass
        except OSError as error:
            # The test's own close() under a script that was still reading is no failure.
            if self._open:
                connection.error = error
        except BaseException as error:  # noqa: BLE001 - handed to close()
            connection.error = error
        finally:
            connection.close()


def answering(*answers: bytes) -> Script:
    """Reads a request, sends an answer, and so on over one kept-alive connection; the last answer repeats."""

    def script(connection: Connection) -> None:
        number = 0
        while True:
            connection.read_request()
            connection.send(answers[min(number, len(answers) - 1)])
            number += 1

    return script


def result_for_each(connection: Connection) -> None:
    """Script of a minimal JSON-RPC upstream: a request gets `{"result": {"seen": <its params>}}`, the rest a 202."""
    while True:
        message = connection.read_request()
        call = message.json if message.body else {}
        if isinstance(call, dict) and "id" in call and "method" in call:
            connection.send(response(200, {"jsonrpc": "2.0", "id": call["id"], "result": {"seen": call.get("params")}}))
        else:
            connection.send(response(202))


class RawClient(Connection):
    """A connection to a listener: `send(request(...))`, then `read_response()`; nothing is added or corrected."""

    def __init__(self, address: str, tls: ssl.SSLContext | None = None, server_name: str = "localhost"):
        host, _, port = address.rpartition(":")
        sock = socket.create_connection((host, int(port)), timeout=PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().__init__(tls.wrap_socket(sock, server_hostname=server_name) if tls else sock)
        DIALLED.append(self)

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict | list = (), patience: float = PATIENCE
    ) -> Message:
        """One request and its whole answer on this connection."""
        self.send(request(method, path, body, headers))
        return self.read_response(patience, to=method)

    def own_address(self) -> str:
        """host:port of this end."""
        return "{}:{}".format(*self._sock.getsockname())

    def certificate(self) -> dict:
        """What the other end showed, as `ssl` tells it."""
        return self._sock.getpeercert()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def refuses(address: str) -> bool:
    """Nobody listens there."""
    try:
        RawClient(address).close()
    except ConnectionRefusedError:
        return True
    return False
