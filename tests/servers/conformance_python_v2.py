"""The fixtures that the official conformance suite asks of a server, on Python SDK 2.x.

conformance_python_v2.py --port P --name N

Names, texts and schemas are the suite's contract; a tool without a comment does what its scenario's name says.
"""

import asyncio
import base64
import json
from typing import Annotated

import uvicorn
from mcp.server.mcpserver import Context, MCPServer, RequestStateSecurity
from mcp.server.mcpserver.prompts.base import Prompt, UserMessage
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from mcp.types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    Completion,
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    InputRequiredResult,
    ListRootsRequest,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)
from pydantic import BaseModel, Field

from python_common import MemoryEventStore, Recording, arguments

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
SILENCE = base64.b64encode(
    b"RIFF$\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0@\x1f\0\0@\x1f\0\0\x01\0\x08\0data\0\0\0\0"
).decode()

# Every instance must open what another one sealed, as replicas of one service do.
server = MCPServer(
    "conformance-python-v2",
    version="1",
    log_level="WARNING",
    request_state_security=RequestStateSecurity(keys=[b"one key for all instances of the test server"]),
)


def tool(function):
    """Registers a tool with the description that the suite demands."""
    return server.tool(description=function.__doc__ or function.__name__.replace("_", " "))(function)


def text(value: str) -> TextContent:
    return TextContent(type="text", text=value)


def image() -> ImageContent:
    return ImageContent(type="image", data=PIXEL, mime_type="image/png")


def embedded(uri: str, value: str, mime_type: str = "text/plain") -> EmbeddedResource:
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type=mime_type, text=value))


def ask(message: str, key: str, kind: str = "string") -> ElicitRequest:
    schema = {"type": "object", "properties": {key: {"type": kind}}, "required": [key]}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def sample(prompt: str) -> CreateMessageRequest:
    message = SamplingMessage(role="user", content=text(prompt))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=100))


def need(state: str | None = None, **requests) -> InputRequiredResult:
    return InputRequiredResult(input_requests=requests, request_state=state)


def given(ctx: Context, key: str):
    """The client's answer to one input request, if it came."""
    return (ctx.input_responses or {}).get(key)


# Content


@tool
def test_simple_text() -> str:
    return "This is a simple text response for testing."


@tool
def test_image_content() -> list[ImageContent]:
    return [image()]


@tool
def test_audio_content() -> list[AudioContent]:
    return [AudioContent(type="audio", data=SILENCE, mime_type="audio/wav")]


@tool
def test_embedded_resource() -> list[EmbeddedResource]:
    return [embedded("test://embedded-resource", "This is an embedded resource content.")]


@tool
def test_multiple_content_types() -> list[TextContent | ImageContent | EmbeddedResource]:
    resource = embedded("test://mixed-content-resource", '{"test": "data", "value": 123}', "application/json")
    return [text("Multiple content types test:"), image(), resource]


@tool
def test_error_handling() -> str:
    raise RuntimeError("This tool intentionally returns an error for testing")


@tool
def test_x_mcp_header(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})] = "") -> str:
    """Its argument travels in Mcp-Param-Region, too (SEP-2243)."""
    return f"region={region}"


# Messages beside the answer


@tool
async def test_tool_with_logging(ctx: Context) -> str:
    for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(line)
        await asyncio.sleep(0.05)
    return "Tool with logging executed successfully"


@tool
async def test_tool_with_progress(ctx: Context) -> str:
    for step in (0, 50, 100):
        await ctx.report_progress(step, 100, f"Completed step {step} of 100")
        await asyncio.sleep(0.2)
    return str((ctx.request_context.meta or {}).get("progress_token", 0))


@tool
async def test_reconnection(ctx: Context) -> str:
    """Ends its event stream before the answer (SEP-1699)."""
    await ctx.info("Before disconnect")
    await ctx.close_sse_stream()
    await asyncio.sleep(0.2)
    await ctx.info("After reconnect")
    return "Reconnection test completed"


