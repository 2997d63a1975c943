"""An owner that cannot answer: what the client hears, and how soon.

Two members with a real MCP server each, which counts calls per session: a 200 that is not the owner's next count would
be a wrong owner's, or a call that ran twice. ContextForge alone lets the client wait for 30 s or for ever.
"""

import json
import signal
import statistics
import time
from dataclasses import dataclass, field
from functools import partial

import httpx
import pytest

from harness import PATIENCE, free_port, wait_until
from harness.mcp import SERVER_KINDS, McpServers, McpSession
from harness.members import HOST, QUICK, TTL, Members
from harness.outrigger import merged

KIND = SERVER_KINDS["python-v1-json"]
ENTRY, OWNER = 0, 1

#: Seconds to hear of a dead owner; `member.connect_timeout` is 100 ms.
DEAD = 0.25

#: Sessions of a scene; an answer's time is measured on each.
SESSIONS = 8


@dataclass
class Held:
    """A session of the owner's, and what its next call counts."""

    session: McpSession
    name: str
    count: int = 0
    took: list[float] = field(default_factory=list)

    def ask(self, url: str) -> httpx.Response:
        began = time.monotonic()
        answer = self.session.post(url, "tools/call", {"name": "count", "arguments": {}})
        self.took.append(time.monotonic() - began)
        if answer.status_code == 200:
            self.count += 1
            counted = json.loads(answer.json()["result"]["content"][0]["text"])
            assert counted == {"name": self.name, "count": self.count}, "a wrong owner's, or one that ran twice"
        return answer


class Scene:
    """Members in front of servers, and sessions that the second member owns."""

    def __init__(self, members: Members, warm: bool = True):
        self.members = members
        self.url = members.url(ENTRY)
        # A busy machine is slower now and then than these members' patience.
        begun = [wait_until(partial(members.begin, OWNER), what="a session") for _ in range(SESSIONS)]
        self.held = [Held(session, "ab"[OWNER]) for session in begun]
        if warm:
            # The entry has learnt the claims and keeps a connection to the owner's member.
            for held in self.held:
                wait_until(lambda held=held: held.ask(self.url).status_code == 200, what="the owner is reached")

    def all_are_served(self) -> None:
        for held in self.held:
            assert held.ask(self.url).status_code == 200

    def wait_lost(self) -> None:
        """The owner is forgotten, and the entry, which learns of members with its beat, has heard of it."""
        self.members.wait_forgotten(OWNER)
        wait_until(lambda: self.held[0].ask(self.url).status_code == 404, what="the entry knows")

    def all_are_lost(self, bound: float = DEAD) -> None:
        """404 with the call's own id, in time, however often they ask; and everybody can begin anew at once."""
        self.all_hear(404, -32600, bound)
        self.all_hear(404, -32600, bound)
        assert not self.claims()
        fresh = self.members.begin(ENTRY)
        assert json.loads(fresh.call(self.url, "count")) == {"name": "ab"[ENTRY], "count": 1}
        fresh.delete(self.url)
        fresh.close()

    def all_may_try_again(self, bound: float) -> None:
        for answer in self.all_hear(503, -32603, bound):
            assert int(answer.headers["retry-after"]) >= 1
        assert len(self.claims()) == SESSIONS, "nobody knows that they are lost"

    def all_hear(self, status: int, code: int, bound: float) -> list[httpx.Response]:
        answers = [held.ask(self.url) for held in self.held]
        took = [1000 * held.took[-1] for held in self.held]
        for answer in answers:
            assert answer.status_code == status, answer.text
            assert (answer.json()["id"], answer.json()["error"]["code"]) == (1, code)
        print(f"told {status} after {statistics.median(took):.1f} ms, at most {max(took):.1f} ms")
        assert statistics.median(took) < 1000 * bound, took
        return answers

    def claims(self) -> set[str]:
        return self.members.session_keys()

    def close(self) -> None:
        for held in self.held:
            held.session.close()


@pytest.fixture
def servers(tmp_path):
    running = McpServers(KIND, tmp_path / "servers")
    yield running
    running.end()


@pytest.fixture(params=["mtls", "plaintext"])
def between(request, pki):
    """How the members know each other."""
    return pki if request.param == "mtls" else None


@pytest.fixture
def scene(members, redis_server, servers):
    scenes = []

    def make(pki=None, warm=True, config=None) -> Scene:
        peers = [[{"name": "w", "address": peer}] for peer in servers.peers]
        scenes.append(Scene(members(redis_server(), peers, pki, merged(QUICK, config or {})), warm))
        return scenes[-1]

    yield make
    for each in scenes:
        each.close()


WARM = pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])


# The owner's member is gone.


@WARM
def test_a_killed_member(scene, between, warm):
    here = scene(between, warm)
    here.members[OWNER].kill()
    here.all_are_lost()


