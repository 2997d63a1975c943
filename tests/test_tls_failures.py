"""Handshakes that come to nothing: each is counted by its reason and told to the log, and no flood of them fills it."""

import re
import socket
import ssl
import struct
import time

import pytest

from harness import (
    JSON,
    PATIENCE,
    Closed,
    Connection,
    Outrigger,
    RawClient,
    answering,
    free_port,
    request,
    response,
    wait_until,
)
from harness.raw import RawUpstream
from harness.s_client import s_client
from harness.stage import MCP, call, result

FAILURES = 'outrigger_tls_handshake_failures_total{{reason="{}"}}'
HANDSHAKE = 1.0


@pytest.fixture(scope="module")
def world(tmp_path_factory, generated):
    """A listener that speaks TLS 1.3 only and knows its clients, `.address`, and an ordinary one, `.ordinary`."""
    upstream = RawUpstream(answering(response(200, result())))
    config = {"timeouts": {"handshake": f"{HANDSHAKE:g}s"}}
    made = Outrigger(tmp_path_factory.mktemp("failures"), [upstream.address], config, start=False)
    made.ordinary = f"127.0.0.1:{free_port()}"
    server = generated["server"].as_config()
    strict = {**server, "client_ca": str(generated.ca), "min_version": "1.3"}
    made.config["listeners"][0]["tls"] = strict
    made.config["listeners"].append(
        {"name": "ordinary", "address": made.ordinary, "upstream": "gateway", "tls": server}
    )
    made.start()
    yield made
    made.end()
    upstream.close()