@tool
async def test_trigger_tool_change(ctx: Context) -> str:
    server.add_tool(test_simple_text, name="test_passing_tool")
    server.remove_tool("test_passing_tool")
    await ctx.notify_tools_changed()
    return "tools changed"


@tool
async def test_trigger_prompt_change(ctx: Context) -> str:
    server.add_prompt(Prompt.from_function(test_simple_prompt, name="test_passing_prompt"))
    server.remove_prompt("test_passing_prompt")
    await ctx.notify_prompts_changed()
    return "prompts changed"


# Requests to the client (handshake era)


@tool
async def test_sampling(prompt: str, ctx: Context) -> str:
    message = SamplingMessage(role="user", content=text(prompt))
    # Without the related id the request would leave on the GET stream, which may not stand yet.
    result = await ctx.session.create_message(messages=[message], max_tokens=100, related_request_id=ctx.request_id)
    return f"LLM response: {result.content.text}"


async def elicited(ctx: Context, message: str, schema: type[BaseModel], label: str) -> str:
    result = await ctx.elicit(message=message, schema=schema)
    content = result.data.model_dump_json() if result.action == "accept" else "{}"
    return f"{label}: action={result.action}, content={content}"


class Reply(BaseModel):
    response: str = Field(description="User's response")


@tool
async def test_elicitation(message: str, ctx: Context) -> str:
    return await elicited(ctx, message, Reply, "User response")


class Defaults(BaseModel):
    name: str = "John Doe"
    age: int = 30
    score: float = 95.5
    status: str = Field(default="active", json_schema_extra={"enum": ["active", "inactive", "pending"]})
    verified: bool = True


@tool
async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
    return await elicited(ctx, "Please review the defaults", Defaults, "Elicitation completed")


def titled(*options: str) -> list[dict]:
    return [{"const": option, "title": option.title()} for option in options]


class Enums(BaseModel):
    untitledSingle: str = Field(json_schema_extra={"enum": ["one", "two", "three"]})  # noqa: N815
    titledSingle: str = Field(json_schema_extra={"oneOf": titled("one", "two", "three")})  # noqa: N815
    legacyEnum: str = Field(json_schema_extra={"enum": ["one", "two"], "enumNames": ["One", "Two"]})  # noqa: N815
    untitledMulti: list[str] = Field(  # noqa: N815
        json_schema_extra={"items": {"type": "string", "enum": ["one", "two", "three"]}}
    )
    titledMulti: list[str] = Field(json_schema_extra={"items": {"anyOf": titled("one", "two", "three")}})  # noqa: N815


@tool
async def test_elicitation_sep1330_enums(ctx: Context) -> str:
    return await elicited(ctx, "Please choose", Enums, "Elicitation completed")


# Input asked for in the answer (modern era, SEP-2322)


@tool
async def test_missing_capability(ctx: Context) -> str:
    capabilities = ctx.session.client_capabilities
    if capabilities is None or capabilities.sampling is None:
        data = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(code=MISSING_REQUIRED_CLIENT_CAPABILITY, message="sampling is required", data=data)
    return "sampling is there"


@tool
async def test_input_required_result_elicitation(ctx: Context) -> str | InputRequiredResult:
    if answer := given(ctx, "user_name"):
        return f"Hello, {(answer.content or {}).get('name')}!"
    return need(user_name=ask("What is your name?", "name"))


@tool
async def test_input_required_result_sampling(ctx: Context) -> str | InputRequiredResult:
    if answer := given(ctx, "capital_question"):
        return f"The model said: {answer.content.text}"
    return need(capital_question=sample("What is the capital of France?"))


@tool
async def test_input_required_result_list_roots(ctx: Context) -> str | InputRequiredResult:
    if answer := given(ctx, "client_roots"):
        return f"{len(answer.roots)} roots"
    return need(client_roots=ListRootsRequest())


@tool
async def test_input_required_result_request_state(ctx: Context) -> str | InputRequiredResult:
    if given(ctx, "confirm") and ctx.request_state == "nonce":
        return "state-ok"
    return need("nonce", confirm=ask("Please confirm", "ok", "boolean"))


