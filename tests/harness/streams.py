"""Event streams that live until the test says so."""

import threading

from .http1 import LAST_CHUNK, chunk, event, event_stream_head, response
from .raw import Connection, RawClient

_LAST_WORD = event("the last word")


class Streams:
    """Script of an upstream that answers POSTs, and whose GET streams begin with `begun` and live until `end`."""

    def __init__(self):
        self._over = threading.Event()

    def __call__(self, connection: Connection) -> None:
        while True:
            message = connection.read_request()
            if message.method == "GET":
                connection.send(event_stream_head() + chunk(event("begun")))
                self._over.wait()
                connection.send(chunk(_LAST_WORD) + LAST_CHUNK)
            else:
                connection.send(response(200, {"jsonrpc": "2.0", "id": message.json["id"], "result": {}}))

    def end(self) -> None:
        self._over.set()


def read_end(client: RawClient) -> None:
    """All that a stream still has to say once it has ended."""
    assert (client.read_chunk(), client.read_chunk()) == (_LAST_WORD, b"")
    client.close()