def test_a_killed_pod(scene, servers, pki):
    here = scene(pki)
    servers.instances["b"].signal(signal.SIGKILL)
    here.members[OWNER].kill()
    here.all_are_lost()


def test_a_member_that_was_stopped(scene, pki):
    here = scene(pki)
    here.members[OWNER].stop()
    assert not here.members.known(OWNER)
    here.all_are_lost()


def test_a_member_that_was_never_heard_of(scene, pki):
    here = scene(pki)
    client = here.members.redis.client()
    for key in here.claims():
        claim = client.get(key)
        client.set(key, claim.replace('"two"', '"nobody"'), keepttl=True)
    # The entry believes what it has learnt; another Outrigger has learnt nothing.
    here.members[ENTRY].stop()
    here.members[ENTRY].start()
    here.all_are_lost()


def test_a_member_that_died_and_came_back_elsewhere_has_its_sessions(scene, pki):
    """The MCP server lived on, as a gateway's container does when only the sidecar's is restarted."""
    here = scene(pki)
    owner = here.members[OWNER]
    owner.kill()
    elsewhere = f"{here.members.places[OWNER].back}:{free_port()}"
    owner.write_config({"member": {"address": elsewhere, "advertise": elsewhere}})
    owner.start()
    wait_until(lambda: elsewhere in here.members.redis.client().get(here.members.member_key(OWNER)))
    here.all_are_served()


def test_a_member_that_came_back_where_it_was_has_its_sessions(scene, pki):
    here = scene(pki)
    here.members[OWNER].kill()
    here.members[OWNER].start()
    here.all_are_served()


def test_a_member_that_came_back_without_the_peer(scene, pki, servers):
    here = scene(pki)
    owner = here.members[OWNER]
    owner.kill()
    owner.config["upstreams"]["gateway"]["peers"] = [{"name": "new", "address": servers.peers[OWNER]}]
    owner.start()
    here.all_are_lost()


# The owner's member is silent.


@WARM
def test_a_paused_member_is_waited_for_until_it_is_forgotten(scene, between, warm):
    here = scene(between, warm)
    here.members[OWNER].pause()
    here.all_may_try_again(DEAD)
    here.wait_lost()
    here.all_are_lost()


@WARM
def test_a_member_that_was_paused_for_a_moment_goes_on(scene, between, warm):
    here = scene(between, warm)
    here.members[OWNER].pause()
    here.all_may_try_again(DEAD)
    here.members[OWNER].resume()
    wait_until(lambda: here.held[0].ask(here.url).status_code == 200, what="the owner answers again")
    here.all_are_served()


def test_a_member_that_wakes_up_when_it_was_given_up_answers_nobodys_call(scene, pki):
    """What was told 404 has not run behind the client's back."""
    here = scene(pki)
    here.members[OWNER].pause()
    here.all_may_try_again(DEAD)
    here.members.wait_forgotten(OWNER)
    here.members[OWNER].resume()
    here.members.wait_known(OWNER)
    for held in here.held:
        wait_until(lambda held=held: held.ask(here.members.url(OWNER)).status_code == 200)


# The owner's member lives, its peer does not.


def test_a_dead_peer(scene, between, servers):
    here = scene(between)
    servers.instances["b"].signal(signal.SIGKILL)
    servers.instances["b"].wait()
    here.all_are_lost()


def test_a_peer_that_hangs_is_not_lost(scene, pki, servers):
    here = scene(pki, config={"timeouts": {"first_byte": "500ms"}})
    servers.instances["b"].signal(signal.SIGSTOP)
    for held in here.held[:2]:
        answer = held.ask(here.url)
        assert (answer.status_code, answer.json()["id"]) == (504, 1)
        assert 0.4 < held.took[-1] < 10
    assert len(here.claims()) == SESSIONS
    servers.instances["b"].signal(signal.SIGCONT)
    # A call that was taken and not answered in time has run; the others go on as they were.
    for held in here.held[2:]:
        assert held.ask(here.url).status_code == 200


# Redis fails, too.


@pytest.mark.parametrize("failure", ["stop", "pause"])
def test_without_redis_what_was_learnt_goes_on(scene, pki, failure):
    here = scene(pki)
    getattr(here.members.redis, failure)()
    time.sleep(2 * TTL)  # all beats have failed by now, and every card has run out
    here.all_are_served()
    assert statistics.median(held.took[-1] for held in here.held) < DEAD


@pytest.mark.parametrize("failure", ["stop", "pause"])
def test_without_redis_what_was_not_learnt_is_refused(scene, pki, failure):
    here, took = scene(pki, warm=False), []
    getattr(here.members.redis, failure)()
    for held in here.held:
        answer = held.ask(here.url)
        assert (answer.status_code, answer.json()["id"]) == (503, 1)
        took.append(held.took[-1])
        assert held.ask(here.members.url(OWNER)).status_code == 200, "its owner has learnt it"
    assert statistics.median(took) < DEAD, took


