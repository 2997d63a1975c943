"""The processes of a run: two kinds of upstream, and the proxies that are compared.

A target is one proxy on its own port in front of the upstream that it is given. Surprise: the upstream that answers at once is nginx,
told by a round-about way (see `FIXED_ANSWER`) to read the whole request first, since a real server cannot answer what it has not read.
"""

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from machine import Processors

HERE = Path(__file__).resolve().parent
SERVER_ID = "3f2a6c1e9b7d4d5f8a0b1c2d3e4f5a6b"
PATH = f"/servers/{SERVER_ID}/mcp"
SESSION = "7c1d2e3f4a5b6c7d8e9f0a1b2c3d4e5f"
PATIENCE = 20.0

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
        listen {address} backlog=4096;
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
        listen {address}{tls} backlog=4096;
        location / {{ proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_read_timeout 1h; {options} }}
    }}
"""

OUTRIGGER = """
profile: contextforge
threads: 1
listeners:
  - {{ name: public, address: "{address}", upstream: gateway{tls} }}
upstreams:
  gateway: {{ peers: ["{upstream}"] }}
sessions: {{ embedded: {{ path: "{folder}/sessions" }} }}
admin: {{ address: "{admin}" }}
log: {{ level: info, format: json }}
"""


@dataclass(frozen=True)
class Certificate:
    """PEM files of a self-signed certificate for 127.0.0.1."""

    cert: Path
    key: Path

    @classmethod
    def make(cls, folder: Path) -> "Certificate":
        made = cls(folder / "tls.crt", folder / "tls.key")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
            + ["-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", made.key, "-out", made.cert],
            check=True,
            capture_output=True,
        )
        return made


@dataclass(frozen=True)
class Target:
    """Something that answers on `address`; `log` holds what it wrote."""

    name: str
    address: str
    pid: int
    log: Path


class Starter:
    """Starts targets below one folder, each pinned to its processor; what was started ends with the context."""

    def __init__(self, folder: Path, processors: Processors):
        self._folder = folder
        self._processors = processors
        self._count = 0

    @contextlib.contextmanager
    def fixed_answer(self) -> Iterator[Target]:
        """The upstream of the request measurements: reads every request and answers it at once, with a Content-Length."""
        with self._nginx("upstream", FIXED_ANSWER, processor=self._processors.load) as target:
            yield target

    @contextlib.contextmanager
    def event_source(self) -> Iterator[Target]:
        """The upstream of the memory measurements: GET opens an event stream that falls silent after its first event."""
        folder, address = self._place("events"), free_address()
        command = [sys.executable, str(HERE / "event_source.py"), address]
        with self._running("events", address, folder, command, self._processors.load) as target:
            yield target

    @contextlib.contextmanager
    def nginx(self, upstream: Target, logging: bool = False, tls: Certificate | None = None) -> Iterator[Target]:
        name = "nginx, access log" if logging else "nginx"
        options = "proxy_buffering off;" if upstream.name == "events" else ""
        with_tls = f" ssl; ssl_certificate {tls.cert}; ssl_certificate_key {tls.key}; listen {{address}} ssl" if tls else ""
        server = PASS_THROUGH.replace("{tls}", with_tls)
        with self._nginx(name, server, logging, upstream=upstream.address, options=options) as target:
            yield target

    @contextlib.contextmanager
    def bare(self, upstream: Target, tls: Certificate | None = None) -> Iterator[Target]:
        folder, address = self._place("bare"), free_address()
        command = [os.environ["BARE_BIN"], address, upstream.address] + ([str(tls.cert), str(tls.key)] if tls else [])
        with self._running("bare Pingora", address, folder, command, self._processors.proxy) as target:
            yield target

    @contextlib.contextmanager
    def outrigger(self, upstream: Target, tls: Certificate | None = None) -> Iterator[Target]:
        folder, address = self._place("outrigger"), free_address()
        (folder / "sessions").mkdir()
        with_tls = f', tls: {{ cert: "{tls.cert}", key: "{tls.key}" }}' if tls else ""
        config = folder / "outrigger.yaml"
        config.write_text(
            OUTRIGGER.format(
                address=address, upstream=upstream.address, admin=free_address(), folder=folder, tls=with_tls
            )
        )
        command = [os.environ["OUTRIGGER_BIN"], "run", "--config", str(config)]
        with self._running("Outrigger", address, folder, command, self._processors.proxy) as target:
            yield target

    @contextlib.contextmanager
    def _nginx(
        self, name: str, server: str, logging: bool = False, processor: int | None = None, **values: str
    ) -> Iterator[Target]:
        folder, address = self._place("nginx"), free_address()
        config = folder / "nginx.conf"
        access_log = f"{folder}/access.log combined buffer=64k flush=1s" if logging else "off"
        body = server.format(address=address, **values)
        config.write_text(NGINX.format(folder=folder, access_log=access_log, server=body))
        # Debian's nginx lies outside an ordinary user's PATH.
        nginx = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
        command = [nginx or "nginx", "-e", "stderr", "-p", str(folder), "-c", str(config)]
        where = self._processors.proxy if processor is None else processor
        with self._running(name, address, folder, command, where) as target:
            yield target

    def _place(self, stem: str) -> Path:
        self._count += 1
        folder = self._folder / f"{self._count}-{stem}"
        folder.mkdir()
        return folder

    @contextlib.contextmanager
    def _running(self, name: str, address: str, folder: Path, command: list[str], processor: int) -> Iterator[Target]:
        log = folder / "log"
        with log.open("wb") as output:
            pinned = ["taskset", "--cpu-list", str(processor), *command]
            process = subprocess.Popen(pinned, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            target = Target(name, address, process.pid, log)
            await_port(target, process)
            yield target
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def open_session(target: Target) -> str:
    """Initialises a session through `target`; its id, which the upstream gives as it was asked to."""
    host, _, port = target.address.partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
    body = '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{}}}'
    connection.request("POST", f"{PATH}?session={SESSION}", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if (answer.status, answer.headers["Mcp-Session-Id"]) != (200, SESSION):
        raise RuntimeError(f"{target.name}: no session was opened (status {answer.status}):\n{tail(target.log)}")
    return SESSION


def free_address() -> str:
    """A loopback address that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def await_port(target: Target, process: subprocess.Popen) -> None:
    host, _, port = target.address.partition(":")
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{target.name} does not listen on {target.address}:\n{tail(target.log)}")
        time.sleep(0.02)


def tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]
