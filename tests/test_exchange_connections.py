"""Connections to the upstream are kept and used again; where one died meanwhile, nothing runs twice that must not.

"Nothing was sent" can be proved only for a connection that never came about. After the write, a connection that the
upstream had closed looks like one on which it died at work, so only what may run twice is sent again, and once.
"""

import json
import threading

import pytest

from harness import JSON, PATIENCE, answering, response, wait_until
from harness.stage import BOTH, MCP, a_stage, call, result

stage = a_stage({"timeouts": {"upstream_idle": "600ms"}})

ANSWER = response(200, result(ok=True))

RUN_TWICE = [
    ("POST", call("tools/list")),
    ("POST", call("prompts/list")),
    ("POST", call("resources/templates/list")),
    ("POST", call("ping")),
    (
        "POST",
        call("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo={"name": "x", "version": "1"}),
    ),
    ("POST", call("notifications/initialized", id=None)),
    ("GET", b""),
]
RUN_ONCE = [
    call("tools/call", name="x"),
    call("tools/call", name="tools/list"),
    call("prompts/get", name="x"),
    call("completion/complete"),
    call("tools/list/evil"),
    b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"method":"tools/list"}}',
]


@BOTH
def test_a_connection_is_used_again(stage, protocol):
    with stage.playing(answering(ANSWER)) as upstream, stage.client(protocol) as client:
        for _ in range(5):
            assert client.ask("POST", MCP, call(), JSON).status == 200
    assert [len(connection.requests) for connection in upstream.connections] == [5]


def test_clients_share_connections_one_request_at_a_time(stage):
    with stage.playing(answering(ANSWER)) as upstream:
        for _ in range(3):
            with stage.client() as client:
                client.ask("POST", MCP, call(), JSON)
        assert len(upstream.connections) == 1
    at_work, go_on = threading.Semaphore(0), threading.Event()

    def slow(connection):
        while True:
            connection.read_request()
            at_work.release()
            assert go_on.wait(PATIENCE)
            connection.send(ANSWER)

    with stage.playing(slow) as upstream, stage.client("h2") as client:
        calls = [client.begin("POST", MCP, call(id=number), JSON) for number in range(4)]
        for _ in calls:
            assert at_work.acquire(timeout=PATIENCE)
        go_on.set()
        assert [running.read_response().status for running in calls] == [200] * 4
    assert len(upstream.connections) == 4


@pytest.mark.parametrize("fields", [{"Connection": "close"}, {"Connection": "x, Close"}])
def test_an_announced_close_is_believed(stage, fields):
    def script(connection):
        connection.read_request()
        connection.send(response(200, result(), fields))
        assert wait_closed_quietly(connection)

    with stage.playing(script) as upstream, stage.client() as client:
        for _ in range(3):
            assert client.ask("POST", MCP, call("tools/call"), JSON).status == 200
        assert len(upstream.connections) == 3


def wait_closed_quietly(connection) -> bool:
    """The other end closed without another byte."""
    before = len(connection.received)
    connection.wait_closed()
    return len(connection.received) == before


def test_an_idle_connection_is_given_up_before_the_upstream_would(stage):
    with stage.playing(answering(ANSWER)) as upstream, stage.client() as client:
        client.ask("POST", MCP, call(), JSON)
        opened = upstream.connection()
        wait_until(lambda: opened.closed, what="the idle connection closed by Outrigger")
        assert client.ask("POST", MCP, call("tools/call"), JSON).status == 200
    assert len(upstream.connections) == 2


@BOTH
@pytest.mark.parametrize("how", ["fin", "rst", "late byte"])
def test_a_connection_that_closed_while_idle_is_not_noticed(stage, protocol, how):
    over = threading.Event()

    def once(connection):
        connection.read_request()
        connection.send(ANSWER)
        if how == "late byte":
            connection.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        connection.reset() if how == "rst" else connection.finish_sending()
        over.set()
        if how != "rst":
            connection.wait_closed()

    with stage.playing(once, answering(ANSWER)) as upstream, stage.client(protocol) as client:
        assert client.ask("POST", MCP, call("tools/call"), JSON).status == 200
        assert over.wait(PATIENCE)
        assert client.ask("POST", MCP, call("tools/call"), JSON).status == 200
    assert len(upstream.requests) == 2


def dying_at_the_second(how: str, begun: bytes = b""):
    """Script: answers a request, and dies at work on the next one over the same connection."""

    def script(connection):
        connection.read_request()
        connection.send(ANSWER)
        connection.read_request()
        if begun:
            connection.send(begun)
        connection.reset() if how == "rst" else connection.close()

    return script


