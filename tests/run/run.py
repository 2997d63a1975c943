"""`make run`: two real MCP servers, Outrigger in front of them, a real SDK client through it, and curl beside it.

Shows four promises being kept and stays up until Ctrl-C (`--once`: ends by itself). Everything that it starts is ended
by pid, and its folder goes.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness import Outrigger, free_port  # noqa: E402
from harness.mcp import SERVER_KINDS, McpServers, SdkClient  # noqa: E402
from harness.paths import outrigger_binary  # noqa: E402

#: What curl sends: `$mcp` is the URL and `$id` the session, so that each command can be read, and copied.
HELLO = (
    '{"jsonrpc":"2.0","id":1,"method":"initialize","params":\n'
    '     {"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"curl","version":"1"}}}'
)
HELD = '-H "Mcp-Session-Id: $id" --json \\\n    '
SEEN = """'{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"seen","server_id":"another"}}'"""
COUNT = """'{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"count"}}'"""
TEXT = ".result.content[0].text"
BOLD, DIM, PLAIN = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    # A shell starts what it puts in the background with this one ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="outrigger-run-") as name:
        folder = Path(name)
        started = []
        try:
            # JSON answers read better than event streams in a terminal.
            started.append(servers := McpServers(SERVER_KINDS["python-v1-json"], folder))
            started.append(world := Outrigger(folder, servers.peers, configuration(folder), start=False))
            started.append(client := SdkClient("python_v1", folder))
            world.start()
            show(servers, world, client)
            if "--once" not in sys.argv:
                signal.pause()
        except KeyboardInterrupt:
            print()
        finally:
            # A second Ctrl-C must not leave half of it behind.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            for each in reversed(started):
                each.end()


def configuration(folder: Path) -> dict:
    """Port 8080 and 9901 if they are free, for the sake of who types them."""
    return {
        "profile": "generic",
        "listeners": [{"address": f"127.0.0.1:{preferred(8080)}", "upstream": "gateway"}],
        "admin": {"address": f"127.0.0.1:{preferred(9901)}"},
        "threads": None,
        "log": None,
    }


def preferred(port: int) -> int:
    with socket.socket() as probe:
        return port if probe.connect_ex(("127.0.0.1", port)) else free_port()


def show(servers: McpServers, world: Outrigger, client: SdkClient) -> None:
    mcp = f"{world.url}/servers/demo/mcp"
    print(f"\n{BOLD}Outrigger{PLAIN}    {mcp}   admin {world.admin}   pid {world.process.pid}")
    for (name, process), peer in zip(servers.instances.items(), servers.peers, strict=True):
        print(f"MCP server   instance {name} at {peer}, pid {process.pid} (Python SDK, sessions in memory)")
    print(f"\n{DIM}{world.config_file}{PLAIN}\n{indented(world.config_file.read_text())}")

    say("1  A session stays with the instance that began it: four real clients (Python SDK) at once")
    for job in [client.begin(mcp, servers.kind) for _ in range(4)]:
        report = job.report()
        steps = [f"{name}{count}" for name, count in zip(report["instances"][1:], report["counts"], strict=True)]
        print(f"   initialize … calls {' '.join(steps)} … DELETE, after which a call is HTTP {report['after_delete']}")

    say("2  The server id is the path's, whatever the client says. What the upstream was asked:")
    command(f"mcp={mcp}")
    began = shell(f"curl -s -D - -o /dev/null $mcp --json '{HELLO}' | grep -i mcp-session-id", mcp=mcp)
    session = {"mcp": mcp, "id": began.split()[1]}
    command(f"id={session['id']}")
    shell(f"curl -s $mcp {HELD} {SEEN} | jq -c '{TEXT} | fromjson.params'", **session)

    say("3  Nobody notices a reload: SIGHUP starts a new worker, the session goes on")
    shell(f"curl -s $mcp {HELD} {COUNT} | jq -r {TEXT}", **session)
    command(f"kill -HUP {world.process.pid}")
    began = time.monotonic()
    print(f"   generation {world.reload()} is ready after {time.monotonic() - began:.1f} s")
    owner = json.loads(shell(f"curl -s $mcp {HELD} {COUNT} | jq -r {TEXT}", **session))["name"]

    say("4  A session whose instance is dead is told so at once")
    command(f"kill -9 {servers.instances[owner].pid}")
    servers.instances[owner].signal(signal.SIGKILL)
    servers.instances[owner].wait()
    shell(f"curl -s $mcp {HELD} {COUNT} -w '\\nHTTP %{{http_code}} after %{{time_total}} s'", **session)

    say("All of it stays up. Try")
    print(f"   {world.admin}/ in a browser: the status page")
    print(f"   {outrigger_binary()} status --admin {world.admin.removeprefix('http://')}")
    print(f"   curl -s {world.admin}/readyz | jq")
    print(f"   curl -s {world.admin}/metrics | grep ^outrigger")
    print(f"   tail -f {world.process.err}")
    print(f"\n{BOLD}Ctrl-C ends everything.{PLAIN}", flush=True)


def say(heading: str) -> None:
    print(f"\n{BOLD}{heading}{PLAIN}", flush=True)


def command(line: str) -> None:
    print(f"{DIM}   $ {line}{PLAIN}", flush=True)


def shell(line: str, **variables: str) -> str:
    """Shows and runs one command with these variables; what it printed."""
    command(line)
    env = {**os.environ, **variables}
    printed = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=30, env=env).stdout
    print(indented(printed), flush=True)
    return printed


def indented(text: str) -> str:
    return "\n".join(f"   {line}" for line in text.strip().splitlines())


main()
