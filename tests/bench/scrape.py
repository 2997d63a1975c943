"""What a scrape of /metrics costs: processor time of supervisor and workers, with and without generations that drain.

python tests/bench/scrape.py, with the binary that the tests use.
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parent.parent))

from harness import Outrigger, RawUpstream, chunk, event, event_stream_head  # noqa: E402

SCRAPES = 1000


def stream(connection) -> None:
    connection.read_request()
    connection.send(event_stream_head() + chunk(event("begun")))
    connection.wait_closed()


def seconds(world) -> float:
    fields = [
        Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2] for pid in (world.process.pid, *world.worker_pids())
    ]
    ticks = sum(int(field.split()[11]) + int(field.split()[12]) for field in fields)
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(world, what: str, path: str = "/metrics") -> None:
    with httpx.Client(base_url=world.admin, trust_env=False) as client:
        size, took, before = len(client.get(path).content), [], seconds(world)
        for _ in range(SCRAPES):
            began = time.perf_counter()
            client.get(path)
            took.append(time.perf_counter() - began)
    cost = (seconds(world) - before) / SCRAPES * 1e3
    print(f"{path}, {what}: {cost:.2f} ms of processor, p50 {statistics.median(took) * 1e3:.2f} ms, {size} bytes")


def main() -> None:
    world = Outrigger(Path(tempfile.mkdtemp()), [RawUpstream(stream).address], {"profile": "generic"})
    try:
        measure(world, "one generation")
        streams = []
        for draining in (1, 2):
            streams.append(world.open_stream())
            world.reload()
            measure(world, f"and {draining} that drain")
        measure(world, "and 2 that drain", "/status")
    finally:
        world.end()


if __name__ == "__main__":
    main()
