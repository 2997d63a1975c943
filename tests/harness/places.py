"""Where members stand: a loopback address each, or a network namespace each, which can be cut off from the others."""

import os
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from .paths import system_command
from .ports import free_port

#: At most, for one test.
_PLACES = 4


@dataclass(frozen=True)
class Place:
    """Where a member and its own MCP server run."""

    #: Clients come in at this address; it is never cut off.
    front: str
    #: The other members and Redis are reached from this one, and reach it here.
    back: str
    #: Words before a command line that run it here.
    launcher: Sequence[str] = ()


def loopback(number: int) -> Place:
    """127.0.0.2, 127.0.0.3, …: every address of 127.0.0.0/8 is this machine."""
    address = f"127.0.0.{number + 2}"
    return Place(address, address)


class Namespaces:
    """Network namespaces with hostnames of their own, on two bridges: to the clients (us) and between members.

    `front_host` and `redis_host` are this process's own addresses on them. Only root may make them.
    """

    def __init__(self):
        self._index, self._lock = _own_index()
        self._front, self._back = f"orf{self._index}", f"orb{self._index}"
        self.front_host, self.redis_host = f"198.18.{self._index}.1", f"198.19.{self._index}.1"
        self._places = 0
        # A test process that was killed has left its own.
        self.end(unlock=False)
        for bridge, address in ((self._front, self.front_host), (self._back, self.redis_host)):
            _ip("link", "add", bridge, "type", "bridge")
            _ip("address", "add", f"{address}/24", "dev", bridge)
            _ip("link", "set", bridge, "up")

    @staticmethod
    def permitted() -> bool:
        """Whether this process may make them."""
        probe = f"orprobe{free_port()}"
        if os.geteuid() != 0 or subprocess.run([_command(), "netns", "add", probe], capture_output=True).returncode:
            return False
        bridge = [_command(), "link", "add", probe, "type", "bridge"]
        made = subprocess.run(bridge, capture_output=True).returncode == 0
        if made:
            _ip("link", "del", probe)
        _ip("netns", "del", probe)
        return made

    def place(self, hostname: str) -> Place:
        """A new namespace."""
        number = self._places
        self._places += 1
        name = self._name(number)
        _ip("netns", "add", name)
        _ip("-n", name, "link", "set", "lo", "up")
        front, back = f"198.18.{self._index}.{number + 2}", f"198.19.{self._index}.{number + 2}"
        for bridge, inside, address in ((self._front, "front", front), (self._back, "back", back)):
            outside = f"{bridge}n{number}"
            _ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", name)
            _ip("link", "set", outside, "master", bridge, "up")
            _ip("-n", name, "address", "add", f"{address}/24", "dev", inside)
            _ip("-n", name, "link", "set", inside, "up")
        naming = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', hostname]
        return Place(front, back, [_command(), "netns", "exec", name, *naming])

    def cut_off(self, number: int) -> None:
        """Between place `number` and the others, and Redis, packets vanish, and nobody is told."""
        _ip("link", "set", f"{self._back}n{number}", "down")

    def join_again(self, number: int) -> None:
        _ip("link", "set", f"{self._back}n{number}", "up")

    def end(self, unlock: bool = True) -> None:
        bridges = (self._front, self._back)
        # A namespace goes when the kernel has time for it; its links are in the way of the next one's until then.
        left = [["netns", "del", self._name(number)] for number in range(_PLACES)]
        left += [["link", "del", f"{bridge}n{number}"] for number in range(_PLACES) for bridge in bridges]
        for words in [*left, *(["link", "del", bridge] for bridge in bridges)]:
            subprocess.run([_command(), *words], capture_output=True)
        if unlock:
            self._lock.close()

    def _name(self, number: int) -> str:
        return f"outrigger-{self._index}-{number}"


def _own_index() -> tuple[int, socket.socket]:
    """A number that no other process on this machine has, with the socket whose name says so until the process ends."""
    for index in range(256):
        lock = socket.socket(socket.AF_UNIX)
        try:
            lock.bind(f"\0outrigger-test-namespaces-{index}")
            return index, lock
        except OSError:
            lock.close()
    raise RuntimeError("no free number for network namespaces")


def _command() -> str:
    return system_command("ip")


def _ip(*words) -> None:
    done = subprocess.run([_command(), *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(map(str, words))}: {done.stderr}"
