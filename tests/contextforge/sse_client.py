"""A client of Python SDK 1.x on HTTP+SSE, which refuses an endpoint of another origin than the one it called.

sse_client.py URL TOKEN, with $SSL_CERT_FILE where the URL is https. Prints what it was told and which tools it saw.
"""

import asyncio
import json
import sys

from mcp import ClientSession
from mcp.client.sse import sse_client


async def main(url: str, token: str) -> dict:
    headers = {"Authorization": f"Bearer {token}"}
    async with sse_client(url, headers) as streams, ClientSession(*streams) as session:
        await session.initialize()
        tools = sorted(tool.name for tool in (await session.list_tools()).tools)
        added = await session.call_tool("tiny-add", {"a": 2, "b": 3})
        return {"tools": tools, "added": added.content[0].text}


print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
