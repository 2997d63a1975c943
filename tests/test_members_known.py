"""Members make themselves known while they live, and are gone from Redis as soon as they are asked to stop."""

import json
import os
import signal
import time

import httpx
import pytest

from harness import wait_until
from harness.members import HOST, TTL


@pytest.fixture
def two(members, redis_server, mcp_server, pki):
    return members(redis_server(), [[peer] for peer in mcp_server("python-v1-json").peers], pki)


def test_each_publishes_its_address_for_a_short_time(two):
    client = two.redis.client()
    for number, address in enumerate(two.addresses):
        assert json.loads(client.get(two.member_key(number)))["address"] == address
        assert 0 < client.pttl(two.member_key(number)) <= 1000 * TTL
    assert set(client.zrange(f"{two.prefix}members", 0, -1)) == set(two.names[:2])


def test_it_goes_on_publishing(two):
    client = two.redis.client()
    ends = time.monotonic() + 2 * TTL
    while time.monotonic() < ends:
        assert client.pttl(two.member_key(0)) > 1000 * TTL / 3
        time.sleep(0.05)


def test_a_graceful_stop_withdraws_it_before_it_stops_serving(two):
    """As long as it drains, others find its key gone; and a session of its own is still served."""
    session = two.begin(0)
    url = two.url(0)
    headers = {"Accept": "text/event-stream", "Mcp-Session-Id": session.id, "Host": HOST}
    with httpx.stream("GET", url, headers=headers, timeout=30, trust_env=False) as held:
        assert held.status_code == 200
        two[0].process.signal(signal.SIGTERM)
        two.wait_forgotten(0, patience=TTL / 2)
        assert two[0].process.running
        time.sleep(TTL)
        assert not two.known(0), "it came back while it was draining"
    two[0].process.wait()
    assert two.redis.client().zscore(f"{two.prefix}members", two.names[0]) is None
    session.close()


def test_a_reload_does_not_withdraw_it(two):
    """Not for a moment, however long both generations live side by side: a member without a card is dead."""
    key, client, supervisor = two.member_key(0), two.redis.client(), two[0].process
    with two.redis.listening() as commands:
        for _ in range(2):
            before, generation = client.get(key), two[0].generation()
            supervisor.signal(signal.SIGHUP)
            wait_until(lambda before=before: client.get(key) != before, what="the next generation's card")
            # The supervisor does not hear that it is ready, so the one before goes on.
            supervisor.signal(signal.SIGSTOP)
            ends = time.monotonic() + TTL
            while time.monotonic() < ends and client.get(key) != before:
                time.sleep(0.002)
            supervisor.signal(signal.SIGCONT)
            wait_until(lambda old=generation: f"generation {old} drained" in supervisor.err.read_text())
    withdrawn = [text for text in commands if text.upper().startswith(("DEL", "UNLINK")) and key in text]
    assert not withdrawn


def test_a_sign_of_life_never_overwrites_a_successor(two):
    """To look first and write then would put the card of a generation that retires over that of the next one, which
    then takes it for another's until it has run out: for a moment the member would be dead, and its sessions lost."""
    key = two.member_key(0)

    def beats() -> list[str]:
        return [text for text in commands if key in text and text.upper().startswith("EVALSHA")]

    with two.redis.listening() as commands:
        wait_until(lambda: len(beats()) >= 3, what="three signs of life")
    assert not [text for text in commands if key in text and text.upper().startswith("SET")]


def test_a_worker_that_crashes_does_not_withdraw_it(two):
    [worker] = two[0].worker_pids()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: worker not in two[0].worker_pids() and two[0].ready())
    two.wait_known(0)
    assert json.loads(two.redis.client().get(two.member_key(0)))["address"] == two.addresses[0]


def test_a_killed_member_is_forgotten_by_itself(two):
    began = time.monotonic()
    two[0].kill()
    two.wait_forgotten(0, patience=TTL + 5)
    print(f"forgotten after {time.monotonic() - began:.2f} s")
    two[0].start()
    two.wait_known(0)


def test_it_comes_back_when_redis_does(two):
    two.redis.restart()
    two.wait_known(0, 1)
    session = two.begin(0)
    assert json.loads(session.call(two.url(1), "count"))["count"] == 1
    session.close()
