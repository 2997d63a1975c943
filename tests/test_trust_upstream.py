"""P5: one trust domain per upstream: whom we believe, what we show, and that no two domains share a connection."""

import base64
import hashlib
import ssl
import warnings

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from harness import JSON, Pki, response, wait_until
from harness.ports import free_port
from harness.stage import MCP, Http1Client, call, result

#: An MCP message goes through the exchange, all else through Pingora's proxy; each has a pool of its own.
WAYS = pytest.mark.parametrize("path", [MCP, "/admin"])


def naming_the_client(connection) -> None:
    """Every request is answered with the common name in the client's certificate."""
    certificate = connection._sock.getpeercert() or {"subject": ()}
    names = {name: value for part in certificate["subject"] for name, value in part}
    while True:
        connection.read_request()
        connection.send(response(200, result(client=names.get("commonName"))))


@pytest.fixture
def domains(outrigger):
    """Starts Outrigger with one listener in front of these upstreams, so that its pools are theirs together."""

    def make(upstreams: dict) -> "Domains":
        paths = [{"path": f"/{name}", "upstream": name} for name in upstreams]
        listener = {"address": f"127.0.0.1:{free_port()}", "paths": paths}
        return Domains(outrigger([], {"listeners": [listener], "upstreams": {"gateway": None, **upstreams}}))

    return make


class Domains:
    """Outrigger, asked for by the name of an upstream."""

    def __init__(self, world):
        self.world = world

    def ask(self, name: str, path: str):
        with Http1Client(self.world.address) as client:
            return client.ask("POST", f"/{name}{path}", call(), JSON)

    def client(self, name: str, path: str) -> str | None:
        """Whom the upstream of this name takes us for."""
        answer = self.ask(name, path)
        assert answer.status == 200, answer.body
        return answer.json["result"]["client"]

    def refusal(self, name: str, path: str) -> str:
        """What the log says of a request that must not reach the upstream of this name."""
        before = len(self._troubles())
        assert self.ask(name, path).status == 502
        told = lambda: self._troubles()[before:]  # noqa: E731
        if path != MCP:
            wait_until(lambda: any(line.startswith("pass-through:") for line in told()), what="the last line about it")
        return wait_until(told, what="a line about it in the log")[0]

    def _troubles(self) -> list[str]:
        return [line["message"] for line in self.world.log() if line.get("level") == "warn"]


def upstream(server, pki: Pki, identity=None, **tls) -> dict:
    shown = identity.as_config() if identity else {}
    return {"peers": [server.address], "tls": {"ca": str(pki.ca), "server_name": "localhost", **shown, **tls}}


@WAYS
@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
def test_identities_with_equal_serials_never_share_a_connection(domains, raw_upstream, pki, path, kind):
    server = raw_upstream(naming_the_client, tls=pki.server_context(pki.issue("localhost"), client_ca=pki.ca))
    ours = {name: upstream(server, pki, pki.client(name, serial=7, kind=kind)) for name in ("a", "b")}
    asked = domains(ours)
    for _ in range(3):
        assert [asked.client(name, path) for name in ("a", "b", "b", "a")] == ["a", "b", "b", "a"]
    # What Pingora cannot shake hands for it does not keep either.
    used = [1] * 12 if (kind, path) == ("ed25519", "/admin") else [6, 6]
    assert [len(connection.requests) for connection in server.connections] == used


@WAYS
def test_a_connection_that_one_ca_vouched_for_is_no_other_domains(domains, raw_upstream, pki, tmp_path, path):
    server = raw_upstream(naming_the_client, tls=pki.server_context(pki.issue("localhost")))
    other = Pki(tmp_path / "other")
    asked = domains({"right": upstream(server, pki), "wrong": upstream(server, other)})
    for _ in range(2):
        assert asked.client("right", path) is None
        assert "certificate verify failed" in asked.refusal("wrong", path)
    assert [len(connection.requests) for connection in server.connections] == [2]


