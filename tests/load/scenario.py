"""Outrigger under load, from a test: `loaded = LoadedWorld(…); loaded.begin(seconds=15); …; loaded.summary()`.

The world has two listeners (`public` in plaintext, `secure` with TLS and h2), two peers, and room for as many draining
generations as a test makes."""

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

from harness import PATIENCE, Outrigger, Pki, Process, free_port, wait_until
from harness.paths import TESTS

#: Rates are for two cores; a slower machine sets a factor below 1.
RATE = float(os.environ.get("OUTRIGGER_TEST_RATE", "1"))
#: Seconds that a generation may take to be ready under full load; `reload.ready_timeout` is 20 s.
RELOAD_PATIENCE = 25.0


class LoadedWorld:
    """The parts of one run."""

    def __init__(self, outrigger, pki: Pki, start, config: dict | None = None):
        self._start, self._pki = start, pki
        ports = [free_port(), free_port()]
        upstream = start("load-upstream", [sys.executable, "-m", "load.upstream", *ports], cwd=TESTS)
        upstream.wait_ready(lambda: listens(ports[-1]))
        self.upstream = upstream
        self.identity = pki.issue("localhost", label="load")
        self.secure = f"127.0.0.1:{free_port()}"
        self.world: Outrigger = outrigger([f"127.0.0.1:{port}" for port in ports], start=False)
        self.world.config["listeners"].append(
            {"name": "secure", "address": self.secure, "upstream": "gateway", "tls": self.identity.as_config()}
        )
        # Streams live through every reload of a run, so that many generations drain at once.
        self.world.config |= {"drain": {"max_generations": 16, "timeout": "10m"}, **(config or {})}
        self.world.start()
        self.generator: Process | None = None
        # Read on from where it was left: with an access line per request it grows long.
        self._log, self._unread, self._ready = self.world.process.err.open(), "", 0
        wait_until(lambda: self.generations() == 1, what="the first generation's line in the log")

    def begin(self, seconds: float, requests: int = 0, tls_only: bool = False, rate: float = 1, **options) -> None:
        """Starts the load and waits until its event streams run."""
        argv = [sys.executable, "-m", "load.generate", "--tls", self.secure]
        argv += [] if tls_only else ["--plain", self.world.address]
        argv += ["--ca", self._pki.ca, "--seconds", seconds, "--requests", requests, "--rate", rate * RATE]
        for name, value in options.items():
            values = [] if value is True else value if isinstance(value, list) else [value]
            argv += [f"--{name.replace('_', '-')}", *values]
        name = f"load-generator-{free_port()}"
        self.generator = self._start(name, argv, cwd=TESTS)
        self.generator.wait_ready(lambda: "begun" in self.generator.out.read_text(), what="the load's event streams")

    def summary(self, patience: float = 180) -> dict:
        """Waits for the end of the load; what it counted."""
        assert self.generator.wait(patience) == 0, self.generator.log_tail()
        return json.loads(self.generator.out.read_text().partition("begun")[2])

    def renew_certificate(self) -> None:
        """A new certificate in the files of the old one."""
        self.identity = self._pki.issue("localhost", label="load")

    def reload(self, by_signal: bool = True) -> float:
        """A new certificate and SIGHUP, waited for; seconds until the new generation was ready. Without a signal, the
        changed files are enough."""
        self.renew_certificate()
        before, began = self.generations(), time.monotonic()
        if by_signal:
            self.world.process.signal(signal.SIGHUP)
        wait_until(lambda: self.generations() > before, RELOAD_PATIENCE, "the next generation is ready")
        return time.monotonic() - began

    def generations(self) -> int:
        """How many have been ready; from the log, because while two overlap either may answer /readyz."""
        *lines, self._unread = (self._unread + self._log.read()).split("\n")
        self._ready += sum(" ready in " in line for line in lines)
        return self._ready

    def connections(self, pid: int) -> int:
        """How many of our clients' connections this worker holds."""
        ours = {f":{int(address.rpartition(':')[2]):04X}" for address in (self.world.address, self.secure)}
        held = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        established = [line for line in lines if line[3] == "01" and line[1][-5:] in ours]
        return sum(f"socket:[{line[9]}]" in held for line in established)

    def memory(self) -> dict[int, int]:
        """Resident KiB of the supervisor and each worker, by pid."""
        return {pid: resident(pid) for pid in [self.world.process.pid, *self.world.worker_pids()]}


def reload_under_load(
    loaded: LoadedWorld, reloads: int, every: float, requests: int = 0, by_signal: bool = True, **options
) -> dict:
    """`reloads` reloads, one each `every` seconds, while the load runs, and then no failure at all may be seen.

    Gives the summary of the load, with `ready_seconds`, `generations` and `memory_kib` beside."""
    before = loaded.generations()
    loaded.begin(seconds=(reloads + 1) * every, requests=requests, **options)
    ready, memory = [], {}
    for _ in range(reloads):
        began = time.monotonic()
        ready.append(round(loaded.reload(by_signal), 2))
        memory = loaded.memory()
        time.sleep(max(every - (time.monotonic() - began), 0))
    summary = loaded.summary() | {"ready_seconds": ready, "memory_kib": list(memory.values())}
    summary["generations"] = loaded.generations() - before
    print(json.dumps(summary))
    assert summary["failed"] == 0, summary["failures"]
    assert summary["broken"] == [], summary["broken"]
    assert summary["generations"] == reloads
    return summary


def only_one_worker_left(world: Outrigger, patience: float = PATIENCE) -> None:
    """Every retired generation is gone, and each was seen to have drained by itself."""
    wait_until(lambda: len(world.worker_pids()) == 1, patience, "the old generations are gone")


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def resident(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return 0
    return int(status.partition("VmRSS:")[2].split()[0]) if "VmRSS:" in status else 0
