"""P6 without a signal: a change of any file that the configuration rests on is a reload, once, when all is there."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from harness import Identity, Outrigger, result_for_each, wait_until
from harness.rotating import Rotating, serial_of

#: Longer than `reload.settle` in these tests, which therefore has surely passed.
SETTLED = 1.5


@pytest.fixture
def upstream(raw_upstream):
    return raw_upstream(result_for_each)


@pytest.fixture
def rotating(outrigger, pki, upstream) -> Rotating:
    return Rotating(outrigger, pki, [upstream.address])


# -- ways to replace a file


def in_place(old: Path, new: Path) -> None:
    shutil.copyfile(new, old)


def by_rename(old: Path, new: Path) -> None:
    copy = old.with_name(f".{old.name}.new")
    shutil.copyfile(new, copy)
    copy.rename(old)


def removed_first(old: Path, new: Path) -> None:
    old.unlink()
    shutil.copyfile(new, old)


@pytest.mark.parametrize("replace", [in_place, by_rename, removed_first])
def test_a_certificate_and_its_key_are_replaced(replace, rotating):
    for _ in range(2):
        new, before = rotating.files(), rotating.ready()
        replace(rotating.tls.cert, new.cert)
        replace(rotating.tls.key, new.key)
        rotating.wait_shown(new)
        assert rotating.ready() == before + 1, "one reload for both files"
    assert rotating.refusals() == []
    assert len(rotating.said("starts (files changed)")) == 2
    rotating.world.stop()


class Volume:
    """A folder as Kubernetes mounts a secret or a config map: all its files change at once, by one renamed link."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._versions = 0
        folder.mkdir()

    def swap(self, files: dict[str, bytes]) -> None:
        self._versions += 1
        version = self._folder / f"..2026_11_20_{self._versions}"
        version.mkdir()
        for name, content in files.items():
            (version / name).write_bytes(content)
        old = (self._folder / "..data").resolve()
        (self._folder / "..data_tmp").symlink_to(version.name)
        (self._folder / "..data_tmp").rename(self._folder / "..data")
        for name in files:
            if not (self._folder / name).is_symlink():
                (self._folder / name).symlink_to(f"..data/{name}")
        if self._versions > 1:
            shutil.rmtree(old)


def test_a_kubernetes_volume_is_swapped(outrigger, pki, upstream, tmp_path):
    volume, mount = Volume(tmp_path / "certs"), tmp_path / "certs"

    def swap(identity):
        volume.swap({"tls.crt": identity.cert.read_bytes(), "tls.key": identity.key.read_bytes()})

    swap(pki.issue("localhost", label="volume-0"))
    rotating = Rotating(outrigger, pki, [upstream.address], tls=Identity(mount / "tls.crt", mount / "tls.key"))
    # Each swap makes the folder that was watched last disappear.
    for number in (1, 2, 3):
        new = pki.issue("localhost", label=f"volume-{number}")
        swap(new)
        rotating.wait_shown(new)
        assert rotating.ready() == number + 1
    assert rotating.refusals() == []


def test_the_folder_itself_is_replaced(outrigger, pki, upstream, tmp_path):
    live, mount = tmp_path / "live", tmp_path / "certs"
    first = pki.issue("localhost", label="folder-1")

    def fill(folder, identity):
        folder.mkdir()
        shutil.copyfile(identity.cert, folder / "tls.crt")
        shutil.copyfile(identity.key, folder / "tls.key")

    fill(live, first)
    mount.symlink_to(live)
    rotating = Rotating(outrigger, pki, [upstream.address], tls=Identity(mount / "tls.crt", mount / "tls.key"))
    second = rotating.files()
    live.rename(tmp_path / "old")
    fill(live, second)
    rotating.wait_shown(second)
    third = rotating.files()
    fill(tmp_path / "other", third)
    (tmp_path / "certs.new").symlink_to(tmp_path / "other")
    (tmp_path / "certs.new").rename(mount)
    rotating.wait_shown(third)
    in_place(mount / "tls.crt", second.cert)
    in_place(mount / "tls.key", second.key)
    rotating.wait_shown(second)
    assert rotating.ready() == 4


# -- when


def test_a_pair_that_is_replaced_in_two_steps_is_waited_for(outrigger, pki, upstream):
    rotating = Rotating(outrigger, pki, [upstream.address], {"reload": {"settle": "3s"}})
    new = rotating.files()
    in_place(rotating.tls.cert, new.cert)
    # Outside of the code's patience nothing could be awaited: nothing happens, and that is the point.
    time.sleep(1.5)
    in_place(rotating.tls.key, new.key)
    rotating.wait_shown(new)
    assert rotating.ready() == 2 and rotating.refusals() == []


def test_what_holds_the_same_is_no_change(rotating):
    cert, key, before = rotating.tls.cert, rotating.tls.key, rotating.tls.cert.read_bytes()
    by_rename(cert, shutil.copyfile(cert, cert.with_suffix(".same")))
    os.utime(key)
    rotating.world.write_config()
    time.sleep(SETTLED)
    # There and back again before anybody has looked twice.
    cert.write_bytes(b"half")
    cert.write_bytes(before)
    time.sleep(SETTLED)
    new = rotating.files()
    rotating.copy(new)
    rotating.wait_shown(new)
    assert rotating.ready() == 2 and rotating.refusals() == []


