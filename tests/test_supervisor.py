"""The supervisor with real processes: rotation, crash, orphans, the end.

Reloads under load, refused ones, and those that change listeners have files of their own: test_reload_*.py.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness import (
    JSON,
    Outrigger,
    RawClient,
    free_port,
    result_for_each,
    wait_until,
)
from harness.paths import outrigger_binary
from harness.stage import MCP, call
from harness.streams import read_end


@pytest.fixture
def a_world(outrigger, raw_upstream):
    """Outrigger in front of an upstream with these scripts."""
    return lambda *scripts, config=None: outrigger([raw_upstream(*scripts).address], config)


@pytest.fixture
def world(a_world) -> Outrigger:
    """Every request gets an answer."""
    return a_world(result_for_each)


def ask(address: str) -> int:
    """One request on a connection of its own; its status."""
    with RawClient(address) as client:
        return client.ask("POST", MCP, call(), JSON).status


def story(world) -> list[str]:
    """What the supervisor wrote."""
    return [line["message"] for line in world.log() if line.get("role") == "supervisor"]


def wait_for(world, *words: str) -> str:
    """The supervisor's next line, now or soon, that has all these words."""
    found = lambda: next((line for line in story(world) if all(word in line for word in words)), None)  # noqa: E731
    return wait_until(found, what=f"a line of the supervisor with {words}")


