"""Who gets a request, by what checks say of the peers: the healthy ones; if none is, all; a session's owner anyway."""

import json
import signal
import threading
import time
from collections import Counter
from contextlib import closing

import pytest

from harness import JSON, RawUpstream, answering, free_port, response, wait_until
from harness.health import AT_ONCE, checked, checks, only_peer, peers, wait_state
from harness.mcp import SERVER_KINDS, McpServers, McpSession
from harness.stage import MCP, call, result

PATH = {"path": "/health"}


class Server:
    """Scripts of a server that is well or not, as the test says; it counts what else came."""

    def __init__(self, status: int = 200, hold: threading.Event | None = None):
        self.status = status
        self.hold = hold
        self.checks = 0
        self.others = 0

    def __call__(self, connection) -> None:
        while True:
            message = connection.read_request()
            if message.path.startswith("/health"):
                self.checks += 1
                connection.send(response(self.status))
                continue
            self.others += 1
            if self.hold:
                self.hold.wait()
            connection.send(response(200, result(ok=True)))


@pytest.fixture
def two(raw_upstream):
    """Two servers and their addresses."""
    servers = Server(), Server()
    return *servers, *(raw_upstream(server).address for server in servers)


def ask(world, times: int, status: int = 200) -> None:
    with world.client() as client:
        for _ in range(times):
            assert client.ask("POST", MCP, call(), JSON).status == status


def test_only_healthy_peers_get_requests_from_the_first_on(outrigger, two):
    good, bad, good_at, bad_at = two
    bad.status = 503
    world = outrigger([], checked([good_at, bad_at], PATH))
    assert {name: peer["state"] for name, peer in peers(world).items()} == {good_at: "healthy", bad_at: "unhealthy"}
    ask(world, 30)
    assert (good.others, bad.others) == (30, 0)
    bad.status = 200
    wait_state(world, "healthy", bad_at)
    wait_until(lambda: f"peer {bad_at} is healthy again" in world.story())
    wait_until(lambda: ask(world, 1) or bad.others)


def test_one_failure_is_not_enough_and_one_success_is_not(outrigger, two):
    flapping, _, at, other_at = two
    health = PATH | {"healthy_threshold": 5, "unhealthy_threshold": 5}
    world = outrigger([], checked([at, other_at], health))
    wait_state(world, "healthy", at)

    def next_checks(number: int) -> None:
        wanted = checks(world, peer=at) + number
        wait_until(lambda: checks(world, peer=at) >= wanted, what=f"{number} checks more")

    flapping.status = 503
    next_checks(1)
    flapping.status = 200
    next_checks(1)
    assert peers(world)[at]["state"] == "healthy"
    flapping.status = 503
    told = wait_state(world, "unhealthy", at)
    assert told["failures_in_a_row"] >= 5
    flapping.status = 200
    next_checks(1)
    assert peers(world)[at]["state"] == "unhealthy"
    wait_state(world, "healthy", at)


def test_when_all_are_ill_all_are_asked(outrigger, two):
    one, other, one_at, other_at = two
    one.status = other.status = 500
    world = outrigger([], checked([one_at, other_at], PATH))
    assert all(peer["state"] == "unhealthy" for peer in peers(world).values())
    wait_until(lambda: ask(world, 1) or (one.others and other.others), what="both are asked")
    wait_until(lambda: "no peer is healthy; requests go to all of them" in world.story())
    assert world.ready(), "what needs no healthy peer, and the checks may be wrong"


def test_statuses_and_slow_answers_of_traffic_set_nobody_aside(outrigger, raw_upstream):
    upstream = raw_upstream(answering(response(500, "a tool's own trouble")))
    world = outrigger([upstream.address])
    with world.client() as client:
        for _ in range(5):
            assert client.ask("POST", MCP, call(), JSON).status == 500
    told = only_peer(world)
    assert (told["state"], told["set_aside"], told["connect_failures_in_a_row"]) == ("unchecked", False, 0)


