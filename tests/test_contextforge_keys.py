"""P2 on real ContextForge 1.0.0rc1: its own keys tell who owns a session that Outrigger never saw begin.

Two gateways on one machine, so that only what was learnt tells their workers apart; this version writes no heartbeats.
"""

import hashlib
import json
import signal
import statistics
import time

import pytest
import redis

from harness import wait_until
from harness.contextforge import ContextForge
from harness.mcp import McpSession

WORKERS = "outrigger:worker:gateway:"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """For both tests; the last of them kills a part of it."""
    running = ContextForge(tmp_path_factory.mktemp("contextforge"))
    yield running
    running.end()


@pytest.fixture
def db(gateway):
    with redis.Redis.from_url(gateway.redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def world(outrigger, gateway):
    sessions = {"registry": "redis", "redis": {"url": gateway.redis_url, "timeout": "1s"}, "embedded": None}
    return outrigger(gateway.peers, {"sessions": sessions})


def through(world, gateway) -> str:
    return f"{world.url}/servers/{gateway.server_id}/mcp"


def begin_at(gateway, number: int) -> McpSession:
    """As before Outrigger came: at a gateway itself."""
    return McpSession(f"http://{gateway.peers[number]}/servers/{gateway.server_id}/mcp/", gateway.headers)


def peers_of(world, session: McpSession) -> set[str]:
    """Where the session's requests went, by the access log."""
    name = hashlib.sha256(f"gateway\0{session.id}".encode()).hexdigest()[:12]
    return {line["peer"] for line in world.access_log() if line.get("session") == name}


def learn_both(world, gateway, db) -> dict[str, str]:
    """Begins sessions until both workers are learnt; peer by worker."""
    learnt = lambda: {  # noqa: E731
        key.removeprefix(WORKERS): json.loads(db.get(key)) for key in db.keys(f"{WORKERS}*")
    }
    for _ in range(20):
        McpSession(through(world, gateway), gateway.headers).close()
    wait_until(lambda: len(learnt()) == 2, what="both workers are learnt")
    assert all(not calibration["heartbeats"] for calibration in learnt().values())
    return {worker: calibration["peer"] for worker, calibration in learnt().items()}


def test_sessions_that_began_at_a_gateway_go_to_it(world, gateway, db):
    workers = learn_both(world, gateway, db)
    assert set(workers.values()) == set(gateway.peers)
    with db.pubsub() as forwards:
        forwards.psubscribe("mcpgw:pool_http:*")
        assert forwards.get_message(timeout=5)["type"] == "psubscribe"
        for number in (0, 1, 0, 1):
            session = begin_at(gateway, number)
            owner = f"mcpgw:pool_owner:{session.id}"
            assert workers[db.get(owner)] == gateway.peers[number]
            assert session.tools(through(world, gateway)) == set(gateway.shown)
            # 300 seconds later; a gateway that does not own the session would answer 404 and enter itself.
            db.delete(owner)
            assert session.tools(through(world, gateway)) == set(gateway.shown)
            wait_until(lambda session=session: peers_of(world, session), what="the session in the access log")
            assert peers_of(world, session) == {gateway.peers[number]}
        assert forwards.get_message(timeout=0.5) is None, "the gateways forwarded nothing to each other"


def test_a_session_of_a_gateway_that_died_is_lost_at_once(world, gateway, db):
    """The gateways alone: 404 after 30 seconds."""
    learn_both(world, gateway, db)
    sessions = [begin_at(gateway, 1) for _ in range(5)]
    gateway.gateway(1).signal(signal.SIGKILL)
    gateway.gateway(1).wait()
    took = []
    for session in sessions:
        assert db.get(f"mcpgw:pool_owner:{session.id}")
        began = time.monotonic()
        answer = session.post(through(world, gateway), "tools/list")
        took.append(1000 * (time.monotonic() - began))
        assert (answer.status_code, answer.json()["id"], answer.json()["error"]["code"]) == (404, 1, -32600)
    print(f"answered after {statistics.median(took):.1f} ms, at most {max(took):.1f} ms")
    assert statistics.median(took) < 250, took
