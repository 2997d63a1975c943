"""certs/generate.sh and conf/mtls.yaml, used as their comments say: what is right works, what is wrong is refused."""

import re
import shlex
import stat
import subprocess

import pytest

from harness import Process, free_port, wait_until
from harness.outrigger import Outrigger
from harness.paths import ROOT, outrigger_binary, system_command
from harness.pki import Generated
from harness.s_client import s_client

EXAMPLE = ROOT / "conf" / "mtls.yaml"

SAME_SERIAL = ("client", "client-twin", "client-stranger")

WHOM_TO_REFUSE = {
    None: "no_certificate",
    "client-stranger": "untrusted_certificate",
    "client-expired": "untrusted_certificate",
    "server": "untrusted_certificate",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory, generated):
    """The example, with nothing but its places changed; `.upstream` is the server that its comment starts."""
    folder = tmp_path_factory.mktemp("example")
    port, admin, behind = free_port(), free_port(), free_port()
    env = {"CERTS": str(generated.folder), "STATE": str(folder), "LISTEN": f"127.0.0.1:{port}"}
    env |= {"ADMIN": f"127.0.0.1:{admin}", "UPSTREAM": f"localhost:{behind}"}
    [command] = re.findall(r"openssl s_server(.*?)# stands for", EXAMPLE.read_text(), re.DOTALL)
    command = re.sub(r"[#\\]", " ", command).replace("certs/dev", str(generated.folder)).replace("9443", str(behind))
    started = Process("upstream", [system_command("openssl"), "s_server", *shlex.split(command)], folder)
    made = Process("outrigger", [outrigger_binary(), "run", "--config", EXAMPLE], folder, env)
    made.address = f"127.0.0.1:{port}"
    try:
        wait_until(lambda: started.listens(behind), what="the upstream listens")
        made.wait_ready(lambda: "ready in" in made.err.read_text(), what="outrigger ready")
        yield made
    finally:
        made.end()
        started.end()


def curl(world: Process, generated: Generated, name: str | None) -> subprocess.CompletedProcess:
    port = world.address.rpartition(":")[2]
    command = [system_command("curl"), "--silent", "--show-error", "--max-time", "20", "--cacert", generated.ca]
    command += ["--cert", generated[name].cert, "--key", generated[name].key] if name else []
    command += [f"https://localhost:{port}/"]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=30)


def test_a_client_of_the_ca_reaches_an_upstream_that_lets_in_nobody_else(world, generated):
    done = curl(world, generated, "client")
    assert "s_server" in done.stdout, done
    assert "CN=client" in done.stdout.replace(" ", ""), "the upstream shows whose certificate it saw"
    assert curl(world, generated, "client-twin").stdout


@pytest.mark.parametrize("name", WHOM_TO_REFUSE)
def test_whoever_is_wrong_does_not(world, generated, name):
    done = curl(world, generated, name)
    assert done.returncode != 0
    assert not done.stdout
    wait_until(lambda: WHOM_TO_REFUSE[name] in world.err.read_text())


def test_the_second_certificate_is_shown_by_its_name(world, generated):
    shaken = s_client(world.address, "-servername", "any.other.example", identity=generated["client"], request=False)
    assert shaken.subject.endswith("CN = other.example")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("name", WHOM_TO_REFUSE)
def test_whatever_name_is_asked_for_nobody_else_comes_in(world, generated, version, name):
    """The certificate that is shown may be another; what is asked of the client is the same."""
    for asked in ("other.example", "any.other.example", "localhost", "unknown.example"):
        options = [version, "-servername", asked]
        assert s_client(world.address, *options, identity=generated["client"]).status == 200
        assert s_client(world.address, *options, identity=generated[name] if name else None).status is None


def openssl(*words) -> str:
    command = list(map(str, [system_command("openssl"), *words]))
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_every_certificate_is_what_it_is_said_to_be(generated):
    verify = ["verify", "-CAfile", generated.ca]
    for name, purpose in (("client", "sslclient"), ("client-twin", "sslclient"), ("server", "sslserver")):
        assert "OK" in openssl(*verify, "-purpose", purpose, generated[name].cert)
    for name in ("client-stranger", "client-expired", "server-expired"):
        with pytest.raises(subprocess.CalledProcessError):
            openssl(*verify, generated[name].cert)
    serials = {openssl("x509", "-noout", "-serial", "-in", generated[name].cert) for name in SAME_SERIAL}
    assert serials == {"serial=01\n"}
    for name in ("server", "member", "upstream", "client"):
        public = [openssl("x509", "-noout", "-pubkey", "-in", generated[name].cert)]
        public += [openssl("pkey", "-pubout", "-in", generated[name].key)]
        assert public[0] == public[1]
    encrypted = generated.folder / "client-encrypted.key"
    assert "ENCRYPTED" in encrypted.read_text()
    passphrase = f"file:{generated.folder / 'client-encrypted.passphrase'}"
    plain = openssl("pkey", "-passin", passphrase, "-in", encrypted)
    assert plain == generated["client"].key.read_text()


def test_it_says_what_it_made_and_keeps_keys_to_their_owner(generated):
    files = {path.name for path in generated.folder.iterdir()}
    assert all(path.name.startswith(".") or path.stat().st_size for path in generated.folder.iterdir())
    for name in sorted(name.rpartition(".")[0] for name in files if name.endswith(".crt")):
        if name != "other-ca":
            assert name in generated.printed
    for key in generated.folder.glob("*.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_a_second_run_rotates_everything_but_the_cas(tmp_path):
    """With a space in its name, and by the shell that Debian calls sh."""
    made = Generated(tmp_path / "two words")
    read = lambda: {path.name: path.read_bytes() for path in made.folder.iterdir()}  # noqa: E731
    before = read()
    made.again()
    after = read()
    assert before.keys() == after.keys()
    same = {name for name in before if before[name] == after[name]}
    assert same == {"ca.crt", "ca.key", "other-ca.crt", "other-ca.key"}


def test_a_rotation_while_it_serves_is_taken_up_by_a_reload(tmp_path, outrigger, raw_upstream):
    certs = Generated(tmp_path / "certs")
    world: Outrigger = outrigger([raw_upstream().address], start=False)
    world.config["listeners"][0]["tls"] = certs["server"].as_config()
    world.start()

    def shown() -> str:
        printed = s_client(world.address, "-showcerts", ca=certs.ca, request=False).printed
        return printed[printed.index("-----BEGIN") : printed.index("-----END")]

    first = shown()
    certs.again()
    world.reload()
    assert shown() != first
    assert shown() in certs["server"].cert.read_text()
