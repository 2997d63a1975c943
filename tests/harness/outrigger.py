"""The world of a test: a configuration, the real binary, and what can be seen of it from outside."""

import copy
import json
import os
import re
import signal
import ssl
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import yaml

from .http1 import event
from .paths import outrigger_binary
from .plain import get
from .ports import free_port
from .processes import Process
from .raw import RawClient
from .secrets import leaked
from .waiting import PATIENCE, wait_until


class Outrigger:
    """`outrigger run` on free ports with a folder of its own.

    `config` is laid over the defaults (mappings are merged, all else replaces); the defaults are one plaintext listener
    `public` in front of upstream `gateway` with `peers`, an embedded registry in the folder, and the admin listener;
    both listen on `host`. `launcher`: words before the command line, which end by executing it.
    """

    def __init__(
        self,
        folder: Path,
        peers: list[str | dict] = (),
        config: dict | None = None,
        start: bool = True,
        host: str = "127.0.0.1",
        launcher: Sequence[str] = (),
    ):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._launcher = launcher
        self.port = free_port()
        self.admin_port = free_port()
        self.config_file = folder / "outrigger.yaml"
        sessions = folder / "sessions"
        sessions.mkdir(exist_ok=True)
        self.config = merged(
            {
                "threads": 1,
                "listeners": [{"name": "public", "address": f"{host}:{self.port}", "upstream": "gateway"}],
                "upstreams": {"gateway": {"peers": list(peers)}},
                "sessions": {"embedded": {"path": str(sessions)}},
                "admin": {"address": f"{host}:{self.admin_port}", "public": not host.startswith("127.")},
                "log": {"level": "info", "format": "json"},
            },
            config or {},
        )
        listener = self.config["listeners"][0]
        #: host:port of the first listener, for raw sockets.
        self.address: str = listener["address"]
        #: The same as a URL, without a trailing slash.
        self.url = f"{'https' if 'tls' in listener else 'http'}://{self.address}"
        self.admin = f"http://{self.config['admin']['address']}"
        self.process: Process | None = None
        #: Bytes of its log that an earlier process wrote.
        self._earlier = 0
        if start:
            self.start()

    # -- life

    def start(self) -> None:
        """Writes the configuration, starts the binary and waits until its supervisor, too, knows that it serves."""
        self.write_config()
        self._earlier = self.process.err.stat().st_size if self.process else 0
        command = [*self._launcher, outrigger_binary(), "run", "--config", self.config_file]
        self.process = Process("outrigger", command, self.folder)
        self.process.wait_ready(lambda: self.ready() and self.last_ready(), what="outrigger ready")

    def write_config(self, changes: dict | None = None) -> None:
        """Merges `changes` into the configuration and writes the file; nothing is signalled."""
        self.config = merged(self.config, changes or {})
        self.config_file.write_text(yaml.safe_dump(self.config, sort_keys=False))

    def reload(self, changes: dict | None = None, patience: float = PATIENCE) -> int:
        """Writes the configuration, sends SIGHUP and waits until the next generation serves and the last one drains."""
        before = wait_until(self.last_ready, patience, "a first generation")
        self.write_config(changes)
        self.process.signal(signal.SIGHUP)
        newer = lambda: (number := self.last_ready()) > before and number  # noqa: E731
        number = wait_until(newer, patience, f"a generation after {before}")
        # Both accept for a moment, and what the old one took would be answered by its own configuration.
        wait_until(lambda: f"generation {before} drain" in self.story(), patience)
        return number

    def stop(self, patience: float = PATIENCE) -> None:
        """SIGTERM; the drain must end with exit code 0."""
        self.process.signal(signal.SIGTERM)
        code = self.process.wait(patience)
        assert code == 0, f"outrigger exited with {code}:\n{self.process.log_tail()}"

    def kill(self) -> None:
        """Supervisor and workers at once, as if the machine were gone."""
        workers = self.worker_pids()
        self._signal_all(signal.SIGKILL)
        self.process.wait()
        # As long as one of them is dying its sockets take connections.
        wait_until(lambda: all(map(_is_dead, workers)), what="the workers are dead")

    def pause(self) -> None:
        """Supervisor and workers stand still: their sockets take connections, and nobody reads them."""
        self._signal_all(signal.SIGSTOP)
        # A thread that runs on another processor stops a moment later, and may take a request until then.
        wait_until(lambda: all(map(_stands_still, (self.process.pid, *self.worker_pids()))), what="all stand still")

    def resume(self) -> None:
        self._signal_all(signal.SIGCONT)

    def end(self) -> None:
        """Whatever state it is in: nothing is left running."""
        if self.process:
            # One that is paused would not hear SIGTERM.
            with suppress(OSError):
                self.resume()
            self.process.end()
            found = leaked("".join(path.read_text(errors="replace") for path in (self.process.out, self.process.err)))
            assert not found, f"secrets in the log of {self.folder.name}: {sorted(found)[:5]}"

    def _signal_all(self, number: int) -> None:
        # The supervisor first: it would take a worker's death for a crash and start another.
        workers = self.worker_pids()
        self.process.signal(number)
        for pid in workers:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    # -- what is seen from outside

    def client(self, tls: ssl.SSLContext | None = None) -> RawClient:
        """A raw connection to the first listener."""
        return RawClient(self.address, tls)

    def open_stream(self) -> RawClient:
        """A GET stream on /mcp that its upstream has begun with the event `begun`."""
        client = self.client()
        client.send(b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        assert client.read_head().status == 200
        assert client.read_chunk() == event("begun")
        return client

    def ready(self) -> bool:
        return get(f"{self.admin}/readyz").status_code == 200

    def state(self) -> dict:
        """What /readyz says, ready or not."""
        return get(f"{self.admin}/readyz").json()

    def story(self) -> str:
        """What this process and its workers wrote to standard error so far."""
        return self.process.err.read_bytes()[self._earlier :].decode("utf-8", "replace")

    def last_ready(self) -> int:
        """The generation that the supervisor called ready last, or 0; while two overlap, either may answer /readyz."""
        return max(map(int, re.findall(r"generation (\d+) ready in ", self.story())), default=0)

    def generation(self) -> int:
        """Number of a generation that accepts; while two overlap, either may answer."""
        return self.state()["generation"]

    def worker_pids(self) -> list[int]:
        """Children of the supervisor, oldest first; a draining generation counts."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return sorted(int(child) for child in children)

    def log(self) -> list[dict]:
        """Every JSON line that it has written, standard output first."""
        lines = []
        for path in (self.process.out, self.process.err):
            for line in path.read_text(errors="replace").splitlines():
                try:
                    value = json.loads(line)
                except ValueError:
                    continue
                if isinstance(value, dict):
                    lines.append(value)
        return lines

    def access_log(self) -> list[dict]:
        """The lines of room 10, one per request; they are written some 50 ms late, so wait for the one you want."""
        return [line for line in self.log() if line.get("target") == "access"]

    def metrics(self) -> dict[str, float]:
        """/metrics as `{'name{label="x"}': value}`."""
        text = get(f"{self.admin}/metrics").text
        samples = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}


def merged(base: dict, over: dict) -> dict:
    """`over` laid over `base`: mappings merge key by key, None removes a key, everything else replaces."""
    result = copy.deepcopy(base)
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def _stands_still(pid: int) -> bool:
    """Whether every thread has been stopped."""
    stats = [stat.read_text() for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(stat.rpartition(")")[2].split()[0] in "TZ" for stat in stats)


def _is_dead(pid: int) -> bool:
    """Gone, or waiting for its parent to notice, with the last of its threads and so of its sockets."""
    process = Path(f"/proc/{pid}")
    try:
        ended = (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        return ended and len(list((process / "task").iterdir())) == 1
    except (FileNotFoundError, ProcessLookupError):
        return True
