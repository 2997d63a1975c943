"""`outrigger explain`: what it says is what a request meets, and looking changes nothing."""

import hashlib
import json
import subprocess

import pytest

from harness import wait_until
from harness.mcp import SERVER_KINDS, McpServers, McpSession
from harness.members import HOST
from harness.paths import outrigger_binary

KIND = SERVER_KINDS["python-v1-json"]
GENERIC = {"profile": "generic"}
KEYS = {"sessions": {"gateway_keys": "mcpgw:"}}


@pytest.fixture
def servers(tmp_path):
    running = McpServers(KIND, tmp_path / "servers")
    yield running
    running.end()


@pytest.fixture
def redis(redis_server):
    return redis_server()


@pytest.fixture
def begun():
    """Begins sessions and ends their connections: `begun(url)`."""
    sessions = []

    def begin(url: str) -> McpSession:
        sessions.append(McpSession(url, {"Host": HOST}))
        return sessions[-1]

    yield begin
    for session in sessions:
        session.close()


def explain(world, session: str, *words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    command = [outrigger_binary(), "explain", "--config", world.config_file, "--session", session]
    done = subprocess.run([str(word) for word in (*command, *words)], capture_output=True, text=True, timeout=30)
    assert session not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


def answer(world, session: str, *words: str) -> dict:
    code, out, err = explain(world, session, "--json", *words)
    assert (code, err) == (0, "")
    return json.loads(out)["answer"]


def peer_of_request(world, session: str) -> str:
    """Where a request of the session went last, by the access log."""
    name = hashlib.sha256(f"gateway\0{session}".encode()).hexdigest()[:12]
    lines = lambda: [line for line in world.access_log() if line.get("session") == name]  # noqa: E731
    return wait_until(lines, what="the request in the access log")[-1]["peer"]


def test_an_embedded_registry_beside_a_running_worker(outrigger, servers, begun):
    world = outrigger(servers.peers, GENERIC)
    for _ in range(4):
        session = begun(f"{world.url}/servers/abc/mcp")
        peer = peer_of_request(world, session.id)
        code, out, err = explain(world, session.id)
        assert (code, err) == (0, "")
        assert f"\nclaim     peer {peer}; server id abc, Streamable HTTP; 59m " in out
        assert out.endswith(f"\n\nIt goes to peer {peer} of upstream gateway: that is where the session was claimed.\n")
        assert answer(world, session.id, "--path", "/servers/abc/mcp?x=1")["peer"] == peer
        for elsewhere, why in (("/servers/abd/mcp", "wrong_scope"), ("/mcp", "wrong_scope")):
            found = answer(world, session.id, "--path", elsewhere)
            assert (found["status"], found["why"]) == (404, why)
            assert session.post(world.url + elsewhere, "ping").status_code == 404
    assert session.post(f"{world.url}/servers/abc/mcp", "ping").status_code == 200, "and the worker goes on"


def test_a_session_that_nobody_knows_goes_where_it_says(outrigger, servers):
    world = outrigger(servers.peers, GENERIC)
    with world.client() as client:
        for number in range(4):
            session = f"unknown-{number}"
            found = answer(world, session, "--path", "/mcp")
            assert found["why"] == "unclaimed"
            ping = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
            client.ask("POST", "/mcp", ping, {"Mcp-Session-Id": session, "Content-Type": "application/json"})
            assert peer_of_request(world, session) == found["peer"]


def test_where_outrigger_never_ran_nothing_is_made(outrigger, tmp_path):
    world = outrigger(["127.0.0.1:1"], start=False)
    world.write_config()
    assert answer(world, "abc")["why"] == "unclaimed"
    assert list((world.folder / "sessions").iterdir()) == []


def test_redis_the_claim_and_its_member(members, servers, redis, begun):
    pair = members(redis, [[peer] for peer in servers.peers], config=KEYS)
    session = begun(f"{pair[1].url}/servers/abc/mcp")
    [key] = pair.session_keys()
    with redis.client() as db:
        db.pexpire(key, 600_000)
        code, out, err = explain(pair[0], session.id)
        assert (code, err) == (0, "")
        assert f"\nclaim     peer {servers.peers[1]} of member two; server id abc, Streamable HTTP; 9m 5" in out
        assert f"\nmember    two listens at {pair.addresses[1]}\n" in out
        assert f"\n\nIt goes to member two, and there to peer {servers.peers[1]}: that is where" in out
        assert answer(pair[1], session.id)["peer"] == servers.peers[1]
        assert db.pttl(key) <= 600_000, "a look is no use"

        pair[1].kill()
        pair.wait_forgotten(1)
        found = answer(pair[0], session.id)
        assert (found["status"], found["why"]) == (404, "member_gone")
        assert db.exists(key), "a look releases nothing"
        assert session.post(f"{pair[0].url}/servers/abc/mcp", "ping").status_code == 404


def test_redis_the_gateways_keys(outrigger, servers, redis, begun):
    peers = [{"name": name, "address": peer} for name, peer in zip("ab", servers.peers, strict=True)]
    sessions = {"registry": "redis", "redis": redis.as_config(), "gateway_keys": "mcpgw:", "embedded": None}
    world = outrigger(peers, {**GENERIC, "sessions": sessions})
    session = begun(f"http://{servers.peers[1]}/mcp")
    with redis.client() as db:
        assert answer(world, session.id)["why"] == "unclaimed"
        db.set(f"mcpgw:pool_owner:{session.id}", "pod:7", ex=300)
        assert answer(world, session.id)["why"] == "gateway_worker_unknown"
        db.set("outrigger:worker:gateway:pod:7", '{"peer":"b","heartbeats":true}')
        assert answer(world, session.id)["why"] == "gateway_worker_dead"
        db.set("mcpgw:worker_heartbeat:pod:7", "alive", ex=30)
        code, out, _ = explain(world, session.id)
        assert code == 0
        assert "\ngateway   worker pod:7; 4m 5" in out
        assert "\nworker    learnt at peer b; its heart beats\n" in out
        assert answer(world, session.id)["peer"] == "b"
        assert db.keys("outrigger:session:*") == [], "a look claims nothing"
        assert session.post(f"{world.url}/mcp", "ping").status_code == 200


@pytest.mark.parametrize(("policy", "status"), [("refuse", 503), ("local", None)])
def test_a_registry_that_does_not_answer(policy, status, outrigger, redis):
    sessions = {"registry": "redis", "redis": redis.as_config(), "on_registry_failure": policy, "embedded": None}
    world = outrigger(["127.0.0.1:1"], {**GENERIC, "sessions": sessions}, start=False)
    world.write_config()
    redis.stop()
    code, out, err = explain(world, "abc", "--json")
    assert (code, err) == (1, "")
    found = json.loads(out)
    assert found["answer"]["status"] == status
    assert found["answer"]["why"] == "registry_failed"
    assert redis.address in found["registry"]["error"]


@pytest.mark.parametrize(
    ("session", "words", "reason"),
    [
        ("a b", [], "--session: "),
        ("é", [], "--session: "),
        ("abc", ["--path", "/servers/x/sse"], "--path /servers/x/sse: a request for it begins a session"),
        ("abc", ["--path", "/admin"], "--path /admin: it is no MCP route"),
        ("abc", ["--path", "/x/../mcp"], "--path /x/../mcp: it can be read in two ways"),
        ("abc", ["--listener", "nobody"], "--listener: there is no `nobody`; there are public"),
    ],
)
def test_a_question_that_has_no_answer(session, words, reason, outrigger):
    world = outrigger(["127.0.0.1:1"], start=False)
    world.write_config()
    code, out, err = explain(world, session, *words)
    assert (code, out) == (64, "")
    assert err.startswith(reason)


def test_a_configuration_that_is_wrong(outrigger):
    world = outrigger(["127.0.0.1:1"], {"profile": "nobody's"}, start=False)
    world.write_config()
    code, out, err = explain(world, "abc")
    assert (code, out) == (64, "")
    assert f"{world.config_file}:" in err
