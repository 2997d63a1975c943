"""What rotations cost where streams live all day: `drain.max_generations` processes and no more, and what each weighs.

The figures are printed: `pytest tests/test_rotate_memory.py -s`.
"""

import threading
from pathlib import Path

import pytest

from harness import Closed, RawClient, chunk, event, event_stream_head, wait_until
from harness.rotating import Rotating

#: Streams over TLS in generation 1, 2, …; the last has enough to tell a stream's weight from a process's.
STREAMS = [0, 20, 220]
GET = b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"


@pytest.fixture
def stream():
    """Script of an upstream: each connection is one stream, for ever."""
    over = threading.Event()

    def script(connection):
        connection.read_request()
        connection.send(event_stream_head() + chunk(event("begun")))
        over.wait()

    yield script
    over.set()


def memory(pid: int) -> dict[str, int]:
    """KiB by kind; `Pss` counts a page that several processes share in parts."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith("kB")}


def open_stream(rotating: Rotating, tls) -> RawClient:
    client = RawClient(rotating.address, tls)
    client.send(GET)
    assert client.read_head().status == 200
    assert client.read_chunk() == event("begun")
    return client


def test_memory_is_bounded_by_the_generations_that_may_drain(outrigger, pki, raw_upstream, stream):
    config = {"drain": {"max_generations": len(STREAMS)}}
    rotating = Rotating(outrigger, pki, [raw_upstream(stream).address], config)
    world, tls = rotating.world, pki.client_context()
    generations: list[tuple[int, list[RawClient]]] = []
    for count in STREAMS:
        pid = world.worker_pids()[-1]
        # A generation without any stream would be gone at once.
        generations.append((pid, [open_stream(rotating, tls) for _ in range(count or 1)]))
        world.reload()
    for pid, clients in generations:
        seen = memory(pid)
        figures = ", ".join(f"{kind} {seen[kind]} KiB" for kind in ("Rss", "Pss", "Anonymous"))
        print(f"draining with {len(clients)} streams: {figures}")
    few, many = (memory(pid)["Anonymous"] for pid, _ in generations[1:])
    per_stream = (many - few) / (STREAMS[2] - STREAMS[1])
    print(f"per stream: {per_stream:.1f} KiB")
    assert per_stream < 70, "a request keeps more for as long as its stream lives than it did (65 KiB)"
    workers = world.worker_pids()
    print(f"serving, fresh: {memory(workers[-1])}")
    print(f"supervisor: {memory(world.process.pid)}")
    assert len(workers) == len(STREAMS) + 1

    # One rotation more than may drain: the oldest goes, whatever it still holds, and the others stay.
    serving = open_stream(rotating, tls)
    world.reload()
    (oldest, cut), *kept = generations
    wait_until(lambda: oldest not in world.worker_pids(), what="the oldest is gone")
    assert len(world.worker_pids()) == len(STREAMS) + 1
    assert rotating.said("generation 1 killed: more than drain.max_generations drain")
    with pytest.raises(Closed):
        cut[0].read_chunk()
    assert {pid for pid, _ in kept} < set(world.worker_pids())
    serving.close()
