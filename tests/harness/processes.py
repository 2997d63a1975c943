"""Processes that a test starts: each leads its own process group, writes to files of its own, and is ended by pid."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from .waiting import PATIENCE, wait_until

#: TCP_LISTEN in /proc/net/tcp.
_LISTENS = "0A"

#: Every process that is alive or was started since the running test began; conftest shows their logs on failure.
STARTED: list["Process"] = []


class Process:
    """A child with its output in `out` and `err` (files that exist from the start)."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        folder: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        spoken_to: bool = False,
    ):
        """`spoken_to`: it reads from a pipe that `say` writes to; else its standard input is empty."""
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.out = folder / f"{name}.out"
        self.err = folder / f"{name}.err"
        with self.out.open("ab") as out, self.err.open("ab") as err:
            self._child = subprocess.Popen(
                [str(word) for word in argv],
                stdin=subprocess.PIPE if spoken_to else subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, **(env or {})},
                cwd=cwd or folder,
                start_new_session=True,
            )
        STARTED.append(self)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    def listens(self, port: int) -> bool:
        """Whether somebody does on this TCP port, where the process is: a network namespace sees only its own."""
        tables = [Path(f"/proc/{self.pid}/net/{table}").read_text() for table in ("tcp", "tcp6")]
        sockets = [line.split() for table in tables for line in table.splitlines()[1:]]
        return any(int(fields[1].rpartition(":")[2], 16) == port and fields[3] == _LISTENS for fields in sockets)

    def say(self, line: str) -> None:
        """Writes a line to its standard input, at once."""
        self._child.stdin.write(f"{line}\n".encode())
        self._child.stdin.flush()

    def signal(self, number: int) -> None:
        """Sends a signal to the child only, not to its group."""
        self._child.send_signal(number)

    def wait(self, patience: float = PATIENCE) -> int:
        """Exit code, negative for a signal; AssertionError if it lives longer than `patience` seconds."""
        try:
            return self._child.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} (pid {self.pid}) still runs after {patience:g} s") from None

    def wait_ready(self, condition, patience: float = PATIENCE, what: str = "") -> None:
        """Waits for `condition`, and says so with the log if the process dies first."""

        def ready():
            if not self.running:
                raise RuntimeError(f"{self.name} exited with {self._child.returncode}:\n{self.log_tail()}")
            return condition()

        wait_until(ready, patience, what or f"{self.name} ready")

    def end(self, patience: float = 5) -> None:
        """Ends the whole group: SIGTERM to the child, SIGKILL to what is left of the group."""
        if self.running:
            self.signal(signal.SIGTERM)
            deadline = time.monotonic() + patience
            while self.running and time.monotonic() < deadline:
                time.sleep(0.02)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._child.wait()
        if self._child.stdin:
            # What was said to a dead process cannot be flushed any more.
            with suppress(BrokenPipeError):
                self._child.stdin.close()

    def log_tail(self, size: int = 6000) -> str:
        """The last `size` bytes of what it wrote, standard output first."""
        return "".join(
            f"--- {self.name} (pid {self.pid}) {path.suffix[1:]} ---\n{text}\n"
            for path in (self.out, self.err)
            if (text := path.read_bytes()[-size:].decode("utf-8", "replace").strip())
        )
