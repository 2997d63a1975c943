"""Crashes under load: nobody ever meets a closed door, what was lost was in flight, and no answer is wrong."""

import os
import signal
import threading
import time

from harness import JSON, PATIENCE, RawClient, wait_until
from load.kinds import CLIENTS, POOLS
from load.scenario import LoadedWorld

PING = b'{"jsonrpc":"2.0","id":7,"method":"initialize","params":{}}'
#: What a killed worker may do to a request that it was working on, or to a connection that it kept.
LOST = {"closed before the answer", "closed inside the answer", "reset before the answer", "reset inside the answer"}
#: Most seconds from a crash to the first answer of the next generation, on a busy machine: the handoff alone takes one.
OUTAGE = 15.0


def seconds_without_service(address: str) -> float:
    """How long a client that comes now waits for its answer."""
    began = time.monotonic()
    with RawClient(address) as client:
        assert client.ask("POST", "/mcp", PING, JSON).status == 200
    return time.monotonic() - began


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def only_lost(summary: dict) -> None:
    """Every failure is one of a request in flight; none was refused, none was answered wrongly."""
    for kind, failures in summary["failures"].items():
        assert set(failures) <= LOST, f"{kind}: {failures}"


def test_a_killed_worker_is_replaced_and_no_connection_is_refused(outrigger, pki, start):
    loaded = LoadedWorld(outrigger, pki, start)
    world = loaded.world
    loaded.begin(seconds=6, streams=4)
    time.sleep(1)
    (worker,) = world.worker_pids()
    kill(worker)
    outage = seconds_without_service(world.address)
    summary = loaded.summary()
    print(f"seconds without service: {outage:.2f}; {summary}")
    only_lost(summary)
    assert summary["failed"] <= sum(CLIENTS.values()), "no more than what was in flight"
    # A new connection waited for the next generation, and that was all that happened to it.
    fresh = summary["failures"].get("fresh", {})
    assert sum(fresh.values()) <= 4
    assert outage < OUTAGE
    assert summary["longest_ms"]["fresh"] < 1000 * OUTAGE
    assert len(summary["broken"]) == 4, "the streams of a killed worker end, and are seen to end"
    metrics = world.metrics()
    assert metrics["outrigger_worker_restarts_total"] == 1
    assert metrics["outrigger_generation"] == 2
    world.stop()


def test_worker_after_worker_is_killed_and_every_client_is_answered_at_last(outrigger, pki, start):
    """Five in a row, each as soon as it exists: the delays grow, and the backlog keeps everybody."""
    world = LoadedWorld(outrigger, pki, start).world
    waits, failed = [], []

    def wait():
        try:
            waits.append(seconds_without_service(world.address))
        except Exception as error:  # noqa: BLE001 - reported below
            failed.append(error)

    known: set[int] = set()
    clients = []
    for _ in range(5):
        new = wait_until(lambda: set(world.worker_pids()) - known, what="the next worker", every=0.005)
        known.update(new)
        for pid in new:
            kill(pid)
        client = threading.Thread(target=wait)
        client.start()
        clients.append(client)
    for client in clients:
        client.join(2 * PATIENCE)
    # Whoever was accepted by a generation that was killed is lost; the first kill alone found one that had served.
    assert not any(isinstance(error, ConnectionRefusedError) for error in failed), failed
    assert len(waits) + len(failed) == 5
    assert len(waits) >= 4, failed
    print("waits:", [round(seconds, 2) for seconds in waits])
    said = [line["message"] for line in world.log() if "next start in" in line.get("message", "")]
    delays = [float(line.rpartition("next start in ")[2].removesuffix(" s")) for line in said]
    assert delays == sorted(delays) and len(delays) >= 3, f"backoff: {said}"
    assert world.metrics()["outrigger_worker_restarts_total"] >= 5
    world.stop()


def test_a_new_generation_that_dies_costs_nobody_anything(outrigger, pki, start):
    loaded = LoadedWorld(outrigger, pki, start)
    world = loaded.world
    loaded.begin(seconds=4, streams=8)
    (old,) = world.worker_pids()
    world.process.signal(signal.SIGHUP)
    (new,) = wait_until(lambda: set(world.worker_pids()) - {old}, what="the new worker", every=0.005)
    kill(new)
    wait_until(lambda: world.metrics()['outrigger_reloads_total{result="failed"}'] == 1)
    summary = loaded.summary()
    assert summary["failed"] == 0, summary["failures"]
    assert summary["broken"] == []
    assert world.worker_pids() == [old]


def test_an_old_generation_that_dies_takes_only_what_it_still_had(outrigger, pki, start):
    loaded = LoadedWorld(outrigger, pki, start)
    world = loaded.world
    loaded.begin(seconds=8, streams=4)
    (old,) = world.worker_pids()
    loaded.reload()
    # Time enough for every busy connection to be told to go, not for the slow calls and the streams.
    slow_ones = 4 + CLIENTS["slow"] + POOLS
    wait_until(lambda: loaded.connections(old) <= slow_ones, what="the old generation has only slow ones")
    kill(old)
    summary = loaded.summary()
    only_lost(summary)
    assert set(summary["failures"]) <= {"slow", "h2-slow"}
    assert len(summary["broken"]) == 4
    assert world.generation() == 2
    assert world.metrics()["outrigger_worker_restarts_total"] == 0


def test_a_killed_supervisor_takes_no_stream_with_it(outrigger, pki, start):
    """Its worker serves what it has, and goes when that is done."""
    loaded = LoadedWorld(outrigger, pki, start)
    world = loaded.world
    loaded.begin(seconds=6, streams=8, only=["slow", "h2-slow"])
    (worker,) = world.worker_pids()
    time.sleep(3.5)
    kill(world.process.pid)
    world.process.wait()
    summary = loaded.summary()
    assert summary["broken"] == [], "streams live on"
    said = {reason for failures in summary["failures"].values() for reason in failures}
    assert said <= {"connection refused"}, "what was being answered was answered"
    wait_until(lambda: not os.path.exists(f"/proc/{worker}") or zombie(worker), what="the worker is gone")
    assert any("supervisor is gone" in line.get("message", "") for line in world.log())


def zombie(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "Z"
