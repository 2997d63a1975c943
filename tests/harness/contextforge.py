"""Real ContextForge: gateways of one worker each that share a database and a Redis, with an MCP server behind them."""

import os
import subprocess
from contextlib import ExitStack
from pathlib import Path

import httpx

from .paths import TESTS, python
from .plain import get
from .ports import free_port
from .processes import Process
from .redis import RedisServer
from .waiting import wait_until

_SECRET = "a-secret-of-the-tests-only-0123456789abcdef"
_PASSWORD = "Only!For-Tests-0123"
SETTINGS = {
    "JWT_SECRET_KEY": _SECRET,
    "AUTH_ENCRYPTION_SECRET": _SECRET,
    "PLATFORM_ADMIN_EMAIL": "admin@example.com",
    "PLATFORM_ADMIN_PASSWORD": _PASSWORD,
    "DEFAULT_USER_PASSWORD": _PASSWORD,
    "BASIC_AUTH_PASSWORD": _PASSWORD,
    "AUTH_REQUIRED": "true",
    "MCPGATEWAY_UI_ENABLED": "true",
    "MCPGATEWAY_ADMIN_API_ENABLED": "true",
    "SECURE_COOKIES": "false",
    "ENVIRONMENT": "development",
    "CACHE_TYPE": "redis",
    "USE_STATEFUL_SESSIONS": "true",
    "MCPGATEWAY_SESSION_AFFINITY_ENABLED": "true",
    "MCP_SESSION_POOL_ENABLED": "true",
    "JSON_RESPONSE_ENABLED": "true",
    "SSRF_ALLOW_LOCALHOST": "true",
    "SSRF_ALLOW_PRIVATE_NETWORKS": "true",
    "SSRF_DNS_FAIL_CLOSED": "false",
    "PLUGINS_ENABLED": "false",
    "LOG_LEVEL": "INFO",
    "OBSERVABILITY_ENABLED": "false",
    "FEDERATION_ENABLED": "false",
    "REQUIRE_TOKEN_EXPIRATION": "false",
    "REQUIRE_JTI": "false",
    # On by default since 1.0.1: it would lock the tests' one address out.
    "RATE_LIMITING_ENABLED": "false",
    "RATE_LIMIT_LOCKOUT_ENABLED": "false",
}


class ContextForge:
    """`gateways` of one worker, addressed by `peers`; virtual server `server_id` shows `shown`, not `hidden`."""

    shown = ("tiny-add", "tiny-echo")
    hidden = "tiny-secret-admin"

    def __init__(
        self,
        folder: Path,
        version: str = "1.0.0rc1",
        gateways: int = 2,
        settings: dict[str, str] | None = None,
        called: list[int] | None = None,
    ):
        """`settings` are environment variables of the gateways; `called` the ports at which they believe to listen."""
        self.version = version
        self._called = dict(enumerate(called or []))
        self._folder = folder
        self._environment = f"contextforge-{version}"
        self._processes: list[Process] = []
        self.peers: list[str] = []
        self.redis = RedisServer(folder)
        self.redis_url = f"{self.redis.url}/0"
        with ExitStack() as failed:
            failed.callback(self.end)
            upstream_port = free_port()
            self._start("upstream", [python("mcp1"), TESTS / "contextforge" / "upstream.py", upstream_port])
            self._settings = SETTINGS | {
                "DATABASE_URL": f"sqlite:///{folder}/gateway.db",
                "REDIS_URL": self.redis_url,
                **(settings or {}),
            }
            # One after another: the first makes the database.
            for number in range(gateways):
                port = free_port()
                self._start_gateway(number, port)
                self.peers.append(f"127.0.0.1:{port}")
            self.token = self._make_token()
            self.headers = {"Authorization": f"Bearer {self.token}"}
            self.server_id = self._register(f"http://127.0.0.1:{upstream_port}/mcp")
            failed.pop_all()

    def end(self) -> None:
        for process in reversed(self._processes):
            # A gateway would take its time to say goodbye to every session.
            process.end(patience=1)
        self.redis.end()

    def gateway(self, number: int) -> Process:
        """The process behind `peers[number]`."""
        return next(process for process in self._processes if process.name == f"gateway-{number}")

    def _start(self, name: str, argv: list, env: dict | None = None) -> Process:
        process = Process(name, argv, self._folder, env)
        self._processes.append(process)
        return process

    def restart(self, number: int) -> None:
        """The gateway behind `peers[number]`, which has died, comes back on the same port."""
        dead = self.gateway(number)
        dead.end()
        self._processes.remove(dead)
        self._start_gateway(number, int(self.peers[number].rpartition(":")[2]))

    def _start_gateway(self, number: int, port: int) -> None:
        command = [python(self._environment), "-m", "uvicorn", "mcpgateway.main:app"]
        command += ["--host", "127.0.0.1", "--port", port, "--workers", "1"]
        env = self._settings | {"HOST": "127.0.0.1", "PORT": str(self._called.get(number, port))}
        gateway = self._start(f"gateway-{number}", command, env)
        gateway.wait_ready(lambda: get(f"http://127.0.0.1:{port}/health").is_success, 90)

    def _make_token(self) -> str:
        command = [python(self._environment), "-m", "mcpgateway.utils.create_jwt_token"]
        command += ["--username", "admin@example.com", "--exp", "10080", "--secret", _SECRET]
        env = {**os.environ, **self._settings}
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, cwd=self._folder, env=env
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()[-1]

    def _register(self, upstream: str) -> str:
        """Registers the MCP server and a virtual server with all its tools but the hidden one; the latter's id."""
        with httpx.Client(
            base_url=f"http://{self.peers[0]}", headers=self.headers, trust_env=False, timeout=30
        ) as client:
            gateway = {"name": "tiny", "url": upstream, "transport": "STREAMABLEHTTP", "visibility": "public"}
            wait_until(
                lambda: _created(client.post("/gateways", json=gateway)), what="the gateway takes the MCP server"
            )
            tools = client.get("/tools", params={"limit": 0}).json()
            tools = tools["tools"] if isinstance(tools, dict) else tools
            ids = {tool["name"]: tool["id"] for tool in tools}
            assert set(ids) == {*self.shown, self.hidden}, ids
            scoped = {"name": "scoped", "description": "without the hidden tool"}
            scoped["associated_tools"] = [ids[name] for name in self.shown]
            return _created(client.post("/servers", json={"server": scoped, "visibility": "public"}))["id"]


def _created(answer: httpx.Response) -> dict:
    assert answer.is_success, f"{answer.status_code} {answer.text}"
    return answer.json()