DYING = pytest.mark.parametrize("how", ["fin", "rst"])


@BOTH
@DYING
@pytest.mark.parametrize(("method", "body"), RUN_TWICE)
def test_what_may_run_twice_is_sent_again_once(stage, protocol, how, method, body):
    if stage.adds and b"initialize" in body:
        pytest.skip("who begins a session stays where he came in")
    with stage.playing(dying_at_the_second(how), answering(ANSWER)) as upstream, stage.client(protocol) as client:
        client.ask("POST", MCP, call(), JSON)
        retries = stage.metrics()["outrigger_retries_total"]
        reply = client.ask(method, MCP, body, JSON)
        silent = b"notifications/" in body
        assert (reply.status, reply.body) == ((202, b"") if silent else (200, json.dumps(result(ok=True)).encode()))
        assert stage.metrics()["outrigger_retries_total"] == retries + 1
    assert [len(connection.requests) for connection in upstream.connections] == [2, 1]
    first, again = upstream.connections[0].requests[1], upstream.connections[1].requests[0]
    assert (first.raw_head, first.body) == (again.raw_head, again.body)


@BOTH
@DYING
@pytest.mark.parametrize("body", RUN_ONCE)
def test_a_call_is_never_sent_twice(stage, protocol, how, body):
    with stage.playing(dying_at_the_second(how), answering(ANSWER)) as upstream, stage.client(protocol) as client:
        client.ask("POST", MCP, call(), JSON)
        reply = client.ask("POST", MCP, body, JSON)
        assert (reply.status, reply.json["id"], reply.json["error"]["code"]) == (502, 7, -32603)
        # The client's connection lives on.
        assert client.ask("POST", MCP, call(), JSON).status == 200
    assert [len(connection.requests) for connection in upstream.connections] == [2, 1]


@BOTH
def test_a_response_of_the_client_is_never_sent_twice(stage, protocol):
    answer = b'{"jsonrpc":"2.0","id":"s-1","result":{"action":"accept"}}'
    with stage.playing(dying_at_the_second("fin"), answering(ANSWER)) as upstream, stage.client(protocol) as client:
        client.ask("POST", MCP, call(), JSON)
        reply = client.ask("POST", MCP, answer, JSON)
        assert (reply.status, reply.body) == (502, b"")
    assert len(upstream.requests) == 2


@BOTH
@DYING
def test_twice_is_the_most(stage, protocol, how):
    def dying(connection):
        connection.read_request()
        connection.reset() if how == "rst" else connection.close()

    with stage.playing(dying_at_the_second(how), dying) as upstream, stage.client(protocol) as client:
        client.ask("POST", MCP, call(), JSON)
        reply = client.ask("POST", MCP, call("tools/list", id=8), JSON)
        assert (reply.status, reply.json["id"]) == (502, 8)
    assert len(upstream.requests) == 3


@BOTH
@DYING
def test_a_new_connection_that_dies_was_not_stale(stage, protocol, how):
    def dying(connection):
        connection.read_request()
        connection.reset() if how == "rst" else connection.close()

    with stage.playing(dying) as upstream, stage.client(protocol) as client:
        reply = client.ask("POST", MCP, call("tools/list", id=9), JSON)
        assert (reply.status, reply.json["id"]) == (502, 9)
    assert len(upstream.requests) == 1


@BOTH
@DYING
def test_an_answer_begun_is_not_asked_for_again(stage, protocol, how):
    begun = dying_at_the_second(how, b"HTTP/1.1 200 OK\r\nContent-Ty")
    with stage.playing(begun, answering(ANSWER)) as upstream, stage.client(protocol) as client:
        client.ask("POST", MCP, call(), JSON)
        reply = client.ask("POST", MCP, call("tools/list", id=10), JSON)
        assert (reply.status, reply.json["id"]) == (502, 10)
    assert len(upstream.requests) == 2


def test_a_cut_answer_does_not_go_back_to_the_pool(stage):
    def cut(connection):
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
        connection.finish_sending()
        connection.wait_closed()

    with stage.playing(cut, answering(ANSWER)) as upstream:
        with stage.client() as client:
            assert client.ask("POST", MCP, call("tools/call"), JSON).status == 502
        with stage.client() as client:
            assert client.ask("POST", MCP, call("tools/call"), JSON).json == result(ok=True)
    assert [len(connection.requests) for connection in upstream.connections] == [1, 1]
