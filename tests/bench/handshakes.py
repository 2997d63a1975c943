"""What a TLS handshake costs beside nginx, full and resumed, by kind of key. `handshakes.py short|full`; see run.sh.

Every connection ends after its handshake, and no request is made. Clients verify nothing and share their processor; how
many handshakes a second that makes says more of them than of the proxy, so what one processor could do is calculated.
Standard output is Markdown.
"""

import contextlib
import multiprocessing
import os
import socket
import ssl
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median

from client import PATIENCE
from figures import Row, heading, interleaved, introduction, ratios, spread, table
from machine import Cpu, Processors, allow_many_sockets, busy, cpu_of
from targets import Certificate, Starter, Target

#: Clients at a time, each in a process of its own.
CLIENTS = 4
VERSIONS = {"TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.3": ssl.TLSVersion.TLSv1_3}
KEYS = {"ECDSA P-256": ("ec", "ec_paramgen_curve:P-256"), "RSA 2048": ("rsa", "rsa_keygen_bits:2048")}


@dataclass(frozen=True)
class Form:
    """How much is measured; the steps are the same. `handshakes`: of each client in a round."""

    rounds: int
    handshakes: int


FORMS = {"short": Form(rounds=1, handshakes=100), "full": Form(rounds=5, handshakes=400)}


@dataclass(frozen=True)
class Kind:
    """Of handshakes."""

    version: str
    resumed: bool

    def __str__(self) -> str:
        return f"{self.version}, {'resumed' if self.resumed else 'full'}"


@dataclass(frozen=True)
class Cost:
    """Processor seconds per 10,000 handshakes; `foreign` is the part of the proxies' processor that others used."""

    proxy: Cpu
    foreign: float


def main(form: Form) -> None:
    allow_many_sockets()
    processors = Processors.of_this_machine()
    # The clients share the load's processor with the driver, which waits for them.
    os.sched_setaffinity(0, {processors.load})
    introduction(form.rounds)
    with tempfile.TemporaryDirectory(prefix="outrigger-bench-") as folder:
        for key, kind in KEYS.items():
            own = Path(folder) / kind[0]
            own.mkdir()
            handshakes(key, Starter(own, processors), Certificate.make(own, *kind), form, processors)


def handshakes(key: str, starter: Starter, certificate: Certificate, form: Form, processors: Processors) -> None:
    heading(f"TLS handshakes with a key of {key}: processor seconds per 10,000")
    lines = []
    with contextlib.ExitStack() as running:
        upstream = running.enter_context(starter.fixed_answer())
        rows = [
            Row("nginx", running.enter_context(starter.nginx(upstream, certificate))),
            Row("bare Pingora", running.enter_context(starter.bare(upstream, certificate))),
            Row("Outrigger", running.enter_context(starter.outrigger(upstream, certificate))),
        ]
        for kind in (Kind(version, resumed) for version in VERSIONS for resumed in (False, True)):

            def measure(row: Row, kind: Kind = kind) -> Cost:
                return cost(row.target, kind, form.handshakes, processors)

            interleaved(f"warm-up, {key}, {kind}", rows, 1, measure)
            costs = interleaved(f"{key}, {kind}", rows, form.rounds, measure)
            nginx = [one.proxy.total for one in costs[0][1]]
            for row, of_row in costs:
                total = [one.proxy.total for one in of_row]
                lines.append(
                    [
                        str(kind),
                        row.name,
                        spread(total, 2),
                        spread(ratios(total, nginx), 2),
                        f"{10_000 / median(total):,.0f}",
                        f"{max(one.foreign for one in of_row):.0%}",
                    ]
                )
    table("handshake | target | total | x nginx | handshakes/s of one processor | foreign", lines)


def cost(target: Target, kind: Kind, count: int, processors: Processors) -> Cost:
    """`count` handshakes of each client, all at once; nothing is counted until every client is ready."""
    fork = multiprocessing.get_context("fork")
    # The driver is one more.
    ready, done = (fork.Barrier(CLIENTS + 1, timeout=PATIENCE) for _ in range(2))
    clients = [fork.Process(target=client, args=(target.address, kind, count, ready, done)) for _ in range(CLIENTS)]
    for process in clients:
        process.start()
    ready.wait()
    before, used, began = cpu_of(target.pid), busy(processors.proxy), time.monotonic()
    done.wait()
    proxy, used, lasted = cpu_of(target.pid) - before, busy(processors.proxy) - used, time.monotonic() - began
    for process in clients:
        process.join()
    return Cost(proxy.per(count * CLIENTS), max(0.0, used - proxy.total) / lasted)


def client(address: str, kind: Kind, count: int, ready: Barrier, done: Barrier) -> None:
    """Shakes hands until it is done. If anything is not as it should be, nobody gets past the barriers."""
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = context.maximum_version = VERSIONS[kind.version]
        session, _ = shake(address, context, None)
        ready.wait()
        for _ in range(count):
            _, resumed = shake(address, context, session if kind.resumed else None)
            if resumed != kind.resumed:
                raise RuntimeError(f"{kind}: the session was {'' if resumed else 'not '}resumed")
        done.wait()
    except BaseException:
        ready.abort()
        done.abort()
        raise


def shake(address: str, context: ssl.SSLContext, session: ssl.SSLSession | None) -> tuple[ssl.SSLSession, bool]:
    """One handshake: the session, and whether it was resumed. By then the other side has closed, all its work done."""
    host, _, port = address.partition(":")
    plain = socket.create_connection((host, int(port)), PATIENCE)
    with context.wrap_socket(plain, session=session) as shaken:
        # SSLSocket's own would forget the session, and the tickets are still to come.
        socket.socket.shutdown(shaken, socket.SHUT_WR)
        if shaken.recv(1):
            raise RuntimeError("the other side speaks first")
        return shaken.session, shaken.session_reused


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in FORMS:
        raise SystemExit(f"usage: handshakes.py {'|'.join(FORMS)}")
    main(FORMS[sys.argv[1]])
