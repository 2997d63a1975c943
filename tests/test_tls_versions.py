"""What TLS a listener speaks, as testssl.sh would ask: versions, ciphers, ALPN, renegotiation, compression."""

import subprocess

import pytest

from harness import JSON, Outrigger, RawClient, answering, free_port, response
from harness.http2 import Http2Client
from harness.paths import system_command
from harness.raw import RawUpstream
from harness.s_client import s_client
from harness.stage import MCP, call, result

#: Old versions and ciphers are not in OpenSSL's own defaults either; this asks for them all.
ANYTHING = ("-cipher", "ALL:@SECLEVEL=0")

INTERMEDIATE = {
    *("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"),
    *("ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305"),
    *("DHE-RSA-AES128-GCM-SHA256", "DHE-RSA-AES256-GCM-SHA384"),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory, pki):
    """Listeners with an ECDSA and an RSA key, and one that speaks TLS 1.3 only: `.ecdsa`, `.rsa`, `.modern`."""
    upstream = RawUpstream(answering(response(200, result())))
    made = Outrigger(tmp_path_factory.mktemp("versions"), [upstream.address], start=False)
    identities = {"ecdsa": pki.issue("localhost"), "rsa": pki.issue("localhost", label="rsa", rsa=True)}
    identities["modern"] = identities["ecdsa"]
    made.config["listeners"] = []
    for name, identity in identities.items():
        address = f"127.0.0.1:{free_port()}"
        setattr(made, name, address)
        tls = {**identity.as_config(), **({"min_version": "1.3"} if name == "modern" else {})}
        made.config["listeners"].append({"name": name, "address": address, "upstream": "gateway", "tls": tls})
    made.start()
    yield made
    made.end()
    upstream.close()


@pytest.mark.parametrize("key", ["ecdsa", "rsa"])
@pytest.mark.parametrize(("option", "protocol"), [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")])
def test_tls_1_2_and_1_3_are_spoken(world, pki, key, option, protocol):
    shaken = s_client(getattr(world, key), option, "-verify_return_error", "-verify_hostname", "localhost", ca=pki.ca)
    assert (shaken.protocol, shaken.status) == (protocol, 200), shaken.printed
    assert "Verify return code: 0 (ok)" in shaken.printed


@pytest.mark.parametrize("option", ["-tls1", "-tls1_1"])
@pytest.mark.parametrize("key", ["ecdsa", "rsa", "modern"])
def test_older_versions_are_not(world, key, option):
    shaken = s_client(getattr(world, key), option, *ANYTHING)
    assert (shaken.protocol, shaken.status, shaken.alert) == (None, None, 70), shaken.printed


def test_with_min_version_1_3_neither_is_1_2(world, pki):
    assert s_client(world.modern, "-tls1_2", ca=pki.ca).alert == 70
    assert s_client(world.modern, ca=pki.ca).protocol == "TLSv1.3"


def every_cipher() -> list[str]:
    command = [system_command("openssl"), "ciphers", "-tls1_2", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # A client without a shared secret cannot even offer the others.
    return [name for name in listed.strip().split(":") if "PSK" not in name and "SRP" not in name]


def test_tls_1_2_uses_mozillas_intermediate_ciphers_and_no_other(world):
    """All others in one offer, and each of the right ones alone."""
    others = [name for name in every_cipher() if name not in INTERMEDIATE and not name.startswith("TLS_")]
    assert len(others) > 20
    for address in (world.ecdsa, world.rsa):
        refused = s_client(address, "-tls1_2", "-cipher", ":".join(others) + ":@SECLEVEL=0")
        assert (refused.cipher, refused.alert) == (None, 40), refused.printed
    for name in INTERMEDIATE:
        address = world.ecdsa if "ECDSA" in name else world.rsa
        assert s_client(address, "-tls1_2", "-cipher", name, request=False).cipher == name


def test_nothing_is_compressed_and_nothing_renegotiated(world, pki):
    shaken = s_client(world.ecdsa, "-tls1_2", "-comp", ca=pki.ca)
    assert "Compression: NONE" in shaken.printed
    assert "Secure Renegotiation IS supported" in shaken.printed
    # A line `R` asks s_client to renegotiate.
    command = [system_command("openssl"), "s_client", "-connect", world.ecdsa, "-tls1_2", "-CAfile", str(pki.ca)]
    asked = subprocess.run(command, input="R\n", capture_output=True, text=True, timeout=30)
    assert "no renegotiation" in asked.stderr


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize(
    ("offered", "agreed"),
    [("h2,http/1.1", "h2"), ("http/1.1,h2", "h2"), ("http/1.1", "http/1.1"), ("h2", "h2"), ("spdy/3", None)],
)
def test_alpn_prefers_http_2(world, pki, version, offered, agreed):
    shaken = s_client(world.ecdsa, version, "-alpn", offered, ca=pki.ca, request=False)
    assert shaken.protocol
    assert shaken.alpn == agreed


def test_a_client_without_alpn_speaks_http_1(world, pki):
    shaken = s_client(world.ecdsa, ca=pki.ca)
    assert (shaken.alpn, shaken.status) == (None, 200)


def test_both_versions_of_http_come_through(world, pki):
    with Http2Client(world.rsa, pki.client_context(alpn=("h2", "http/1.1"))) as client:
        assert client.ask("POST", MCP, call(), JSON).json == result()
    with RawClient(world.rsa, pki.client_context()) as client:
        assert client.ask("POST", MCP, call(), JSON).json == result()


@pytest.mark.parametrize(("option", "version"), [("--http1.1", "1.1"), ("--http2", "2")])
def test_curl(world, pki, option, version):
    command = [system_command("curl"), "--silent", "--show-error", "--cacert", str(pki.ca), option]
    command += ["--write-out", "%{http_version} %{http_code}", "--output", "/dev/null"]
    command += [f"https://localhost:{world.rsa.rpartition(':')[2]}/"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == (f"{version} 200", "")
