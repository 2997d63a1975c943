"""An MCP server that speaks to nobody without a client certificate: `ssl_context.verify_mode = ssl.CERT_REQUIRED`.

strict.py PORT TRANSPORT CERT KEY CLIENT_CA; TRANSPORT is streamable-http or sse.
"""

import ssl
import sys

import uvicorn
from mcp.server.fastmcp import FastMCP

port, transport, cert, key, client_ca = sys.argv[1:]
server = FastMCP("strict")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


@server.resource(f"memo://{transport}", mime_type="text/plain")
def memo() -> str:
    """What a gateway without the certificate never reads."""
    return "read over mTLS"


uvicorn.run(
    server.sse_app() if transport == "sse" else server.streamable_http_app(),
    host="127.0.0.1",
    port=int(port),
    ssl_certfile=cert,
    ssl_keyfile=key,
    ssl_ca_certs=client_ca,
    ssl_cert_reqs=ssl.CERT_REQUIRED,
)
