"""Free ports for processes that cannot be given a bound socket."""

import fcntl
import random
import socket
import tempfile
from pathlib import Path

# Below Linux's ephemeral range, so that no outgoing connection takes one between our look and the server's bind.
_RANGE = range(18000, 32000)
_held = {}


def free_port() -> int:
    """A TCP port that is free on 127.0.0.1 and that no other test process on this machine is handed meanwhile."""
    folder = Path(tempfile.gettempdir()) / "outrigger-test-ports"
    folder.mkdir(exist_ok=True, mode=0o777)
    for port in random.sample(_RANGE, len(_RANGE)):
        if port in _held or not _claim(folder, port):
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError("no free port")


def _claim(folder: Path, port: int) -> bool:
    """Takes the port's lock file for the life of this process."""
    lock = open(folder / str(port), "w")  # noqa: SIM115 - held open on purpose
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        return False
    _held[port] = lock
    return True