def gone(pid: int) -> bool:
    """Not running; a zombie that its new parent does not reap counts as gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def run_to_end(config: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [outrigger_binary(), "run", "--config", config], capture_output=True, text=True, timeout=30, check=False
    )


# -- rotation


def test_a_reload_replaces_the_worker_and_its_stream_lives_on(a_world, streams):
    world = a_world(streams)
    client = world.open_stream()
    (old,) = world.worker_pids()

    assert world.reload() == 2
    wait_for(world, "generation 1 drains 1 stream,")
    assert old in world.worker_pids() and len(world.worker_pids()) == 2

    streams.end()
    read_end(client)
    wait_for(world, "generation 1 drained in")
    assert old not in world.worker_pids()
    assert world.metrics()['outrigger_reloads_total{result="ok"}'] == 1
    world.stop()


def test_reloads_asked_during_a_reload_collapse_into_one(world):
    for _ in range(5):
        world.process.signal(signal.SIGHUP)
    wait_for(world, "generation 2 ready")
    # The signals came before or during the start of generation 2, so that one more start answers all of them.
    wait_until(lambda: len([line for line in story(world) if "ready" in line]) >= 2)
    world.stop()
    starts = [line for line in story(world) if "starts (reload)" in line]
    assert 1 <= len(starts) <= 2, starts


# -- refusal: what serves goes on


def new_worker(world, known: list[int]) -> int:
    """The worker that starts beside the known ones, as soon as it runs its own program.

    One that is stopped before would keep its parent in the middle of making it.
    """
    pid = wait_until(lambda: set(world.worker_pids()) - set(known), every=0.002).pop()
    program = Path(f"/proc/{pid}/cmdline")
    wait_until(lambda: not program.exists() or program.read_bytes() == b"outrigger\0worker\0", every=0.002)
    return pid


@pytest.mark.parametrize(
    ("number", "reason"), [(signal.SIGSTOP, "not ready within 2.0 s"), (signal.SIGKILL, "SIGKILL")]
)
def test_a_generation_that_does_not_become_ready_is_given_up(world, number, reason):
    old = world.worker_pids()
    world.write_config({"reload": {"ready_timeout": "2s"}})
    world.process.signal(signal.SIGHUP)
    new = new_worker(world, old)
    os.kill(new, number)
    wait_for(world, f"generation 2 is not fit to serve: {reason}; generation 1 serves on")
    wait_until(lambda: world.worker_pids() == old)
    assert ask(world.address) == 200


# -- crash


def test_connections_wait_while_a_killed_worker_is_replaced(world):
    (worker,) = world.worker_pids()
    os.kill(worker, signal.SIGKILL)
    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(ask, [world.address] * 20)) == {200}
    wait_for(world, "generation 1 died", "SIGKILL")
    assert world.metrics()["outrigger_worker_restarts_total"] == 1
    world.stop()


def test_a_worker_that_leaves_unasked_is_replaced_before_its_streams_end(a_world, streams):
    world = a_world(streams)
    client = world.open_stream()
    (worker,) = world.worker_pids()
    os.kill(worker, signal.SIGTERM)
    wait_for(world, "generation 1 leaves though the supervisor did not ask it to")
    assert ask(world.address) == 200
    streams.end()
    read_end(client)
    wait_for(world, "generation 1 drained in")


def test_a_worker_that_dies_again_and_again_is_restarted_more_slowly(world):
    known = []
    for _ in range(3):
        known.append(new_worker(world, known))
        os.kill(known[-1], signal.SIGKILL)
        wait_until(lambda: gone(known[-1]))
    wait_for(world, "next start in 0.1 s")
    wait_for(world, "generation 4 ready")
    assert ask(world.address) == 200


def test_a_worker_does_not_outlive_its_supervisor_longer_than_its_streams(a_world, streams):
    world = a_world(streams)
    client = world.open_stream()
    (worker,) = world.worker_pids()
    world.process.signal(signal.SIGKILL)
    world.process.wait()
    streams.end()
    read_end(client)
    wait_until(lambda: gone(worker), what="the worker ended")


# -- the end


def test_a_stop_waits_for_streams(a_world, streams):
    world = a_world(streams)
    client = world.open_stream()
    world.process.signal(signal.SIGTERM)
    wait_for(world, "generation 1 drains 1 stream,")
    assert world.process.running
    streams.end()
    read_end(client)
    assert world.process.wait() == 0


def test_a_stop_does_not_wait_for_ever(a_world, streams):
    world = a_world(streams, config={"shutdown": {"timeout": "1s"}})
    with world.open_stream():
        begun = time.monotonic()
        world.stop()
        assert 0.9 < time.monotonic() - begun < 15
    assert "generation 1 killed: still draining after shutdown.timeout" in story(world)


def test_too_many_drains_end_the_oldest(a_world, streams):
    world = a_world(streams, config={"drain": {"max_generations": 1}})
    with world.open_stream() as client:
        world.reload()
        wait_for(world, "generation 1 drains 1 stream,")
        world.reload()
        wait_for(world, "generation 1 killed: more than drain.max_generations drain")
        client.wait_closed()
    assert ask(world.address) == 200


def test_nothing_is_left_behind(a_world):
    places = [os.environ.get("XDG_RUNTIME_DIR", "/run"), "/run", tempfile.gettempdir()]
    world = a_world(result_for_each)
    # One that was killed left its folder, and the number of its process may come again: then it is this one's.
    name = f"outrigger.{world.process.pid}.0"
    folder = next(path for place in places if (path := Path(place) / name).exists())
    assert folder.stat().st_mode & 0o777 == 0o700, "whoever reaches an upgrade socket gets the listeners"
    world.stop()
    assert not folder.exists()


# -- the start


def test_two_never_share_a_registry(world, tmp_path):
    other = tmp_path / "other.yaml"
    text = world.config_file.read_text()
    other.write_text(text.replace(str(world.port), str(free_port())).replace(str(world.admin_port), str(free_port())))
    ended = run_to_end(other)
    assert ended.returncode == 1
    assert "another Outrigger runs with" in ended.stderr and "sessions.embedded.path" in ended.stderr


def test_a_first_start_that_cannot_be_says_why(outrigger):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        listeners = [{"name": "public", "address": address, "upstream": "gateway"}]
        world = outrigger(["127.0.0.1:9"], {"listeners": listeners}, start=False)
        world.write_config()
        ended = run_to_end(world.config_file)
    assert (ended.returncode, f"cannot listen on {address}" in ended.stderr) == (1, True), ended.stderr

    world.write_config({"listenerz": []})
    ended = run_to_end(world.config_file)
    assert (ended.returncode, "listenerz" in ended.stderr) == (64, True), ended.stderr
    ended = run_to_end(world.folder / "missing.yaml")
    assert (ended.returncode, "missing.yaml" in ended.stderr) == (64, True), ended.stderr


def test_a_worker_is_not_for_humans():
    worker = [outrigger_binary(), "worker"]
    ended = subprocess.run(worker, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1 and "supervisor" in ended.stderr


# -- PID 1

NAMESPACE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
ALLOWED = shutil.which("unshare") and subprocess.run([*NAMESPACE, "true"], check=False).returncode == 0


@pytest.mark.skipif(not ALLOWED, reason="this machine allows no user namespaces")
def test_as_pid_1_it_reaps_orphans_and_obeys_signals(outrigger, raw_upstream, start):
    world = outrigger([raw_upstream(result_for_each).address], start=False)
    world.write_config()
    world.process = start("unshare", [*NAMESPACE, outrigger_binary(), "run", "--config", world.config_file])
    world.process.wait_ready(world.ready)
    (pid_1,) = world.worker_pids()
    children = lambda: Path(f"/proc/{pid_1}/task/{pid_1}/children").read_text().split()  # noqa: E731
    (worker,) = children()

    inside = ["nsenter", f"--target={pid_1}", "--user", "--pid", "--preserve-credentials"]
    subprocess.run([*inside, "sh", "-c", "sleep 300 & sleep 300 & exit"], check=True)
    wait_until(lambda: len(children()) == 3, what="the orphans have a new parent")
    for orphan in set(children()) - {worker}:
        os.kill(int(orphan), signal.SIGTERM)
    wait_until(lambda: children() == [worker], what="the orphans are reaped")
    assert ask(world.address) == 200

    os.kill(pid_1, signal.SIGHUP)
    wait_until(lambda: world.generation() == 2)
    os.kill(pid_1, signal.SIGTERM)
    assert world.process.wait() == 0
    assert json.loads(world.process.err.read_text().splitlines()[-1])["message"] == "stopped"
