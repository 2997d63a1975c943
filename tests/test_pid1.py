"""As PID 1 of a container and as a plain process: it serves, reloads, reaps what others leave, and stops in time."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from harness import JSON, Closed, Process, chunk, event, event_stream_head, response, wait_until
from harness.paths import outrigger_binary

NAMESPACE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]
ALLOWED = shutil.which("unshare") and subprocess.run([*NAMESPACE, "true"], check=False).returncode == 0
PING = b'{"jsonrpc":"2.0","id":7,"method":"ping"}'


class Contained:
    """A process that is PID 1 of a namespace; looks like a `Process`, but signals go to PID 1 itself."""

    def __init__(self, outside: Process, pid: int):
        self.outside, self.pid = outside, pid

    def __getattr__(self, name):
        return getattr(self.outside, name)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)


def upstream_script(connection) -> None:
    """Answers calls; a GET gets a stream that does not end by itself."""
    while True:
        message = connection.read_request()
        if message.method == "GET":
            connection.send(event_stream_head() + chunk(event("begun")))
            connection.wait_closed(60)
            return
        connection.send(response(200, {"jsonrpc": "2.0", "id": message.json["id"], "result": {}}))


@pytest.fixture(params=["pid 1", "plain"])
def world(request, outrigger, raw_upstream, start):
    """Outrigger in either role; streams of its upstream never end by themselves."""

    world = outrigger([raw_upstream(upstream_script).address], {"shutdown": {"timeout": "3s"}}, start=False)
    if request.param == "plain":
        world.start()
        return world
    if not ALLOWED:
        pytest.skip("this machine allows no user namespaces")
    world.write_config()
    outside = start("namespace", [*NAMESPACE, outrigger_binary(), "run", "--config", world.config_file])
    outside.wait_ready(world.ready)
    (pid,) = children(outside.pid)
    world.process = Contained(outside, pid)
    assert Path(f"/proc/{pid}/status").read_text().partition("NSpid:")[2].split("\n")[0].split()[-1] == "1"
    return world


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def serves(world) -> None:
    with world.client() as client:
        assert client.ask("POST", "/mcp", PING, JSON).json["id"] == 7


def test_it_serves_reloads_and_stops_in_time_with_streams_open(world):
    streams = [world.open_stream()]
    streams.append(world.open_stream())
    serves(world)
    assert world.reload() == 2
    serves(world)
    assert len(world.worker_pids()) == 2, "the old generation keeps its streams"
    workers = world.worker_pids()

    began = time.monotonic()
    world.process.signal(signal.SIGTERM)
    assert world.process.wait() == 0
    lasted = time.monotonic() - began
    assert 2.5 < lasted < 15, f"streams keep it for shutdown.timeout, no longer: {lasted:.1f} s"
    for stream in streams:
        with pytest.raises(Closed):
            stream.read_chunk()
    for pid in workers:
        wait_until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), what="no worker is left")
    said = [line.get("message", "") for line in world.log()]
    assert any("still draining after shutdown.timeout" in line for line in said)
    assert said[-1] == "stopped"


def test_it_stops_at_once_when_nothing_is_open(world):
    serves(world)
    world.process.signal(signal.SIGTERM)
    assert world.process.wait() == 0
    assert not any("still draining" in line.get("message", "") for line in world.log()), "nothing was left to wait for"


def test_ctrl_c_is_a_stop_too(world):
    world.process.signal(signal.SIGINT)
    assert world.process.wait() == 0


@pytest.mark.parametrize("world", ["pid 1"], indirect=True)
def test_as_pid_1_it_reaps_the_orphans_of_others(world):
    """What an exec'd probe or shell leaves behind is PID 1's to bury; a worker's own end is still noticed meanwhile."""
    pid = world.process.pid
    (worker,) = children(pid)
    inside = ["nsenter", f"--target={pid}", "--user", "--pid", "--preserve-credentials"]
    subprocess.run([*inside, "sh", "-c", "for n in 1 2 3 4 5; do (sleep 300 &) ; done"], check=True)
    wait_until(lambda: len(children(pid)) == 6, what="the orphans have a new parent")
    for child in children(pid):
        os.kill(child, signal.SIGKILL)
    wait_until(lambda: len(children(pid)) == 1 and worker not in children(pid), what="all are reaped, one is replaced")
    wait_until(world.ready)
    assert world.metrics()["outrigger_worker_restarts_total"] == 1
    serves(world)
    world.process.signal(signal.SIGTERM)
    assert world.process.wait() == 0


def test_stop_lets_it_serve_on_and_then_drain(world):
    """As a preStop hook, from inside; it is done with the signal, before the end of PID 1 ends it, too."""
    stream = world.open_stream()
    inside, pid = [], world.process.pid
    if isinstance(world.process, Contained):
        inside = ["nsenter", f"--target={pid}", "--user", "--pid", "--mount", "--preserve-credentials"]
        pid = 1
    began = time.monotonic()
    hook = subprocess.Popen([*inside, outrigger_binary(), "stop", "--after", "5s", "--pid", str(pid)])
    serves(world)
    assert world.ready()
    assert hook.poll() is None
    assert hook.wait() == 0
    assert time.monotonic() - began >= 5
    assert world.process.wait() == 0
    with pytest.raises(Closed):
        stream.read_chunk()


def test_stop_leaves_other_programs_alone():
    """Outside of containers process 1 is the system's own."""
    program = subprocess.Popen(["sleep", "300"])
    try:
        told = subprocess.run(
            [outrigger_binary(), "stop", "--pid", str(program.pid)], capture_output=True, text=True, check=False
        )
        assert told.returncode == 1
        assert told.stderr == f"process {program.pid} is no Outrigger but sleep; nothing was done\n"
        assert program.poll() is None
    finally:
        program.kill()
        program.wait()


def test_stop_says_that_nobody_is_there():
    program = subprocess.Popen(["true"])
    program.wait()
    told = subprocess.run(
        [outrigger_binary(), "stop", "--pid", str(program.pid)], capture_output=True, text=True, check=False
    )
    assert (told.returncode, told.stderr) == (1, f"there is no process {program.pid}\n")
