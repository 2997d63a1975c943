"""The end of a generation: what runs is finished, who comes on an old connection is answered and told to go."""

import signal
import threading
import time
from contextlib import suppress

import httpx

from harness import JSON, LAST_CHUNK, PATIENCE, chunk, event, event_stream_head, free_port, response, wait_until
from harness.http2 import Http2Client
from harness.plain import get
from harness.stage import MCP, call, read_all, result
from harness.stage import Http1Client as Client

#: Longer than the tests are patient: an end that comes was not forced.
CONFIG = {"timeouts": {"idle": "120s"}, "shutdown": {"timeout": "120s"}}


class Held:
    """Script: answers only when the test lets it, so that every request is at work when the signal comes."""

    def __init__(self):
        self.arrived = threading.Semaphore(0)
        self.go_on = threading.Event()

    def __call__(self, connection):
        while True:
            message = connection.read_request()
            self.arrived.release()
            assert self.go_on.wait(PATIENCE)
            connection.send(response(200, result(message.json["id"], at=connection.number)))

    def wait(self, count: int) -> None:
        for _ in range(count):
            assert self.arrived.acquire(timeout=PATIENCE)


def terminate(world) -> None:
    """SIGTERM, and waits until the drain has begun."""
    world.process.signal(signal.SIGTERM)
    wait_for_drain(world)


def wait_for_drain(world) -> None:
    wait_until(lambda: any(" drains " in line.get("message", "") for line in world.log()), what="a drain")


def test_requests_at_work_are_finished_and_told_to_go(outrigger, raw_upstream):
    held = Held()
    upstream = raw_upstream(held)
    world = outrigger([upstream.address], CONFIG)
    clients = [Client(world.address) for _ in range(6)]
    calls = [client.begin("POST", MCP, call("tools/call", id=n), JSON) for n, client in enumerate(clients)]
    held.wait(len(calls))
    terminate(world)
    held.go_on.set()
    for number, answer in enumerate(calls):
        message = answer.read_response()
        assert (message.status, message.json["id"]) == (200, number)
        assert message.header("connection") == "close"
        clients[number].wait_closed()
    assert world.process.wait() == 0
    assert len(upstream.requests) == len(calls)


def test_an_idle_connection_is_answered_once_more_after_a_reload_and_then_closed(outrigger, raw_upstream):
    held = Held()
    held.go_on.set()
    world = outrigger([raw_upstream(held).address], CONFIG)
    with world.client() as mcp, world.client() as plain:
        assert mcp.ask("POST", MCP, call(), JSON).header("connection") == "keep-alive"
        assert plain.ask("POST", "/admin", call(), JSON).header("connection") == "keep-alive"
        world.reload()
        wait_for_drain(world)
        for client, path in ((mcp, MCP), (plain, "/admin")):
            message = client.ask("POST", path, call(id=2), JSON)
            assert (message.status, message.header("connection")) == (200, "close")
            client.wait_closed()


def test_an_idle_connection_does_not_hold_the_end_up(outrigger, raw_upstream):
    held = Held()
    held.go_on.set()
    world = outrigger([raw_upstream(held).address], CONFIG)
    with world.client() as client:
        client.ask("POST", MCP, call(), JSON)
        world.stop()
        client.wait_closed()


def test_an_event_stream_lives_on(outrigger, raw_upstream):
    told, ended = threading.Event(), threading.Event()

    def stream(connection):
        connection.read_request()
        connection.send(event_stream_head() + chunk(event("before")))
        assert told.wait(PATIENCE)
        for number in range(5):
            connection.send(chunk(event(f"after {number}")))
            time.sleep(0.05)
        connection.send(LAST_CHUNK)
        ended.set()

    world = outrigger([raw_upstream(stream).address], CONFIG)
    with Client(world.address) as client:
        answer = client.begin("GET", MCP, b"", JSON)
        answer.read_head()
        assert answer.read_piece() == event("before")
        terminate(world)
        told.set()
        assert b"".join(read_all(answer)) == b"".join(event(f"after {number}") for number in range(5))
    assert ended.wait(PATIENCE)
    assert world.process.wait() == 0


def test_streams_of_an_http2_connection_are_finished_after_its_goaway(outrigger, raw_upstream, pki):
    held = Held()
    address = f"127.0.0.1:{free_port()}"
    listener = {"address": address, "tls": pki.issue("localhost").as_config()}
    world = outrigger([raw_upstream(held).address], {**CONFIG, "listeners": [listener]})
    with Http2Client(address, pki.client_context(alpn=("h2",))) as client:
        calls = [client.begin("POST", MCP, call("tools/call", id=n), JSON) for n in range(6)]
        held.wait(len(calls))
        terminate(world)
        held.go_on.set()
        for number, answer in enumerate(calls):
            message = answer.read_response()
            assert (message.status, message.json["id"]) == (200, number)
        client.wait_closed()
        assert client.goaways
        assert set(client.goaways) == {0}
    assert world.process.wait() == 0


def test_an_end_without_connections_is_not_waited_for(outrigger, raw_upstream):
    held = Held()
    held.go_on.set()
    world = outrigger([raw_upstream(held).address], CONFIG)
    with world.client() as client:
        client.ask("POST", MCP, call(), JSON)
    started = time.monotonic()
    world.stop()
    assert time.monotonic() - started < 10


def test_while_draining_it_is_not_ready_and_nobody_hangs(outrigger, raw_upstream):
    """A client that comes late is served or refused, but not left in a backlog that nobody reads."""
    held = Held()
    world = outrigger([raw_upstream(held).address], CONFIG)
    with Client(world.address) as client:
        running = client.begin("POST", MCP, call(), JSON)
        held.wait(1)
        terminate(world)
        with suppress(httpx.ConnectError):
            assert get(f"{world.admin}/readyz").status_code == 503
        with suppress(ConnectionRefusedError), Client(world.address) as late:
            assert late.ask("OPTIONS", "/admin").header("connection") == "close"
        held.go_on.set()
        assert running.read_response().status == 200
    assert world.process.wait() == 0


def test_a_stream_without_end_is_cut_when_the_time_is_up(outrigger, raw_upstream):
    def stream(connection):
        connection.read_request()
        connection.send(event_stream_head() + chunk(event("only")))
        connection.wait_closed()

    world = outrigger([raw_upstream(stream).address], {"shutdown": {"timeout": "1s"}})
    with Client(world.address) as client:
        answer = client.begin("GET", MCP, b"", JSON)
        answer.read_head()
        assert answer.read_piece() == event("only")
        started = time.monotonic()
        world.stop()
        assert 0.8 < time.monotonic() - started < 15
        client.wait_closed()
        assert not client.received.endswith(b"0\r\n\r\n"), "a stream that was cut must not look whole"
