"""What it costs that a request comes in at another member than its session's, and how soon a client learns that the
owner of its session is dead. `hop.py short|full`; see run.sh.

Both members of a hop share the processor that a single one has in the row before. Standard output is Markdown.
"""

import contextlib
import dataclasses
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from client import Client, redis_says
from figures import Row, heading, interleaved, introduction, latency_table, ratios, spread, table
from machine import Processors, allow_many_sockets
from targets import PATH, Certificate, Starter, Target, kill, open_session
from wrk import Cost, Wrk

SIZES = {"200 B": 200, "16 KiB": 16 * 1024}
CONNECTIONS = 32


@dataclass(frozen=True)
class Form:
    """How much is measured; the steps are the same."""

    rounds: int
    seconds: int
    sessions: int
    waits: int


FORMS = {
    "short": Form(rounds=1, seconds=1, sessions=50, waits=3),
    "full": Form(rounds=5, seconds=2, sessions=300, waits=25),
}


@dataclass(frozen=True)
class Pair:
    """Two members: clients of the sessions come in at `entry`, `owner` has them at a peer of its own."""

    entry: Target
    owner: Target
    peer: Target
    redis: Target
    prefix: str

    def owner_is_known(self) -> bool:
        """Whether its sign of life is still there."""
        return bool(redis_says(self.redis.address, f"GET {self.prefix}:member:owner"))

    def commands(self) -> int:
        """Given to Redis because of sessions. Each gets one key; so does a member's beat, which is told by its zadd."""
        stats = redis_says(self.redis.address, "INFO commandstats")
        calls = {name: int(count) for name, count in re.findall(r"cmdstat_(\w+):calls=(\d+)", stats)}
        return calls.get("get", 0) - calls.get("zadd", 0)


class Pairs:
    """Starts pairs, each with names of its own in one Redis."""

    def __init__(self, starter: Starter, redis: Target, certificate: Certificate):
        self._starter, self._redis, self._certificate = starter, redis, certificate
        self._count = 0

    @contextlib.contextmanager
    def pair(self, tls: bool = True, patience: str = "5s") -> Iterator[Pair]:
        """`patience`: how long one waits for the other; where it is not what is measured, a busy machine has time."""
        self._count += 1
        prefix, trust = f"pair{self._count}", self._certificate if tls else None
        with contextlib.ExitStack() as running:
            peers = [running.enter_context(self._starter.fixed_answer()) for _ in range(2)]
            entry, owner = (
                running.enter_context(self._starter.member(name, peer, self._redis, prefix, trust, patience))
                for name, peer in zip(("entry", "owner"), peers, strict=True)
            )
            yield Pair(entry, owner, peers[1], self._redis, prefix)


def main(form: Form) -> None:
    allow_many_sockets()
    processors = Processors.of_this_machine()
    os.sched_setaffinity(0, {processors.load})
    introduction(form.rounds)
    with tempfile.TemporaryDirectory(prefix="outrigger-bench-") as folder:
        starter = Starter(Path(folder), processors)
        with starter.redis() as redis:
            pairs = Pairs(starter, redis, Certificate.make(Path(folder)))
            requests(pairs, form, processors)
            dead_owners(pairs, form)


# -- requests


def requests(pairs: Pairs, form: Form, processors: Processors) -> None:
    """Cost and latency by the owner's member and by the other one, for each size of body."""
    with pairs.pair(tls=False) as plain, pairs.pair() as mutual:
        rows = []
        for label, pair in (("plaintext", plain), ("mTLS", mutual)):
            session = open_session(pair.owner)
            if not rows:
                rows.append(Row("no hop", pair.owner, session))
            rows.append(Row(f"hop, {label}", dataclasses.replace(pair.entry, behind=(pair.owner.pid,)), session))
        for label, size in SIZES.items():
            load = Wrk(processors, CONNECTIONS, form.seconds, size)
            cost = costing(load, plain, mutual)
            # The first requests open connections and ask for the owner.
            interleaved(f"warm-up, {label}", rows, 1, cost)
            cost_table(label, interleaved(f"cost, {label}", rows, form.rounds, cost))
            single = Wrk(processors, 1, form.seconds, size)
            press = lambda row, single=single: single.press(row.target, row.session)  # noqa: E731
            latency_table(label, interleaved(f"latency, {label}", rows, form.rounds, press))


def costing(wrk: Wrk, plain: Pair, mutual: Pair) -> Callable[[Row], tuple[Cost, int]]:
    """Processor time of proxies and upstream, and commands to Redis."""

    def cost(row: Row) -> tuple[Cost, int]:
        pair = mutual if row.target.address == mutual.entry.address else plain
        before = pair.commands()
        cost = wrk.cost(row.target, pair.peer, row.session)
        return cost, pair.commands() - before

    return cost


