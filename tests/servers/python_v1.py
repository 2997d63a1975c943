"""A server on Python SDK 1.x (FastMCP): sessions, stateless or HTTP+SSE.

python_v1.py --port P --name N [--transport T] [--json]
"""

import uvicorn
from mcp.server.fastmcp import Context, FastMCP

from python_common import MemoryEventStore, Recording, arguments, open_sessions, register_tools

args = arguments()
resumable = args.transport == "streamable" and not args.json
server = FastMCP(
    "python-v1",
    event_store=MemoryEventStore() if resumable else None,
    retry_interval=50,
    json_response=args.json,
    stateless_http=args.transport == "stateless",
    log_level="WARNING",
)
register_tools(server, Context, args.name)
app = server.sse_app() if args.transport == "sse" else server.streamable_http_app()
app = Recording(app, lambda: open_sessions(server.session_manager))
uvicorn.run(app, host="127.0.0.1", port=args.port, log_level="warning")
