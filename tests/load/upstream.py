"""The MCP server behind the load: answers with the caller's id, at once or after 3 s, or streams numbered events.

    python -m load.upstream PORT [PORT ...]

What it does is named by the call's tool: `echo`, `slow`, `stream`; a GET of the MCP path streams too. It says in every
answer which port was asked, so that a client knows its session's owner.
"""

import asyncio
import json
import secrets
import sys
import zlib

#: Seconds between two events of a stream.
EVENT_INTERVAL = 0.05
#: Seconds that a call of `slow` takes.
SLOW = 3.0

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%b\r\n"
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Upstream(asyncio.Protocol):
    """One kept-alive connection of the proxy."""

    def __init__(self, port: int):
        self._port = port
        self._unread = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while (head_end := self._unread.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._unread[:head_end]).lower()
            length_at = head.find(b"\r\ncontent-length:")
            length = int(head[length_at + 17 :].split(b"\r\n", 1)[0]) if length_at >= 0 else 0
            end = head_end + 4 + length
            if len(self._unread) < end:
                return
            body = bytes(self._unread[head_end + 4 : end])
            del self._unread[:end]
            self._serve(head, body)

    def _serve(self, head: bytes, body: bytes) -> None:
        path = head.split(b" ", 2)[1]
        call = json.loads(body) if body else {}
        params = call.get("params", {})
        answer = {"jsonrpc": "2.0", "id": call.get("id")}
        match call.get("method"), params.get("name"):
            case (None, _) if not path.endswith(b"/mcp"):
                self._answer({"path": path.decode()})
            case (None, _) | (_, "stream"):
                self._stream()
            case ("initialize", _):
                result = {"protocolVersion": "2025-06-18", "capabilities": {}, "port": self._port}
                session = b"Mcp-Session-Id: %b\r\n" % secrets.token_hex(16).encode()
                self._answer(answer | {"result": result}, session)
            case (_, "slow"):
                answer["result"] = self._result(params)
                asyncio.get_running_loop().call_later(SLOW, self._answer, answer)
            case _:
                self._answer(answer | {"result": self._result(params)})

    def _result(self, params: dict) -> dict:
        """What the caller can compare with what it sent."""
        text = params.get("arguments", {}).get("text", "")
        return {"server_id": params.get("server_id"), "port": self._port, "crc": zlib.crc32(text.encode())}

    def _answer(self, value: dict, field: bytes = b"") -> None:
        body = json.dumps(value).encode()
        self._transport.write(_HEAD % (len(body), field) + body)

    def _stream(self) -> None:
        self._transport.write(_STREAM_HEAD)
        self._event(secrets.token_hex(8), 0)

    def _event(self, stream: str, number: int) -> None:
        """Sends event `number` and sees to the next, for as long as the connection is open."""
        if self._transport.is_closing():
            return
        event = b'id: %d\ndata: {"stream":"%b","number":%d}\n\n' % (number, stream.encode(), number)
        self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))
        asyncio.get_running_loop().call_later(EVENT_INTERVAL, self._event, stream, number + 1)


async def main(ports: list[int]) -> None:
    loop = asyncio.get_running_loop()
    for port in ports:
        await loop.create_server(lambda port=port: Upstream(port), "127.0.0.1", port, backlog=1024)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main([int(port) for port in sys.argv[1:]]))
