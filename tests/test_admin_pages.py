"""The admin listener's pages: who may see them, and what they say."""

import json
import os
import signal
import socket
import subprocess

import httpx
import pytest

from harness import ANY_RESULT, JSON, free_port, response, wait_until
from harness.paths import outrigger_binary
from harness.redis import PASSWORD

MCP = "/servers/s/mcp"
INITIALIZE = b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}'
PUBLIC = ["/livez", "/readyz", "/startupz", "/metrics"]
INNER = ["/config", "/log-level", "/sessions/s1"]


def script(connection) -> None:
    while True:
        message = connection.read_request()
        headers = {"Mcp-Session-Id": "secret-session-1"} if b'"initialize"' in message.body else {}
        connection.send(response(200, {"jsonrpc": "2.0", "id": 1, "result": ANY_RESULT}, headers))


@pytest.fixture
def world(outrigger, raw_upstream):
    return outrigger([raw_upstream(script).address], {"profile": "generic"})


def ask(world, path: str, method: str = "GET", host: str | None = None, **options) -> httpx.Response:
    headers = {"Host": host} if host else {}
    return httpx.request(method, world.admin + path, headers=headers, trust_env=False, **options)


# -- who may see what


def test_names_of_others_are_refused_where_more_is_told_than_a_probe(world):
    for path in INNER:
        assert ask(world, path).status_code == 200, path
        for name in ("localhost", "127.0.0.1:1", "[::1]"):
            assert ask(world, path, host=name).status_code == 200, (path, name)
        refused = ask(world, path, host="rebound.example")
        assert refused.status_code == 403 and "localhost" in refused.text
    for path in PUBLIC:
        assert ask(world, path, host="rebound.example").status_code == 200, path


def test_beyond_loopback_only_probes_and_metrics_are_served(outrigger, raw_upstream):
    port = free_port()
    admin = {"address": f"0.0.0.0:{port}", "public": True}
    world = outrigger([raw_upstream(script).address], {"profile": "generic", "admin": admin})
    outside = own_address()
    for path in PUBLIC:
        assert httpx.get(f"http://{outside}:{port}{path}", trust_env=False).status_code == 200, path
    for path in [*INNER, "/", "/status", "/nothing"]:
        assert httpx.get(f"http://{outside}:{port}{path}", trust_env=False).status_code == 403, path
        named = httpx.get(f"http://{outside}:{port}{path}", headers={"Host": "localhost"}, trust_env=False)
        assert named.status_code == 403, "a name is no address"
    # As `kubectl port-forward` comes in.
    assert httpx.get(f"http://127.0.0.1:{port}/config", trust_env=False).status_code == 200
    assert world.ready()


def own_address() -> str:
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent; the kernel only says which of its addresses it would use.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return probe.getsockname()[0]


def test_only_get_and_the_log_level(world):
    for method in ("POST", "DELETE", "OPTIONS", "PUT"):
        assert ask(world, "/metrics", method).status_code == 405, method
    head = ask(world, "/livez", "HEAD")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "3")


def test_no_other_page_of_a_browser_reads_an_answer(world):
    answer = ask(world, "/config")
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in answer.headers


# -- what they say


def test_startupz_stays_when_readiness_goes(world):
    assert ask(world, "/startupz").text == "ok\n"


def test_config_is_what_is_in_force_without_its_secrets(outrigger, raw_upstream, redis_server, monkeypatch):
    monkeypatch.setenv("SECRET_PREFIX", "env-secret:")
    redis = redis_server(login=True)
    sessions = {
        "registry": "redis",
        "redis": {"url": redis.url, "prefix": "${SECRET_PREFIX}"},
    }
    config = {"profile": "generic", "sessions": {"embedded": None, **sessions}}
    world = outrigger([raw_upstream(script).address], config)
    answer = ask(world, "/config")
    told = answer.json()
    assert told["file"] == str(world.config_file) and told["generation"] == 1
    shown = told["config"]
    assert shown["sessions"]["redis"]["url"] == f"redis://***@{redis.address}"
    assert shown["sessions"]["redis"]["prefix"] == "${SECRET_PREFIX}"
    assert shown["drain"] == {"timeout": "1h", "max_generations": 4}, "defaults are shown too"
    assert shown["threads"] == 1
    for secret in (PASSWORD, "env-secret"):
        assert secret not in answer.text
    # The file is another by now; what is in force is not.
    world.write_config({"threads": 2})
    assert ask(world, "/config").json()["config"]["threads"] == 1
    world.reload()
    assert ask(world, "/config").json()["config"]["threads"] == 2


