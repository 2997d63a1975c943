"""A client on Python SDK 2.x.   python_v2.py URL [--transport sse] [--mode auto] [--resumable] [--streamless]"""

from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from python_common import Heard, Wire, after_delete, exercise, run


async def main(args) -> dict:
    heard = Heard()
    http_client = create_mcp_http_client()
    wire = Wire(http_client)
    if args.transport == "sse":
        # The SSE transport makes its own HTTP client; nothing is seen of its wire.
        transport = sse_client(args.url)
    else:
        transport = streamable_http_client(args.url, http_client=http_client)
    async with Client(
        transport, mode=args.mode, logging_callback=heard.log, message_handler=heard.message, cache=None
    ) as client:
        report = {"server": client.server_info.name, "protocol": client.protocol_version}
        modern = client.protocol_version >= "2026-07-28"
        report |= await exercise(client, heard, args.resumable and not modern, not args.streamless and not modern)
    report["wire"] = sorted(wire.answers)
    report["after_delete"] = await after_delete(create_mcp_http_client, args.url, wire.session)
    return report


run(main)
