"""What the load counts: requests, failures with their reasons, the longest wait, and the fate of every event stream."""

import asyncio
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field


class WrongAnswerError(Exception):
    """An answer came that is not the one asked for; the worst that can happen."""


class CutError(Exception):
    """The connection ended before the answer was whole: `begun` if a part of it had come."""

    def __init__(self, begun: bool, reset: bool = False):
        super().__init__(f"{'reset' if reset else 'closed'} {'inside' if begun else 'before'} the answer")


def reason_of(error: Exception) -> str:
    """A failure in few words, the same for the same cause."""
    match error:
        case ConnectionRefusedError():
            return "connection refused"
        case WrongAnswerError():
            return f"wrong: {error}"
        case TimeoutError():
            return "no answer in time"
        case CutError():
            return str(error)
        case ConnectionError():
            return "reset before the answer"
        case _:
            return f"{type(error).__name__}: {error}"


@dataclass
class Tally:
    """Everything that one run of the load has seen."""

    began: float = field(default_factory=time.monotonic)
    requests: Counter = field(default_factory=Counter)
    failures: dict[str, Counter] = field(default_factory=lambda: defaultdict(Counter))
    longest: Counter = field(default_factory=Counter)
    #: What happened to connections: opened, closed as announced, noticed closed before reuse, GOAWAY, …
    connections: Counter = field(default_factory=Counter)
    events: int = 0
    streams: Counter = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    @contextmanager
    def request(self, kind: str):
        """Counts one request: whatever is raised inside is its failure, and goes no further."""
        began = time.monotonic()
        try:
            yield
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - every failure is a finding
            self.failures[kind][reason_of(error)] += 1
        finally:
            self.requests[kind] += 1
            self.longest[kind] = max(self.longest[kind], time.monotonic() - began)

    @property
    def total(self) -> int:
        return self.requests.total()

    def summary(self) -> dict:
        return {
            "seconds": round(time.monotonic() - self.began, 2),
            "total": self.total,
            "requests": dict(self.requests),
            "failed": sum(reasons.total() for reasons in self.failures.values()),
            "failures": {kind: dict(reasons) for kind, reasons in self.failures.items()},
            "longest_ms": {kind: round(seconds * 1000) for kind, seconds in self.longest.items()},
            "connections": dict(self.connections),
            "streams": dict(self.streams),
            "events": self.events,
            "broken": self.broken,
        }