@WAYS
def test_names_pins_and_modes_are_domains_of_their_own(domains, raw_upstream, pki, path):
    """All in front of one address; the first of each pair opens a connection that the second must not be given."""
    served = pki.issue("localhost", "also.example", label="two-names")
    server = raw_upstream(naming_the_client, tls=pki.server_context(served))
    asked = domains(
        {
            "name": upstream(server, pki),
            "other-name": upstream(server, pki, server_name="wrong.example"),
            "unverified-name": upstream(server, pki, server_name="wrong.example", verify="ca_only"),
            "third-name": upstream(server, pki, server_name="also.example"),
            "pinned": upstream(server, pki, pins=[pin(pki.issue("localhost", label="old")), pin(served)]),
            "wrongly-pinned": upstream(server, pki, pins=[pin(pki.issue("localhost", label="another"))]),
        }
    )
    assert asked.client("name", path) is None
    assert "certificate verify failed" in asked.refusal("other-name", path)
    assert asked.client("unverified-name", path) is None
    assert "certificate verify failed" in asked.refusal("other-name", path)
    assert asked.client("third-name", path) is None
    assert asked.client("pinned", path) is None
    assert "its key is none of `pins`" in asked.refusal("wrongly-pinned", path)
    used = [len(connection.requests) for connection in server.connections if connection.requests]
    assert used == [1, 1, 1, 1], "a connection that was opened and refused carried nothing"


def pin(identity) -> str:
    """As an operator makes it with `openssl x509 -pubkey | openssl pkey -pubin -outform der | openssl dgst -sha256`."""
    certificate = x509.load_pem_x509_certificate(identity.cert.read_bytes())
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    key = certificate.public_key().public_bytes(serialization.Encoding.DER, form)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()


@WAYS
def test_an_address_must_be_in_the_certificate_as_an_address(domains, raw_upstream, pki, path):
    by_address = raw_upstream(naming_the_client, tls=pki.server_context(pki.issue("127.0.0.1")))
    by_name = raw_upstream(naming_the_client, tls=pki.server_context(pki.issue("localhost")))
    asked = domains(
        {
            # The default name is the peers' host, which is an address here.
            "default": {"peers": [by_address.address], "tls": {"ca": str(pki.ca)}},
            "named": upstream(by_address, pki, server_name="127.0.0.1"),
            "other": upstream(by_address, pki, server_name="127.0.0.2"),
            "v6": upstream(by_address, pki, server_name="::1"),
            "only-a-name": upstream(by_name, pki, server_name="127.0.0.1"),
            "any": upstream(by_name, pki, server_name="127.0.0.1", verify="ca_only"),
        }
    )
    for name in ("default", "named", "any"):
        assert asked.client(name, path) is None
    for name, address in (("other", "127.0.0.2"), ("v6", "::1"), ("only-a-name", "127.0.0.1")):
        assert f"its certificate is not made out to the address {address}" in asked.refusal(name, path)
    assert (len(by_address.requests), len(by_name.requests)) == (2, 1), "a refused connection carried nothing"


@WAYS
def test_nothing_older_than_tls_1_2(domains, raw_upstream, pki, path):
    def server(version: ssl.TLSVersion):
        context = pki.server_context(pki.issue("localhost"))
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        return upstream(raw_upstream(naming_the_client, tls=context), pki)

    versions = ssl.TLSVersion
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old = server(versions.TLSv1_1)
    asked = domains({"1.1": old, "1.2": server(versions.TLSv1_2), "1.3": server(versions.TLSv1_3)})
    assert asked.client("1.2", path) is None
    assert asked.client("1.3", path) is None
    assert "TLS" in asked.refusal("1.1", path)


