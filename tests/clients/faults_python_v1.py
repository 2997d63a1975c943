"""Failing calls of a client on Python SDK 1.x; its jobs come on standard input (python_common.serve)."""

from contextlib import asynccontextmanager

from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from faults_python_common import suffer
from python_common import serve


@asynccontextmanager
async def connect(url: str):
    async with streamable_http_client(url) as streams, ClientSession(streams[0], streams[1]) as session:
        await session.initialize()
        yield lambda tool: session.call_tool(tool, {})


serve(lambda job: suffer(job, connect))
