"""`make run`: two real MCP servers, Outrigger in front of them, and a real SDK client through it.

Says what happened and what to try, and stays up until Ctrl-C. Everything it starts is ended by pid, and its folder
goes. With `--once` it ends by itself after the demonstration.
"""

import json
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness import Outrigger, free_port  # noqa: E402
from harness.mcp import SERVER_KINDS, McpServers, SdkClient  # noqa: E402

ACCEPT = "Accept: application/json, text/event-stream"
HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "curl", "version": "1"}}


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="outrigger-run-") as name:
        folder = Path(name)
        # JSON answers read better than event streams in a terminal.
        servers = McpServers(SERVER_KINDS["python-v1-json"], folder)
        world = None
        try:
            world = Outrigger(folder, servers.peers, {"listeners": [listener()]}, start=False)
            world.start()
            show(servers, world, folder)
            if "--once" not in sys.argv:
                print("\nCtrl-C ends everything.", flush=True)
                signal.pause()
        except KeyboardInterrupt:
            print()
        finally:
            if world:
                world.end()
            servers.end()


def listener() -> dict:
    """Port 8080 if it is free, for the sake of who types it."""
    with socket.socket() as probe:
        port = 8080 if probe.connect_ex(("127.0.0.1", 8080)) else free_port()
    return {"name": "public", "address": f"127.0.0.1:{port}", "upstream": "gateway"}


def show(servers: McpServers, world: Outrigger, folder: Path) -> None:
    url = f"{world.url}/servers/demo/mcp"
    print(f"Two MCP servers (Python SDK): {', '.join(servers.peers)}")
    print(f"Outrigger in front of them:   {url}   (admin: {world.admin})")
    print(f"\nIts configuration, {world.config_file}:\n")
    print(indented(world.config_file.read_text()))

    print("\nA client on the Python SDK begins a session, lists and calls tools, and ends it:\n")
    client = SdkClient("python_v1", folder)
    try:
        report = client.begin(url, servers.kind).report()
    finally:
        client.end()
    print(f"    server {report['server']}, protocol {report['protocol']}, tools {', '.join(report['tools'])}")
    print(f"    every call was answered by instance {' '.join(sorted(set(report['instances'])))}, the session's owner")
    print(f"    the server saw params.server_id = {report['server_id']!r}, which no client sent: it is the path's")
    print(f"    after DELETE the session is gone: HTTP {report['after_delete']}")

    print("\nThe same by hand:")
    session = curl(url, "initialize", HELLO, "-D", "/dev/stderr")
    header = ("-H", f"Mcp-Session-Id: {session}")
    curl(url, "notifications/initialized", None, *header)
    curl(url, "tools/call", {"name": "whoami", "arguments": {}}, *header)
    curl(url, "tools/call", {"name": "seen", "arguments": {}, "server_id": "another"}, *header)
    print("\nWhat Outrigger says of itself:")
    run(["curl", "-s", f"{world.admin}/readyz"])
    print(f"\nIts log: {world.process.out} and {world.process.err}")


def curl(url: str, method: str, params: dict | None, *options: str) -> str:
    """Shows and runs one call; the session id that the answer carried, if any."""
    call = {"jsonrpc": "2.0", "method": method}
    if not method.startswith("notifications/"):
        call |= {"id": 1, "params": params}
    headers = ["-H", "Content-Type: application/json", "-H", ACCEPT]
    return run(["curl", "-s", *options, *headers, url, "-d", json.dumps(call)])


def run(command: list[str]) -> str:
    print(f"\n  $ {shlex.join(command)}", flush=True)
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    print(indented((done.stderr + done.stdout).strip() or "(empty answer)"))
    for line in done.stderr.splitlines():
        name, _, value = line.partition(":")
        if name.lower() == "mcp-session-id":
            return value.strip()
    return ""


def indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


main()
