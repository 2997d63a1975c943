"""A server on Python SDK 2.x with the tasks extension (SEP-2663): `begin` answers with a task that this process keeps.

tasks_python_v2.py --port P --name N
"""

import uuid
from datetime import UTC, datetime

import uvicorn
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.server import require_client_extension
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, RequestParams
from pydantic import Field

from python_common import Recording, arguments


class TaskParams(RequestParams):
    task_id: str = Field(alias="taskId")


class Tasks(Extension):
    """Tasks that end when they are cancelled; every answer about one says which instance it is of."""

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self, instance: str):
        self._instance = instance
        self._tasks: dict[str, dict] = {}

    def methods(self):
        return [
            MethodBinding("tasks/get", TaskParams, self._get),
            MethodBinding("tasks/update", TaskParams, self._update),
            MethodBinding("tasks/cancel", TaskParams, self._cancel),
        ]

    async def intercept_tool_call(self, params, ctx, call_next):
        if params.name != "begin":
            return await call_next(ctx)
        require_client_extension(ctx, self.identifier)
        if (params.arguments or {}).get("progress"):
            # What comes before the answer makes an event stream of it.
            await ctx.session.report_progress(1)
        now = datetime.now(UTC).isoformat()
        task = {"taskId": str(uuid.uuid4()), "status": "working", "statusMessage": self._instance, "updates": 0}
        self._tasks[task["taskId"]] = task | {"createdAt": now, "lastUpdatedAt": now, "ttlMs": None}
        return {"resultType": "task", **self._tasks[task["taskId"]]}

    async def _get(self, ctx, params: TaskParams) -> dict:
        return {"resultType": "complete", **self._known(params)}

    async def _update(self, ctx, params: TaskParams) -> dict:
        self._known(params)["updates"] += 1
        return {"resultType": "complete"}

    async def _cancel(self, ctx, params: TaskParams) -> dict:
        self._known(params)["status"] = "cancelled"
        return {"resultType": "complete"}

    def _known(self, params: TaskParams) -> dict:
        if params.task_id not in self._tasks:
            raise MCPError(code=INVALID_PARAMS, message=f"No such task at {self._instance}")
        return self._tasks[params.task_id]


args = arguments()
server = MCPServer("tasks", log_level="WARNING", extensions=[Tasks(args.name)])


@server.tool()
def begin(progress: bool = False) -> str:
    """Answers with a task."""
    raise AssertionError("the extension answers")


uvicorn.run(Recording(server.streamable_http_app()), host="127.0.0.1", port=args.port, log_level="warning")
