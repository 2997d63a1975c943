"""One run: every proxy measured in turn, round after round, and the tables. `compare.py short|full`; see run.sh.

Ratios are taken inside a round, between neighbours in time, because the speed of a shared machine drifts by more than
what is measured here. Standard output is Markdown; progress goes to standard error.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from figures import Row, heading, interleaved, introduction, latency_table, ratios, spread, table
from idle import per_kept_connection, per_stream
from machine import Processors, allow_many_sockets, memory_of, tree
from targets import Certificate, Starter, Target, haproxy, open_session
from wrk import Cost, Load, Wrk

SIZES = {"200 B": 200, "16 KiB": 16 * 1024}
CONNECTIONS = 32
FEW = 100


@dataclass(frozen=True)
class Form:
    """How much is measured; the steps are the same."""

    rounds: int
    seconds: int
    warm_up: bool
    connections: int
    streams: int
    tls_streams: int


FORMS = {
    "short": Form(rounds=1, seconds=1, warm_up=False, connections=200, streams=200, tls_streams=150),
    "full": Form(rounds=5, seconds=2, warm_up=True, connections=1000, streams=1500, tls_streams=600),
}


def main(form: Form) -> None:
    allow_many_sockets()
    processors = Processors.of_this_machine()
    # The driver shares the load's processor; while something is measured it waits.
    os.sched_setaffinity(0, {processors.load})
    introduction(form.rounds)
    with tempfile.TemporaryDirectory(prefix="outrigger-bench-") as folder:
        starter = Starter(Path(folder), processors)
        requests(starter, form, processors)
        certificate = Certificate.make(Path(folder))
        over_mtls(starter, form, processors, certificate)
        memory(starter, form, certificate)


# -- requests


def requests(starter: Starter, form: Form, processors: Processors) -> None:
    """Cost and latency of requests, for each size of body."""
    with contextlib.ExitStack() as running:
        upstream = running.enter_context(starter.fixed_answer())
        outrigger = running.enter_context(starter.outrigger(upstream))
        rows = [
            Row("nginx", running.enter_context(starter.nginx(upstream))),
            Row("nginx, access log", running.enter_context(starter.nginx(upstream, logging=True))),
            Row("bare Pingora", running.enter_context(starter.bare(upstream))),
            Row("Outrigger", outrigger),
            Row("Outrigger, session", outrigger, open_session(outrigger)),
        ]
        answered = 0
        for label, size in SIZES.items():
            load = Wrk(processors, CONNECTIONS, form.seconds, size)
            if form.warm_up:
                answered += of_outrigger(interleaved(f"warm-up, {label}", rows, 1, pressing(load)))

            costs = interleaved(f"cost, {label}", rows, form.rounds, costing(load, upstream))
            cost_table(label, costs)
            answered += of_outrigger([(row, [cost.load for cost in of_row]) for row, of_row in costs])

            single = Wrk(processors, 1, 1, size)
            with_direct = [Row("direct", upstream), *rows]
            latencies = interleaved(f"latency, {label}", with_direct, form.rounds, pressing(single))
            latency_table(label, latencies)
            answered += of_outrigger(latencies)
    check_access_log(outrigger, answered)


def over_mtls(starter: Starter, form: Form, processors: Processors, certificate: Certificate) -> None:
    """Cost of requests to an upstream that wants to see a client certificate; handshakes are rare among them."""
    with contextlib.ExitStack() as running:
        upstream = running.enter_context(starter.fixed_answer(certificate))
        names = {"nginx": starter.nginx, "bare Pingora": starter.bare, "Outrigger": starter.outrigger}
        names |= {"HAProxy": starter.haproxy} if haproxy() else {}
        rows = [Row(name, running.enter_context(start(upstream, mtls=certificate))) for name, start in names.items()]
        for label, size in SIZES.items():
            load = Wrk(processors, CONNECTIONS, form.seconds, size)
            if form.warm_up:
                interleaved(f"warm-up, mTLS, {label}", rows, 1, pressing(load))
            costs = interleaved(f"cost, mTLS, {label}", rows, form.rounds, costing(load, upstream))
            cost_table(f"mTLS to the upstream, {label}", costs)


def pressing(wrk: Wrk) -> Callable[[Row], Load]:
    return lambda row: wrk.press(row.target, row.session)


def costing(wrk: Wrk, upstream: Target) -> Callable[[Row], Cost]:
    return lambda row: wrk.cost(row.target, upstream, row.session)


def of_outrigger(loads: list[tuple[Row, list[Load]]]) -> int:
    """Requests that Outrigger answered."""
    return sum(load.requests for row, of_row in loads if row.target.name == "Outrigger" for load in of_row)


def check_access_log(outrigger: Target, answered: int) -> None:
    """The measured work was the whole work: one line for each request, as an MCP request answered with 200."""
    with outrigger.log.open("rb") as log:
        logged = sum(b'"route":"mcp"' in line and b'"status":200' in line for line in log)
    if logged < answered:
        raise RuntimeError(f"Outrigger answered {answered} requests, but its access log tells of {logged}")
    print(f"\nOutrigger's access log: {logged} lines for {answered} counted answers. Errors of any target: 0.")


def cost_table(label: str, costs: list[tuple[Row, list[Cost]]]) -> None:
    def totals(name: str) -> list[float]:
        return next([one.proxy.total for one in of_row] for row, of_row in costs if row.name == name)

    bare, nginx = totals("bare Pingora"), totals("nginx")
    heading(
        f"Processor seconds per 10,000 requests, {label} POST, {CONNECTIONS} kept-alive connections, 1 proxy thread"
    )
    lines = []
    for row, of_row in costs:
        total = [one.proxy.total for one in of_row]
        lines.append(
            [
                row.name,
                spread(total, 3),
                f"{median(one.proxy.user for one in of_row):.3f}",
                f"{median(one.proxy.system for one in of_row):.3f}",
                spread(ratios(total, bare), 2),
                spread(ratios(total, nginx), 2),
                f"{median(one.load.requests / one.load.seconds for one in of_row):,.0f}",
                f"{median(one.upstream.total for one in of_row):.3f}",
                f"{max(one.foreign for one in of_row):.0%}",
            ]
        )
    table("target | total | user | system | x bare | x nginx | requests/s | upstream | foreign", lines)


# -- memory


def memory(starter: Starter, form: Form, certificate: Certificate) -> None:
    """Idle processes, then what idle connections add; a fresh process for each figure."""
    heading("Resident memory")
    lines = []
    with starter.event_source() as upstream:
        for start in (starter.nginx, starter.bare, starter.outrigger):
            with start(upstream) as target:
                print(f"memory: {target.name}", file=sys.stderr)
                name, idle = target.name, idle_processes(target)
                kept = per_kept_connection(target, FEW, form.connections)
            with start(upstream) as target:
                streams = per_stream(target, FEW, form.streams)
            with start(upstream, certificate) as target:
                tls_streams = per_stream(target, FEW, form.tls_streams)
            lines.append([name, idle, kib(kept), kib(streams), kib(tls_streams)])
    connections = f"kept-alive connection ({form.connections:,})"
    streams_of = f"event stream ({form.streams:,}) | event stream over TLS ({form.tls_streams:,})"
    table(f"target | idle processes: RSS (PSS) | per {connections} | per {streams_of}", lines)


def idle_processes(target: Target) -> str:
    """Each process of the target, the parent first; it has answered one request."""
    found = [memory_of(pid) for pid in tree(target.pid)]
    mib = [f"{one.rss / 2**20:.1f} ({one.pss / 2**20:.1f})" for one in found]
    return " + ".join(mib) + " MiB"


def kib(size: float) -> str:
    return f"{size / 1024:.1f} KiB"


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in FORMS:
        raise SystemExit(f"usage: compare.py {'|'.join(FORMS)}")
    main(FORMS[sys.argv[1]])
