"""DNS rebinding: a name of somebody else's can be made to lead here, and a page under it would own our answers.

So the host that a request names is looked at, on every path, and the page that it comes from where it could send a
message or open a socket. Upstreams cannot do that themselves: they see the host that we send them.
"""

import pytest

from harness import JSON, answering, response, wait_until
from harness.stage import BOTH, MCP, OPEN, a_stage, call, result

#: What a listener on loopback does unless it is told otherwise. All this is decided before a request could hop.
stage = a_stage(hop="never")
LISTED = {
    "allowed_hosts": ["mcp.example.com", "b.example:8443", "c.example:*"],
    "allowed_origins": ["https://app.example.com", "d.example:*", "null"],
    "trusted_proxies": ["127.0.0.0/8"],
}
listed = a_stage(plain=LISTED, tls=LISTED, hop="never")
PREFIXED = {"public_url": {"external_url": "http://localhost/gate"}, "trusted_proxies": ["127.0.0.0/8"]}
prefixed = a_stage(plain=PREFIXED, tls=PREFIXED, hop="never")
anybody = a_stage(plain=OPEN, tls=OPEN, hop="never")

ANSWERS = answering(response(200, result()))


def ask(stage, protocol, host="localhost", path=MCP, method="POST", body=None, **fields):
    """The answer, and how many requests came through."""
    body = call() if body is None and method == "POST" else body or b""
    pairs = [*JSON.items(), *((name.replace("_", "-"), value) for name, value in fields.items())]
    with stage.playing(ANSWERS) as upstream, stage.client(protocol) as client:
        named = {"authority": host} if protocol == "h2" else {}
        pairs += [] if protocol == "h2" else [("Host", host)]
        answer = client.begin(method, path, body, pairs, **named).read_response()
    return answer, len(upstream.requests)


def assert_refused(answer_and_count, what):
    answer, count = answer_and_count
    assert (answer.status, count) == (403, 0)
    assert answer.json["id"] == 7, "clients that cannot find their id wait for ever"
    assert answer.json["error"]["code"] == -32600
    assert what in answer.json["error"]["message"]


@BOTH
@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "LOCALHOST", "127.0.0.1:1", "127.9.9.9", "[::1]:8080"])
@pytest.mark.parametrize("origin", [None, "http://localhost:5173", "https://127.0.0.1", "http://[::1]:1"])
def test_on_loopback_this_machines_names_come_in(stage, protocol, host, origin):
    answer, count = ask(stage, protocol, host, **({"Origin": origin} if origin else {}))
    assert (answer.status, count) == (200, 1)


@BOTH
@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.nip.io"])
def test_and_nobody_elses(stage, protocol, host):
    assert_refused(ask(stage, protocol, host), "host")


@BOTH
@pytest.mark.parametrize("origin", ["http://evil.example", "https://localhost.evil.example", "null", "", "localhost"])
def test_nor_anybody_elses_pages(stage, protocol, origin):
    assert_refused(ask(stage, protocol, Origin=origin), "origin")


@BOTH
@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("mcp.example.com", True),
        ("MCP.example.com:443", True),
        ("mcp.example.com:8443", False),
        ("b.example:8443", True),
        ("b.example", False),
        ("c.example", True),
        ("c.example:1", True),
        ("x.c.example", False),
        ("localhost", False),
    ],
)
def test_a_list_of_hosts_counts_as_it_stands(listed, protocol, host, allowed):
    asked = ask(listed, protocol, host)
    assert (asked[0].status, asked[1]) == ((200, 1) if allowed else (403, 0))


@BOTH
@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://app.example.com", True),
        ("http://app.example.com", False),
        ("https://app.example.com:8443", False),
        ("http://d.example", True),
        ("https://d.example:1", True),
        ("null", True),
        ("https://evil.example", False),
        ("http://localhost", False),
    ],
)
def test_a_list_of_origins_counts_as_it_stands(listed, protocol, origin, allowed):
    asked = ask(listed, protocol, "mcp.example.com", Origin=origin)
    assert (asked[0].status, asked[1]) == ((200, 1) if allowed else (403, 0))


def test_our_own_pages_may_come_back(listed):
    for protocol, own, foreign in [("h1", "http", "https"), ("h2", "https", "http")]:
        assert ask(listed, protocol, "mcp.example.com", Origin=f"{own}://mcp.example.com")[0].status == 200
        assert ask(listed, protocol, "mcp.example.com", Origin=f"{foreign}://mcp.example.com")[0].status == 403


