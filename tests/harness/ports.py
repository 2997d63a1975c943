"""Free ports for processes that cannot be given a bound socket."""

import fcntl
import random
import socket
import tempfile
from pathlib import Path

# Below Linux's ephemeral range, so that no outgoing connection takes one between our look and the server's bind.
_RANGE = range(18000, 32000)
_held: set[int] = set()
#: Byte n of this file is locked by whoever holds port n; one descriptor serves for all of them.
_LOCKS = open(Path(tempfile.gettempdir()) / "outrigger-test-ports.lock", "w")  # noqa: SIM115 - held open on purpose


def free_port() -> int:
    """A TCP port that is free on 127.0.0.1 and that no other test process on this machine is handed meanwhile."""
    for port in random.sample(_RANGE, len(_RANGE)):
        if port in _held or not _claim(port):
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError("no free port")


def _claim(port: int) -> bool:
    """Takes the port's lock for the life of this process."""
    try:
        fcntl.lockf(_LOCKS, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    _held.add(port)
    return True
