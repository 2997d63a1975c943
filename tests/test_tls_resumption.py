"""Sessions that are resumed: cheap for whoever is still welcome, and never a way in for whoever is not."""

import datetime
import shutil
import time

import pytest

from harness import JSON, Outrigger, RawClient, answering, response, wait_until
from harness.pki import Generated, Pki
from harness.raw import RawUpstream
from harness.s_client import s_client
from harness.stage import MCP, call, result

VERSIONS = pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])


@pytest.fixture
def upstream(raw_upstream) -> RawUpstream:
    return raw_upstream(answering(response(200, result())))


@pytest.fixture
def behind(outrigger, upstream):
    """`behind(tls, …)`: an Outrigger whose listener has this TLS."""

    def make(tls: dict, config: dict | None = None) -> Outrigger:
        world = outrigger([upstream.address], config, start=False)
        world.config["listeners"][0]["tls"] = tls
        world.start()
        return world

    return make


@VERSIONS
def test_without_tickets_nothing_is_resumed(behind, generated, version, tmp_path):
    world = behind({**generated["server"].as_config(), "session_tickets": False})
    kept = tmp_path / "session"
    first = s_client(world.address, version, "-sess_out", kept, ca=generated.ca)
    assert first.status == 200
    assert "TLS session ticket:" not in first.printed
    if kept.exists():
        again = s_client(world.address, version, "-sess_in", kept, ca=generated.ca)
        assert (again.reused, again.status) == (False, 200)


def test_no_early_data_is_taken(behind, generated):
    """0-RTT could be replayed, and a tool would run twice."""
    world = behind(generated["server"].as_config())
    assert "Max Early Data: 0" in s_client(world.address, "-tls1_3", ca=generated.ca).printed


@VERSIONS
def test_a_session_that_was_resumed_is_resumed_again(behind, generated, version, tmp_path):
    world = behind(generated["server"].as_config())
    kept = tmp_path / "session"
    for turn in range(3):
        shaken = s_client(world.address, version, "-sess_out", kept, *(["-sess_in", kept] if turn else []))
        assert (shaken.reused, shaken.status) == (turn > 0, 200), shaken.printed


@VERSIONS
def test_after_a_reload_a_resumed_client_is_held_against_the_new_ca(behind, tmp_path, version):
    """It was trusted when its session began; another one, whom only the new CA knows, now is."""
    certs = Generated(tmp_path / "certs")
    clients_ca = tmp_path / "clients-ca.crt"
    shutil.copy(certs.ca, clients_ca)
    world = behind({**certs["server"].as_config(), "client_ca": str(clients_ca)})
    kept = tmp_path / "session"

    def comes_in(name: str, *options) -> bool:
        return s_client(world.address, version, *options, ca=certs.ca, identity=certs[name]).status == 200

    assert comes_in("client", "-sess_out", kept)
    assert comes_in("client", "-sess_in", kept)
    assert not comes_in("client-stranger")

    shutil.copy(certs.other_ca, clients_ca)
    world.reload()
    assert not comes_in("client", "-sess_in", kept)
    assert comes_in("client-stranger")
    wait_until(lambda: "untrusted_certificate" in world.story())


@VERSIONS
def test_a_session_ends_with_the_certificate_that_it_rests_on(behind, pki, version, tmp_path):
    """It is not verified anew when it is resumed, and each one could be resumed for as long as the next."""
    valid = 6
    expires = datetime.datetime.now(datetime.UTC).replace(microsecond=0) + datetime.timedelta(seconds=valid)
    brief = Pki(tmp_path / "clients").issue("brief.example", not_after=expires.replace(tzinfo=None))
    tls = {**pki.issue("localhost").as_config(), "client_ca": str(tmp_path / "clients" / "ca.pem")}
    world = behind(tls)
    kept = tmp_path / "session"
    assert s_client(world.address, version, "-sess_out", kept, ca=pki.ca, identity=brief).status == 200
    resumed = s_client(world.address, version, "-sess_in", kept, "-sess_out", kept, ca=pki.ca, identity=brief)
    assert (resumed.reused, resumed.status) == (True, 200)
    again = lambda: s_client(world.address, version, "-sess_in", kept, ca=pki.ca, identity=brief)  # noqa: E731
    wait_until(lambda: again().status is None, what="the client is refused", every=0.2)
    assert time.time() >= expires.timestamp()
    wait_until(lambda: "certificate has expired since its session began" in world.story())


def test_a_connection_outlives_a_reload_that_takes_its_ca_away(behind, tmp_path):
    """What was begun is finished, with `Connection: close`; the next handshake is refused."""
    certs = Generated(tmp_path / "certs")
    clients_ca = tmp_path / "clients-ca.crt"
    shutil.copy(certs.ca, clients_ca)
    world = behind({**certs["server"].as_config(), "client_ca": str(clients_ca)})
    context = Pki(tmp_path / "none").client_context(certs["client"])
    context.load_verify_locations(certs.ca)
    with RawClient(world.address, context) as client:
        assert client.ask("POST", MCP, call(), JSON).status == 200
        shutil.copy(certs.other_ca, clients_ca)
        world.reload()
        answer = client.ask("POST", MCP, call(), JSON)
        assert (answer.status, answer.header("connection")) == (200, "close")
    assert s_client(world.address, ca=certs.ca, identity=certs["client"]).status is None