def test_a_session_is_explained_as_the_command_does(world):
    with world.client() as client:
        assert client.ask("POST", MCP, INITIALIZE, JSON).header("Mcp-Session-Id") == "secret-session-1"
    told = ask(world, "/sessions/secret-session-1").json()
    assert told["claim"]["server_id"] == "s" and told["answer"]["why"] == "claim"
    command = [outrigger_binary(), "explain", "--config", world.config_file, "--session", "secret-session-1", "--json"]
    assert without_time(json.loads(subprocess.run(command, capture_output=True, check=True).stdout)) == without_time(
        told
    )
    other = ask(world, "/sessions/secret-session-1?path=%2Fservers%2Fother%2Fmcp").json()
    assert other["answer"]["status"] == 404 and other["answer"]["why"] == "wrong_scope"
    wrong = ask(world, "/sessions/secret-session-1?path=/health")
    assert wrong.status_code == 400 and "no MCP route" in wrong.json()["error"]
    assert ask(world, "/sessions/secret%2Dsession-1").json()["session"] == told["session"]
    assert ask(world, "/sessions/").status_code == 404
    assert "secret-session" not in world.story(), "what is asked for is not logged"


def without_time(told: dict) -> dict:
    told["claim"].pop("expires_in_ms")
    return told


def test_a_session_in_redis_is_explained(outrigger, raw_upstream, redis_server):
    sessions = {"embedded": None, "registry": "redis", "redis": {"url": f"redis://{redis_server().address}"}}
    world = outrigger([raw_upstream(script).address], {"profile": "generic", "sessions": sessions})
    with world.client() as client:
        client.ask("POST", MCP, INITIALIZE, JSON)
    assert ask(world, "/sessions/secret-session-1").json()["answer"]["why"] == "claim"
    assert ask(world, "/sessions/never-seen").json()["answer"]["why"] == "unclaimed"


def test_the_log_level_changes_in_all_processes_until_something_starts(world):
    def logged() -> list[str]:
        return [line["server_id"] for line in world.access_log()]

    def request(server: str) -> None:
        with world.client() as client:
            assert client.ask("POST", f"/servers/{server}/mcp", INITIALIZE, JSON).status == 200

    def change(level: str) -> None:
        assert ask(world, "/log-level", "PUT", content=level).text == f"{level.strip().lower()}\n"
        wait_until(lambda: ask(world, "/log-level").text == f"{level.strip().lower()}\n", what="it is in force")

    assert ask(world, "/log-level").text == "info\n"
    assert ask(world, "/log-level", "PUT", content="loud").status_code == 400
    refused = ask(world, "/log-level", "PUT", host="rebound.example", content="off")
    assert refused.status_code == 403 and ask(world, "/log-level").text == "info\n"
    change("Warn\n")
    request("silent")
    change("info")
    request("told")
    wait_until(lambda: logged() == ["told"], what="only the second request is logged")
    change("error")
    os.kill(world.worker_pids()[0], signal.SIGKILL)
    wait_until(lambda: len(world.worker_pids()) == 1 and world.ready() and world.generation() == 2)
    assert "generation 1 died" in world.story(), "the supervisor tells errors"
    assert "generation 2 starts" not in world.story(), "and nothing else"
    assert ask(world, "/log-level").text == "info\n", "a new generation begins with the file's level"
