"""The processes of a run: two kinds of upstream, and the proxies that are compared.

A target is one proxy on its own port in front of the upstream that it is given. Surprise: the upstream that answers at
once is nginx, told in a round-about way (see `FIXED_ANSWER`) to read the whole request first, since a real server
cannot answer what it has not read.
"""

import contextlib
import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from client import PATIENCE, post, redis_says
from machine import Processors, tree

HERE = Path(__file__).resolve().parent
SERVER_ID = "3f2a6c1e9b7d4d5f8a0b1c2d3e4f5a6b"
PATH = f"/servers/{SERVER_ID}/mcp"
SESSION = "7c1d2e3f4a5b6c7d8e9f0a1b2c3d4e5f"

NGINX = """
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
    access_log {access_log};
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_body_buffer_size 64k;
    keepalive_requests 1000000000;
    {server}
}}
"""

# `empty_gif` refuses POST without a look at the disk; the mirror before it has read the body by then.
# A session id is handed out to whoever asks for it in the query.
FIXED_ANSWER = """
    server {{
        listen {address} {ssl} backlog=4096;
        {options}
        location / {{ mirror /read; mirror_request_body on; empty_gif; error_page 405 =200 @answer; }}
        location = /read {{ internal; return 204; }}
        location @answer {{
            default_type application/json;
            add_header Mcp-Session-Id $arg_session;
            return 200 '{{"jsonrpc":"2.0","id":1,"result":{{"content":[{{"type":"text","text":"done"}}]}}}}';
        }}
    }}
"""

PASS_THROUGH = """
    upstream behind {{ server {upstream}; keepalive 256; keepalive_requests 1000000000; }}
    server {{
        listen {address} {ssl} backlog=4096;
        {options}
        location / {{
            proxy_pass {scheme}://behind;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_read_timeout 1h;
        }}
    }}
"""

HAPROXY = """
global
    nbthread 1
    maxconn 8192
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
frontend in
    bind {address}
    default_backend out
backend out
    http-reuse always
    server behind {upstream} {ssl}
"""

OUTRIGGER = """
profile: contextforge
threads: 1
listeners:
  - {{ name: public, address: "{address}", upstream: gateway{tls} }}
upstreams:
  gateway: {{ peers: ["{upstream}"]{mtls} }}
sessions: {{ embedded: {{ path: "{folder}/sessions" }} }}
admin: {{ address: "{admin}" }}
log: {{ level: info, format: json }}
"""

MEMBER = """
profile: contextforge
threads: 1
listeners:
  - {{ name: public, address: "{address}", upstream: gateway }}
upstreams:
  gateway: {{ peers: [{{ name: one, address: "{upstream}" }}] }}
sessions: {{ registry: redis, redis: {{ url: "redis://{redis}", prefix: "{prefix}:", timeout: 2s }} }}
member: {{ name: {name}, address: "{hop}", advertise: "{hop}", connect_timeout: {patience}, {trust} }}
admin: {{ address: "{admin}" }}
log: {{ level: info, format: json }}
"""


@dataclass(frozen=True)
class Certificate:
    """PEM files of a self-signed certificate for 127.0.0.1 and for a member; it is its own authority."""

    cert: Path
    key: Path

    @property
    def both(self) -> Path:
        """In one file, as HAProxy wants them."""
        return self.cert.with_suffix(".pem")

    @classmethod
    def make(cls, folder: Path, key: str = "ec", size: str = "ec_paramgen_curve:P-256") -> "Certificate":
        """`key` and `size`: as OpenSSL calls them."""
        made = cls(folder / "tls.crt", folder / "tls.key")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", key, "-pkeyopt", size, "-nodes", "-days", "2"]
            + [
                "-subj",
                "/CN=bench",
                "-addext",
                "subjectAltName=IP:127.0.0.1,DNS:outrigger",
                "-keyout",
                made.key,
                "-out",
                made.cert,
            ],
            check=True,
            capture_output=True,
        )
        made.both.write_bytes(made.cert.read_bytes() + made.key.read_bytes())
        return made


@dataclass(frozen=True)
class Target:
    """Something that answers on `address`; `log` holds what it wrote. `behind`: processes that share its work."""

    name: str
    address: str
    tls: bool
    pid: int
    log: Path
    behind: tuple[int, ...] = ()