@pytest.mark.parametrize("failure", ["stop", "pause"])
def test_without_redis_nobody_knows_that_a_silent_owner_is_dead(scene, pki, failure):
    here = scene(pki)
    getattr(here.members.redis, failure)()
    here.members[OWNER].kill()
    for held in here.held:
        answer = held.ask(here.url)
        assert (answer.status_code, answer.json()["id"]) == (503, 1)
        assert int(answer.headers["retry-after"]) >= 1
    took = [held.took[-1] for held in here.held]
    assert statistics.median(took) < 2 * DEAD, f"one wait for the member, one for Redis: {took}"


def test_redis_that_forgets_everything_costs_nothing(scene, pki):
    here = scene(pki)
    here.members.redis.restart()
    here.all_are_served()
    here.members.wait_known(ENTRY, OWNER)
    here.all_are_served()


# Somebody is cut off.


class Places:
    """Two members in network namespaces, their servers beside them."""

    def __init__(self, namespaces, tmp_path, redis_server, members, pki, warm: bool):
        self.namespaces = namespaces
        places = [namespaces.place("pod-one"), namespaces.place("pod-two")]
        self.servers = McpServers(KIND, tmp_path / "servers", places=places)
        redis = redis_server(host=namespaces.redis_host)
        self.scene = Scene(members(redis, [[peer] for peer in self.servers.peers], pki, QUICK, places=places), warm)


@pytest.fixture
def apart(namespaces, tmp_path, redis_server, members, pki):
    made = []

    def make(warm=True) -> Scene:
        made.append(Places(namespaces, tmp_path, redis_server, members, pki, warm))
        return made[-1].scene

    yield make
    for each in made:
        each.scene.close()
        each.servers.end()


@WARM
def test_an_owner_that_is_cut_off_is_waited_for_until_it_is_forgotten(apart, namespaces, warm):
    here = apart(warm)
    namespaces.cut_off(OWNER)
    here.all_may_try_again(DEAD)
    # Its own clients still reach it, and what it has learnt it serves.
    for held in here.held:
        assert held.ask(here.members.url(OWNER)).status_code == 200
    here.wait_lost()
    here.all_are_lost()


def test_an_owner_that_was_cut_off_for_a_moment_goes_on(apart, namespaces):
    here = apart()
    namespaces.cut_off(OWNER)
    here.all_may_try_again(DEAD)
    namespaces.join_again(OWNER)
    wait_until(lambda: here.held[0].ask(here.url).status_code == 200, what="the owner is reached again")
    here.all_are_served()


def test_an_entry_that_is_cut_off_says_so_and_serves_its_own(apart, namespaces):
    here = apart()
    own, took = Held(here.members.begin(ENTRY), "ab"[ENTRY]), []
    namespaces.cut_off(ENTRY)
    for held in here.held:
        answer = held.ask(here.url)
        assert (answer.status_code, answer.json()["id"]) == (503, 1)
        took.append(held.took[-1])
        assert held.ask(here.members.url(OWNER)).status_code == 200, "everybody else is served"
    assert statistics.median(took) < 2 * DEAD, took
    assert own.ask(here.url).status_code == 200
    namespaces.join_again(ENTRY)
    wait_until(lambda: here.held[0].ask(here.url).status_code == 200, what="it is among the others again")
    own.session.close()


def test_a_member_whose_machine_is_gone(apart, namespaces):
    """Nobody is left to refuse a connection: only its silence tells, and then its card."""
    here = apart()
    here.members[OWNER].kill()
    namespaces.cut_off(OWNER)
    here.all_may_try_again(DEAD)
    here.wait_lost()
    here.all_are_lost()


def test_streams_of_a_dead_member_are_cut_at_once(scene, pki):
    """A client that waits for the next event must hear that none will come."""
    here = scene(pki)
    headers = {"Accept": "text/event-stream", "Mcp-Session-Id": here.held[0].session.id, "Host": HOST}
    with httpx.stream("GET", here.url, headers=headers, timeout=PATIENCE, trust_env=False) as stream:
        assert stream.status_code == 200
        here.members[OWNER].kill()
        began = time.monotonic()
        with pytest.raises(httpx.TransportError):
            list(stream.iter_lines())
        assert time.monotonic() - began < 5


def test_no_call_is_run_twice_however_often_its_owner_dies(scene, pki):
    here = scene(pki)
    for _ in range(3):
        here.members[OWNER].kill()
        here.members[OWNER].start()
        for held in here.held:
            wait_until(lambda held=held: held.ask(here.url).status_code == 200)