def dial(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


def client_hello() -> bytes:
    sent = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost").do_handshake()
    return sent.read()


def with_certificate(name):
    return lambda world, generated: s_client(world.address, ca=generated.ca, identity=generated[name])


def distrust(world, generated):
    with pytest.raises(ssl.SSLCertVerificationError):
        RawClient(world.ordinary, ssl.create_default_context(cafile=generated.other_ca))


def going_away(world, generated):
    with dial(world.ordinary) as sock:
        sock.sendall(client_hello())
        assert sock.recv(1) == b"\x16"
        # A reset, so that nothing of the handshake is left on the way.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def going_away_half_way(world, generated):
    with dial(world.ordinary) as sock:
        sock.sendall(client_hello()[:100])
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(100) == b""


def garbage(world, generated):
    with dial(world.ordinary) as sock:
        sock.sendall(b"\x16garbage" * 100)
        sock.recv(100)


def old_version(world, generated):
    assert s_client(world.ordinary, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0").alert == 70


def poor_cipher(world, generated):
    assert s_client(world.ordinary, "-tls1_2", "-cipher", "AES128-SHA").alert == 40


@pytest.mark.parametrize(
    ("reason", "fail", "told"),
    [
        ("no_certificate", lambda world, certs: s_client(world.address, ca=certs.ca), "showed no certificate"),
        ("untrusted_certificate", with_certificate("client-expired"), "not accepted: certificate has expired"),
        ("alert", distrust, "the client gave up: .*unknown ca"),
        ("version", old_version, "none of our versions"),
        ("no_common_cipher", poor_cipher, "no shared cipher"),
        ("closed", going_away, "went away"),
        ("closed", going_away_half_way, "went away"),
        ("malformed", garbage, "not right"),
    ],
)
def test_each_reason_has_its_count_and_its_line(world, generated, reason, fail, told):
    count = lambda: world.metrics().get(FAILURES.format(reason), 0)  # noqa: E731
    before = count()
    fail(world, generated)
    wait_until(lambda: count() == before + 1, what=reason)
    line = rf"no TLS handshake with 127\.0\.0\.1:\d+: {reason}: [^\"]*{told}"
    wait_until(lambda: re.search(line, world.story()), what=line)
    assert world.metrics()["outrigger_connections"] == 0


@pytest.mark.parametrize("begun", [b"", b"\x16\x03\x01\x02\x00"])
def test_a_handshake_that_is_not_done_in_time_is_ended(world, begun):
    count = lambda: world.metrics().get(FAILURES.format("timeout"), 0)  # noqa: E731
    before, began = count(), time.monotonic()
    with dial(world.address) as sock:
        sock.sendall(begun)
        assert sock.recv(1) == b""
    assert HANDSHAKE * 0.9 < time.monotonic() - began < HANDSHAKE + 10
    wait_until(lambda: count() == before + 1)


def test_a_handshake_cannot_be_stretched_byte_by_byte(world):
    began = time.monotonic()
    with dial(world.ordinary) as sock:
        drip = Connection(sock)
        with pytest.raises((ConnectionError, Closed)):
            drip.send_slowly(client_hello(), pause=0.05)
    assert time.monotonic() - began < HANDSHAKE + 10


def test_a_connection_that_ends_without_a_word_is_no_failure(world):
    """A load balancer's probe."""
    failures = lambda: sum(n for name, n in world.metrics().items() if "handshake_failures" in name)  # noqa: E731
    before, lines = failures(), world.story().count("no TLS handshake")
    for _ in range(20):
        dial(world.ordinary).close()
    with RawClient(world.ordinary) as silent:
        wait_until(lambda: world.metrics()["outrigger_connections"] == 1)
        silent.close()
    wait_until(lambda: world.metrics()["outrigger_connections"] == 0)
    assert (failures(), world.story().count("no TLS handshake")) == (before, lines)


def test_plain_http_is_told_what_is_wrong(world):
    before = world.metrics().get(FAILURES.format("plaintext"), 0)
    for _ in range(2):
        with RawClient(world.ordinary) as client:
            client.send(request("POST", MCP, call(), JSON))
            answer = client.read_response()
            assert (answer.status, answer.body) == (400, b"This port speaks HTTPS; the request came without TLS\n")
            client.wait_closed()
    assert world.metrics()[FAILURES.format("plaintext")] == before + 2


def test_handshakes_are_counted_by_version_and_resumption(world, generated, tmp_path):
    counted = lambda resumed: sum(  # noqa: E731
        world.metrics().get(f'outrigger_tls_handshakes_total{{resumed="{resumed}",version="{version}"}}', 0)
        for version in ("TLSv1.2", "TLSv1.3")
    )
    before = counted("no"), counted("yes")
    for version in ("-tls1_2", "-tls1_3"):
        kept = tmp_path / version
        s_client(world.ordinary, version, "-sess_out", kept, ca=generated.ca)
        s_client(world.ordinary, version, "-sess_in", kept, ca=generated.ca)
    assert (counted("no"), counted("yes")) == (before[0] + 2, before[1] + 2)


def test_a_flood_is_counted_to_the_last_and_told_in_measure(tmp_path, generated, outrigger, raw_upstream):
    """Two listeners; whoever is flooded does not silence the other."""
    world = outrigger([raw_upstream(answering(response(200, result()))).address], start=False)
    listener = world.config["listeners"][0]
    listener["tls"] = {**generated["server"].as_config(), "client_ca": str(generated.ca)}
    calm = f"127.0.0.1:{free_port()}"
    world.config["listeners"].append({**listener, "name": "calm", "address": calm})
    world.start()
    flood, began = 500, time.monotonic()
    for _ in range(flood):
        with dial(world.address) as sock:
            sock.sendall(b"\x16garbage")
    count = lambda: sum(world.metrics().get(FAILURES.format(reason), 0) for reason in ("malformed", "closed"))  # noqa: E731
    wait_until(lambda: count() == flood)
    lasted = time.monotonic() - began
    # Right behind it, the other listener's line is written, and a client that is right comes in.
    s_client(calm, ca=generated.ca)
    wait_until(lambda: "listener calm: no TLS handshake" in world.story())
    assert s_client(world.address, ca=generated.ca, identity=generated["client"]).status == 200

    def told() -> list[dict]:
        return [line for line in world.log() if line.get("about") == "listener public"]

    burst = 10
    wait_until(lambda: sum(line.get("more", 1) for line in told()) == flood, what="the log says how many it left out")
    written = [line for line in told() if "more" not in line]
    assert burst <= len(written) <= burst * (lasted + 2) and len(written) < flood
    assert len(world.story().splitlines()) <= len(told()) + 20, "nobody else tells of them"
