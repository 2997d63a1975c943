"""Several certificates behind one address: a client gets the one that has the name that it asks for."""

import json
import subprocess

import pytest

from harness import Outrigger, answering, response
from harness.http2 import Http2Client
from harness.paths import system_command
from harness.raw import RawUpstream
from harness.s_client import s_client
from harness.stage import MCP, call, result


@pytest.fixture(scope="module")
def world(tmp_path_factory, generated, pki):
    """`localhost` first, then other.example and *.other.example, then one with an RSA key for rsa.other.example."""
    upstream = RawUpstream(answering(response(200, result())))
    made = Outrigger(tmp_path_factory.mktemp("sni"), [upstream.address], start=False)
    rsa = pki.issue("rsa.other.example", "localhost", label="rsa-other", rsa=True, common_name="rsa")
    more = [generated["server-other"].as_config(), rsa.as_config()]
    made.config["listeners"][0]["tls"] = {**generated["server"].as_config(), "certificates": more}
    made.config["listeners"][0]["allowed_hosts"] = ["*"]
    made.start()
    yield made
    made.end()
    upstream.close()


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("localhost", "CN = localhost"),
        ("other.example", "CN = other.example"),
        ("OTHER.example", "CN = other.example"),
        ("any.other.example", "CN = other.example"),
        ("rsa.other.example", "CN = rsa"),
        ("a.b.other.example", "CN = localhost"),
        ("unknown.example", "CN = localhost"),
        (None, "CN = localhost"),
    ],
)
def test_the_name_chooses_the_certificate(world, version, name, shown):
    asked = ["-servername", name] if name else ["-noservername"]
    shaken = s_client(world.address, version, *asked)
    assert shaken.status == 200, shaken.printed
    assert shaken.subject.endswith(shown)


def test_what_is_chosen_passes_a_clients_own_check(world, generated):
    port = world.address.rpartition(":")[2]
    for name in ("localhost", "other.example", "deep.other.example"):
        command = [system_command("curl"), "--silent", "--show-error", "--cacert", str(generated.ca), "--output", "-"]
        command += ["--connect-to", f"{name}:{port}:{world.address}", f"https://{name}:{port}/"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert (json.loads(done.stdout), done.stderr) == (result(), "")


@pytest.mark.parametrize("name", ["localhost", "rsa.other.example"])
def test_http_2_is_agreed_on_whichever_is_shown(world, pki, generated, name):
    assert s_client(world.address, "-servername", name, "-alpn", "h2", request=False).alpn == "h2"
    context = pki.client_context(alpn=("h2",))
    context.load_verify_locations(generated.ca)
    with Http2Client(world.address, context, server_name=name) as client:
        assert client.ask("POST", MCP, call()).json == result()


def test_a_session_is_resumed_under_each_name(world, tmp_path):
    for version in ("-tls1_2", "-tls1_3"):
        for name in ("localhost", "other.example"):
            kept = tmp_path / f"{name}{version}"
            assert not s_client(world.address, version, "-servername", name, "-sess_out", kept).reused
            again = s_client(world.address, version, "-servername", name, "-sess_in", kept)
            assert (again.reused, again.status) == (True, 200), again.printed
