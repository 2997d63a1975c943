"""A client on Python SDK 1.x; its jobs come on standard input (python_common.serve)."""

from contextlib import AsyncExitStack

from mcp import ClientSession
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from python_common import Heard, Wire, after_delete, exercise, serve, with_certificate

make_http_client = with_certificate(create_mcp_http_client)


async def main(job) -> dict:
    heard = Heard()
    http_client = make_http_client()
    wire = Wire(http_client)
    async with AsyncExitStack() as stack:
        if job.transport == "sse":
            # The SSE transport makes its own HTTP client; nothing is seen of its wire.
            # Its 5 s to connect are too few for dozens of jobs in one process.
            streams = await stack.enter_async_context(sse_client(job.url, timeout=60))
        else:
            streams = await stack.enter_async_context(streamable_http_client(job.url, http_client=http_client))
        session = await stack.enter_async_context(
            ClientSession(streams[0], streams[1], logging_callback=heard.log, message_handler=heard.message)
        )
        hello = await session.initialize()
        report = {"server": hello.serverInfo.name, "protocol": hello.protocolVersion}
        report |= await exercise(session, heard, job.resumable, not job.streamless)
    report["wire"] = sorted(wire.answers)
    report["after_delete"] = await after_delete(make_http_client, job.url, wire.session)
    return report


serve(main)
