"""Failing calls of a client on Python SDK 2.x; its jobs come on standard input (python_common.serve)."""

from contextlib import asynccontextmanager

from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from faults_python_common import suffer
from python_common import serve


@asynccontextmanager
async def connect(url: str):
    async with Client(streamable_http_client(url), mode="legacy", cache=None) as client:
        yield lambda tool: client.call_tool(tool, {})


serve(lambda job: suffer(job, connect))
