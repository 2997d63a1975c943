"""P6 when other things go wrong at the same time: what a rotation does not need may be broken, what breaks it is mended
by another try, and the old generation serves meanwhile."""

import os
import shutil
import signal
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness import (
    Outrigger,
    free_port,
    plain,
    result_for_each,
    wait_until,
)
from harness.rotating import Rotating, serial_of
from harness.streams import read_end

SOON = {"reload": {"settle": "200ms"}}


def rotate(rotating: Rotating) -> None:
    new = rotating.files()
    rotating.copy(new)
    rotating.wait_shown(new)


# -- what a rotation does not need


def test_redis_is_down(outrigger, pki, raw_upstream, streams, redis_server):
    redis = redis_server()
    config = SOON | {"sessions": {"embedded": None, "registry": "redis", "redis": redis.as_config()}}
    rotating = Rotating(outrigger, pki, [raw_upstream(streams).address], config)
    client = rotating.world.open_stream()
    redis.stop()
    for _ in range(2):
        rotate(rotating)
    redis.start()
    rotate(rotating)
    streams.end()
    read_end(client)
    assert rotating.refusals() == []


def test_an_upstream_is_down(outrigger, pki, raw_upstream, streams):
    alive = raw_upstream(streams).address
    dead = {"dead": {"peers": [f"127.0.0.1:{free_port()}"], "tls": {"ca": str(pki.ca), "server_name": "localhost"}}}
    rotating = Rotating(outrigger, pki, [alive], SOON | {"upstreams": dead})
    client = rotating.world.open_stream()
    for _ in range(2):
        rotate(rotating)
    streams.end()
    read_end(client)


# -- generations that still drain


def test_three_generations_drain_and_each_is_seen(outrigger, pki, raw_upstream, streams):
    rotating = Rotating(outrigger, pki, [raw_upstream(streams).address], SOON)
    world = rotating.world
    clients = []
    for _ in range(3):
        clients.append(world.open_stream())
        rotate(rotating)

    def shown():
        return plain.get(f"{world.admin}/generations").json()

    def drained_to_streams():
        draining = [each for each in shown()["generations"] if each["state"] == "draining"]
        return [(each["generation"], each["connections"], each["streams"]) for each in draining]

    wait_until(lambda: drained_to_streams() == [(1, 1, 1), (2, 1, 1), (3, 1, 1)], what="only the streams are left")
    seen = shown()
    assert [each["cause"] for each in seen["generations"]] == ["first start", *["files changed"] * 3]
    assert seen["generations"][-1]["state"] == "serving"
    since = [each["since"] for each in seen["generations"]]
    assert since[:3] == sorted(since[:3])
    assert seen["last_reload"]["result"] == "ok" and seen["last_reload"]["reason"] is None

    rotating.tls.key.write_bytes(b"")
    rotating.wait_said("reload refused")
    last = wait_until(lambda: (last := shown()["last_reload"])["result"] == "failed" and last)
    assert str(rotating.tls.key) in last["reason"]

    streams.end()
    for client in clients:
        read_end(client)
    wait_until(lambda: len(shown()["generations"]) == 1, what="the old ones are gone")


def test_a_stream_outlives_its_generation_no_longer_than_it_may(outrigger, pki, raw_upstream, streams):
    rotating = Rotating(outrigger, pki, [raw_upstream(streams).address], SOON | {"drain": {"timeout": "2s"}})
    with rotating.world.open_stream() as client:
        rotate(rotating)
        assert client.closed_at is None
        rotating.wait_said("generation 1 killed: still draining after drain.timeout")
        client.wait_closed()
    rotate(rotating)


# -- a death in the middle of the handoff


def started(rotating: Rotating, old: int) -> int:
    return wait_until(lambda: set(rotating.world.worker_pids()) - {old}, what="the new worker", every=0.002).pop()


def waits_for_sockets(rotating: Rotating, old: int) -> int:
    new = started(rotating, old)
    socket = f"/outrigger.{rotating.world.process.pid}.0/2.sock"
    wait_until(lambda: socket in Path("/proc/net/unix").read_text(), what="it waits for its sockets", every=0.002)
    return new


@pytest.fixture
def rotating(outrigger, pki, raw_upstream) -> Rotating:
    return Rotating(outrigger, pki, [raw_upstream(result_for_each).address], SOON)


@pytest.mark.parametrize("moment", [started, waits_for_sockets])
def test_the_new_worker_is_killed_and_another_follows_without_being_asked(moment, rotating):
    first, new = rotating.serial(), rotating.files()
    (old,) = rotating.world.worker_pids()
    rotating.copy(new)
    os.kill(moment(rotating, old), signal.SIGKILL)
    rotating.wait_said("generation 2 is not fit to serve: SIGKILL; generation 1 serves on")
    assert rotating.serial() == first
    rotating.wait_said("the reload is tried again in 10.0 s")
    rotating.wait_shown(new)
    assert rotating.said("generation 3 starts (reload, another try)")


def test_the_old_worker_is_killed_and_connections_wait_for_the_new_one(rotating):
    new = rotating.files()
    (old,) = rotating.world.worker_pids()
    rotating.copy(new)
    waits_for_sockets(rotating, old)
    os.kill(old, signal.SIGKILL)
    with ThreadPoolExecutor(10) as pool:
        assert set(pool.map(lambda _: rotating.serial(), range(10))) == {serial_of(new.cert)}
    rotating.wait_said("generation 1 died after")
    assert rotating.world.metrics()["outrigger_worker_restarts_total"] == 0, "the new one was on its way"


# -- no room for the upgrade socket

#: A small disk of its own, as $XDG_RUNTIME_DIR.
PLACE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
PLACE += ['mount -t tmpfs -o size=64k,nr_inodes=16 tmpfs "$XDG_RUNTIME_DIR" && exec "$@"', "sh"]
ALLOWED = (
    shutil.which("unshare")
    and subprocess.run([*PLACE, "true"], env={**os.environ, "XDG_RUNTIME_DIR": "/mnt"}, check=False).returncode == 0
)


@pytest.fixture
def disk() -> Path:
    """Where it is mounted: a path short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="disk-") as folder:
        yield Path(folder)


FULL = ("number=0; while touch fill-$number 2>/dev/null; do number=$((number + 1)); done", "rm fill-*")
READ_ONLY = ("mount -o remount,ro $PWD", "mount -o remount,rw $PWD")


@pytest.mark.skipif(not ALLOWED, reason="this machine allows no user namespaces")
@pytest.mark.parametrize(("spoil", "mend"), [FULL, READ_ONLY], ids=["full", "read-only"])
def test_the_disk_of_the_upgrade_socket_is(spoil, mend, pki, raw_upstream, tmp_path, disk, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(disk))
    worlds = []

    def placed(peers, config, start):
        worlds.append(Outrigger(tmp_path / "placed", peers, config, start, launcher=PLACE))
        return worlds[0]

    def inside(command):
        enter = ["nsenter", f"--target={worlds[0].process.pid}", "--user", "--mount", "--preserve-credentials"]
        subprocess.run([*enter, "sh", "-c", f"cd {disk} && {command}"], check=True)

    try:
        rotating = Rotating(placed, pki, [raw_upstream(result_for_each).address], SOON)
        first, new = rotating.serial(), rotating.files()
        inside(spoil)
        rotating.copy(new)
        said = rotating.wait_said("generation 2 is not fit to serve")
        assert "2.sock" in said and said.endswith("generation 1 serves on"), said
        assert rotating.serial() == first
        inside(mend)
        rotating.wait_shown(new)
        worlds[0].stop()
    finally:
        worlds[0].end()