def cost_table(label: str, costs: list[tuple[Row, list[tuple[Cost, int]]]]) -> None:
    heading(
        f"Processor seconds per 10,000 requests, {label} POST, {CONNECTIONS} kept-alive connections, 1 thread a member"
    )
    local = [cost.proxy.total for cost, _ in costs[0][1]]
    lines = []
    for row, of_row in costs:
        total = [cost.proxy.total for cost, _ in of_row]
        lines.append(
            [
                row.name,
                spread(total, 3),
                f"{median(cost.proxy.user for cost, _ in of_row):.3f}",
                f"{median(cost.proxy.system for cost, _ in of_row):.3f}",
                spread(ratios(total, local), 2),
                f"{median(cost.load.requests / cost.load.seconds for cost, _ in of_row):,.0f}",
                f"{max(cost.foreign for cost, _ in of_row):.0%}",
                f"{sum(asked for _, asked in of_row)} in {sum(cost.load.requests for cost, _ in of_row):,}",
            ]
        )
    table("way | total | user | system | x no hop | requests/s | foreign | commands to Redis", lines)


# -- dead owners


@dataclass(frozen=True)
class Told:
    """What clients of lost or unreachable sessions were told: one status, seconds of each, commands to Redis."""

    case: str
    status: int
    seconds: list[float]
    commands: int


def dead_owners(pairs: Pairs, form: Form) -> None:
    heading(
        "A request whose session's owner is dead: milliseconds to the whole answer, one client after the other, mTLS"
    )
    told = [*killed(pairs, form), *refused(pairs, form), *stopped(pairs, form)]
    lines = []
    for one in told:
        ordered = sorted(one.seconds)
        points = (median(ordered), ordered[len(ordered) * 99 // 100], ordered[-1])
        each = f"{one.commands / len(ordered):.2f}"
        lines.append([one.case, str(one.status), str(len(ordered)), *(f"{point * 1e3:.2f}" for point in points), each])
    table("case | status | sessions | p50 | p99 | max | commands to Redis each", lines)


def killed(pairs: Pairs, form: Form) -> Iterator[Told]:
    """The owner's member dies with all its processes; half of the sessions have been used by the other one before."""
    with pairs.pair() as pair:
        known, unknown = sessions(pair, "known", form.sessions), sessions(pair, "unknown", form.sessions)
        tell(pair, pair.entry, known, "used by the other member", 200)
        kill(pair.owner, signal.SIGKILL)
        yield tell(pair, pair.entry, known, "member killed, owner known from before", 404)
        yield tell(pair, pair.entry, unknown, "member killed, owner asked for", 404)


def refused(pairs: Pairs, form: Form) -> Iterator[Told]:
    """The owner's member lives, its peer does not."""
    with pairs.pair() as pair:
        here, there = sessions(pair, "here", form.sessions), sessions(pair, "there", form.sessions)
        tell(pair, pair.entry, there, "used by the other member", 200)
        kill(pair.peer, signal.SIGKILL)
        yield tell(pair, pair.entry, there, "peer refuses, by the other member", 404)
        yield tell(pair, pair.owner, here, "peer refuses, by its own member", 404)


def stopped(pairs: Pairs, form: Form) -> Iterator[Told]:
    """The owner's member hangs: its sessions are kept until it has not been heard of for `member.ttl`."""
    with pairs.pair(patience="200ms") as pair:
        kept, lost = sessions(pair, "kept", form.waits), sessions(pair, "lost", form.waits)
        kill(pair.owner, signal.SIGSTOP)
        try:
            yield tell(pair, pair.entry, kept, "member hangs", 503)
            while pair.owner_is_known():
                time.sleep(0.1)
            yield tell(pair, pair.entry, lost, "member hangs, its sign of life has run out", 404)
        finally:
            kill(pair.owner, signal.SIGCONT)


def sessions(pair: Pair, name: str, count: int) -> list[str]:
    return [open_session(pair.owner, f"{name}-{number:032x}") for number in range(count)]


def tell(pair: Pair, at: Target, sessions: list[str], case: str, status: int) -> Told:
    """One request of each session; all must be told the same."""
    print(f"dead owners: {case}", file=sys.stderr)
    before, seconds = pair.commands(), []
    with contextlib.closing(Client(at.address, PATH)) as client:
        for session in sessions:
            got, took = client.call(session)
            if got != status:
                raise RuntimeError(f"{case}: status {got} instead of {status}")
            seconds.append(took)
    return Told(case, status, seconds, pair.commands() - before)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in FORMS:
        raise SystemExit(f"usage: hop.py {'|'.join(FORMS)}")
    main(FORMS[sys.argv[1]])
