"""Requests through a target, by wrk: how many were answered, how long they took, and what they cost the target."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from machine import Cpu, Processors, busy, cpu_of
from targets import PATH, Target

SCRIPT = Path(__file__).resolve().parent / "post.lua"


@dataclass(frozen=True)
class Load:
    """What wrk saw; percentiles are microseconds. Broken connections, time-outs and statuses above 399 are errors."""

    requests: int
    seconds: float
    errors: int
    p50: float
    p99: float


@dataclass(frozen=True)
class Cost:
    """Per 10,000 requests, in processor seconds; `foreign` is the part of the proxies' processor that others used."""

    load: Load
    proxy: Cpu
    upstream: Cpu
    foreign: float


class Wrk:
    """Keep-alive connections in a closed loop, each with one POST in flight."""

    def __init__(self, processors: Processors, connections: int, seconds: int, size: int):
        self._processors = processors
        pinned = f"taskset --cpu-list {processors.load}"
        self._command = f"{pinned} wrk --threads 1 --connections {connections} --duration {seconds}s --timeout 10s"
        self._size = size

    def press(self, target: Target, session: str | None = None) -> Load:
        """The target under load; an error of any request is an error of the run."""
        command = [*self._command.split(), "--script", str(SCRIPT), f"http://{target.address}{PATH}"]
        command += ["--", str(self._size), *([session] if session else [])]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        load = Load(**json.loads(done.stdout.splitlines()[-1]))
        if load.errors or not load.requests:
            raise RuntimeError(f"{target.name}: {load.errors} errors in {load.requests} requests:\n{done.stdout}")
        return load

    def cost(self, target: Target, upstream: Target, session: str | None = None) -> Cost:
        """The same, with what it cost the target and the upstream behind it."""

        def now() -> tuple[Cpu, Cpu, float]:
            proxies = sum((cpu_of(pid) for pid in (target.pid, *target.behind)), Cpu(0, 0))
            return proxies, cpu_of(upstream.pid), busy(self._processors.proxy)

        before = now()
        load = self.press(target, session)
        after = now()
        proxy = after[0] - before[0]
        foreign = max(0.0, after[2] - before[2] - proxy.total) / load.seconds
        return Cost(load, proxy.per(load.requests), (after[1] - before[1]).per(load.requests), foreign)