@tool
async def test_input_required_result_multiple_inputs(ctx: Context) -> str | InputRequiredResult:
    wanted = {
        "user_name": ask("What is your name?", "name"),
        "greeting": sample("Generate a greeting"),
        "client_roots": ListRootsRequest(),
    }
    if all(given(ctx, key) for key in wanted):
        return "all there"
    return need("several", **wanted)


@tool
async def test_input_required_result_multi_round(ctx: Context) -> str | InputRequiredResult:
    state = json.loads(ctx.request_state or "{}")
    if (answer := given(ctx, "step2")) and "name" in state:
        return f"{state['name']} likes {answer.content['color']}"
    if answer := given(ctx, "step1"):
        return need(json.dumps({"name": answer.content["name"]}), step2=ask("Step 2: favorite color?", "color"))
    return need(json.dumps({"round": 1}), step1=ask("Step 1: what is your name?", "name"))


@tool
async def test_input_required_result_tampered_state(ctx: Context) -> str | InputRequiredResult:
    """The SDK itself refuses a state that it did not seal."""
    if ctx.request_state is not None:
        return f"state-ok: {ctx.request_state}"
    return need("sealed", confirm=ask("Please confirm", "ok", "boolean"))


@tool
async def test_input_required_result_capabilities(ctx: Context) -> InputRequiredResult:
    """Asks only for what the client can give."""
    capabilities = ctx.client_capabilities
    requests = {}
    if capabilities and capabilities.sampling is not None:
        requests["sample"] = sample("Say hello")
    if capabilities and capabilities.elicitation is not None:
        requests["ask"] = ask("What is your name?", "name")
    return need("gated", **requests)


# Resources, prompts, completion


@server.resource("test://static-text")
def static_text() -> str:
    """Text"""
    return "This is the content of the static text resource."


@server.resource("test://static-binary", mime_type="image/png")
def static_binary() -> bytes:
    """Bytes"""
    return base64.b64decode(PIXEL)


@server.resource("test://template/{id}/data", mime_type="application/json")
def template(id: str) -> str:
    """By id"""
    return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


@server.resource("test://watched-resource")
def watched() -> str:
    """To subscribe to"""
    return "Watched resource content"


@server.prompt()
def test_simple_prompt() -> list[UserMessage]:
    """No arguments"""
    return [UserMessage(text("This is a simple prompt for testing."))]


@server.prompt()
def test_prompt_with_arguments(arg1: str, arg2: str) -> list[UserMessage]:
    """Two arguments"""
    return [UserMessage(text(f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"))]


@server.prompt()
def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:  # noqa: N803
    """A resource inside"""
    resource = embedded(resourceUri, "Embedded resource content for testing.")
    return [UserMessage(resource), UserMessage(text("Please process the embedded resource above."))]


@server.prompt()
def test_prompt_with_image() -> list[UserMessage]:
    """An image inside"""
    return [UserMessage(image()), UserMessage(text("Please analyze the image above."))]


@server.prompt()
async def test_input_required_result_prompt(ctx: Context) -> list[UserMessage] | InputRequiredResult:
    """Input for a prompt (SEP-2322)"""
    if answer := given(ctx, "user_context"):
        return [UserMessage(text(f"Use the following context: {(answer.content or {}).get('context')}"))]
    return need(user_context=ask("What context should the prompt use?", "context"))


@server.completion()
async def complete(ref, argument, context) -> Completion:
    return Completion(values=[], total=0, has_more=False)


# The SDK has no public way to serve these three.
async def accept(ctx, params) -> EmptyResult:
    return EmptyResult()


for method, params in {
    "logging/setLevel": SetLevelRequestParams,
    "resources/subscribe": SubscribeRequestParams,
    "resources/unsubscribe": UnsubscribeRequestParams,
}.items():
    server._lowlevel_server.add_request_handler(method, params, accept)

args = arguments()
checks = TransportSecuritySettings(enable_dns_rebinding_protection=False) if args.unguarded else None
app = server.streamable_http_app(event_store=MemoryEventStore(), retry_interval=100, transport_security=checks)
uvicorn.run(Recording(app), host="127.0.0.1", port=args.port, log_level="warning")
