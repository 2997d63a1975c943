"""How long a client waits for the first event of a stream, and what proxies add. `events.py short|full`; see run.sh.

One client after the other, each on a fresh connection that stands before the clock starts. Standard output is Markdown.
"""

import contextlib
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from client import connected
from figures import Row, heading, interleaved, introduction, spread, table
from idle import GET
from machine import Processors, allow_many_sockets
from targets import Starter, Target

EVENT = b"data: {}\n\n"


@dataclass(frozen=True)
class Form:
    """How much is measured; the steps are the same."""

    rounds: int
    streams: int


FORMS = {"short": Form(rounds=1, streams=100), "full": Form(rounds=5, streams=500)}


@dataclass(frozen=True)
class Waits:
    """Microseconds from the request to the first event."""

    p50: float
    p99: float


def main(form: Form) -> None:
    allow_many_sockets()
    processors = Processors.of_this_machine()
    os.sched_setaffinity(0, {processors.load})
    introduction(form.rounds)
    with tempfile.TemporaryDirectory(prefix="outrigger-bench-") as folder, contextlib.ExitStack() as running:
        starter = Starter(Path(folder), processors)
        upstream = running.enter_context(starter.event_source())
        starts = {"nginx": starter.nginx, "bare Pingora": starter.bare, "Outrigger": starter.outrigger}
        rows = [Row("direct", upstream)]
        rows += [Row(name, running.enter_context(start(upstream))) for name, start in starts.items()]
        first_events(interleaved("first events", rows, form.rounds, lambda row: waits(row.target, form.streams)))


def waits(target: Target, streams: int) -> Waits:
    seconds = sorted(wait(target.address) for _ in range(streams))
    return Waits(seconds[len(seconds) // 2] * 1e6, seconds[len(seconds) * 99 // 100] * 1e6)


def wait(address: str) -> float:
    with contextlib.closing(connected(address, tls=False)) as connection:
        answer = b""
        began = time.perf_counter()
        connection.sendall(GET)
        while EVENT not in answer:
            piece = connection.recv(65536)
            if not piece:
                raise RuntimeError(f"{address} closed the connection after {answer!r}")
            answer += piece
        return time.perf_counter() - began


def first_events(measured: list[tuple[Row, list[Waits]]]) -> None:
    heading("Microseconds from a GET to the first event of its stream, one client after the other")
    direct = measured[0][1]
    lines = []
    for row, of_row in measured:
        added50 = [one.p50 - base.p50 for one, base in zip(of_row, direct, strict=True)]
        added99 = [one.p99 - base.p99 for one, base in zip(of_row, direct, strict=True)]
        all50, all99 = [one.p50 for one in of_row], [one.p99 for one in of_row]
        lines.append([row.name, spread(all50, 0), spread(all99, 0), spread(added50, 0), spread(added99, 0)])
    table("target | p50 | p99 | added p50 | added p99", lines)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in FORMS:
        raise SystemExit(f"usage: events.py {'|'.join(FORMS)}")
    main(FORMS[sys.argv[1]])
