"""P2, P6: who owns a session outlives every process of Outrigger: reloads, killed workers, restarts of everything."""

import os
import signal

import pytest

from harness import JSON, RawClient, refuses, response, wait_until

SESSIONS = 24
HELLO = b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}'
CALL = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x"}}'


def server(name: str):
    """An MCP server that knows its own sessions only, as every real one does."""
    known = set()

    def script(connection):
        while True:
            message = connection.read_request()
            session = message.header("mcp-session-id")
            answer = {"jsonrpc": "2.0", "id": message.json["id"], "result": {"server": name}}
            if message.json["method"] == "initialize":
                known.add(f"{name}-{len(known)}")
                connection.send(response(200, answer, {"Mcp-Session-Id": f"{name}-{len(known) - 1}"}))
            elif session in known:
                connection.send(response(200, answer))
            else:
                connection.send(response(404, {"jsonrpc": "2.0", "id": "server-error", "error": {"code": -32600}}))

    return script


@pytest.fixture
def world(outrigger, raw_upstream):
    return outrigger([raw_upstream(server(name)).address for name in "abc"], {"profile": "generic"})


def begin_sessions(world) -> list[str]:
    """Session ids; each names its owner. Who gets the next one is chance: as many as it takes until all own some."""
    ids = []

    def every_server_owns_some() -> bool:
        with world.client() as client:
            ids.append(client.ask("POST", "/servers/s/mcp", HELLO, JSON).header("mcp-session-id"))
        return len(ids) >= SESSIONS and {session[0] for session in ids} == set("abc")

    wait_until(every_server_owns_some, every=0)
    return ids


def all_live(world, sessions: list[str]) -> None:
    """Each session is answered by its owner, and exists under its own server id alone."""
    for session in sessions:
        with RawClient(world.address) as client:
            fields = {**JSON, "Mcp-Session-Id": session}
            answer = client.ask("POST", "/servers/s/mcp", CALL, fields)
            assert (answer.status, answer.json["id"]) == (200, 7), f"{session}: {answer.status} {answer.body}"
            assert answer.json["result"]["server"] == session[0]
            assert client.ask("POST", "/servers/other/mcp", CALL, fields).status == 404


def test_sessions_survive_a_reload(world):
    sessions = begin_sessions(world)
    world.reload()
    all_live(world, sessions)
    # The next generation's sessions join those of the one before.
    sessions += begin_sessions(world)
    world.reload()
    all_live(world, sessions)


def test_sessions_survive_a_killed_worker(world):
    sessions = begin_sessions(world)
    (worker,) = world.worker_pids()
    os.kill(worker, signal.SIGKILL)
    all_live(world, sessions)
    assert world.metrics()["outrigger_generation"] == 2


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_sessions_survive_a_restart_of_everything(how, world):
    sessions = begin_sessions(world)
    world.process.signal(how)
    world.process.wait()
    # The worker of a killed supervisor listens until it has noticed.
    wait_until(lambda: refuses(world.address), what="nobody listens any more")
    world.start()
    all_live(world, sessions)
    world.stop()
