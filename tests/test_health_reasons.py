"""A check that fails says why, and above all whose certificate it was: real sockets, real TLS."""

import ssl
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from harness import Pki, answering, plain, response, wait_until
from harness.health import AT_ONCE, checked, checks, only_peer, refusing, speechless, unreachable, wait_state

HTTP = {"path": "/health", **AT_ONCE}
TCP = {"tcp": True, **AT_ONCE}
YESTERDAY = datetime.now(UTC) - timedelta(days=1)
WELL = answering(response(200, "ok"))


def reason(world) -> str:
    """Why its only peer is unhealthy: the same in /upstreams, /readyz, the metrics and the log."""
    told = wait_state(world, "unhealthy")
    why = told["reason"]
    assert told["last_check"]["result"] == why and told["failures_in_a_row"] >= 1
    assert world.state()["upstreams"][0]["peers"][0]["reason"] == why
    metrics = world.metrics()
    peer = f'peer="{told["name"]}"'
    assert metrics[f'outrigger_upstream_peer_healthy{{{peer},upstream="gateway"}}'] == 0
    assert metrics[f'outrigger_upstream_peer_unhealthy{{{peer},reason="{why}",upstream="gateway"}}'] == 1
    assert checks(world, result=why) >= 1
    wait_until(lambda: f"peer {told['name']} is unhealthy: {told['sentence']}" in world.story())
    return why


def one_that_answers(*pieces: bytes):
    def script(connection):
        connection.read_request()
        for piece in pieces:
            connection.send(piece)

    return script


