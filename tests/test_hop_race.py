"""Members that race: to claim one session, to end it, to find out that it is lost. One wins, and all agree who."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from harness import JSON, response, wait_until
from harness.mcp import SERVER_KINDS, McpServers
from harness.stage import call, result

ROUNDS = 20


@pytest.fixture
def at_once():
    """`at_once([work, …])`: all begin in the same moment; what they gave."""
    with ThreadPoolExecutor(32) as threads:

        def run(works: list) -> list:
            ready = threading.Barrier(len(works))
            return [
                one.result() for one in [threads.submit(lambda work=work: (ready.wait(), work())[1]) for work in works]
            ]

        yield run


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    running = McpServers(SERVER_KINDS["python-v1-json"], tmp_path_factory.mktemp("servers"), count=3)
    yield running
    running.end()


@pytest.fixture
def three(members, redis_server, servers, pki):
    return members(redis_server(), [[peer] for peer in servers.peers], pki, {"sessions": {"ttl": "3s"}})


def test_of_two_claims_for_one_session_one_stands(members, redis_server, raw_upstream, pki, at_once):
    """Two servers that hand out the same id, as none should: nobody is told by turns what either knows."""
    asked = [[], []]

    def peer(number):
        def script(connection):
            while True:
                message = connection.read_request()
                asked[number].append(message)
                fields = {"Mcp-Session-Id": message.header("x-session")} if b'"initialize"' in message.body else {}
                connection.send(response(200, result(), fields))

        return raw_upstream(script)

    world = members(redis_server(), [[peer(number).address] for number in (0, 1)], pki)
    with httpx.Client(headers=JSON, trust_env=False) as client:

        def post(number: int, session: str, body: bytes, **headers) -> int:
            return client.post(
                world.url(number), content=body, headers={"Mcp-Session-Id": session, **headers}
            ).status_code

        def begin(number: int, session: str):
            headers = {**JSON, "X-Session": session}
            return lambda: client.post(world.url(number), content=call("initialize"), headers=headers).status_code

        winners = set()
        for round_ in range(ROUNDS):
            session = f"session-{round_}"
            statuses = at_once([begin(0, session), begin(1, session)])
            assert 200 in statuses
            assert len(world.session_keys()) == round_ + 1
            for requests in asked:
                requests.clear()
            for number in (0, 1, 1, 0):
                assert post(number, session, call()) == 200
            counts = sorted((len(requests), number) for number, requests in enumerate(asked))
            assert [count for count, _ in counts] == [0, 4], "one owner answers, by whichever member"
            winners.add(counts[1][1])
    print(f"the winners of {ROUNDS} races: {winners}")


def test_a_session_that_one_ends_while_another_uses_it_is_ended(three, at_once):
    """With so short a life every use renews; a renewal that comes late must not bring the claim back for good."""

    def using(session, number: int):
        return lambda: session.post(three.url(number), "ping").status_code

    def ending(session):
        return lambda: session.delete(three.url(1)).status_code

    for _ in range(ROUNDS):
        session = three.begin(0)
        statuses = at_once([*(using(session, number) for number in (0, 1, 2, 1, 2)), ending(session)])
        assert statuses[-1] == 200
        assert set(statuses) <= {200, 404}
        for number in (0, 1, 2):
            assert session.post(three.url(number), "ping").status_code == 404
        session.close()
    wait_until(lambda: not three.session_keys(), what="no claim is left behind")
    time.sleep(0.3)
    assert not three.session_keys()


def test_a_session_that_all_find_lost_is_lost_once(three, at_once):
    sessions = [three.begin(0) for _ in range(4)]
    for session in sessions:
        for number in (1, 2):
            assert session.post(three.url(number), "ping").status_code == 200
    three[0].kill()
    asks = [
        lambda session=session, number=number: session.post(three.url(number), "ping")
        for session in sessions
        for number in (1, 2, 1, 2)
    ]
    for answer in at_once(asks):
        assert (answer.status_code, answer.json()["id"]) == (404, 1)
    assert not three.session_keys()
    lost = [three[number].metrics()["outrigger_sessions_lost_total"] for number in (1, 2)]
    assert sum(lost) >= len(sessions)
    for session in sessions:
        session.close()


def test_what_was_lost_is_begun_anew_by_everybody_at_once(three, servers, at_once):
    """A storm after a member's death: as many new sessions as were lost, each with one owner that lives."""
    old = [three.begin(0) for _ in range(12)]
    three[0].kill()

    def again(number: int):
        def run() -> dict:
            answer = old[number].post(three.url(1 + number % 2), "ping")
            assert answer.status_code == 404
            fresh = three.begin(1 + number % 2)
            counts = [json.loads(fresh.call(three.url(entry), "count")) for entry in (1, 2, 2, 1)]
            fresh.close()
            assert [counted["count"] for counted in counts] == [1, 2, 3, 4]
            [owner] = {counted["name"] for counted in counts}
            return owner

        return run

    owners = at_once([again(number) for number in range(len(old))])
    assert set(owners) == {"b", "c"}
    assert len(three.session_keys()) == len(old)
    for session in old:
        session.close()
