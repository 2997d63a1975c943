"""A container without a container runtime: a sidecar in namespaces of its own, with what its manifest gives it."""

import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from .k8s import Sidecar
from .paths import outrigger_binary
from .pki import Pki
from .places import Place
from .waiting import wait_until

_NOBODY = ["--unshare-all", "--uid", "65532", "--gid", "65532", "--cap-drop", "ALL"]


def permitted() -> bool:
    """Whether this process may make them."""
    probe = ["bwrap", *_NOBODY, "--ro-bind", "/", "/", "true"]
    return bool(shutil.which("bwrap")) and subprocess.run(probe, capture_output=True).returncode == 0


class Container:
    """A running sidecar: PID 1, nobody, a read-only root that holds of the image what the binary needs, its volumes.

    It has a network of its own, with loopback only, or that of `place`. `own` are variables that differ between pods,
    `hosts` names that it finds.
    """

    def __init__(
        self,
        sidecar: Sidecar,
        folder: Path,
        pki: Pki,
        start: Callable,
        place: Place | None = None,
        own: Mapping[str, str] | None = None,
        hosts: Mapping[str, str] | None = None,
    ):
        self.sidecar = sidecar
        folder.mkdir(parents=True, exist_ok=True)
        command = [*(place.launcher if place else ()), "bwrap", *_NOBODY, *(["--share-net"] if place else [])]
        command += ["--as-pid-1", "--die-with-parent", "--clearenv"]
        for library in _libraries():
            command += ["--ro-bind", library, library]
        command += ["--ro-bind", outrigger_binary(), "/usr/bin/outrigger", "--proc", "/proc", "--dev", "/dev"]
        names = folder / "hosts"
        names.write_text("".join(f"{address} {name}\n" for name, address in (hosts or {}).items()))
        switch = folder / "nsswitch.conf"
        switch.write_text("hosts: files\n")
        command += ["--ro-bind", names, "/etc/hosts", "--ro-bind", switch, "/etc/nsswitch.conf"]
        #: Folders of its volumes, by name.
        self.volumes: dict[str, Path] = {}
        for path, (source, writable) in sidecar.lay_out(folder, pki).items():
            self.volumes[source.name] = source
            command += ["--bind" if writable else "--ro-bind", source, path]
        for name, value in {"PATH": "/usr/bin", **sidecar.environment(), **(own or {})}.items():
            command += ["--setenv", name, value]
        command += ["--remount-ro", "/", "/usr/bin/outrigger", *sidecar.spec["args"]]
        self.process = start(f"{sidecar.name}-{folder.name}", command)
        self.pid = wait_until(self._first_process, what="the container's first process")

    def _first_process(self) -> int:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        assert [Path(f"/proc/{pid}/comm").read_text() for pid in children] == ["outrigger\n"]
        return int(children[0])

    def beside(self, *command) -> list:
        """Words that run a command of this machine in the pod's network, as its other containers do."""
        return ["nsenter", f"--target={self.pid}", "--user", "--net", "--preserve-credentials", *command]

    def inside(self, *command) -> subprocess.CompletedProcess:
        """A command run in the container, as hooks and exec probes are."""
        entered = ["nsenter", f"--target={self.pid}", "--user", "--mount", "--net", "--pid", "--preserve-credentials"]
        return subprocess.run([*entered, "--wd=/", *command], capture_output=True, text=True, env={"PATH": "/usr/bin"})

    def get(self, port: int, path: str) -> int:
        """Status of an HTTP GET as kubelet sends it, 0 if nobody answers."""
        curl = ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--max-time", "5"]
        url = f"http://127.0.0.1:{port}{path}"
        return int(subprocess.run(self.beside(*curl, url), capture_output=True, text=True).stdout)

    def probe(self, kind: str) -> bool:
        asked = self.sidecar.spec[f"{kind}Probe"]["httpGet"]
        (port,) = [one["containerPort"] for one in self.sidecar.spec["ports"] if one["name"] == asked["port"]]
        return 200 <= self.get(port, asked["path"]) < 400


def _libraries() -> list[str]:
    """What the binary is linked with, in the places where it looks."""
    words = subprocess.run(["ldd", outrigger_binary()], capture_output=True, text=True, check=True).stdout.split()
    return sorted({word for word in words if word.startswith("/")})
