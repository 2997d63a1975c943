"""Clients by certificate: who comes in and who does not, what the log says of them; resuming changes nothing."""

import hashlib
import re
import ssl
import subprocess

import pytest

from harness import JSON, Closed, Outrigger, RawClient, answering, free_port, response, wait_until
from harness.http2 import Http2Client
from harness.paths import system_command
from harness.raw import RawUpstream
from harness.s_client import s_client
from harness.stage import MCP, call, result

VERSIONS = pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])

#: Who may not come in, and what the log has against them.
WRONG = {
    "client-stranger": "unable to get local issuer certificate",
    "client-expired": "certificate has expired",
    "server": "unsuitable certificate purpose",
}


def sha256(cert) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(cert.read_text())).hexdigest()


@pytest.fixture(scope="module")
def world(tmp_path_factory, generated):
    """Two listeners, where a certificate is `.required` and where it is `.optional`."""
    upstream = RawUpstream(answering(response(200, result())))
    made = Outrigger(tmp_path_factory.mktemp("client-certs"), [upstream.address], {"threads": 2}, start=False)
    made.config["listeners"] = []
    for auth in ("required", "optional"):
        address = f"127.0.0.1:{free_port()}"
        setattr(made, auth, address)
        tls = {**generated["server"].as_config(), "client_ca": str(generated.ca), "client_auth": auth}
        made.config["listeners"].append({"name": auth, "address": address, "upstream": "gateway", "tls": tls})
    made.start()
    yield made
    made.end()
    upstream.close()


@pytest.fixture
def context(generated):
    """`context(name)`: of a client that shows this certificate; its sessions can be resumed."""

    def make(name: str | None, alpn=("http/1.1",)) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=generated.ca)
        made.set_alpn_protocols(list(alpn))
        if name:
            made.load_cert_chain(generated[name].cert, generated[name].key)
        return made

    return make


def failures(world, reason: str) -> float:
    return world.metrics().get(f'outrigger_tls_handshake_failures_total{{reason="{reason}"}}', 0)


@VERSIONS
@pytest.mark.parametrize("auth", ["required", "optional"])
@pytest.mark.parametrize("name", ["client", "client-twin"])
def test_a_client_with_a_right_certificate_comes_in(world, generated, version, auth, name):
    shaken = s_client(getattr(world, auth), version, ca=generated.ca, identity=generated[name])
    assert shaken.status == 200, shaken.printed


@VERSIONS
@pytest.mark.parametrize("auth", ["required", "optional"])
@pytest.mark.parametrize("name", WRONG)
def test_a_client_with_a_wrong_one_never_does(world, generated, version, auth, name):
    before = failures(world, "untrusted_certificate")
    shaken = s_client(getattr(world, auth), version, ca=generated.ca, identity=generated[name])
    assert (shaken.status, shaken.alert) != (200, None), shaken.printed
    assert shaken.status is None
    wait_until(lambda: failures(world, "untrusted_certificate") == before + 1)
    told = rf"listener {auth}: no TLS handshake with 127\.0\.0\.1:\d+: untrusted_certificate: .*{WRONG[name]}"
    wait_until(lambda: re.search(told, world.story()), what=told)


@VERSIONS
def test_a_client_without_one_comes_in_where_it_is_optional(world, generated, version):
    assert s_client(world.optional, version, ca=generated.ca).status == 200
    before = failures(world, "no_certificate")
    refused = s_client(world.required, version, ca=generated.ca)
    assert refused.status is None
    # 116 is certificate_required, which TLS 1.2 does not know.
    assert refused.alert == (116 if version == "-tls1_3" else 40), refused.printed
    wait_until(lambda: failures(world, "no_certificate") == before + 1)


def test_a_client_is_told_which_cas_are_meant(world, generated):
    shaken = s_client(world.required, ca=generated.ca, identity=generated["client"], request=False)
    assert "Acceptable client certificate CA names\nO = Example, CN = Example CA\n" in shaken.printed