class Starter:
    """Starts targets below one folder, each pinned to its processor; what was started ends with the context."""

    def __init__(self, folder: Path, processors: Processors):
        self._folder = folder
        self._processors = processors
        self._count = 0

    # -- upstreams

    @contextlib.contextmanager
    def fixed_answer(self, mtls: Certificate | None = None) -> Iterator[Target]:
        """The upstream of the request measurements: reads a whole request, then answers it with a Content-Length.

        `mtls`: it shows this certificate, and wants to see it.
        """
        folder, address = self._place("upstream"), free_address()
        options = ""
        if mtls:
            options = f"ssl_certificate {mtls.cert}; ssl_certificate_key {mtls.key};"
            options += f" ssl_client_certificate {mtls.cert}; ssl_verify_client on;"
        server = FIXED_ANSWER.format(address=address, ssl="ssl" if mtls else "", options=options)
        with self._upstream("upstream", address, folder, nginx(folder, server), mtls is not None) as target:
            yield target

    @contextlib.contextmanager
    def event_source(self) -> Iterator[Target]:
        """The upstream of the memory measurements: a GET's event stream falls silent after its first event."""
        folder, address = self._place("events"), free_address()
        command = [sys.executable, str(HERE / "event_source.py"), address]
        with self._upstream("events", address, folder, command) as target:
            yield target

    def _upstream(
        self, name: str, address: str, folder: Path, command: list[str], mtls: bool = False
    ) -> contextlib.AbstractContextManager[Target]:
        target = Target(name, address, False, 0, folder / "log")
        return running(target, command, self._processors.load, accepts if mtls else serves)

    @contextlib.contextmanager
    def redis(self) -> Iterator[Target]:
        """A Redis that keeps nothing on disk."""
        folder, address = self._place("redis"), free_address()
        host, _, port = address.partition(":")
        command = [
            "redis-server",
            "--port",
            port,
            "--bind",
            host,
            "--dir",
            str(folder),
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        target = Target("redis", address, False, 0, folder / "log")
        with running(target, command, self._processors.load, pongs) as target:
            yield target

    # -- proxies

    @contextlib.contextmanager
    def nginx(
        self,
        upstream: Target,
        tls: Certificate | None = None,
        logging: bool = False,
        mtls: Certificate | None = None,
    ) -> Iterator[Target]:
        """`tls`: towards clients; `mtls`: towards the upstream, as of every proxy here."""
        folder, address = self._place("nginx"), free_address()
        options = ["proxy_buffering off;"] if upstream.name == "events" else []
        if mtls:
            options += [f"proxy_ssl_certificate {mtls.cert};", f"proxy_ssl_certificate_key {mtls.key};"]
            options += [f"proxy_ssl_trusted_certificate {mtls.cert};", "proxy_ssl_verify on;"]
            options += ["proxy_ssl_name outrigger;", "proxy_ssl_server_name on;"]
        if tls:
            options += [f"ssl_certificate {tls.cert};", f"ssl_certificate_key {tls.key};"]
            options += ["ssl_protocols TLSv1.2 TLSv1.3;"]
        server = PASS_THROUGH.format(
            address=address,
            upstream=upstream.address,
            ssl="ssl" if tls else "",
            scheme="https" if mtls else "http",
            options=" ".join(options),
        )
        access_log = f"{folder}/access.log combined buffer=64k flush=1s" if logging else "off"
        command = nginx(folder, server, access_log)
        with self._proxy("nginx", address, tls, folder, command) as target:
            yield target

    @contextlib.contextmanager
    def haproxy(self, upstream: Target, mtls: Certificate) -> Iterator[Target]:
        folder, address = self._place("haproxy"), free_address()
        ssl = f"ssl verify required ca-file {mtls.cert} crt {mtls.both} sni str(outrigger) verifyhost outrigger"
        config = folder / "haproxy.cfg"
        config.write_text(HAPROXY.format(address=address, upstream=upstream.address, ssl=ssl))
        with self._proxy("HAProxy", address, None, folder, [*haproxy(), "-db", "-f", str(config)]) as target:
            yield target

    @contextlib.contextmanager
    def bare(
        self, upstream: Target, tls: Certificate | None = None, mtls: Certificate | None = None
    ) -> Iterator[Target]:
        folder, address = self._place("bare"), free_address()
        command = [os.environ["BARE_BIN"], address, upstream.address]
        command += [str(tls.cert), str(tls.key)] if tls else []
        command += ["--mtls", str(mtls.cert), str(mtls.key)] if mtls else []
        # Asked politely, stock Pingora waits five minutes for requests that may still come.
        with self._proxy("bare Pingora", address, tls, folder, command, signal.SIGKILL) as target:
            yield target

    @contextlib.contextmanager
    def outrigger(
        self, upstream: Target, tls: Certificate | None = None, mtls: Certificate | None = None
    ) -> Iterator[Target]:
        folder, address = self._place("outrigger"), free_address()
        (folder / "sessions").mkdir()
        with_tls = f', tls: {{ cert: "{tls.cert}", key: "{tls.key}" }}' if tls else ""
        values = {"address": address, "upstream": upstream.address, "admin": free_address(), "folder": folder}
        config = folder / "outrigger.yaml"
        trust = f'ca: "{mtls.cert}", cert: "{mtls.cert}", key: "{mtls.key}", server_name: outrigger' if mtls else ""
        with_mtls = f", tls: {{ {trust} }}" if mtls else ""
        config.write_text(OUTRIGGER.format(tls=with_tls, mtls=with_mtls, **values))
        command = [os.environ["OUTRIGGER_BIN"], "run", "--config", str(config)]
        with self._proxy("Outrigger", address, tls, folder, command) as target:
            yield target

    @contextlib.contextmanager
    def member(
        self, name: str, upstream: Target, redis: Target, prefix: str, tls: Certificate | None, patience: str
    ) -> Iterator[Target]:
        """One of several that share what begins with `prefix` in Redis. `tls` and `patience`: between them."""
        folder, address = self._place(name), free_address()
        trust = f'tls: {{ cert: "{tls.cert}", key: "{tls.key}", ca: "{tls.cert}" }}' if tls else "plaintext: true"
        values = {"address": address, "upstream": upstream.address, "redis": redis.address, "hop": free_address()}
        values |= {"admin": free_address(), "name": name, "prefix": prefix, "trust": trust, "patience": patience}
        config = folder / "outrigger.yaml"
        config.write_text(MEMBER.format(**values))
        command = [os.environ["OUTRIGGER_BIN"], "run", "--config", str(config)]
        with self._proxy(name, address, None, folder, command) as target:
            yield target

    def _proxy(
        self,
        name: str,
        address: str,
        tls: Certificate | None,
        folder: Path,
        command: list[str],
        end: int = signal.SIGTERM,
    ) -> contextlib.AbstractContextManager[Target]:
        target = Target(name, address, tls is not None, 0, folder / "log")
        return running(target, command, self._processors.proxy, serves, end)

    def _place(self, stem: str) -> Path:
        self._count += 1
        folder = self._folder / f"{self._count}-{stem}"
        folder.mkdir()
        return folder


def nginx(folder: Path, server: str, access_log: str = "off") -> list[str]:
    """Writes a configuration; the command that runs it."""
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, access_log=access_log, server=server))
    return [installed("nginx") or "nginx", "-e", "stderr", "-p", str(folder), "-c", str(config)]


