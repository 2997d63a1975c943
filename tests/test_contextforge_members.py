"""Seeds 0 and 2 on real ContextForge, across two members with a gateway each: whichever member a client comes in by.

Seed 0, https://github.com/IBM/mcp-context-forge/issues/3018: a forwarded request loses its virtual server. Seed 2,
#3365: a forwarded failure becomes a success. With Outrigger no gateway forwards anything: the owner is asked directly.
So other faults are not met either: the lease of 300 s, a dead owner's 30 s, rc1's 46th forward that is the last.
"""

import json
import signal
import statistics
import time
from contextlib import ExitStack, contextmanager
from functools import partial

import httpx
import pytest

from harness import wait_until
from harness.contextforge import ContextForge
from harness.mcp import McpSession
from harness.members import HOST, Members
from test_contextforge import ATTEMPTS, assert_stays_inside

#: Seconds of the gateways' lease of a session; 300 outside of tests.
LEASE = 3


@pytest.fixture(scope="module", params=["1.0.0rc1", "1.0.7"])
def gateway(request, tmp_path_factory):
    lease = {"MCPGATEWAY_SESSION_AFFINITY_TTL": str(LEASE)}
    running = ContextForge(tmp_path_factory.mktemp("contextforge"), request.param, settings=lease)
    yield running
    running.end()


@pytest.fixture(scope="module")
def two(gateway, tmp_path_factory, pki):
    """Two members, each with one gateway; they share its Redis."""
    peers = [[peer] for peer in gateway.peers]
    running = Members(tmp_path_factory.mktemp("members"), gateway.redis, peers, pki, {"profile": "contextforge"})
    yield running
    running.end()


@pytest.fixture
def begin(gateway, two):
    """A session begun by way of a member: `begin(number)`."""
    with ExitStack() as ends:

        def make(number: int) -> McpSession:
            session = McpSession(through(two, gateway, number), {**gateway.headers, "Host": HOST})
            ends.callback(session.close)
            return session

        yield make


def through(two, gateway, number: int) -> str:
    return two.url(number, gateway.server_id)


def direct(gateway, number: int) -> str:
    return f"http://{gateway.peers[number]}/servers/{gateway.server_id}/mcp/"


@contextmanager
def forwards(gateway):
    """What the gateways ask of each other meanwhile."""
    heard = []
    with gateway.redis.client().pubsub() as channels:
        channels.psubscribe("mcpgw:pool_http:*", "mcpgw:pool_rpc:*")
        for _ in range(2):
            assert channels.get_message(timeout=5)["type"] == "psubscribe"
        yield heard
        while message := channels.get_message(timeout=0.3):
            heard.append(message["channel"])


@pytest.mark.parametrize("attempt", ATTEMPTS)
@pytest.mark.parametrize(("begun", "entered"), [(0, 1), (1, 0)])
def test_a_session_stays_inside_its_virtual_server(attempt, begun, entered, gateway, two, begin):
    session = begin(begun)
    with forwards(gateway) as heard:
        assert_stays_inside(session, gateway, through(two, gateway, entered), *ATTEMPTS[attempt])
    assert not heard


def test_without_outrigger_the_gateways_forward_and_forget(gateway):
    """The control for what is counted: the channels are the right ones, and the hole is there."""
    session = McpSession(direct(gateway, 0), gateway.headers)
    with forwards(gateway) as heard:
        seen = session.tools(direct(gateway, 1))
    assert heard
    assert (gateway.hidden in seen) == (gateway.version == "1.0.0rc1")
    session.close()


def test_a_hundred_requests_by_the_other_member_leave_no_trace_at_the_gateways(gateway, two, begin):
    """rc1 alone leaks a connection a forward: from the 46th on every answer is 404."""
    sessions = [begin(0), begin(1)]
    with forwards(gateway) as heard:
        for number in range(100):
            owner = number % 2
            assert sessions[owner].tools(through(two, gateway, 1 - owner)) == set(gateway.shown)
    assert not heard


@pytest.mark.long
def test_without_outrigger_the_forty_sixth_forward_is_the_last(tmp_path):
    """The control. The gateway is of no use afterwards, so it is one of its own."""
    running = ContextForge(tmp_path / "contextforge")
    try:
        session = McpSession(direct(running, 0), running.headers)
        statuses = [session.post(direct(running, 1), "tools/list").status_code for _ in range(48)]
        session.close()
    finally:
        running.end()
    assert statuses[0] == 200
    assert statuses[-1] == 404


def test_a_session_older_than_the_gateways_lease_goes_on_by_round_robin(gateway, two, begin):
    sessions = [begin(0), begin(1)]
    redis = gateway.redis.client()
    for session in sessions:
        assert session.tools(through(two, gateway, 0)) == set(gateway.shown)
    owners = [f"mcpgw:pool_owner:{session.id}" for session in sessions]
    wait_until(lambda: not redis.exists(*owners), 2 * LEASE + 15, "the lease has run out")
    with forwards(gateway) as heard:
        for number in range(20):
            for session in sessions:
                assert session.tools(through(two, gateway, number % 2)) == set(gateway.shown)
    assert not heard


