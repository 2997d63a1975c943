"""A server on Python SDK 2.x (MCPServer): both eras on one endpoint, or HTTP+SSE.

python_v2.py --port P --name N [--transport T] [--json]
"""

import uvicorn
from mcp.server.mcpserver import Context, MCPServer

from python_common import MemoryEventStore, Recording, arguments, open_sessions, register_tools

args = arguments()
resumable = args.transport == "streamable" and not args.json
server = MCPServer("python-v2", log_level="WARNING")
register_tools(server, Context, args.name)
if args.transport == "sse":
    app = server.sse_app()
else:
    app = server.streamable_http_app(
        json_response=args.json,
        stateless_http=args.transport == "stateless",
        event_store=MemoryEventStore() if resumable else None,
        retry_interval=50,
    )
app = Recording(app, lambda: open_sessions(server.session_manager))
uvicorn.run(app, host="127.0.0.1", port=args.port, log_level="warning")