def test_a_signal_loads_a_change_at_once_and_it_is_not_loaded_again(rotating):
    new = rotating.files()
    rotating.copy(new)
    rotating.world.process.signal(signal.SIGHUP)
    rotating.wait_shown(new)
    time.sleep(SETTLED)
    third = rotating.files()
    rotating.copy(third)
    rotating.wait_shown(third)
    assert len(rotating.said("starts (reload)")) == 1
    assert len(rotating.said("starts (files changed)")) == 1


def test_the_configuration_is_watched_and_the_log_changes_with_it(rotating):
    world = rotating.world
    world.write_config({"log": {"level": "error"}})
    wait_until(lambda: len(world.worker_pids()) == 2 or world.generation() == 2)
    wait_until(lambda: world.generation() == 2 and len(world.worker_pids()) == 1, what="only the new one is left")
    assert rotating.said("generation 2 ready"), "said before the level changed"
    world.write_config({"log": {"level": "info", "format": "text"}})
    # No line tells of the third generation's start; its `ready` does, because by then the level has changed again.
    wait_until(lambda: "generation 2 drains" in world.story() or "generation 2 drained" in world.story())
    assert not rotating.said("generation 3 starts"), "the supervisor's own level has changed too"
    assert not rotating.said("generation 2 drained"), "and its format"


# -- what is wrong


def test_what_is_wrong_is_refused_once_and_the_next_change_is_another_try(rotating):
    first, new = rotating.serial(), rotating.files()
    good = rotating.tls.cert.read_bytes()
    in_place(rotating.tls.cert, new.cert)
    assert "listeners[1].tls.key: is not the key of the certificate" in rotating.wait_said("reload refused")
    assert rotating.serial() == first
    in_place(rotating.tls.key, new.key)
    rotating.wait_shown(new)

    rotating.tls.cert.write_bytes(good[: len(good) // 2])
    rotating.wait_said("reload refused", str(rotating.tls.cert))
    assert rotating.serial() == serial_of(new.cert)
    # What serves is back: no reload is needed. The same mistake is told again.
    in_place(rotating.tls.cert, new.cert)
    time.sleep(SETTLED)
    rotating.tls.cert.write_bytes(good[: len(good) // 2])
    rotating.wait_said("reload refused", str(rotating.tls.cert), times=2)
    rotating.tls.cert.unlink()
    rotating.wait_said("reload refused", "No such file or directory")
    assert rotating.ready() == 2 and len(rotating.refusals()) == 4
    metrics = rotating.world.metrics()
    assert metrics['outrigger_reloads_total{result="failed"}'] == 4
    assert metrics['outrigger_reloads_total{result="ok"}'] == 1
    success = metrics["outrigger_last_reload_success_timestamp_seconds"]
    assert 0 < success <= metrics["outrigger_last_reload_timestamp_seconds"]


def test_a_file_that_only_a_refused_configuration_names_is_waited_for(rotating, tmp_path):
    """The config map of a pod may change before the secret that it speaks of."""
    new, cert, key = rotating.files(), tmp_path / "to-come" / "tls.crt", tmp_path / "to-come" / "tls.key"
    listeners = rotating.world.config["listeners"]
    tls = {"cert": str(cert), "key": str(key)}
    rotating.world.write_config({"listeners": [listeners[0], {**listeners[1], "tls": tls}]})
    rotating.wait_said("reload refused", str(cert))
    cert.parent.mkdir()
    shutil.copyfile(new.key, key)
    shutil.copyfile(new.cert, cert)
    rotating.wait_shown(new)


# -- without


def test_nothing_is_watched_where_that_is_not_wanted(outrigger, pki, upstream):
    rotating = Rotating(outrigger, pki, [upstream.address], {"reload": {"watch": False}})
    first, new = rotating.serial(), rotating.files()
    rotating.copy(new)
    time.sleep(2 * SETTLED)
    assert rotating.serial() == first and rotating.ready() == 1
    assert not inotify_of(rotating.world), "nothing is spent on it either"
    rotating.world.reload({"reload": {"watch": True}})
    rotating.wait_shown(new)
    third = rotating.files()
    rotating.copy(third)
    rotating.wait_shown(third)
    rotating.world.write_config({"reload": {"watch": False}})
    wait_until(lambda: rotating.ready() == 4)
    rotating.copy(new)
    time.sleep(2 * SETTLED)
    assert rotating.serial() == serial_of(third.cert) and rotating.ready() == 4


def inotify_of(world: Outrigger) -> list[Path]:
    links = Path(f"/proc/{world.process.pid}/fd").iterdir()
    return [link for link in links if os.readlink(link) == "anon_inode:inotify"]


#: A place where the kernel has no inotify left to give.
DEAF = ["unshare", "--user", "--map-root-user", "sh", "-c"]
DEAF += ['echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"', "sh"]
ALLOWED = shutil.which("unshare") and subprocess.run([*DEAF, "true"], check=False).returncode == 0


@pytest.mark.skipif(not ALLOWED, reason="this machine allows no user namespaces")
def test_without_inotify_it_looks_by_itself(pki, upstream, tmp_path):
    worlds = []

    def deaf(peers, config, start):
        worlds.append(Outrigger(tmp_path / "deaf", peers, config, start, launcher=DEAF))
        return worlds[0]

    try:
        rotating = Rotating(deaf, pki, [upstream.address])
        warned = [line for line in rotating.world.log() if line["level"] == "warn"]
        assert [line["message"] for line in warned] == [
            "inotify cannot be watched: Too many open files (fs.inotify.max_user_instances); files are looked at every "
            "second instead"
        ]
        for _ in range(2):
            new = rotating.files()
            rotating.copy(new)
            rotating.wait_shown(new)
    finally:
        worlds[0].end()
