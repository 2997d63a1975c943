"""`outrigger check --deep`: what a configuration rests on is there and takes us; completions and the manual."""

import subprocess

import pytest

from harness import Outrigger, free_port, response
from harness.paths import outrigger_binary


def outrigger_says(*words) -> tuple[int, list[str], str]:
    command = [str(word) for word in (outrigger_binary(), *words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout.splitlines(), done.stderr


def healthy(connection) -> None:
    while connection.read_request():
        connection.send(response(200, b"ok"))


@pytest.fixture
def check(tmp_path):
    """Checks a configuration without running it; gives the exit code and the findings by what they are about."""

    def lines(peers, config=None) -> tuple[int, list[str]]:
        world = Outrigger(tmp_path / "deep", peers, {"profile": "generic", **(config or {})}, start=False)
        world.write_config()
        code, lines, error = outrigger_says("check", "--deep", world.config_file)
        assert error == "" and ": ok: " in lines[0]
        return code, lines[1:]

    def make(peers, config=None) -> tuple[int, dict[str, str]]:
        code, said = lines(peers, config)
        findings = [line.split("  ", 1) for line in said]
        return code, {text.split(": ")[0].strip(): f"{verdict.strip()} {text}" for verdict, text in findings}

    make.lines = lines
    return make


def test_everything_is_there(check, raw_upstream, pki, redis_server):
    upstream, redis = raw_upstream(healthy, tls=pki.server_context(pki.issue("gateway.example"))), redis_server()
    config = {"sessions": {"registry": "redis", "redis": redis.as_config(), "embedded": None}}
    tls = {"ca": str(pki.ca), "server_name": "gateway.example"}
    config["upstreams"] = {"gateway": {"health": {"path": "/health"}, "tls": tls}}
    code, found = check([{"name": "w1", "address": upstream.address}], config)
    assert code == 0, found
    assert "GET /health is well at 127.0.0.1 in " in found["upstream gateway, peer w1"]
    registry = found["registry"]
    assert registry.startswith("ok ") and "an answer takes" in registry
    assert redis.client().keys("*") == [], "nothing is left there"


def test_each_thing_that_is_wrong_is_named(check, raw_upstream, pki, redis_server):
    peers = [f"127.0.0.1:{free_port()}", {"name": "nowhere", "address": "no-such-host.invalid:80"}]
    readable = redis_server(login=True, rights="~* +@read +@connection")
    config = {"sessions": {"registry": "redis", "redis": readable.as_config(), "embedded": None}}
    code, found = check(peers, config)
    assert code == 1
    assert found[f"upstream gateway, peer {peers[0]}"].startswith("FAIL ")
    assert found["upstream gateway, peer nowhere"].startswith("FAIL ")
    assert found["registry"].startswith("FAIL "), "it may be read, not written"


def test_a_replica_cannot_be_the_registry(check, raw_upstream, redis_server):
    replica = redis_server(replica_of=redis_server())
    config = {"sessions": {"registry": "redis", "redis": replica.as_config(), "embedded": None}}
    code, found = check([raw_upstream(healthy).address], config)
    assert code == 1
    assert found["registry"].startswith("FAIL ")


def test_a_wrong_certificate_of_a_peer(check, raw_upstream, pki):
    """The handshake is that of traffic: the name counts."""
    upstream = raw_upstream(healthy, tls=pki.server_context(pki.issue("other.example")))
    tls = {"ca": str(pki.ca), "server_name": "right.example"}
    peer = {"name": "p", "address": upstream.address}
    code, found = check([peer], {"upstreams": {"gateway": {"tls": tls}}})
    assert code == 1 and "name" in found["upstream gateway, peer p"], found
    code, found = check([peer], {"upstreams": {"gateway": {"tls": {**tls, "server_name": "other.example"}}}})
    assert code == 0 and "connected at 127.0.0.1" in found["upstream gateway, peer p"], found


@pytest.mark.parametrize(
    ("days", "told"),
    [
        ((-80, 10.5), "warn  listener public, certificate CN=short.example: 10 days left"),
        ((-80, 1.5), "warn  listener public, certificate CN=short.example: 1 day left"),
        ((-1, 9.5), "ok    listener public, certificate CN=short.example: 9 days left"),
    ],
    ids=["near its end", "nearer", "as near, but young"],
)
def test_certificates_near_their_end_are_warned_of(days, told, check, raw_upstream, pki):
    """By the measure of their own life: what lives for days is no matter."""
    identity = pki.client("short.example", kind="ec", days=days, serving=True, label=f"short-{days[1]}")
    listener = {"name": "public", "address": f"127.0.0.1:{free_port()}", "upstream": "gateway"}
    listener["tls"] = identity.as_config()
    code, lines = check.lines([raw_upstream(healthy).address], {"listeners": [listener]})
    assert code == 0 and f"{told} ({identity.cert})" in lines


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_know_every_command(shell):
    code, lines, _ = outrigger_says("completions", shell)
    text = "\n".join(lines)
    assert code == 0
    for word in ("run", "check", "explain", "schema", "status", "version", "--deep"):
        assert word.removeprefix("--") in text, word
    assert "worker" not in text, "nobody is to call that"


def test_bash_completes():
    """As a user presses the key, in a bash that has read them."""
    asked = {"": {"run", "check", "stop"}, "st": {"status", "stop"}, "check --d": {"--deep"}, "completions z": {"zsh"}}
    script = f"""source <('{outrigger_binary()}' completions bash)
        complete -p outrigger >&2 || exit 1
        while read -r line; do
            COMP_WORDS=(outrigger $line); [[ -n $line ]] || COMP_WORDS+=("")
            COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 )) COMPREPLY=()
            _outrigger outrigger "${{COMP_WORDS[-1]}}" "${{COMP_WORDS[-2]}}"
            echo "${{COMPREPLY[*]}}"
        done"""
    words = ["bash", "--norc", "-c", script]
    done = subprocess.run(words, input="\n".join(asked) + "\n", capture_output=True, text=True)
    for expected, line in zip(asked.values(), done.stdout.splitlines(), strict=True):
        assert expected <= set(line.split()), (line, done.stderr)
    assert done.stdout.splitlines()[1].split() == ["status", "stop"]


def test_every_command_has_help_with_examples_and_a_manual_page():
    code, lines, _ = outrigger_says("--help")
    assert code == 0
    commands = [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "]
    for command in ("run", "check", "explain", "schema", "status", "completions", "man"):
        assert command in commands
        code, told, _ = outrigger_says(command, "--help")
        assert code == 0 and any(line.startswith("Example") for line in told), command
    assert "Exit codes: 0 done, 1 failed, 64 the configuration or the command line is wrong." in lines
    assert outrigger_says("no-such-command")[0] == 64


def test_the_manual_is_one_page_with_every_command_as_its_help_has_it(tmp_path):
    """There is no other: `outrigger-run(1)` is not to be had."""
    page = tmp_path / "outrigger.1"
    code, lines, _ = outrigger_says("man")
    page.write_text("\n".join(lines) + "\n")
    assert code == 0
    done = subprocess.run(
        ["groff", "-man", "-Tascii", "-P-cbou", "-ww", "-rLL=200n", page], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    shown = [line.strip() for line in done.stdout.splitlines()]
    assert "(1)" not in "".join(shown[2:-1])
    for command in ("run", "check", "explain", "status", "stop", "schema", "version", "completions", "man"):
        assert f"OUTRIGGER {command.upper()}" in shown or f"outrigger {command}" in shown
        _, told, _ = outrigger_says(command, "--help")
        assert [line for line in told if line.strip() and line.strip() not in shown] == []