@WAYS
def test_the_systems_authorities_are_those_of_no_ca(domains, outrigger, raw_upstream, pki, path):
    server = raw_upstream(naming_the_client, tls=pki.server_context(pki.issue("localhost")))
    tls = {"server_name": "localhost"}
    asked = domains({"system": {"peers": [server.address], "tls": tls}})
    assert "certificate verify failed" in asked.refusal("system", path)
    world = outrigger([], {"upstreams": {"gateway": {"peers": [server.address], "tls": tls}}}, start=False)
    world._launcher = ["env", f"SSL_CERT_FILE={pki.ca}"]
    world.start()
    with Http1Client(world.address) as client:
        assert client.ask("POST", path, call(), JSON).status == 200


@pytest.mark.parametrize("kind", ["rsa", "ec", "ed25519"])
@pytest.mark.parametrize("passphrase", [None, "correct horse"], ids=["plain", "encrypted"])
def test_every_kind_of_client_key_with_its_chain(domains, raw_upstream, pki, kind, passphrase):
    """The server knows the root only: the intermediate must come with the certificate."""
    identity = pki.child(f"below-{kind}-{passphrase}").client("leaf", kind=kind, passphrase=passphrase)
    assert identity.cert.read_text().count("BEGIN") == 2
    server = raw_upstream(naming_the_client, tls=pki.server_context(pki.issue("localhost"), client_ca=pki.ca))
    asked = domains({"one": upstream(server, pki, identity)})
    for path in (MCP, "/admin"):
        assert asked.client("one", path) == "leaf"


@WAYS
def test_a_key_that_pingora_does_not_sign_with_demands_no_less(domains, raw_upstream, pki, tmp_path, path):
    """The handshake is our own then; what it verifies is the same."""
    identity, served = pki.client("eddsa", kind="ed25519"), pki.issue("localhost", "127.0.0.1", label="both")
    server = raw_upstream(naming_the_client, tls=pki.server_context(served, client_ca=pki.ca))
    by_name = raw_upstream(naming_the_client, tls=pki.server_context(pki.issue("localhost"), client_ca=pki.ca))
    other = Pki(tmp_path / "other")
    down = {"peers": [f"127.0.0.1:{free_port()}"], "tls": upstream(server, pki, identity)["tls"]}
    asked = domains(
        {
            "name": upstream(server, pki, identity),
            "address": upstream(server, pki, identity, server_name="127.0.0.1"),
            "pinned": upstream(server, pki, identity, pins=[pin(served)]),
            "unverified": upstream(server, pki, identity, server_name="wrong.example", verify="ca_only"),
            "wrong-name": upstream(server, pki, identity, server_name="wrong.example"),
            "wrong-address": upstream(by_name, pki, identity, server_name="127.0.0.1"),
            "wrong-ca": upstream(server, other, identity),
            "wrong-pin": upstream(server, pki, identity, pins=[pin(pki.issue("localhost", label="another"))]),
            "down": down,
        }
    )
    for name in ("name", "address", "pinned", "unverified"):
        assert asked.client(name, path) == "eddsa"
    sent = len(server.requests)
    for name in ("wrong-name", "wrong-address", "wrong-ca"):
        assert "certificate verify failed" in asked.refusal(name, path)
    assert "its key is none of `pins`" in asked.refusal("wrong-pin", path)
    assert "ConnectRefused" in asked.refusal("down", path)
    assert (len(server.requests), len(by_name.requests)) == (sent, 0)


@WAYS
def test_a_server_that_rejects_our_certificate_says_why(domains, raw_upstream, pki, tmp_path, path):
    """In TLS 1.2. In 1.3 its alert comes after the handshake, and the end of the connection may overtake it."""
    stranger = Pki(tmp_path / "other").client("stranger")

    def server(version: str) -> dict:
        context = pki.server_context(pki.issue("localhost"), client_ca=pki.ca)
        context.maximum_version = ssl.TLSVersion[version]
        return upstream(raw_upstream(naming_the_client, tls=context), pki, stranger)

    asked = domains({"1.2": server("TLSv1_2"), "1.3": server("TLSv1_3")})
    assert "alert unknown ca" in asked.refusal("1.2", path)
    assert asked.refusal("1.3", path)
