"""Real Redis: a server, a master with a replica and three sentinels, a cluster of three masters; ended by pid."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from . import secrets
from .paths import system_command
from .pki import Pki
from .ports import free_port
from .processes import Process
from .waiting import PATIENCE, wait_until

#: The name and the password that a server with `login=True` wants of Outrigger, and of the tests themselves.
USER, PASSWORD = "outrigger", "only-for-tests"
_ADMIN = "admin"
secrets.note(PASSWORD)
_LAST_WORD = "the end of what the tests hear"


class RedisServer:
    """One redis-server.

    `settings` are lines of its configuration. `login`: only the users of its ACL file may do anything, and Outrigger's
    may do `rights`. `tls`: no plaintext port, and clients must show a certificate of this authority. `port`: for a host
    that nobody else has.
    """

    def __init__(
        self,
        folder: Path,
        name: str = "redis",
        host: str = "127.0.0.1",
        settings: dict | None = None,
        login: bool = False,
        rights: str = "~* &* +@all",
        tls: Pki | None = None,
        replica_of: "RedisServer | None" = None,
        port: int | None = None,
    ):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.name, self.host, self.port = folder, name, host, port or free_port()
        self._login, self._tls, self._pki = login, None, tls
        self._settings = {"bind": host, "port": self.port, "dir": folder, "save": '""', "appendonly": "no"}
        # A key that a test waits for expires soon, whether or not anybody asks for it; a replica is served at once.
        self._settings |= {"hz": 100, "repl-diskless-sync-delay": 0, "protected-mode": "no"}
        if login:
            users = folder / f"{name}.acl"
            users.write_text(
                f"user default off\nuser {USER} on >{PASSWORD} {rights}\nuser {_ADMIN} on >{PASSWORD} ~* &* +@all\n"
            )
            self._settings["aclfile"] = users
        if tls:
            self._tls = tls.issue("localhost", host, label=f"{name}-{self.port}")
            self._settings |= {"port": 0, "tls-port": self.port, "tls-auth-clients": "yes"}
            self._settings |= {
                "tls-cert-file": self._tls.cert,
                "tls-key-file": self._tls.key,
                "tls-ca-cert-file": tls.ca,
            }
        if replica_of:
            self._settings["replicaof"] = f"{replica_of.host} {replica_of.port}"
        self._settings |= settings or {}
        self.process: Process | None = None
        self.start()

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """As Outrigger's `sessions.redis.url` takes it."""
        user = f"{USER}:{PASSWORD}@" if self._login else ""
        return f"redis{'s' if self._tls else ''}://{user}{self.address}"

    def as_config(self) -> dict:
        """In the shape that Outrigger's `sessions.redis` takes."""
        if not self._tls:
            return {"url": self.url}
        return {"url": self.url, "tls": {"ca": str(self._pki.ca), **self._tls.as_config()}}

    def client(self, **options) -> redis.Redis:
        """A client with all rights; what it reads is text."""
        if self._login:
            options = {"username": _ADMIN, "password": PASSWORD} | options
        if self._tls:
            files = {"ssl_ca_certs": self._pki.ca, "ssl_certfile": self._tls.cert, "ssl_keyfile": self._tls.key}
            options = {"ssl": True} | {name: str(file) for name, file in files.items()} | options
        # Who tests a failure wants to see it, not the client's own second attempt.
        options = {"retry": Retry(NoBackoff(), 0), "socket_timeout": PATIENCE, "decode_responses": True} | options
        return redis.Redis(host=self.host, port=self.port, **options)

    @contextmanager
    def listening(self) -> Iterator[list[str]]:
        """Every command that it is sent meanwhile, in order."""
        commands: list[str] = []
        with self.client(socket_timeout=None).monitor() as monitor:

            def listen():
                for command in monitor.listen():
                    if _LAST_WORD in command["command"]:
                        return
                    commands.append(command["command"])

            thread = threading.Thread(target=listen, daemon=True)
            thread.start()
            try:
                yield commands
            finally:
                self.client().echo(_LAST_WORD)
                thread.join(PATIENCE)

    # -- life

    def start(self) -> None:
        config = self.folder / f"{self.name}.conf"
        # Redis writes what it learns (replicas, sentinels) into its file, so only the first start makes it.
        if not config.exists():
            config.write_text("".join(f"{key} {value}\n" for key, value in self._settings.items()))
        self.process = Process(self.name, [system_command("redis-server"), config], self.folder)
        self.process.wait_ready(self.answers)

    def answers(self) -> bool:
        try:
            return self.client().ping()
        except redis.RedisError:
            return False

    def stop(self) -> None:
        """At once, as if its machine were gone: who connects is refused."""
        self.process.signal(signal.SIGKILL)
        self.process.wait()

    def restart(self) -> None:
        """Empty again, on the same port."""
        if self.process.running:
            self.stop()
        self.start()

    def pause(self) -> None:
        """It takes connections and bytes, and answers nothing."""
        self.process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.signal(signal.SIGCONT)

    def end(self) -> None:
        # One that is stopped would not hear SIGTERM.
        if self.process.running:
            self.process.signal(signal.SIGKILL)
        self.process.end()


