"""What the kernel knows: processor time and memory of processes, and who else used the processor.

Proxies run on one processor, load and upstreams on another, so that neither takes the other's time.
"""

import os
import resource
from dataclasses import dataclass
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Processors:
    """Where proxies and everything else run."""

    proxy: int
    load: int

    @classmethod
    def of_this_machine(cls) -> "Processors":
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) < 2:
            raise SystemExit("bench: two processors are needed, one for the proxies and one for the load")
        return cls(allowed[0], allowed[1])


@dataclass(frozen=True)
class Cpu:
    """Processor time in seconds."""

    user: float
    system: float

    @property
    def total(self) -> float:
        return self.user + self.system

    def __add__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.user + other.user, self.system + other.system)

    def __sub__(self, earlier: "Cpu") -> "Cpu":
        return Cpu(self.user - earlier.user, self.system - earlier.system)

    def per(self, requests: int) -> "Cpu":
        """Seconds for 10,000 requests."""
        return Cpu(self.user / requests * 10_000, self.system / requests * 10_000)


@dataclass(frozen=True)
class Memory:
    """Resident bytes: `rss` counts shared pages in each process, `pss` shares them out."""

    rss: int
    pss: int


def tree(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += tree(int(child))
    return found


def cpu_of(pid: int) -> Cpu:
    """Time of a process and its descendants, with all their threads, to a tick (10 ms)."""
    user = system = 0
    for member in tree(pid):
        # The second field is a name in brackets and may hold anything; utime and stime are fields 14 and 15.
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        user += int(fields[11])
        system += int(fields[12])
    return Cpu(user * TICK, system * TICK)


def memory_of(pid: int) -> Memory:
    """Memory of one process."""
    kib = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split()[:2]
        kib[name] = int(value)
    return Memory(kib["Rss:"] * 1024, kib["Pss:"] * 1024)


def rss_of_tree(pid: int) -> int:
    return sum(memory_of(member).rss for member in tree(pid))


def busy(processor: int) -> float:
    """Seconds that a processor has not been idle; time taken by the host counts as busy."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{processor}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, ticks[:8])
            return (user + nice + system + irq + softirq + steal) * TICK
    raise ValueError(f"no processor {processor}")


def allow_many_sockets() -> None:
    """Raises the number of open files to the hard limit, for this process and those that it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
