"""`make run` shows what it promises, and Ctrl-C leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness import wait_until
from harness.paths import TESTS


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_the_demonstration_keeps_its_promises_and_leaves_nothing_behind(end, start):
    run = start("run", [sys.executable, TESTS / "run" / "run.py"])
    run.wait_ready(lambda: "Ctrl-C ends everything" in run.out.read_text())
    shown = run.out.read_text()
    assert '{"name":"seen","server_id":"demo"}' in shown
    assert "generation 2 is ready" in shown
    assert '"id":3,"error":' in shown and "HTTP 404 after" in shown
    (status,) = re.findall(r"^   (\S+/outrigger status .*)$", shown, re.M)
    assert subprocess.run(status.split(), capture_output=True, text=True, check=True).stdout.startswith("Outrigger ")
    folder = Path(re.search(r"^(/.*)/outrigger.yaml$", shown, re.M)[1])
    started = processes_in(folder)
    assert len(started) >= 4, "Outrigger, its worker, a server and a client"
    run.signal(end)
    assert run.wait() == 0
    assert not folder.exists()
    wait_until(lambda: not [pid for pid in started if Path(f"/proc/{pid}").exists()], what="every process is gone")


def processes_in(folder: Path) -> list[int]:
    """Processes whose working directory it is."""

    def inside(pid: str) -> bool:
        try:
            return Path(os.readlink(f"/proc/{pid}/cwd")) == folder
        except OSError:
            return False

    return [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and inside(pid)]
