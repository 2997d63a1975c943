"""Requests one at a time, plain or over TLS, always HTTP/1.1; and what Redis is asked."""

import contextlib
import http.client
import socket
import ssl
import time

PATIENCE = 20.0


def post(address: str, path: str, body: str, tls: bool = False) -> http.client.HTTPResponse:
    """One request on a connection of its own; the answer was read to its end."""
    connection = http.client.HTTPConnection(address)
    connection.sock = connected(address, tls)
    with contextlib.closing(connection):
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return answer


class Client:
    """Sends the requests of a client's sessions, one after the other on one connection."""

    def __init__(self, address: str, path: str):
        self._path = path
        self._connection = http.client.HTTPConnection(address, timeout=PATIENCE)

    def call(self, session: str) -> tuple[int, float]:
        """One request of a session: its status, and how many seconds its whole answer took."""
        body = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"}}'
        began = time.perf_counter()
        self._connection.request(
            "POST", self._path, body, {"Content-Type": "application/json", "Mcp-Session-Id": session}
        )
        answer = self._connection.getresponse()
        answer.read()
        return answer.status, time.perf_counter() - began

    def close(self) -> None:
        self._connection.close()


def redis_says(address: str, command: str) -> str:
    """The text that Redis answers to a command of words; empty if there is none."""
    host, _, port = address.partition(":")
    with socket.create_connection((host, int(port)), PATIENCE) as connection, connection.makefile("rb") as said:
        connection.sendall(f"{command}\r\n".encode())
        return said.read(max(int(said.readline()[1:]), 0)).decode()


def answered(address: str, request: bytes, until: bytes, tls: bool = False) -> socket.socket:
    """A connection on which `request` was answered as far as `until`; it stays open."""
    connection = connected(address, tls)
    connection.sendall(request)
    answer = b""
    while until not in answer:
        piece = connection.recv(65536)
        if not piece:
            raise RuntimeError(f"{address} closed the connection after {answer!r}")
        answer += piece
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"{address} answered {answer!r}")
    return connection


def connected(address: str, tls: bool) -> socket.socket:
    host, _, port = address.partition(":")
    connection = socket.create_connection((host, int(port)), PATIENCE)
    return TRUSTING.wrap_socket(connection) if tls else connection


def trusting() -> ssl.SSLContext:
    """TLS without verification: the certificate was made a moment ago, and it is the proxy that is measured."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


TRUSTING = trusting()