@pytest.fixture
def place(raw_upstream):
    """Addresses at which something is wrong, by what that is."""
    with ExitStack() as stack:

        def make(what: str) -> str:
            match what:
                case "refused":
                    return refusing()
                case "connect_timeout":
                    return stack.enter_context(unreachable())
                case "timeout":
                    return stack.enter_context(speechless())
                case "unresolved":
                    return "nowhere.invalid:80"
                case "wrong_status":
                    return raw_upstream(answering(response(503, "starting"))).address
                case "no_answer":
                    return raw_upstream(one_that_answers()).address
                case "not_http":
                    return raw_upstream(one_that_answers(b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n")).address

        yield make


@pytest.mark.parametrize(
    "what", ["refused", "connect_timeout", "timeout", "unresolved", "wrong_status", "no_answer", "not_http"]
)
def test_without_tls(outrigger, place, what):
    world = outrigger([], checked([place(what)], HTTP, timeouts={"connect": "300ms"}))
    assert reason(world) == what


def test_a_redirect_is_not_well(outrigger, raw_upstream):
    upstream = raw_upstream(answering(response(302, "", {"Location": "/login"})))
    world = outrigger([], checked([upstream.address], HTTP))
    assert reason(world) == "wrong_status"
    assert only_peer(world)["last_check"]["detail"] == "HTTP 302"


def test_a_connection_is_enough_for_tcp(outrigger):
    with speechless() as mute:
        world = outrigger([], checked([mute], TCP))
        told = wait_state(world, "healthy")
    assert told["last_check"]["result"] == "ok" and told["failures_in_a_row"] == 0


def test_what_a_check_looks_like(outrigger, raw_upstream):
    upstream = raw_upstream(WELL)
    headers = {"Authorization": "Bearer ${HEALTH_TEST_TOKEN:-secret}", "Host": "gateway.example"}
    world = outrigger([], checked([upstream.address], {"path": "/health?deep=1", "headers": headers}))
    wait_state(world, "healthy")
    message = upstream.requests[0]
    assert message.start == "GET /health?deep=1 HTTP/1.1"
    assert message.header("user-agent").startswith("outrigger/")
    assert (message.header("authorization"), message.header("host")) == ("Bearer secret", "gateway.example")
    assert message.header("connection") == "close"
    assert "secret" not in world.story()


# -- whose certificate it is


@contextmanager
def versions(context: ssl.SSLContext, version: str):
    number = ssl.TLSVersion.TLSv1_2 if version == "1.2" else ssl.TLSVersion.TLSv1_3
    context.minimum_version = context.maximum_version = number
    yield context


@pytest.fixture
def behind_tls(outrigger, raw_upstream, pki):
    """Starts a TLS server with this identity and Outrigger in front of it, which shows another, or none."""

    def make(health, version, server=None, client_ca=None, client=None, script=WELL):
        identity = server or pki.issue("localhost")
        context = pki.server_context(identity, client_ca=client_ca)
        with versions(context, version):
            upstream = raw_upstream(script, tls=context)
        tls = {"ca": str(pki.ca), "server_name": "localhost", **(client.as_config() if client else {})}
        return outrigger([], checked([upstream.address], health, tls))

    return make


@pytest.mark.parametrize("health", [HTTP, TCP], ids=["http", "tcp"])
@pytest.mark.parametrize("version", ["1.2", "1.3"])
class TestCertificates:
    def test_the_right_one_is_taken(self, behind_tls, pki, health, version):
        world = behind_tls(health, version, client_ca=pki.ca, client=pki.issue("outrigger"))
        wait_state(world, "healthy")

    def test_ours_is_rejected(self, behind_tls, pki, tmp_path, health, version):
        stranger = Pki(tmp_path / "others").issue("outrigger")
        world = behind_tls(health, version, client_ca=pki.ca, client=stranger)
        assert reason(world) == "certificate_rejected"
        assert "TLS alert 48: unknown ca" in only_peer(world)["last_check"]["detail"]

    def test_we_have_none(self, behind_tls, pki, health, version):
        world = behind_tls(health, version, client_ca=pki.ca)
        if version == "1.3":
            assert reason(world) == "certificate_required"
        else:
            # Its only alert for that says a hundred other things too.
            assert reason(world) == "tls"
            assert "or it demands a client certificate" in only_peer(world)["last_check"]["detail"]

    def test_its_is_from_a_stranger(self, behind_tls, tmp_path, health, version):
        stranger = Pki(tmp_path / "others").issue("localhost")
        assert reason(behind_tls(health, version, server=stranger)) == "untrusted_certificate"

    def test_its_is_for_another_name(self, behind_tls, pki, health, version):
        other = pki.issue("elsewhere.example", label=f"elsewhere-{version}")
        assert reason(behind_tls(health, version, server=other)) == "wrong_name"

    def test_its_has_expired(self, behind_tls, pki, health, version):
        expired = pki.issue("localhost", label=f"expired-server-{version}", not_after=YESTERDAY)
        world = behind_tls(health, version, server=expired)
        assert reason(world) == "expired_certificate"


@pytest.mark.parametrize("health", [HTTP, TCP], ids=["http", "tcp"])
class TestEd25519:
    """Where Pingora's connector cannot sign with our key, the handshake is Outrigger's own; it says all the same."""

    def test_ours_is_taken(self, behind_tls, pki, health):
        world = behind_tls(health, "1.3", client_ca=pki.ca, client=pki.client("outrigger", kind="ed25519"))
        wait_state(world, "healthy")

    def test_ours_is_rejected(self, behind_tls, pki, tmp_path, health):
        stranger = Pki(tmp_path / "others").client("outrigger", kind="ed25519")
        world = behind_tls(health, "1.3", client_ca=pki.ca, client=stranger)
        assert reason(world) == "certificate_rejected"

    def test_its_is_for_another_name(self, behind_tls, pki, health):
        other, ours = pki.issue("elsewhere.example"), pki.client("outrigger", kind="ed25519")
        assert reason(behind_tls(health, "1.3", server=other, client=ours)) == "wrong_name"

    def test_its_has_expired(self, behind_tls, pki, health):
        expired = pki.issue("localhost", label="expired-server", not_after=YESTERDAY)
        ours = pki.client("outrigger", kind="ed25519")
        assert reason(behind_tls(health, "1.3", server=expired, client=ours)) == "expired_certificate"


@pytest.mark.parametrize(
    ("demand", "detail"),
    [
        ({"pins": ["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]}, "its key is none of `pins`"),
        ({"server_name": "127.0.0.2"}, "its certificate is not made out to the address 127.0.0.2"),
        ({"server_name": "127.0.0.1"}, None),
    ],
    ids=["pin", "another address", "its address"],
)
def test_what_pingora_does_not_look_at(outrigger, raw_upstream, pki, demand, detail):
    """Checks demand all that traffic does."""
    server = pki.issue("localhost", "127.0.0.1", label="with-address")
    upstream = raw_upstream(WELL, tls=pki.server_context(server))
    tls = {"ca": str(pki.ca), "server_name": "localhost"} | demand
    world = outrigger([], checked([upstream.address], TCP, tls))
    if detail:
        assert reason(world) == "untrusted_certificate"
        assert only_peer(world)["last_check"]["detail"] == detail
    else:
        wait_state(world, "healthy")


def test_ours_expires_while_it_is_in_use(behind_tls, pki):
    """One that has expired already is refused at the start."""
    soon = datetime.now(UTC) + timedelta(seconds=5)
    expiring = pki.issue("outrigger", label="expiring", not_after=soon)
    world = behind_tls(HTTP, "1.3", client_ca=pki.ca, client=expiring)
    (told,) = plain.get(f"{world.admin}/upstreams").json()["upstreams"]
    identity = told["identity"]
    assert (identity["file"], identity["not_after"]) == (str(expiring.cert), int(soon.timestamp()))
    assert identity["days_left"] in (0, -1)
    assert reason(world) == "certificate_rejected"
    assert "TLS alert 45: certificate expired" in only_peer(world)["last_check"]["detail"]


def test_no_tls_there(outrigger, raw_upstream, pki):
    def plain_http(connection):
        connection.read_some()
        connection.send(response(400, "plain HTTP here"))
        connection.wait_closed()

    tls = {"ca": str(pki.ca), "server_name": "localhost"}
    world = outrigger([], checked([raw_upstream(plain_http).address], HTTP, tls))
    assert reason(world) == "tls"
    assert only_peer(world)["last_check"]["detail"] == "wrong version number"


def test_a_handshake_that_never_ends(outrigger, pki):
    with speechless() as mute:
        tls = {"ca": str(pki.ca), "server_name": "localhost"}
        world = outrigger([], checked([mute], HTTP, tls, timeouts={"connect": "300ms"}))
        assert reason(world) == "connect_timeout"