class Sentinels:
    """A master, a replica, and three sentinels that make the replica master within about a second."""

    master_name = "outrigger"

    def __init__(self, folder: Path, **options):
        """`options` are those of both servers."""
        self._folder = folder
        self.servers: list[RedisServer] = []
        self._ports: list[int] = []
        self._sentinels: list[Process] = []
        with ExitStack() as failed:
            failed.callback(self.end)
            self.servers.append(RedisServer(folder, "redis-0", **options))
            self.servers.append(RedisServer(folder, "redis-1", replica_of=self.servers[0], **options))
            replica = self.servers[1].client()
            _wait_for(lambda: replica.info("replication")["master_link_status"] == "up", what="the replica follows")
            for number in range(3):
                self._start_sentinel(number)
            _wait_for(self._know_all, patience=2 * PATIENCE, what="the sentinels know each other and the replica")
            failed.pop_all()

    def as_config(self) -> dict:
        return {"sentinel": {"urls": [f"redis://127.0.0.1:{port}" for port in self._ports], "master": self.master_name}}

    def client(self) -> redis.Redis:
        """Of the master of this moment."""
        return self.master().client()

    def master(self) -> RedisServer:
        """Whom most sentinels call so."""
        told = [self._ask(number).sentinel_get_master_addr_by_name(self.master_name)[1] for number in range(3)]
        port = max(told, key=told.count)
        return next(server for server in self.servers if server.port == int(port))

    def fail_over(self) -> RedisServer:
        """Kills the master; the new one, once it is writable and every sentinel knows."""
        old = self.master()
        old.stop()
        [new] = [server for server in self.servers if server is not old]

        def promoted() -> bool:
            told = [self._ask(number).sentinel_get_master_addr_by_name(self.master_name) for number in range(3)]
            return new.client().role()[0] == "master" and {int(port) for _, port in told} == {new.port}

        _wait_for(promoted, patience=2 * PATIENCE, what="the replica is master")
        return new

    def end(self) -> None:
        for process in self._sentinels:
            process.end(patience=1)
        for server in self.servers:
            server.end()

    def _start_sentinel(self, number: int) -> None:
        port = free_port()
        name, config = f"sentinel-{number}", self._folder / f"sentinel-{number}.conf"
        watched = f"sentinel monitor {self.master_name} 127.0.0.1 {self.servers[0].port} 2"
        settings = [f"port {port}", "bind 127.0.0.1", f"dir {self._folder}", "protected-mode no", watched]
        settings += [f"sentinel down-after-milliseconds {self.master_name} 300"]
        settings += [f"sentinel failover-timeout {self.master_name} 2000"]
        config.write_text("".join(f"{line}\n" for line in settings))
        process = Process(name, [system_command("redis-sentinel"), config], self._folder)
        self._sentinels.append(process)
        self._ports.append(port)
        process.wait_ready(lambda: _pings(port))
        # Their ordinary pace of seconds is for machines, not for tests.
        periods = {"info-period": 200, "publish-period": 200, "ping-period": 100, "ask-period": 100}
        periods |= {"default-down-after": 300, "tilt-trigger": 10_000, "slave-reconf-timeout": 2000}
        self._ask(number).execute_command("SENTINEL", "DEBUG", *(word for pair in periods.items() for word in pair))

    def _ask(self, number: int) -> redis.Redis:
        return redis.Redis(port=self._ports[number], socket_timeout=PATIENCE, decode_responses=True)

    def _know_all(self) -> bool:
        seen = [self._ask(number).sentinel_master(self.master_name) for number in range(3)]
        return all(one["num-other-sentinels"] == 2 and one["num-slaves"] == 1 for one in seen)


class Cluster:
    """Three masters that share the slots."""

    def __init__(self, folder: Path, **options):
        self.servers: list[RedisServer] = []
        with ExitStack() as failed:
            failed.callback(self.end)
            for number in range(3):
                settings = {"cluster-enabled": "yes", "cluster-config-file": f"nodes-{number}.conf"}
                settings |= {"cluster-port": free_port(), "cluster-node-timeout": 2000}
                self.servers.append(RedisServer(folder, f"redis-{number}", settings=settings, **options))
            self._share_slots()
            failed.pop_all()

    def as_config(self) -> dict:
        return {"url": [server.url for server in self.servers]}

    def client(self) -> redis.RedisCluster:
        first = self.servers[0]
        return redis.RedisCluster(host=first.host, port=first.port, decode_responses=True)

    def end(self) -> None:
        for server in self.servers:
            server.end()

    def _share_slots(self) -> None:
        first, *others = self.servers
        bounds = [0, 5461, 10923, 16384]
        for number, server in enumerate(self.servers):
            client = server.client()
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
        for server in others:
            bus = server.client().config_get("cluster-port")["cluster-port"]
            first.client().execute_command("CLUSTER", "MEET", server.host, server.port, bus)

        def agreed(server: RedisServer) -> bool:
            told = server.client().cluster("INFO")
            return told["cluster_state"] == "ok" and told["cluster_known_nodes"] == "3" and told["cluster_size"] == "3"

        _wait_for(lambda: all(map(agreed, self.servers)), what="the cluster agrees on its slots")


def _pings(port: int) -> bool:
    try:
        return redis.Redis(port=port, socket_timeout=PATIENCE).ping()
    except redis.RedisError:
        return False


def _wait_for(condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """`wait_until`, for servers that cut connections when they change their role."""

    def holds() -> bool:
        try:
            return condition()
        except redis.RedisError:
            return False

    wait_until(holds, patience, what)