def test_who_comes_back_gets_its_share_little_by_little(outrigger, two):
    """While it is idle and the other one is busy, it would else get everything."""
    back, busy, back_at, busy_at = two
    busy.hold = threading.Event()
    back.status = 503
    world = outrigger([], checked([back_at, busy_at], PATH | AT_ONCE | {"slow_start": "20s"}))
    wait_state(world, "unhealthy", back_at)
    clients = [world.client() for _ in range(10)]
    holding = [threading.Thread(target=client.ask, args=("POST", MCP, call(), JSON)) for client in clients]
    for thread in holding:
        thread.start()
    wait_until(lambda: peers(world)[busy_at]["in_flight"] == 10)
    try:
        back.status = 200
        told = wait_state(world, "healthy", back_at)
        assert told["share"] < 0.5
        shares = []
        wait_until(lambda: shares.append(peers(world)[back_at]["share"]) or shares[-1] == 1.0, what="its whole share")
        assert shares == sorted(shares) and shares[0] < 0.5
    finally:
        busy.hold.set()
        for thread in holding:
            thread.join()


def test_at_a_tenth_of_its_share_most_requests_go_elsewhere(outrigger, two):
    back, steady, back_at, steady_at = two
    back.status = 503
    world = outrigger([], checked([back_at, steady_at], PATH | AT_ONCE | {"slow_start": "1h"}))
    wait_state(world, "unhealthy", back_at)
    back.status = 200
    wait_state(world, "healthy", back_at)
    # Idle both, they would get half each; a tenth of the elections it stands for, and wins half of those.
    ask(world, 400)
    assert 0 < back.others < 60, (back.others, steady.others)


# -- sessions


@pytest.fixture
def servers(tmp_path):
    """Two servers of its own: one of them will be stopped."""
    running = McpServers(SERVER_KINDS["python-v1-json"], tmp_path / "servers")
    yield running
    for process in running.instances.values():
        process.signal(signal.SIGCONT)
    running.end()


def test_a_session_stays_with_its_peer_through_an_illness(outrigger, servers):
    """A check that timed out says nothing of a session; it goes on where it was when the server does."""
    world = outrigger([], checked(servers.peers, {"mcp": "ping"} | AT_ONCE, timeouts={"first_byte": "60s"}))
    url = f"{world.url}/servers/abc/mcp"
    session = McpSession(url)
    name = json.loads(session.call(url, "whoami"))["name"]
    address = servers.peers[ord(name) - ord("a")]
    servers.instances[name].signal(signal.SIGSTOP)
    assert wait_state(world, "unhealthy", address)["reason"] == "timeout"
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(json.loads(session.call(url, "whoami"))["name"]))
    waiting.start()
    wait_until(lambda: peers(world)[address]["in_flight"] == 1, what="the request waits for its owner")
    # New sessions begin elsewhere meanwhile.
    others = Counter(json.loads(McpSession(url).call(url, "whoami"))["name"] for _ in range(5))
    assert others == {"b" if name == "a" else "a": 5}
    servers.instances[name].signal(signal.SIGCONT)
    waiting.join()
    assert answers == [name]
    wait_state(world, "healthy", address)
    assert json.loads(session.call(url, "whoami"))["name"] == name


def test_a_session_whose_owner_is_gone_is_answered_at_once(outrigger, servers):
    world = outrigger([], checked(servers.peers, {"mcp": "ping"} | AT_ONCE))
    url = f"{world.url}/servers/abc/mcp"
    session = McpSession(url)
    name = json.loads(session.call(url, "whoami"))["name"]
    address = servers.peers[ord(name) - ord("a")]
    servers.instances[name].end()
    assert wait_state(world, "unhealthy", address)["reason"] == "refused"
    started = time.monotonic()
    answer = session.post(url, "tools/list")
    assert answer.status_code == 404 and time.monotonic() - started < 5
    assert McpSession(url).call(url, "whoami")


def test_a_check_that_succeeds_brings_back_whom_a_connection_set_aside(outrigger):
    port = free_port()
    address = f"127.0.0.1:{port}"
    world = outrigger([], checked([address], PATH))
    with world.client() as client:
        # Each failure sets it aside for longer: 15 s in the end.
        for _ in range(8):
            assert client.ask("POST", MCP, call(), JSON).status == 502
    assert peers(world)[address]["set_aside"]
    with closing(RawUpstream(Server(), port=port)):
        wait_until(lambda: checks(world, result="ok"))
        told = only_peer(world)
        assert (told["set_aside"], told["connect_failures_in_a_row"]) == (False, 0)
