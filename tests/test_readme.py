"""README.md is true: its links lead somewhere, its examples are taken, its outputs are those of the binary."""

import base64
import hashlib
import re
import subprocess
from contextlib import contextmanager

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from harness import JSON, PATIENCE, Outrigger, free_port, wait_until
from harness.mcp import McpSession
from harness.paths import ROOT, outrigger_binary

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language."""
    fences = re.split(r"^```(\w*)\n", README, flags=re.MULTILINE)
    # Text, the word behind an opening fence, a block, nothing behind the closing fence, text …
    return [text for word, text in zip(fences[1::4], fences[2::4], strict=True) if word == language]


def block(start: str) -> list[str]:
    """Lines of the output that begins so."""
    (found,) = [text.splitlines() for text in blocks("") if text.startswith(start)]
    return found


def test_links_lead_somewhere():
    headings = re.findall(r"^#+ (.*)$", README, flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\(([^)]*)\)", README)
    assert len(links) > 10
    for link in links:
        if link.startswith("#"):
            assert link[1:] in anchors, link
        elif not link.startswith("https://"):
            assert (ROOT / link).exists(), link
    named = re.findall(r"(?<!/)\b(?:tests|conf|certs|k8s)/[\w./-]*\w", README)
    assert len(named) > 10
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_what_clients_and_operators_are_told_is_in_the_code():
    """The first column of "When something is wrong" is what people search for."""
    table = README.partition("| you see | it is | do |")[2].partition("\n\n")[0]
    sentences = [
        text.partition("…")[0]
        for row in table.strip().splitlines()[1:]
        for text in re.findall(r"`([^`]+)`", row.split("|")[1])
    ]
    code = "\n".join(file.read_text() for file in (ROOT / "src").rglob("*.rs"))
    # Rust's strings may go on in the next line.
    code = re.sub(r"\\\n\s*", "", code)
    ours = [
        text.strip() for text in sentences if " " in text and text not in ("Invalid Host header", "FILE:LINE: PATH: ")
    ]
    assert len(ours) > 8
    assert [text for text in ours if text not in code] == []


@pytest.mark.parametrize(
    "text", [text for text in blocks("yaml") if "upstreams:" in text], ids=lambda text: text.split()[1]
)
def test_examples_of_configurations_are_right(text, tmp_path, pki):
    shown = pki.client("client", kind="ec", label="readme-client")
    files = {"ca.crt": pki.ca, "client.crt": shown.cert, "client.key": shown.key}
    for name, file in files.items():
        (tmp_path / name).write_bytes(file.read_bytes())
    text = text.replace("/certs/", f"{tmp_path}/").replace("/tmp/outrigger-run/sessions", str(tmp_path / "sessions"))
    (tmp_path / "sessions").mkdir()
    if "sessions:" not in text:
        text += f"sessions: {{ embedded: {{ path: {tmp_path}/sessions }} }}\n"
    file = tmp_path / "readme.yaml"
    file.write_text(text)
    done = subprocess.run([outrigger_binary(), "check", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_pin_is_the_hash_of_the_key(tmp_path, pki):
    identity = pki.issue("pinned.example")
    (command,) = [text for text in blocks("sh") if "-pubkey" in text]
    (tmp_path / "server.crt").write_bytes(identity.cert.read_bytes())
    made = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.strip()
    key = x509.load_pem_x509_certificate(identity.cert.read_bytes()).public_key()
    encoding, shape = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    assert made == base64.b64encode(hashlib.sha256(key.public_bytes(encoding, shape)).digest()).decode()


def masked(lines: list[str]) -> list[str]:
    """Without what differs from run to run: numbers, times and files, and the widths of columns that follow."""
    text = "\n".join(lines)
    text = re.sub(r"\(/[\w./-]+\)", "(FILE)", text)
    text = re.sub(r"\d+(\.\d+)? (ms|s|min|minutes|hours)\b", "TIME", text)
    text = re.sub(r"(?<![\w.])[\d.:]*\d(?![\w.])", "N", text)
    return [re.sub(r" {2,}", "  ", line) for line in text.splitlines()]


@contextmanager
def listening(url: str):
    """A session with its event stream."""
    session = McpSession(url, {"Host": "localhost:80"})
    headers = {"Host": "localhost:80", "Accept": "text/event-stream", "Mcp-Session-Id": session.id}
    with httpx.stream("GET", url, headers=headers, verify=False, trust_env=False, timeout=PATIENCE) as answer:
        assert answer.status_code == 200
        yield


def test_check_and_status_say_what_is_shown(tmp_path, mcp_server, redis_server, pki):
    """One world of two real servers, a peer that nobody has started, Redis, a certificate near its end, a reload."""
    servers = mcp_server("python-v1")
    identity = pki.client("mcp.example.com", kind="ec", days=(-70, 18.5), serving=True, label="readme-public")
    gone = f"127.0.0.1:{free_port()}"
    peers = [{"name": f"w{number}", "address": peer} for number, peer in enumerate([*servers.peers, gone], 1)]
    health = {"mcp": "ping", "path": "/servers/abc/mcp", "interval": "1s", "unhealthy_threshold": 1}
    config = {"profile": "generic", "threads": 2, "upstreams": {"gateway": {"health": health}}}
    config["sessions"] = {"registry": "redis", "redis": redis_server().as_config(), "embedded": None}
    world = Outrigger(tmp_path / "readme", peers, config, start=False)
    world.config["listeners"][0] |= {"tls": identity.as_config(), "allowed_hosts": ["*"]}
    world.write_config()

    def says(*words: str) -> list[str]:
        done = subprocess.run([outrigger_binary(), *words], cwd=world.folder, capture_output=True, text=True)
        return masked(done.stdout.splitlines())

    shown = block("outrigger.yaml: ok")
    assert says("check", "--deep", world.config_file.name) == masked(shown)
    try:
        world.start()
        url = f"https://{world.address}/servers/abc/mcp"
        with listening(url):
            world.reload()
            with listening(url):
                httpx.post(url, content=b"{", headers=JSON, verify=False, trust_env=False)
                expected = masked(block("Outrigger 0.1.0, generation"))
                status = lambda: says("status", "--config", world.config_file.name)  # noqa: E731
                wait_until(lambda: status() == expected, what="the same as in README")
    finally:
        world.end()
