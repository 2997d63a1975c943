"""Checks across reloads: the new generation looks before it serves, the old one no more, and nobody waits long."""

import re
import signal

from harness import JSON, chunk, event, event_stream_head, response, wait_until
from harness.health import AT_ONCE, checked, peers, sessions, speechless, wait_state
from harness.stage import MCP, call, result


class Server:
    """Scripts of a server: its health by path, streams for GETs of MCP; `paths` are those of the checks."""

    def __init__(self, status: int = 200):
        self.status = status
        self.paths: list[str] = []
        self.others = 0

    def __call__(self, connection) -> None:
        while True:
            message = connection.read_request()
            if message.path.startswith("/health"):
                self.paths.append(message.path)
                connection.send(response(self.status))
            elif message.method == "GET":
                connection.send(event_stream_head() + chunk(event("begun")))
                connection.wait_closed()
                return
            else:
                self.others += 1
                connection.send(response(200, result(ok=True)))


def test_a_reload_does_not_make_a_peer_look_healthy_that_is_down(outrigger, raw_upstream):
    good, bad = Server(), Server(503)
    good_at, bad_at = raw_upstream(good).address, raw_upstream(bad).address
    world = outrigger([], checked([good_at, bad_at], {"path": "/health", "interval": "5m"}))
    for _ in range(3):
        world.reload()
        assert peers(world)[bad_at]["state"] == "unhealthy"
        with world.client() as client:
            for _ in range(10):
                assert client.ask("POST", MCP, call(), JSON).status == 200
    assert bad.others == 0
    # Each generation looked once, and its second look is minutes away.
    assert 4 <= len(bad.paths) <= 8


def test_a_peer_that_hangs_delays_a_reload_by_a_second_at_most(outrigger):
    with speechless() as mute:
        world = outrigger([], checked([mute], {"path": "/health", "interval": "60s", "timeout": "60s"}))
        world.reload()
        times = [float(seconds) for seconds in re.findall(r"ready in ([0-9.]+) s", world.story())]
        # One second is that of Pingora's handoff, in which the peer is looked at.
        assert len(times) == 2 and max(times) < 10, times
        assert peers(world)[mute]["state"] == "unknown"
        gauges = [name for name in world.metrics() if name.startswith("outrigger_upstream_peer_healthy{")]
        assert gauges == [], "neither healthy nor not"


def test_a_generation_that_drains_checks_no_more(outrigger, raw_upstream):
    server = Server()
    world = outrigger([], checked([raw_upstream(server).address], {"path": "/health-of-1"}))
    wait_state(world, "healthy")
    with world.open_stream():
        world.reload({"upstreams": {"gateway": {"health": {"path": "/health-of-2"}}}})
        assert len(world.worker_pids()) == 2, "the stream lives in the old one"
        seen = len(server.paths)
        wait_until(lambda: server.paths[seen:].count("/health-of-2") >= 4, what="checks of the new one")
        # One may have been under way.
        assert server.paths[seen:].count("/health-of-1") <= 1
        assert server.paths[seen + 3 :].count("/health-of-1") == 0


def test_checks_come_and_go_with_a_reload(outrigger, raw_upstream):
    server = Server()
    address = raw_upstream(server).address
    world = outrigger([address])
    assert peers(world)[address]["state"] == "unchecked" and server.paths == []
    world.reload({"upstreams": {"gateway": {"health": {"path": "/health", "interval": "1s"}}}})
    assert wait_state(world, "healthy")
    world.reload({"upstreams": {"gateway": {"health": None}}})
    wait_until(lambda: len(world.worker_pids()) == 1)
    assert peers(world)[address]["state"] == "unchecked"


def test_sessions_are_not_left_behind_by_reloads(outrigger, mcp_server):
    """Every generation looks before it serves, and the last one's check may be under way."""
    servers = mcp_server("python-v2")
    before = sessions(servers)
    world = outrigger([], checked(servers.peers[:1], {"mcp": "ping"} | AT_ONCE))
    for _ in range(4):
        world.reload()
        assert wait_state(world, "healthy")
    world.process.signal(signal.SIGTERM)
    assert world.process.wait() == 0
    after = wait_until(lambda: (now := sessions(servers))["open"] <= before["open"] and now, what="sessions closed")
    assert after["begun"] >= before["begun"] + 5
