"""A client on Python SDK 2.x; its jobs come on standard input (python_common.serve)."""

from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from python_common import Heard, Wire, after_delete, exercise, serve, with_certificate

make_http_client = with_certificate(create_mcp_http_client)


async def main(job) -> dict:
    heard = Heard()
    http_client = make_http_client()
    wire = Wire(http_client)
    if job.transport == "sse":
        # The SSE transport makes its own HTTP client; nothing is seen of its wire.
        # Its 5 s to connect are too few for dozens of jobs in one process.
        transport = sse_client(job.url, timeout=60)
    else:
        transport = streamable_http_client(job.url, http_client=http_client)
    async with Client(
        transport, mode=job.mode, logging_callback=heard.log, message_handler=heard.message, cache=None
    ) as client:
        report = {"server": client.server_info.name, "protocol": client.protocol_version}
        modern = client.protocol_version >= "2026-07-28"
        report |= await exercise(client, heard, job.resumable and not modern, not job.streamless and not modern)
    report["wire"] = sorted(wire.answers)
    report["after_delete"] = await after_delete(make_http_client, job.url, wire.session)
    return report


serve(main)
