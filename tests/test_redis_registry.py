"""Owners kept in Redis: every kind of Redis keeps them, no session id reaches it, and a hot session hardly asks it.

Real MCP servers that keep sessions in memory: at the wrong one a request would be a 404, or a count begun anew.
"""

import json
import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from harness import wait_until
from harness.mcp import SERVER_KINDS, McpServers, McpSession
from harness.redis import USER

SESSIONS = 12
KEY = re.compile(r"^outrigger:session:[0-9a-f]{64}$")


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    running = McpServers(SERVER_KINDS["python-v1-json"], tmp_path_factory.mktemp("servers"))
    yield running
    running.end()


@pytest.fixture
def keeping(outrigger, servers):
    """An Outrigger that keeps its owners in this Redis: `keeping(redis, ttl="60s")`."""

    def make(redis, **sessions):
        kept_in = {"prefix": "outrigger:", **redis.as_config()}
        sessions = {"registry": "redis", "redis": kept_in, "embedded": None, **sessions}
        return outrigger(servers.peers, {"profile": "generic", "threads": 2, "sessions": sessions})

    return make


@pytest.fixture
def begin():
    with ExitStack() as ends:

        def make(world, server_id="abc") -> McpSession:
            session = McpSession(endpoint(world, server_id))
            ends.callback(session.close)
            return session

        yield make


@pytest.fixture(params=["standalone", "tls and users", "sentinel", "cluster"])
def any_redis(request, pki):
    if request.param == "sentinel":
        return request.getfixturevalue("sentinels")
    if request.param == "cluster":
        return request.getfixturevalue("redis_cluster")
    options = {}
    if request.param == "tls and users":
        # What README asks an administrator to grant, and nothing else.
        options = {"login": True, "tls": pki, "rights": "~outrigger:* resetchannels -@all +@read +@write +@scripting"}
        options["rights"] += " +@connection +@transaction -@dangerous"
    return request.getfixturevalue("redis_server")(**options)


def endpoint(world, server_id="abc") -> str:
    return f"{world.url}/servers/{server_id}/mcp"


def begin_at_both(world, begin) -> tuple[list[McpSession], list[str]]:
    """Sessions and their owners: as many as it takes until both servers own some."""
    sessions, owners = [], []

    def both_own_some() -> bool:
        sessions.append(begin(world))
        owners.append(instance(sessions[-1], world))
        return len(sessions) >= SESSIONS and set(owners) == {"a", "b"}

    wait_until(both_own_some, every=0)
    return sessions, owners


def claims(redis) -> list[str]:
    return sorted(key for key in redis.client().scan_iter("outrigger:session:*", count=1000))


def instance(session: McpSession, world) -> str:
    return json.loads(session.call(endpoint(world), "whoami"))["name"]


def test_a_session_is_kept_until_it_ends(any_redis, keeping, begin):
    world = keeping(any_redis)
    sessions, owners = begin_at_both(world, begin)
    keys = claims(any_redis)
    assert len(keys) == len(sessions)
    assert all(map(KEY.match, keys)), keys
    client = any_redis.client()
    assert all(3_500_000 < client.pttl(key) <= 3_600_000 for key in keys)
    assert {json.loads(client.get(key))["server_id"] for key in keys} == {"abc"}
    for session, owner in zip(sessions, owners, strict=True):
        for count in (1, 2):
            assert json.loads(session.call(endpoint(world), "count")) == {"name": owner, "count": count}
        assert session.delete(endpoint(world)).is_success
    wait_until(lambda: not claims(any_redis), what="every DELETE releases its session")


def test_no_session_id_reaches_redis(redis_server, keeping, begin):
    server = redis_server()
    with server.listening() as commands:
        world = keeping(server)
        sessions = [begin(world) for _ in range(3)]
        for session in sessions:
            session.call(endpoint(world), "count")
        client = server.client()
        stored = [f"{key} {client.get(key)}" for key in claims(server)]
        sessions[0].delete(endpoint(world))
    assert len(stored) == 3
    assert any("outrigger:session:" in command for command in commands)
    for session in sessions:
        assert not [text for text in commands + stored if session.id in text]
        assert session.id not in json.dumps(world.log())


def test_a_restart_a_crash_and_a_reload_forget_no_owner(redis_server, keeping, begin):
    world = keeping(redis_server())
    sessions, owners = begin_at_both(world, begin)

    def all_are_where_they_were(count: int) -> None:
        for session, owner in zip(sessions, owners, strict=True):
            assert json.loads(session.call(endpoint(world), "count")) == {"name": owner, "count": count}

    all_are_where_they_were(1)
    world.reload()
    all_are_where_they_were(2)
    # One that drains may be there still.
    worker = world.worker_pids()[-1]
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: worker not in world.worker_pids() and world.ready(), what="another worker")
    all_are_where_they_were(3)
    world.stop()
    world.start()
    all_are_where_they_were(4)
    world.kill()
    world.start()
    all_are_where_they_were(5)


