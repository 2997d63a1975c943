"""P4 on HTTP+SSE: the first event says where messages go, so the client must be able to go there. No more changes."""

import random
import time

import pytest

from harness import LAST_CHUNK, chunk, event_stream_head, response
from harness.stage import BOTH, OPEN, a_stage, call, read_all

#: How the client calls the listener; the upstream calls itself something else.
HOST = "MCP.example.com:8443"
SESSION = "session_id=0f2a-b"

# An event stream of HTTP+SSE never hops: whoever takes it owns its session.
stage = a_stage(plain=OPEN, tls=OPEN, hop="never")
absolute = a_stage({"rewrite": {"endpoint": "absolute"}}, plain=OPEN, tls=OPEN, hop="never")
nested_listener = {"public_url": {"external_url": "https://mcp.example.com/gate"}, **OPEN}
nested = a_stage(plain=nested_listener, tls=nested_listener, hop="never")


def stream(stage, protocol, pieces, path="/servers/s1/sse", host=HOST, slowly=0):
    """What a client reads of a stream of these pieces, each a write of its own."""

    def script(connection):
        connection.read_request()
        connection.send(event_stream_head())
        for piece in pieces:
            connection.send(chunk(piece))
            time.sleep(slowly)
        connection.send(LAST_CHUNK)

    with stage.playing(script), stage.client(protocol) as client:
        named = {"authority": host} if protocol == "h2" else {}
        fields = [("Accept", "text/event-stream"), *([] if protocol == "h2" else [("Host", host)])]
        answer = client.begin("GET", path, b"", fields, **named)
        assert answer.read_head().status == 200
        return b"".join(read_all(answer))


def endpoint(address):
    return f"event: endpoint\r\ndata: {address}\r\n\r\n".encode()


NAMES = ["http://0.0.0.0:4444", "http://localhost:4444", "https://pod-7", "http://MCP.example.com:8443", "//pod-7"]


@BOTH
@pytest.mark.parametrize("name", NAMES)
def test_whatever_the_server_calls_itself_the_client_gets_a_path(stage, protocol, name):
    address = f"/servers/s1/message?{SESSION}&x=http://y"
    assert stream(stage, protocol, [endpoint(name + address)]) == endpoint(address)


@BOTH
@pytest.mark.parametrize("name", ["", *NAMES])
def test_or_the_very_origin_that_it_called(absolute, protocol, name):
    scheme = "https" if protocol == "h2" else "http"
    address = f"/servers/s1/message?{SESSION}"
    assert stream(absolute, protocol, [endpoint(name + address)]) == endpoint(f"{scheme}://{HOST}{address}")


def test_a_relative_address_is_resolved_where_it_must_be_whole(stage, absolute):
    written = endpoint(f"message?{SESSION}")
    assert stream(stage, "h1", [written]) == written
    assert stream(absolute, "h1", [written]) == endpoint(f"http://{HOST}/servers/s1/message?{SESSION}")


def test_a_default_port_is_not_said(absolute):
    """Clients in Python compare origins as strings: `https://host:443` is another than `https://host`."""
    read = stream(absolute, "h2", [endpoint(f"/messages/?{SESSION}")], "/sse", "mcp.example.com:443")
    assert read == endpoint(f"https://mcp.example.com/messages/?{SESSION}")


@BOTH
@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("/message", "/gate/message"),
        ("http://pod-7:4444/message", "/gate/message"),
        ("/gate/message", "/gate/message"),
        ("https://mcp.example.com/gate/message", "/gate/message"),
    ],
)
def test_the_prefix_is_put_before_it_once(nested, protocol, written, read):
    written, read = endpoint(f"{written}?{SESSION}"), endpoint(f"{read}?{SESSION}")
    assert stream(nested, protocol, [written], "/gate/sse", "mcp.example.com") == read


FRAMINGS = [
    "event: endpoint\r\ndata: {}\r\n\r\n",
    "event:endpoint\ndata:{}\n\n",
    ": hello\n\nretry: 5\rid: 7\rdata: {}\revent: endpoint\r\r",
    "\ufeffdata: {}\nevent: endpoint\n: data: http://pod-7/no\n\n",
    "event: message\n\n:\n\nevent: endpoint\ndata: {}\n\n",
]
#: A tool may say any address; what it says is nobody's to change.
MESSAGE = 'event: message\ndata: {"result":{"text":"http://pod-7:4444/a event: endpoint"}}\n\nevent: endpoint\ndata: http://pod-7/b\n\n'


@BOTH
@pytest.mark.parametrize("framing", FRAMINGS)
def test_any_framing_and_any_split_is_one_result(stage, protocol, framing):
    address = f"/message?{SESSION}"
    whole = (framing.format("http://pod-7:4444" + address) + MESSAGE).encode()
    expected = (framing.format(address) + MESSAGE).encode()
    assert stream(stage, protocol, [whole]) == expected
    cuts = random.Random(7)
    for _ in range(3):
        at = sorted(cuts.sample(range(1, len(whole)), 5))
        pieces = [whole[a:b] for a, b in zip([0, *at], [*at, None], strict=True)]
        assert stream(stage, protocol, pieces, slowly=0.002) == expected
    assert stream(stage, protocol, [whole[i : i + 1] for i in range(len(whole))]) == expected


@pytest.mark.parametrize(
    "first",
    [
        "event: endpoint\ndata: http://pod-7/a\ndata: b\n\n",
        "event: endpoint\ndata: ftp://pod-7/a\n\n",
        "event: endpoint\ndata: http://pod-7\\a\n\n",
        "data: http://pod-7/a\n\nevent: endpoint\ndata: http://pod-7/a\n\n",
        "event: endpoint\ndata: http://pod-7/a",
        "event: endpoint\ndata: http://pod-7/" + "a" * 20000 + "\n\n",
    ],
)
def test_what_is_no_address_or_no_endpoint_event_stays(stage, first):
    whole = (first + MESSAGE.replace("endpoint", "x") if first.endswith("\n\n") else first).encode()
    assert stream(stage, "h1", [whole[:30], whole[30:]]) == whole


def test_on_other_routes_nothing_is_read(stage):
    written = endpoint(f"http://pod-7/message?{SESSION}")
    assert stream(stage, "h1", [written], "/servers/s1/mcp") == written


def test_the_session_is_still_its_owners(stage, absolute, nested):
    """The message comes back by the address that the client was given, to the peer whose stream it is."""
    for form in (stage, absolute, nested):
        assert_messages_come_back(form)


def assert_messages_come_back(stage):
    def opens(connection):
        message = connection.read_request()
        assert message.path == "/servers/s1/sse"
        connection.send(event_stream_head())
        connection.send(chunk(endpoint(f"http://pod-7/servers/s1/message?{SESSION}")))
        connection.wait_closed()

    def takes(connection):
        message = connection.read_request()
        assert message.path == f"/servers/s1/message?{SESSION}"
        assert message.json["params"] == {"server_id": "s1"}
        connection.send(response(202))

    with stage.playing(opens, takes) as upstream, stage.client() as streaming, stage.client() as posting:
        answer = streaming.begin("GET", "/servers/s1/sse", b"", {"Host": HOST})
        assert answer.read_head().status == 200
        address = answer.read_piece().decode().split("data: ")[1].strip()
        path = "/" + address.split("://")[-1].partition("/")[2]
        assert posting.ask("POST", path, call(), {"Host": HOST, "Content-Type": "application/json"}).status == 202
        other = path.replace("/s1/", "/s2/")
        assert posting.ask("POST", other, call(), {"Host": HOST, "Content-Type": "application/json"}).status == 404
    assert len(upstream.requests) == 2
