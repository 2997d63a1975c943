"""Real MCP servers and clients: which kinds there are, how each is started, and what a client reports."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import httpx

from . import secrets
from .paths import CACHE, NODE, NODE_MODULES, TESTS, python
from .pki import Identity
from .places import Place
from .ports import free_port
from .processes import Process
from .waiting import wait_until

#: Seconds that a server may take to start where dozens do so at once.
_STARTING = 120

#: No byte code beside the tests' own scripts.
_QUIET = {"PYTHONDONTWRITEBYTECODE": "1"}


@dataclass(frozen=True)
class ServerKind:
    """One way to run one server. The tool set of `servers/*_common` is there unless `reference`."""

    name: str
    sdk: str
    transport: str = "streamable"
    json: bool = False
    #: It does not look at Host and Origin.
    unguarded: bool = False

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
            *(["--unguarded"] if self.unguarded else []),
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
    """Instances of one kind, told apart by name: `a`, `b`, …; on 127.0.0.1, each at its place if there are `places`."""

    def __init__(self, kind: ServerKind, folder: Path, count: int = 2, places: Sequence[Place] = ()):
        self.kind = kind
        self.instances: dict[str, Process] = {}
        self.peers: list[str] = []
        ports = [free_port() for _ in range(count)]
        with ExitStack() as failed:
            failed.callback(self.end)
            for number, port in enumerate(ports):
                name = chr(ord("a") + number)
                env = {"PORT": str(port), "OUTRIGGER_INSTANCE": name, **_QUIET}
                command = [*(places[number].launcher if places else ()), *kind.argv(name, port)]
                self.instances[name] = Process(f"{kind.name}-{name}", command, folder, env)
                self.peers.append(f"127.0.0.1:{port}")
            for process, port in zip(self.instances.values(), ports, strict=True):
                process.wait_ready(lambda process=process, port=port: process.listens(port), _STARTING)
            failed.pop_all()

    def end(self) -> None:
        for process in self.instances.values():
            process.end()


class SdkClient:
    """The process of one SDK's client (one of CLIENTS), which works on any number of jobs at once."""

    def __init__(self, client: str, folder: Path, ca: Path | None = None, identity: Identity | None = None):
        """`ca`: the authority that it trusts; `identity`: what it shows on Streamable HTTP."""
        name = f"client-{client}"
        env = _QUIET | ({"SSL_CERT_FILE": str(ca), "NODE_EXTRA_CA_CERTS": str(ca)} if ca else {})
        if identity:
            folder.mkdir(parents=True, exist_ok=True)
            both = folder / f"{name}.pem"
            both.write_text(identity.cert.read_text() + identity.key.read_text())
            env["CLIENT_CERT"] = str(both)
        self._process = Process(name, _script(TESTS / "clients", client), folder, env, spoken_to=True)
        self._jobs = 0
        # Worlds begin side by side; a number and its line must go together.
        self._beginning = Lock()

    def begin(self, url: str, kind: ServerKind, mode: str = "legacy") -> "Job":
        """Exercises the server of this kind at `url`; `mode="auto"` asks for the stateless era first (SDK 2.x)."""
        job = {"url": url, "mode": mode, "transport": "sse" if kind.transport == "sse" else "streamable"}
        job |= {"resumable": kind.resumable, "streamless": not kind.stateful}
        with self._beginning:
            self._jobs += 1
            number = self._jobs
            self._process.say(json.dumps({"id": number, **job}))
        return Job(self._process, number)

    def end(self) -> None:
        self._process.end()


class FaultClient:
    """The process of one SDK's client that calls tools which fail, each in its own session; CLIENTS, and `rmcp`."""

    def __init__(self, client: str, folder: Path):
        rmcp = CACHE / "rmcp" / "debug" / "faults-rmcp"
        command = [rmcp] if client == "rmcp" else _script(TESTS / "clients", f"faults_{client}")
        self._process = Process(f"faults-{client}", command, folder, _QUIET, spoken_to=True)
        self._jobs = 0

    def begin(self, url: str, faults: list[str], patience: float) -> "Job":
        """Each of `faults` is a tool; the report tells how its call ended, and the next call of the session."""
        self._jobs += 1
        self._process.say(json.dumps({"id": self._jobs, "url": url, "faults": faults, "patience": patience}))
        return Job(self._process, self._jobs)

    def end(self) -> None:
        self._process.end()


class Job:
    """What a client was told to do."""

    def __init__(self, client: Process, number: int):
        self._client = client
        self._number = number

    def report(self, patience: float = 160) -> dict:
        """What the client saw; AssertionError with its traceback if it failed."""
        outcome = wait_until(self._outcome, patience, f"{self._client.name} at the end of job {self._number}")
        assert "report" in outcome, f"{self._client.name} failed:\n{outcome['error']}"
        return outcome["report"]

    def _outcome(self) -> dict | None:
        if not self._client.running:
            raise RuntimeError(f"the client is gone:\n{self._client.log_tail()}")
        *lines, _unfinished = self._client.out.read_text().split("\n")
        return next((line for line in map(json.loads, lines) if line["job"] == self._number), None)


class McpSession:
    """A session over plain HTTP, so that each request can be sent to another place than the one before.

    It is begun at `url`; `headers` go with every request.
    """

    def __init__(self, url: str, headers: dict | None = None):
        headers = {
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
            **(headers or {}),
        }
        # Nothing here is encrypted, so the machine's certificate authorities need not be read.
        self._http = httpx.Client(headers=headers, timeout=40, trust_env=False, verify=False)
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
        answer = self.post(url, "initialize", hello)
        assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
        self.id = answer.headers["mcp-session-id"]
        secrets.note(self.id, headers.get("Authorization", ""))
        self._http.headers["Mcp-Session-Id"] = self.id
        self.post(url, "notifications/initialized")

    def post(self, url: str, method: str, params: dict | None = None, headers: dict | None = None) -> httpx.Response:
        """Sends a request with id 1, or a notification."""
        message = {"jsonrpc": "2.0", "method": method} | ({} if params is None else {"params": params})
        message |= {} if method.startswith("notifications/") else {"id": 1}
        return self._http.post(url, json=message, headers=headers)

    def ask(self, url: str, method: str, params: dict | None = None, headers: dict | None = None) -> dict:
        """The JSON-RPC answer to a request, whatever its status."""
        answer = self.post(url, method, params, headers)
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            data = [line[5:] for line in answer.text.splitlines() if line.startswith("data:")]
            return json.loads(data[-1])
        return answer.json()

    def tools(self, url: str, params: dict | None = None, headers: dict | None = None) -> set[str]:
        answer = self.ask(url, "tools/list", params, headers)
        assert "result" in answer, answer
        return {tool["name"] for tool in answer["result"]["tools"]}

    def call(self, url: str, tool: str) -> str:
        """The text that the tool answers."""
        answer = self.ask(url, "tools/call", {"name": tool, "arguments": {}})
        assert "result" in answer, answer
        return answer["result"]["content"][0]["text"]

    def get(self, url: str) -> httpx.Response:
        return self._http.get(url)

    def delete(self, url: str) -> httpx.Response:
        return self._http.delete(url)

    def close(self) -> None:
        """Ends its connections; the session stays."""
        self._http.close()


def _script(folder: Path, sdk: str) -> list:
    """Command that runs a script by its name, which tells the environment: `…python_v1` runs in `mcp1`."""
    if "python" in sdk:
        return [python("mcp" + sdk[-1]), folder / f"{sdk}.py"]
    return [NODE, folder / f"{sdk}.mjs"]
