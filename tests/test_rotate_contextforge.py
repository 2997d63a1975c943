"""Seed 3, NET-02, as it is written: real ContextForge 1.0.0rc1, the monitor loop with curl, certificates copied over
those in use, SIGHUP. https://github.com/IBM/mcp-context-forge/issues/3579

The gateway has no handler for SIGHUP and dies of it. Behind Outrigger nobody has to touch it.
"""

import base64
import json
import os
import shutil
import signal
import ssl
import struct
import subprocess
import time

import httpx
import pytest

from harness import Identity, Outrigger, Process, RawClient, free_port, wait_until
from harness.contextforge import ContextForge

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="the seed's monitor is curl")

#: Step 2.1, to the letter, but for the folder and the port; 0.1 s leave fewer gaps than 0.5.
MONITOR = """
while true; do
curl -s -o /dev/null -w "%{http_code}\\n" --cacert $CERTS/ca.crt https://localhost:$PORT/health \\
&& echo "$(date +%H:%M:%S) - OK" || echo "$(date +%H:%M:%S) - FAIL";
sleep 0.1;
done
"""
#: Steps 1.1 and 2.2: how the seed makes its certificates.
AUTHORITY = """
openssl req -x509 -newkey rsa:2048 -keyout ca.key -out ca.crt -days 365 -nodes -subj "/CN=Test CA"
"""
CERTIFICATE = """
openssl genrsa -out $NAME.key 2048
openssl req -new -key $NAME.key -out $NAME.csr -subj "/CN=localhost"
openssl x509 -req -in $NAME.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out $NAME.crt -days 365
"""


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    """The seed's folder; each test goes on from the certificates that the last one left."""
    folder = tmp_path_factory.mktemp("certs")
    run(AUTHORITY, folder)
    run(CERTIFICATE, folder, NAME="server")
    return folder


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, certs):
    # For every message of HTTP+SSE rc1 calls itself at its public address.
    env = {"SSL_CERT_FILE": str(certs / "ca.crt")}
    running = ContextForge(tmp_path_factory.mktemp("contextforge"), gateways=1, settings=env)
    yield running
    running.end()


def run(script, folder, **env):
    done = subprocess.run(
        ["sh", "-ec", script], cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Front:
    """Outrigger in front of the gateway, with the seed's files; `monitor` is the seed's loop."""

    def __init__(self, gateway, certs, folder):
        self.certs, self.gateway = certs, gateway
        self.port = free_port()
        tls = Identity(certs / "server.crt", certs / "server.key").as_config()
        listener = {"name": "public", "address": f"127.0.0.1:{self.port}", "upstream": "gateway", "tls": tls}
        self.world = Outrigger(folder / "outrigger", gateway.peers, {"listeners": [listener]})
        env = {"CERTS": str(certs), "PORT": str(self.port)}
        self.monitor = Process("monitor", ["sh", "-c", MONITOR], folder, env)

    def end(self):
        self.monitor.end()
        self.world.end()

    def seen(self) -> list[tuple[str, str]]:
        """What the monitor has printed: a status and a verdict, again and again."""
        lines = self.monitor.out.read_text().split("\n")[:-1]
        return list(zip(lines[::2], lines[1::2], strict=False))

    def wait_seen(self, count: int) -> None:
        """So many more answers to the monitor."""
        before = len(self.seen())
        wait_until(lambda: len(self.seen()) >= before + count, what="the monitor goes on")

    def serial(self) -> str:
        """What a new connection is shown, as openssl prints it."""
        connect = f"openssl s_client -connect localhost:{self.port} -CAfile ca.crt </dev/null 2>/dev/null"
        return run(f"{connect} | openssl x509 -noout -serial", self.certs).strip()


@pytest.fixture
def front(gateway, certs, tmp_path):
    running = Front(gateway, certs, tmp_path)
    yield running
    running.end()


class WebSocket:
    """The gateway's own: a message of JSON-RPC each way."""

    def __init__(self, address, tls, token):
        self._client = RawClient(address, tls)
        key = base64.b64encode(os.urandom(16)).decode()
        self._client.send(
            f"GET /ws?token={token} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        assert self._client.read_head().status == 101

    def ask(self, method: str) -> dict:
        text = json.dumps({"jsonrpc": "2.0", "id": 7, "method": method, "params": {}}).encode()
        assert len(text) < 126
        # The mask of four zeros leaves the text as it is.
        self._client.send(bytes([0x81, 0x80 | len(text)]) + bytes(4) + text)
        kind, length = self._client.read_exactly(2)
        assert kind == 0x81, "a whole message of text"
        if length == 126:
            (length,) = struct.unpack(">H", self._client.read_exactly(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self._client.read_exactly(8))
        return json.loads(self._client.read_exactly(length))


def test_control_the_gateway_itself_dies_of_a_hangup(tmp_path_factory):
    running = ContextForge(tmp_path_factory.mktemp("alone"), gateways=1)
    try:
        running.gateway(0).signal(signal.SIGHUP)
        assert running.gateway(0).wait() == -signal.SIGHUP
    finally:
        running.end()


@pytest.mark.parametrize("hangup", [True, False], ids=["signal", "watch"])
def test_a_hot_swap_is_seen_by_nobody_and_served_to_everybody(hangup, gateway, front, certs):
    tls = ssl.create_default_context(cafile=str(certs / "ca.crt"))
    web_socket = WebSocket(front.world.address, tls, gateway.token)
    assert web_socket.ask("ping")["result"] == {}
    url = f"https://localhost:{front.port}/servers/{gateway.server_id}/sse"
    with (
        httpx.Client(verify=tls, headers=gateway.headers, trust_env=False, timeout=30) as client,
        client.stream("GET", url) as sse,
    ):
        events = sse.iter_lines()
        assert next(events) == "event: endpoint"
        message = next(events).removeprefix("data: ")
        front.wait_seen(3)
        old = front.serial()
        for number in (1, 2):
            run(CERTIFICATE, certs, NAME="server-new")
            # Step 2.3, and 2.4 or not.
            run("cp server-new.crt server.crt; cp server-new.key server.key", certs)
            began = time.monotonic()
            if hangup:
                front.world.process.signal(signal.SIGHUP)
            new = run("openssl x509 -in server-new.crt -noout -serial", certs).strip()
            wait_until(lambda new=new: front.serial() == new != old, what="the new serial is served")
            print(f"new serial served after {time.monotonic() - began:.2f} s")
            wait_until(lambda number=number: front.world.last_ready() == number + 1)
            front.wait_seen(3)
            assert web_socket.ask("ping")["result"] == {}, "the WebSocket lives"
        # The event stream of the first generation answers a message that comes by the third.
        call = {"jsonrpc": "2.0", "id": 41, "method": "tools/list", "params": {}}
        assert client.post(f"https://localhost:{front.port}{message}", json=call).status_code == 202
        data = next(line for line in events if line.startswith("data: ") and '"id":41' in line.replace(" ", ""))
        assert "result" in json.loads(data.removeprefix("data: "))
    seen = front.seen()
    print(f"monitor: {len(seen)} requests")
    assert len(seen) > 15
    assert [pair for pair in seen if pair[0] != "200" or not pair[1].endswith(" - OK")] == []