def lines_about(world, cert) -> list[dict]:
    told = (line.get("client_cert", {}).get("sha256") for line in world.access_log())
    return [line for line, sha in zip(world.access_log(), told, strict=False) if sha == sha256(cert)]


@pytest.mark.parametrize("protocol", ["h1", "h2"])
@pytest.mark.parametrize("path", [MCP, "/admin"])
def test_the_access_log_says_who_it_was(world, generated, context, protocol, path):
    cert = generated["client"].cert
    before = len(lines_about(world, cert))
    client = RawClient if protocol == "h1" else Http2Client
    with client(world.required, context("client", ("h2",) if protocol == "h2" else ("http/1.1",))) as client:
        for _ in range(2):
            assert client.ask("POST", path, call(), JSON).status == 200
    lines = wait_until(lambda: len(found := lines_about(world, cert)) >= before + 2 and found[before:])
    for line in lines:
        assert line["client_cert"] == {
            "subject": "CN=client,O=Example",
            "sans": ["DNS:client.example", "URI:spiffe://example/client"],
            "sha256": sha256(cert),
        }


def test_who_shows_none_is_nobody(world, context):
    with RawClient(world.optional, context(None)) as client:
        assert client.ask("POST", "/nobody", call(), JSON).status == 200
    found = lambda: [line for line in world.access_log() if line["listener"] == "optional"]  # noqa: E731
    assert any("client_cert" not in line for line in wait_until(found))


@VERSIONS
@pytest.mark.parametrize("auth", ["required", "optional"])
def test_a_session_with_a_certificate_is_resumed_and_the_client_still_known(world, generated, version, auth, tmp_path):
    """On both threads: whichever accepts, the ticket is good."""
    cert, kept = generated["client-twin"].cert, tmp_path / "session"
    address, identity = getattr(world, auth), generated["client-twin"]
    first = s_client(address, version, "-sess_out", kept, ca=generated.ca, identity=identity)
    assert (first.reused, first.status) == (False, 200), first.printed
    before = len(wait_until(lambda: lines_about(world, cert)))
    for _ in range(10):
        again = s_client(address, version, "-sess_in", kept, ca=generated.ca, identity=identity)
        assert (again.reused, again.status) == (True, 200), again.printed
    wait_until(lambda: len(lines_about(world, cert)) >= before + 10)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_python_resumes_with_a_certificate(world, context, version):
    made = context("client")
    made.minimum_version = made.maximum_version = version
    session = None
    for turn in range(5):
        plain = RawClient(world.required)._sock
        with made.wrap_socket(plain, server_hostname="localhost", session=session) as sock:
            assert sock.session_reused == (turn > 0)
            sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert sock.recv(1000).startswith(b"HTTP/1.1 200")
            session = sock.session


def test_a_session_of_one_listener_is_not_resumed_on_another(world, generated, tmp_path):
    """Where none was asked for, none was shown: such a session must not open the door where one is."""
    kept = tmp_path / "session"
    for version in ("-tls1_2", "-tls1_3"):
        assert s_client(world.optional, version, "-sess_out", kept, ca=generated.ca).status == 200
        elsewhere = s_client(world.required, version, "-sess_in", kept, ca=generated.ca)
        assert (elsewhere.reused, elsewhere.status) == (False, None), elsewhere.printed


def test_curl_comes_in_with_its_certificate(world, generated):
    port = world.required.rpartition(":")[2]
    for option in ("--http1.1", "--http2"):
        for name, status in (("client", "200"), (None, "000")):
            command = [system_command("curl"), "--silent", "--cacert", generated.ca, option, "--output", "/dev/null"]
            command += ["--write-out", "%{http_code}", f"https://localhost:{port}/"]
            command += ["--cert", generated[name].cert, "--key", generated[name].key] if name else []
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=30)
            assert done.stdout == status


def test_a_wrong_certificate_ends_the_connection_for_python_too(world, context):
    with pytest.raises((ssl.SSLError, ConnectionError, Closed)), RawClient(world.required, context(None)) as client:
        client.ask("POST", MCP, call(), JSON)
