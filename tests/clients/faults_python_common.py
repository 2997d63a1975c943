"""What becomes of a Python SDK client's calls that fail; the same on SDK 1.x and 2.x."""

import asyncio


async def suffer(job, connect) -> dict:
    """For each of `job.faults` a session of its own: the tool of that name is called, then the tool `ok`.

    `connect(url)` is an asynchronous context of `call(tool)`. The report: fault → how both calls ended.
    """
    ends = await asyncio.gather(*(_both(job, connect, fault) for fault in job.faults))
    return dict(zip(job.faults, ends, strict=True))


async def _both(job, connect, fault: str) -> list[str]:
    ends = []
    try:
        async with asyncio.timeout(4 * job.patience), connect(job.url) as call:
            for tool in (fault, "ok"):
                ends.append(await _end(call, tool, job.patience))
    except (Exception, asyncio.CancelledError) as error:
        # What tears the session down comes out of its contexts, and cancels the call in them.
        ends += [f"torn: {_innermost(error)}"] * (2 - len(ends))
    return ends


async def _end(call, tool: str, patience: float) -> str:
    """`result`, `error CODE` (of JSON-RPC), `hang`, or what was raised."""
    try:
        async with asyncio.timeout(patience):
            await call(tool)
    except TimeoutError:
        return "hang"
    except Exception as error:
        code = getattr(getattr(error, "error", error), "code", None)
        return f"raised {_innermost(error)}" if code is None else f"error {code}"
    return "result"


def _innermost(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return type(error).__name__