def haproxy() -> list[str]:
    """The command; empty where there is none."""
    found = installed("haproxy")
    return [found] if found else []


def installed(name: str) -> str | None:
    # Debian's servers lie outside an ordinary user's PATH.
    return shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")


@contextlib.contextmanager
def running(
    target: Target,
    command: list[str],
    processor: int,
    answers: Callable[[Target], bool],
    end: int = signal.SIGTERM,
) -> Iterator[Target]:
    """Runs `command` until the context ends; entered when it answers. The target is given back with its pid."""
    with target.log.open("wb") as output:
        pinned = ["taskset", "--cpu-list", str(processor), *command]
        process = subprocess.Popen(pinned, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        await_answer(target, process, answers)
        yield dataclasses.replace(target, pid=process.pid)
    finally:
        process.send_signal(end)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def await_answer(target: Target, process: subprocess.Popen, answers: Callable[[Target], bool]) -> None:
    """Until a request is answered: a supervisor listens before its worker is ready."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError):
            if answers(target):
                return
            raise RuntimeError(f"{target.name} answers, but not as it should:\n{tail(target.log)}")
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{target.name} does not answer on {target.address}:\n{tail(target.log)}")
        time.sleep(0.02)


def serves(target: Target) -> bool:
    return post(target.address, PATH, '{"jsonrpc":"2.0","id":1,"method":"ping"}', target.tls).status == 200


def accepts(target: Target) -> bool:
    """For who wants to see a certificate first."""
    host, _, port = target.address.partition(":")
    socket.create_connection((host, int(port)), PATIENCE).close()
    return True


def pongs(redis: Target) -> bool:
    return "redis_version" in redis_says(redis.address, "INFO server")


def open_session(target: Target, session: str = SESSION) -> str:
    """Initialises a session through `target`; its id, which the upstream gives as it was asked to."""
    body = '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{}}}'
    answer = post(target.address, f"{PATH}?session={session}", body)
    if (answer.status, answer.headers["Mcp-Session-Id"]) != (200, session):
        raise RuntimeError(f"{target.name}: no session was opened (status {answer.status}):\n{tail(target.log)}")
    return session


def kill(target: Target, number: int) -> None:
    """Sends a signal to every process of the target, the parent first; returns when what was killed is dead."""
    pids = tree(target.pid)
    for pid in pids:
        os.kill(pid, number)
    deadline = time.monotonic() + PATIENCE
    while number == signal.SIGKILL and any(alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{target.name} does not die")
        time.sleep(0.001)


def alive(pid: int) -> bool:
    """A process that ends keeps its sockets until its last thread is gone."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def free_address() -> str:
    """A loopback address that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]
