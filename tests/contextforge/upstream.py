"""The MCP server behind the gateways: two tools that the virtual server shows, one that it must not.

upstream.py PORT
"""

import sys

from mcp.server.fastmcp import FastMCP

server = FastMCP("tiny", host="127.0.0.1", port=int(sys.argv[1]), log_level="WARNING")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


@server.tool()
def echo(text: str) -> str:
    """Echoes."""
    return f"echo:{text}"


@server.tool()
def secret_admin() -> str:
    """Outside of the virtual server."""
    return "the secret"


server.run(transport="streamable-http")
