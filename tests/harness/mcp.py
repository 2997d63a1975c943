"""Real MCP servers and clients: which kinds there are, how each is started, and what a client reports."""

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx

from .paths import NODE, NODE_MODULES, TESTS, python
from .ports import free_port
from .processes import Process
from .waiting import wait_until


@dataclass(frozen=True)
class ServerKind:
    """One way to run one server. The tool set of `servers/*_common` is there unless `reference`."""

    name: str
    sdk: str
    transport: str = "streamable"
    json: bool = False

    @property
    def reference(self) -> bool:
        return self.sdk == "everything"

    @property
    def stateful(self) -> bool:
        """A session belongs to one instance."""
        return self.transport != "stateless"

    @property
    def resumable(self) -> bool:
        return self.transport == "streamable" and not self.json

    @property
    def dual_era(self) -> bool:
        return self.sdk in ("python_v2", "typescript_v2") and self.transport == "streamable"

    @property
    def progress(self) -> list[int]:
        """Steps that a client surely hears of: JSON carries none, the reference server's last races its answer."""
        return [] if self.json else [1, 2, 3] if self.reference else [1, 2, 3, 4]

    @property
    def path(self) -> str:
        """Path of the endpoint; the reference server knows no scoped one."""
        endpoint = "/sse" if self.transport == "sse" else "/mcp"
        return endpoint if self.reference else f"/servers/abc{endpoint}"

    def argv(self, instance: str, port: int) -> list:
        if self.reference:
            entry = NODE_MODULES / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js"
            mode = "sse" if self.transport == "sse" else "streamableHttp"
            return [NODE, "--import", TESTS / "servers" / "loopback.mjs", entry, mode]
        return [
            *_script(TESTS / "servers", self.sdk),
            *("--name", instance, "--port", str(port), "--transport", self.transport),
            *(["--json"] if self.json else []),
        ]


SERVER_KINDS = {
    kind.name: kind
    for kind in (
        ServerKind("python-v1", "python_v1"),
        ServerKind("python-v1-json", "python_v1", json=True),
        ServerKind("python-v1-stateless", "python_v1", transport="stateless"),
        ServerKind("python-v1-sse", "python_v1", transport="sse"),
        ServerKind("python-v2", "python_v2"),
        ServerKind("python-v2-stateless", "python_v2", transport="stateless"),
        ServerKind("python-v2-sse", "python_v2", transport="sse"),
        ServerKind("typescript-v1", "typescript_v1"),
        ServerKind("typescript-v1-json", "typescript_v1", json=True),
        ServerKind("typescript-v1-stateless", "typescript_v1", transport="stateless"),
        ServerKind("typescript-v1-sse", "typescript_v1", transport="sse"),
        ServerKind("typescript-v2", "typescript_v2"),
        ServerKind("everything", "everything"),
        ServerKind("everything-sse", "everything", transport="sse"),
    )
}

CLIENTS = ("python_v1", "python_v2", "typescript_v1", "typescript_v2")


class McpServers:
    """Instances of one kind, told apart by name: `a`, `b`, …"""

    def __init__(self, kind: ServerKind, folder: Path, count: int = 2):
        self.kind = kind
        self.instances: dict[str, Process] = {}
        self.peers: list[str] = []
        with ExitStack() as failed:
            failed.callback(self.end)
            for number in range(count):
                name, port = chr(ord("a") + number), free_port()
                env = {"PORT": str(port), "OUTRIGGER_INSTANCE": name, "PYTHONDONTWRITEBYTECODE": "1"}
                self.instances[name] = Process(f"{kind.name}-{name}", kind.argv(name, port), folder, env)
                self.peers.append(f"127.0.0.1:{port}")
            for process, peer in zip(self.instances.values(), self.peers, strict=True):
                process.wait_ready(lambda peer=peer: httpx.get(f"http://{peer}/", trust_env=False))
            failed.pop_all()

    def end(self) -> None:
        for process in self.instances.values():
            process.end()


class ClientRun:
    """A client at work; `report()` waits for its end."""

    def __init__(self, client: str, url: str, kind: ServerKind, folder: Path, mode: str = "legacy"):
        argv = [*_script(TESTS / "clients", client), url]
        argv += ["--transport", "sse"] if kind.transport == "sse" else []
        argv += ["--resumable"] if kind.resumable else []
        argv += ["--streamless"] if not kind.stateful else []
        argv += ["--mode", mode] if mode != "legacy" else []
        self.process = Process(f"client-{client}-{free_port()}", argv, folder, {"PYTHONDONTWRITEBYTECODE": "1"})

    def report(self, patience: float = 70) -> dict:
        """What the client saw; AssertionError with its log if it failed."""
        code = self.process.wait(patience)
        assert code == 0, f"client exited with {code}:\n{self.process.log_tail()}"
        wait_until(lambda: self.process.out.read_text().endswith("\n"))
        return json.loads(self.process.out.read_text().splitlines()[-1])


def _script(folder: Path, sdk: str) -> list:
    """Command that runs a script by its name, which tells the environment: `…python_v1` runs in `mcp1`."""
    if "python" in sdk:
        return [python("mcp" + sdk[-1]), folder / f"{sdk}.py"]
    return [NODE, folder / f"{sdk}.mjs"]