@BOTH
def test_a_trusted_proxys_word_is_looked_at_as_well(listed, protocol):
    """A page on a trusted machine can claim any host, but it cannot choose the one that its browser writes."""
    for host, claimed, status in [
        ("mcp.example.com", "b.example:8443", 200),
        ("mcp.example.com", "evil.example", 403),
        ("evil.example", "mcp.example.com", 403),
    ]:
        assert ask(listed, protocol, host, X_Forwarded_Host=claimed)[0].status == status, (host, claimed)


@BOTH
def test_nor_does_a_prefix_hide_what_was_written(prefixed, protocol):
    for host, path, status in [("localhost", "/gate", 200), ("evil.example", "/gate", 403), ("evil.example", "", 403)]:
        assert ask(prefixed, protocol, host, path + MCP, X_Forwarded_Host="localhost")[0].status == status, (host, path)


def test_a_client_of_old_that_names_no_host(stage):
    """HTTP/1.0; no browser speaks it."""
    with stage.playing(ANSWERS), stage.client() as client:
        client.send(b"POST /mcp HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(call()) + call())
        assert client.read_response().status == 200


@BOTH
def test_who_asks_for_it_takes_anybody(anybody, protocol):
    for host, origin in [("evil.example", "http://evil.example"), ("a", "null"), ("b:1", "app://x")]:
        assert ask(anybody, protocol, host, Origin=origin)[0].status == 200


@BOTH
@pytest.mark.parametrize(
    ("path", "method"),
    [
        (MCP, "GET"),
        (MCP, "DELETE"),
        (MCP, "OPTIONS"),
        ("/sse", "GET"),
        ("/message", "POST"),
        ("/admin", "POST"),
        ("/", "GET"),
    ],
)
def test_a_host_is_looked_at_on_every_path(stage, protocol, path, method):
    answer, count = ask(stage, protocol, "evil.example", path, method)
    assert (answer.status, count) == (403, 0)


@BOTH
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_a_page_elsewhere_gets_nothing_of_an_mcp_route(stage, protocol, method):
    answer, count = ask(stage, protocol, path=MCP, method=method, Origin="https://evil.example")
    assert (answer.status, count) == (403, 0)


@BOTH
def test_but_may_send_a_form_to_what_passes(stage, protocol):
    """A login that comes back does so by a form of the identity provider's page."""
    answer, count = ask(stage, protocol, path="/oauth/callback", body=b"code=1", Origin="https://login.example.com")
    assert (answer.status, count) == (200, 1)


def test_and_opens_no_socket(stage):
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Origin": "https://evil.example"}
    answer, count = ask(stage, "h1", path="/ws", method="GET", **upgrade)
    assert (answer.status, count) == (403, 0)


@BOTH
@pytest.mark.parametrize(
    ("body", "reply"),
    [
        (call(id="a\u00e9"), {"id": "a\u00e9"}),
        (call(id=None), None),
        (b'[{"jsonrpc":"2.0","id":1,"method":"a"},{"jsonrpc":"2.0","method":"b"}]', [{"id": 1}]),
        (b"no JSON", {"id": None}),
    ],
)
def test_a_refusal_is_an_answer_to_the_message(stage, protocol, body, reply):
    answer, _ = ask(stage, protocol, "evil.example", body=body)
    assert answer.status == 403
    if reply is None:
        assert answer.body == b"", "a notification gets no JSON-RPC"
    elif isinstance(reply, list):
        assert [error["id"] for error in answer.json] == [error["id"] for error in reply]
    else:
        assert answer.json["id"] == reply["id"]


def test_the_log_says_what_would_have_to_be_allowed(outrigger, raw_upstream):
    world = outrigger([raw_upstream(ANSWERS).address])
    for fields in ({"Host": "evil.example:8080"}, {"Host": "localhost", "Origin": "https://evil.example"}):
        with world.client() as client:
            client.ask("POST", MCP, call(), {**JSON, **fields})
    for words in (
        'listener public: `allowed_hosts` does not have "evil.example:8080"',
        'listener public: `allowed_origins` does not have "https://evil.example"',
    ):
        wait_until(lambda words=words: any(words == line.get("message") for line in world.log()), what=words)
    metrics = world.metrics()
    assert metrics['outrigger_faults_total{kind="host_not_allowed"}'] == 1
    assert metrics['outrigger_faults_total{kind="origin_not_allowed"}'] == 1
