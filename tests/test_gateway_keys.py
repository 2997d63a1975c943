"""The gateway's own keys, the second source of owners: sessions from before Outrigger, or behind another proxy.

Two real MCP servers that keep sessions in memory: at the wrong one a request would be a 404. What ContextForge keeps in
Redis beside them is written by the tests, as its workers write it; test_contextforge_keys.py has the real one.
"""

import hashlib
import json
import signal
import socket
import statistics
import time
from contextlib import ExitStack

import pytest

from harness import wait_until
from harness.mcp import SERVER_KINDS, McpServers, McpSession
from harness.members import HOST

KIND = SERVER_KINDS["python-v1-json"]
PREFIX = "outrigger:"


@pytest.fixture
def servers(tmp_path):
    running = McpServers(KIND, tmp_path / "servers")
    yield running
    running.end()


@pytest.fixture
def redis(redis_server):
    return redis_server()


@pytest.fixture
def db(redis):
    with redis.client() as client:
        yield client


@pytest.fixture
def world(outrigger, servers, redis):
    peers = [{"name": name, "address": peer} for name, peer in zip("ab", servers.peers, strict=True)]
    return outrigger(peers, settings(redis))


@pytest.fixture
def begun():
    """Begins sessions and ends their connections: `begun(url)`."""
    sessions = []

    def begin(url: str) -> McpSession:
        sessions.append(McpSession(url))
        return sessions[-1]

    yield begin
    for session in sessions:
        session.close()


def settings(redis) -> dict:
    sessions = {"registry": "redis", "redis": {**redis.as_config(), "timeout": "1s"}, "gateway_keys": "mcpgw:"}
    return {"profile": "generic", "sessions": {**sessions, "embedded": None}}


def endpoint(address: str) -> str:
    return f"http://{address}/mcp"


def write_owner(db, session: McpSession, worker: str) -> None:
    """As a worker of ContextForge does: for 300 seconds, whatever happens meanwhile."""
    db.set(f"mcpgw:pool_owner:{session.id}", worker, ex=300)


def learn(db, worker: str, peer: str, member: str | None = None, heartbeats: bool = False) -> None:
    """A worker that Outrigger met at this peer."""
    calibration = ({"member": member} if member else {}) | {"peer": peer, "heartbeats": heartbeats}
    db.set(f"{PREFIX}worker:gateway:{worker}", json.dumps(calibration))


def claim(db, session: McpSession) -> dict | None:
    key = hashlib.sha256(f"gateway\0{session.id}".encode()).hexdigest()
    kept = db.get(f"{PREFIX}session:{key}")
    return kept and json.loads(kept)


def owned_by(db, worker: str, peer: str, begun) -> list[McpSession]:
    """Sessions at that peer which the gateway says are the worker's."""
    sessions = [begun(endpoint(peer)) for _ in range(5)]
    for session in sessions:
        write_owner(db, session, worker)
    return sessions


def all_lost_at_once(world, sessions: list[McpSession]) -> bool:
    """All are lost, and most are told so in time; a busy machine makes some of the answers late."""
    took = []
    for session in sessions:
        began = time.monotonic()
        answer = session.post(endpoint(world.address), "ping")
        took.append(time.monotonic() - began)
        assert (answer.status_code, answer.json()["id"], answer.json()["error"]["code"]) == (404, 1, -32600)
    return statistics.median(took) < 0.25


def name_of(session: McpSession, url: str) -> str:
    return json.loads(session.call(url, "whoami"))["name"]


def test_a_session_that_began_elsewhere_goes_to_the_worker_that_the_gateway_names(world, servers, db, begun):
    for name, worker in (("a", "pod:1"), ("b", "pod:2")):
        learn(db, worker, name)
    for name, peer, worker in [("a", servers.peers[0], "pod:1"), ("b", servers.peers[1], "pod:2")] * 4:
        session = begun(endpoint(peer))
        write_owner(db, session, worker)
        assert name_of(session, endpoint(world.address)) == name
        assert claim(db, session)["peer"] == name
        # The lease ends, and a worker that is asked next enters itself.
        write_owner(db, session, "pod:1" if worker == "pod:2" else "pod:2")
        assert name_of(session, endpoint(world.address)) == name
        db.delete(f"mcpgw:pool_owner:{session.id}")
        assert name_of(session, endpoint(world.address)) == name


def test_our_own_claim_wins(world, db, begun):
    workers = {"a": "pod:1", "b": "pod:2"}
    for name, worker in workers.items():
        learn(db, worker, name)
    sessions = [begun(endpoint(world.address)) for _ in range(8)]
    names = [name_of(session, endpoint(world.address)) for session in sessions]
    for session, name in zip(sessions, names, strict=True):
        write_owner(db, session, workers["b" if name == "a" else "a"])
    # The next generation remembers nothing: it has only Redis to ask.
    world.reload()
    assert [name_of(session, endpoint(world.address)) for session in sessions] == names