def test_without_outrigger_a_session_ends_with_its_lease(gateway):
    session = McpSession(direct(gateway, 0), gateway.headers)
    session.tools(direct(gateway, 0))
    redis = gateway.redis.client()
    wait_until(lambda: not redis.exists(f"mcpgw:pool_owner:{session.id}"), 2 * LEASE + 15, "the lease has run out")
    assert session.post(direct(gateway, 1), "tools/list").status_code == 404
    session.close()


def bad_token(session: McpSession, url: str) -> httpx.Response:
    return session.post(url, "tools/list", headers={"Authorization": "Bearer no.such.token"})


FAILURES = {
    "a tool that does not exist": partial(McpSession.post, method="tools/call", params={"name": "no-such-tool"}),
    "a hidden tool": partial(McpSession.post, method="tools/call", params={"name": ContextForge.hidden}),
    "a tool that is called wrongly": partial(
        McpSession.post, method="tools/call", params={"name": "tiny-add", "arguments": {"a": "x"}}
    ),
    "a method that does not exist": partial(McpSession.post, method="no/such/method"),
    "a resource that does not exist": partial(McpSession.post, method="resources/read", params={"uri": "no://such"}),
    "a bad token": bad_token,
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_the_same_by_every_member(name, gateway, two, begin):
    """Seed 2: what its owner says is what the client hears; a failure is never `"result": {}`."""
    fail = FAILURES[name]
    for owner in (0, 1):
        session = begin(owner)
        said = fail(session, direct(gateway, owner))
        for entry in (0, 1):
            heard = fail(session, through(two, gateway, entry))
            assert (heard.status_code, heard.json()) == (said.status_code, worded(said))
            assert heard.json().get("result") != {}
    assert "result" not in said.json() or said.json()["result"].get("isError")


def worded(said: httpx.Response) -> dict:
    """What becomes of an answer: of one that is no JSON-RPC, an error with the request's id and the gateway's words."""
    if "jsonrpc" in said.json():
        return said.json()
    detail = said.json()["detail"]
    message = f"The upstream answered HTTP {said.status_code} {said.reason_phrase}: {detail}"
    data = {"httpStatus": said.status_code, "detail": detail}
    return {"jsonrpc": "2.0", "id": 1, "error": {"code": -32603, "message": message, "data": data}}


def test_http_sse_by_two_members(gateway, two):
    """The stream by one member, the messages by the other; the answers come on the stream.

    rc1 calls itself by the `Host` of its client, so that has to be an address.
    """
    path = f"/servers/{gateway.server_id}/sse"
    hello = {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    options = {"headers": gateway.headers, "timeout": 30, "trust_env": False, "verify": False}
    with httpx.stream("GET", f"{two[0].url}{path}", **options) as stream:
        assert stream.status_code == 200
        data = (line[5:].strip() for line in stream.iter_lines() if line.startswith("data:"))
        url = httpx.URL(next(data))
        message = f"{two[1].url}{url.raw_path.decode()}"
        for number, (method, params) in enumerate([("initialize", hello), ("ping", {})], start=1):
            body = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            assert httpx.post(message, json=body, **options).status_code == 202
            answer = next(found for text in data if (found := json.loads(text)).get("id") == number)
            assert "result" in answer


class TestDeadOwners:
    """At the end, because a gateway dies; and in an order of their own."""

    def test_a_dead_gateway_is_heard_of_at_once(self, gateway, two, begin):
        """The gateways alone: 404 after 30 s (rc1), or no answer in 40 s (1.0.7)."""
        sessions = [begin(1) for _ in range(8)]
        for session in sessions:
            assert session.tools(through(two, gateway, 0)) == set(gateway.shown)
        gateway.gateway(1).signal(signal.SIGKILL)
        gateway.gateway(1).wait()
        self.all_are_lost(gateway, two, sessions)

    def test_a_dead_member_is_heard_of_at_once(self, gateway, two, begin):
        gateway.restart(1)
        sessions = [begin(1) for _ in range(8)]
        for session in sessions:
            assert session.tools(through(two, gateway, 0)) == set(gateway.shown)
        gateway.gateway(1).signal(signal.SIGKILL)
        two[1].kill()
        self.all_are_lost(gateway, two, sessions)
        fresh = begin(0)
        assert fresh.tools(through(two, gateway, 0)) == set(gateway.shown)

    def all_are_lost(self, gateway, two, sessions: list[McpSession]) -> None:
        """Twice each: who asks again is not sent to a gateway that waits for the dead one."""
        took = []
        with forwards(gateway) as heard:
            for session in [*sessions, *sessions]:
                began = time.monotonic()
                answer = session.post(through(two, gateway, 0), "tools/list")
                took.append(1000 * (time.monotonic() - began))
                assert (answer.status_code, answer.json()["id"]) == (404, 1)
        assert not heard
        print(f"told after {statistics.median(took):.1f} ms, at most {max(took):.1f} ms")
        assert statistics.median(took) < 250
        assert max(took) < 1000
