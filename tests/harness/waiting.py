"""Waiting for a condition with patience, instead of sleeping for a guess."""

import os
import time
from collections.abc import Callable
from typing import TypeVar

import httpx
import redis

T = TypeVar("T")

#: Seconds that a condition may take; a slow machine sets OUTRIGGER_TEST_PATIENCE.
PATIENCE = float(os.environ.get("OUTRIGGER_TEST_PATIENCE", "30"))


def wait_until(condition: Callable[[], T], patience: float = PATIENCE, what: str = "", every: float = 0.02) -> T:
    """Asks `condition` until it is truthy and returns its value; AssertionError after `patience` seconds.

    An AssertionError, OSError, failed HTTP request or broken connection to Redis inside `condition` counts as "not yet"
    and is shown if patience runs out.
    """
    deadline = time.monotonic() + patience
    while True:
        problem = None
        try:
            value = condition()
            if value:
                return value
        except (AssertionError, OSError, httpx.TransportError, redis.exceptions.ConnectionError) as error:
            problem = error
        if time.monotonic() > deadline:
            name = what or getattr(condition, "__name__", "condition")
            raise AssertionError(f"not within {patience:g} s: {name}") from problem
        time.sleep(every)
