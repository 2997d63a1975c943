"""A client that opens a TLS connection for every request and brings along the session of its last one.

After a rotation its ticket is of no use any more: then there must be a whole handshake, and no failure. It blocks, for
asyncio cannot be given a session; run it in a thread.
"""

import socket
import ssl

from .http1 import PATIENCE, Answer
from .tally import CutError


class Resuming:
    """`resumed` tells of the last connection whether its session was taken up again."""

    def __init__(self, address: str, tls: ssl.SSLContext):
        host, _, port = address.rpartition(":")
        self._address = (host, int(port))
        self._host = address.encode()
        self._tls = tls
        self._session: ssl.SSLSession | None = None
        self.resumed = False

    def ask(self, path: bytes, body: bytes) -> Answer:
        """One POST on a connection of its own."""
        answer = bytearray()
        try:
            self._exchange(path, body, answer)
        except ConnectionRefusedError:
            raise
        except (ConnectionError, ssl.SSLError) as error:
            raise CutError(begun=bool(answer), reset=True) from error
        head, end, body = bytes(answer).partition(b"\r\n\r\n")
        answer = Answer(int(head[9:12]), head.lower(), body) if end else None
        if not answer or len(body) < int(answer.field(b"content-length") or 0):
            raise CutError(begun=bool(head))
        return answer

    def _exchange(self, path: bytes, body: bytes, answer: bytearray) -> None:
        head = b"POST %b HTTP/1.1\r\nHost: %b\r\nAccept: application/json, text/event-stream\r\nConnection: close\r\n"
        head += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        with (
            socket.create_connection(self._address, PATIENCE) as plain,
            self._tls.wrap_socket(plain, server_hostname="localhost", session=self._session) as sock,
        ):
            sock.sendall(head % (path, self._host, len(body)) + body)
            while piece := sock.recv(65536):
                answer += piece
            self.resumed = sock.session_reused
            self._session = sock.session
