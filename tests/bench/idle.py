"""Memory of a target per idle connection: kept alive after one request, or an event stream that has fallen silent.

Given is the slope between a few and many of them, so that what the first one brings along is not counted. Kernel memory
is not in it.
"""

import contextlib
import socket
import time

from client import answered
from machine import rss_of_tree
from targets import PATH, Target

BODY = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
FIELDS = f"Host: localhost\r\nAccept: application/json, text/event-stream\r\nAuthorization: Bearer {'0' * 32}\r\n"
GET = f"GET {PATH} HTTP/1.1\r\n{FIELDS}\r\n".encode()
POST = (
    f"POST {PATH} HTTP/1.1\r\n{FIELDS}Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
    + BODY
)

# Allocators give pages back late; the same for every target.
SETTLE = 1.0


def per_kept_connection(target: Target, few: int, many: int) -> float:
    """Bytes per client connection that made one request and waits."""
    return slope(target, few, many, POST, b'"result":{}}')


def per_stream(target: Target, few: int, many: int) -> float:
    """Bytes per event stream whose first event has come."""
    return slope(target, few, many, GET, b"data: {}\n\n")


def slope(target: Target, few: int, many: int, request: bytes, until: bytes) -> float:
    connections: list[socket.socket] = []
    with contextlib.ExitStack() as held:

        def rss_at(count: int) -> int:
            while len(connections) < count:
                one = answered(target.address, request, until, target.tls)
                connections.append(held.enter_context(one))
            time.sleep(SETTLE)
            return rss_of_tree(target.pid)

        at_few = rss_at(few)
        return (rss_at(many) - at_few) / (many - few)