def test_sidecars_that_share_peers_and_a_redis_share_the_sessions(redis_server, keeping, begin):
    """Without `member`: there is nobody to hand a request to, and no need."""
    server = redis_server()
    first, second = keeping(server), keeping(server)
    for _ in range(SESSIONS):
        session = begin(first)
        owner = instance(session, first)
        for count, world in enumerate([first, second, second, first], start=1):
            assert json.loads(session.call(endpoint(world), "count")) == {"name": owner, "count": count}
        assert session.delete(endpoint(second)).is_success
        assert session.post(endpoint(first), "ping").status_code == 404
    wait_until(lambda: not claims(server), what="every DELETE releases its session")


def test_a_session_exists_only_under_its_own_server_id(redis_server, keeping, begin):
    server = redis_server()
    first, second = keeping(server), keeping(server)
    session = begin(first)
    for world in (first, second):
        for path in ("/servers/abd/mcp", "/mcp"):
            answer = session.post(world.url + path, "tools/call", {"name": "count", "arguments": {}})
            assert (answer.status_code, answer.json()["id"]) == (404, 1)
            assert session.delete(world.url + path).status_code == 404
    assert len(claims(server)) == 1
    assert json.loads(session.call(endpoint(second), "count"))["count"] == 1


def test_a_hot_session_does_not_ask_redis(redis_server, keeping, begin):
    server = redis_server()
    world = keeping(server)
    session = begin(world)
    session.call(endpoint(world), "count")
    [key] = claims(server)
    with server.listening() as commands:
        for _ in range(100):
            session.call(endpoint(world), "count")
    about_it = [command for command in commands if key in command]
    assert len(about_it) <= 1, about_it


def test_use_renews_and_disuse_forgets(redis_server, keeping, begin):
    """A renewal is due after a sixtieth of the time to live."""
    server = redis_server()
    world = keeping(server, ttl="6s")
    used, unused = begin(world), begin(world)
    assert len(claims(server)) == 2
    used_alone_is_kept = lambda: used.call(endpoint(world), "whoami") and len(claims(server)) == 1  # noqa: E731
    wait_until(used_alone_is_kept, what="the unused is forgotten")
    [key] = claims(server)
    assert server.client().pttl(key) > 3000
    assert unused.id != used.id


@pytest.mark.parametrize("loss", ["evicted", "everything is gone", "restarted empty"])
def test_what_redis_loses_is_put_back_by_use(loss, redis_server, keeping, begin):
    server = redis_server()
    world = keeping(server, ttl="6s")
    sessions = [begin(world) for _ in range(4)]
    owners = [instance(session, world) for session in sessions]
    before = claims(server)
    if loss == "evicted":
        server.client().delete(*before)
    elif loss == "everything is gone":
        server.client().flushall()
    else:
        server.restart()

    def used_and_back() -> bool:
        for session, owner in zip(sessions, owners, strict=True):
            assert instance(session, world) == owner
        return claims(server) == before

    wait_until(used_and_back, what="the claims are back")


def test_one_connection_serves_a_process(redis_server, keeping, begin):
    # Its user tells its connections from ours.
    server = redis_server(login=True)
    world = keeping(server)

    def connections() -> int:
        return sum(client["user"] == USER for client in server.client().client_list())

    def use(_) -> None:
        session = McpSession(endpoint(world))
        session.call(endpoint(world), "count")
        session.delete(endpoint(world))
        session.close()

    before = connections()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(use, range(40)))
    assert connections() == before == 1


def test_a_password_is_read_anew_for_every_connection(redis_server, keeping, begin, tmp_path):
    server = redis_server(login=True)
    password = tmp_path / "password"
    password.write_text("only-for-tests\n")
    server.as_config = lambda: {"url": f"redis://outrigger@{server.address}", "password_file": str(password)}
    world = keeping(server)
    session = begin(world)
    admin = server.client()
    password.write_text("another")
    admin.acl_setuser("outrigger", reset_passwords=True, passwords=["+another"], enabled=True, keys=["*"])
    admin.acl_setuser("outrigger", categories=["+@all"], enabled=True)
    admin.client_kill_filter(user="outrigger")
    wait_until(lambda: begin_and_end(world), what="a session can be claimed with the new password")
    assert json.loads(session.call(endpoint(world), "count"))["count"] == 1


def begin_and_end(world) -> bool:
    session = McpSession(endpoint(world))
    try:
        return session.delete(endpoint(world)).is_success
    finally:
        session.close()