def test_workers_are_learnt_from_sessions_that_begin(world, db, begun):
    db.set("mcpgw:worker_heartbeat:pod:2", "alive")
    unmet = {"a": "pod:1", "b": "pod:2"}
    while unmet:
        session = begun(endpoint(world.address))
        name = name_of(session, endpoint(world.address))
        if name in unmet:
            write_owner(db, session, unmet.pop(name))
    keys = [f"{PREFIX}worker:gateway:pod:{number}" for number in (1, 2)]
    learnt = ['{"peer":"a","heartbeats":false}', '{"peer":"b","heartbeats":true}']
    wait_until(lambda: db.mget(keys) == learnt, what="both workers are learnt")
    assert all(3_500 < db.ttl(key) <= 3_600 for key in keys)


def test_a_worker_without_its_heartbeat_is_dead_where_heartbeats_are_written(world, servers, db, begun):
    learn(db, "pod:1", "a", heartbeats=True)
    sessions = owned_by(db, "pod:1", servers.peers[0], begun)
    assert all_lost_at_once(world, sessions)
    db.set("mcpgw:worker_heartbeat:pod:1", "alive")
    for session in sessions:
        assert name_of(session, endpoint(world.address)) == "a"


def test_the_session_of_a_worker_whose_peer_refuses_is_lost_at_once(world, servers, db, begun):
    learn(db, "pod:1", "a")
    sessions = owned_by(db, "pod:1", servers.peers[0], begun)
    servers.instances["a"].signal(signal.SIGKILL)
    servers.instances["a"].wait()
    assert all_lost_at_once(world, sessions)
    for session in sessions:
        assert db.get(f"mcpgw:pool_owner:{session.id}") == "pod:1", "the gateway's keys are the gateway's"
        assert claim(db, session) is None


def test_a_worker_that_nobody_met_leaves_the_session_where_it_was_and_to_nobody(world, servers, db, begun):
    """Behind a gateway any worker would do, for as long as its key lives; here only the right one does."""
    sessions, answers = [], []

    def some_were_sent_right_and_some_wrong() -> bool:
        """Chance, so as many sessions as it takes."""
        sessions.append(begun(endpoint(servers.peers[0])))
        write_owner(db, sessions[-1], "nowhere:1")
        answers.append(sessions[-1].post(endpoint(world.address), "ping").status_code)
        return set(answers) == {200, 404}

    wait_until(some_were_sent_right_and_some_wrong, every=0)
    assert {claim(db, session) for session in sessions} == {None}
    learn(db, "nowhere:1", "a")
    for session in sessions:
        assert name_of(session, endpoint(world.address)) == "a"


def test_keys_that_redis_keeps_from_us_cost_the_second_source_only(outrigger, servers, redis_server, begun):
    redis = redis_server(login=True, rights=f"~{PREFIX}* +@all")
    world = outrigger(servers.peers[:1], settings(redis))
    for _ in range(3):
        session = begun(endpoint(servers.peers[0]))
        assert name_of(session, endpoint(world.address)) == "a"
    complaints = lambda: [line["level"] for line in world.log() if "mcpgw:" in line["message"]]  # noqa: E731
    wait_until(complaints, what="the operator is told")
    world.stop()
    assert complaints() == ["warn"]
    assert session.id not in json.dumps(world.log())


KEYS = {"sessions": {"gateway_keys": "mcpgw:"}}


@pytest.mark.parametrize("met", [True, False])
def test_another_members_worker(met, members, servers, redis, db, begun):
    """Each member has one of the servers; the request enters at the one that has not the session's."""
    pair = members(redis, [[peer] for peer in servers.peers], config=KEYS)
    worker = f"{socket.gethostname()}:77"
    session = begun(endpoint(servers.peers[1]))
    write_owner(db, session, worker)
    if met:
        learn(db, worker, servers.peers[1], member="two")
    answer = session.post(endpoint(pair[0].address), "ping", headers={"Host": HOST})
    # Both members have this machine's name, so that it alone tells nothing.
    assert answer.status_code == (200 if met else 404)
    assert (claim(db, session) or {}).get("member") == ("two" if met else None)


def test_a_host_name_tells_the_member(members, namespaces, redis_server, tmp_path):
    places = [namespaces.place(f"pod-{number}") for number in (1, 2)]
    redis = redis_server(host=namespaces.redis_host)
    with ExitStack() as ends, redis.client() as db:
        servers = McpServers(KIND, tmp_path / "servers", places=places)
        ends.callback(servers.end)
        pair = members(redis, [[peer] for peer in servers.peers], places=places, config=KEYS)
        # The worker of the first would be learnt; that of the second is then known by its host name alone.
        sessions = [pair.begin(1) for _ in range(2)]
        for session in sessions:
            ends.callback(session.close)
        db.delete(*pair.session_keys())
        write_owner(db, sessions[1], "pod-2:77")
        # Until its next beat the first need not know the second.
        answered = lambda: sessions[1].post(pair.url(0), "ping").status_code == 200  # noqa: E731
        wait_until(answered, what="the member is found")
        assert claim(db, sessions[1]) | {"server_id": None} == {
            "member": "two",
            "peer": servers.peers[1],
            "server_id": None,
            "transport": "streamable-http",
        }
        assert db.keys(f"{PREFIX}worker:*") == []
