"""P6 where the listeners themselves change: added, removed, moved, encrypted, split over threads; nobody is cut off."""

import signal
import time

import pytest

from harness import (
    JSON,
    RawClient,
    free_port,
    refuses,
    result_for_each,
    wait_until,
)
from harness.streams import read_end

PING = b'{"jsonrpc":"2.0","id":7,"method":"ping"}'


@pytest.fixture
def world(outrigger, raw_upstream, streams):
    """One listener."""
    # A greeting in the wrong language, accepted by the old generation in its last moment, is given up soon.
    return outrigger([raw_upstream(streams).address], {"timeouts": {"request_head": "1s"}})


def serves(address: str, tls=None) -> None:
    with RawClient(address, tls) as client:
        assert client.ask("POST", "/mcp", PING, JSON).json["id"] == 7


def test_a_listener_moves_and_takes_nobody_with_it(world, streams):
    stream, kept = world.open_stream(), world.client()
    assert kept.ask("POST", "/mcp", PING, JSON).status == 200
    old, new = world.address, f"127.0.0.1:{free_port()}"
    world.reload({"listeners": [{"name": "public", "address": new, "upstream": "gateway"}]})
    serves(new)
    wait_until(lambda: refuses(old), what="the old address is closed")
    last = kept.ask("POST", "/mcp", PING, JSON)
    assert (last.status, last.header("connection")) == (200, "close"), "served once more, and told to go"
    streams.end()
    read_end(stream)
    wait_until(lambda: len(world.worker_pids()) == 1, what="the old generation is gone")


def test_listeners_are_added_and_removed_beside_one_that_stays(world, streams):
    stream, first, second = world.open_stream(), world.address, f"127.0.0.1:{free_port()}"
    one = world.config["listeners"][0]
    two = {"name": "second", "address": second, "upstream": "gateway"}
    world.reload({"listeners": [one, two]})
    serves(first), serves(second)
    world.reload({"listeners": [one]})
    wait_until(lambda: refuses(second), what="the removed address is closed")
    serves(first)
    world.reload({"listeners": [one, two]})
    serves(first), serves(second)
    streams.end()
    read_end(stream)


def test_a_listener_becomes_encrypted_and_plain_again(world, streams, pki):
    stream, one = world.open_stream(), world.config["listeners"][0]
    world.reload({"listeners": [{**one, "tls": pki.issue("localhost").as_config()}]})
    wait_until(lambda: serves(world.address, pki.client_context()) is None, what="the address speaks TLS")
    serves(world.address, pki.client_context())
    world.reload({"listeners": [one]})
    wait_until(lambda: serves(world.address) is None, what="the address speaks plaintext")
    streams.end()
    read_end(stream)


def test_the_number_of_threads_changes(world, streams):
    stream = world.open_stream()
    for threads in (3, 1):
        world.reload({"threads": threads})
        for _ in range(20):
            serves(world.address)
    streams.end()
    read_end(stream)


def test_the_admin_address_moves(world, streams):
    stream, port = world.open_stream(), free_port()
    world.write_config({"admin": {"address": f"127.0.0.1:{port}"}})
    world.process.signal(signal.SIGHUP)
    old, world.admin = world.admin, f"http://127.0.0.1:{port}"
    wait_until(lambda: world.ready() and world.generation() == 2, what="the new admin address answers")
    wait_until(lambda: refuses(old.removeprefix("http://")), what="the old one is closed")
    serves(world.address)
    streams.end()
    read_end(stream)


def test_many_listeners_are_ready_as_soon_as_one(outrigger, raw_upstream):
    """Each is probed while the old generation accepts too; that lottery must not use up `reload.ready_timeout`."""
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(12)]
    upstream = raw_upstream(result_for_each)
    world = outrigger([upstream.address], {"listeners": [{"name": "public", "address": addresses}]}, start=False)
    world.address = addresses[0]
    world.start()
    began = time.monotonic()
    world.process.signal(signal.SIGHUP)
    ready = lambda: any("generation 2 ready" in line.get("message", "") for line in world.log())  # noqa: E731
    wait_until(ready, what="the second generation is ready")
    # The handoff takes a good second, on a busy machine some.
    assert time.monotonic() - began < 10
    for address in addresses:
        serves(address)
