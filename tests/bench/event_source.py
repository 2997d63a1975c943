"""The upstream of the memory measurements: `event_source.py HOST:PORT`.

GET opens a chunked event stream that says one event and then nothing; every other request is read and answered at once.
"""

import asyncio
import sys

STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
    b"a\r\ndata: {}\n\n\r\n"
)
RESULT = b'{"jsonrpc":"2.0","id":1,"result":{}}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(RESULT), RESULT)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET "):
                writer.write(STREAM)
                await reader.read()
                return
            await reader.readexactly(length_of(head))
            writer.write(ANSWER)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the proxy closed the connection
    finally:
        writer.close()


def length_of(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def main(address: str) -> None:
    host, _, port = address.partition(":")
    server = await asyncio.start_server(serve, host, int(port), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
