"""`outrigger status`: how the one that runs here is, as a table or for machines."""

import json
import re
import signal
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from harness import JSON, chunk, event, event_stream_head, free_port, response, wait_until
from harness.paths import outrigger_binary


def script(connection) -> None:
    connection.read_request()
    connection.send(event_stream_head() + chunk(event("begun")))
    connection.wait_closed()


@pytest.fixture
def world(outrigger, raw_upstream):
    return outrigger([{"name": "w1", "address": raw_upstream(script).address}], {"profile": "generic"})


def outrigger_says(*words) -> tuple[int, str, str]:
    command = [str(word) for word in (outrigger_binary(), *words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout, done.stderr


def test_the_page_as_a_table(world):
    stream = world.open_stream()
    world.reload()
    with world.client() as client:
        client.ask("POST", "/servers/s/mcp", b"{", JSON)

    def told() -> str:
        code, text, _ = outrigger_says("status", "--admin", world.admin.removeprefix("http://"))
        return text if code == 0 and "draining" in text and "bad_message" in text else ""

    lines = wait_until(told, what="a status").splitlines()
    assert re.fullmatch(r"Outrigger \S+, generation 2, up for \d+ (s|min): ready", lines[0])
    rows = [line.split() for line in lines]
    assert any(row[:2] == ["1", "draining"] for row in rows)
    assert any(line.startswith("last reload ok ") for line in lines)
    assert ["gateway", "w1", "unchecked", "0"] in rows
    assert ["public", world.address, "no", "gateway"] in rows
    assert ["bad_message", "1"] in rows
    assert lines[-1].startswith("registry embedded: 0 sessions kept; ")
    stream.close()


def test_what_needs_somebody_comes_first(outrigger, pki):
    soon = datetime.now(UTC) + timedelta(days=5, hours=1)
    identity = pki.issue("mcp.example.com", common_name="mcp.example.com", not_after=soon)
    peers = [{"name": "w1", "address": f"127.0.0.1:{free_port()}"}]
    health = {"health": {"tcp": True, "interval": "200ms", "timeout": "200ms", "unhealthy_threshold": 1}}
    world = outrigger(peers, {"profile": "generic", "upstreams": {"gateway": health}}, start=False)
    world.config["listeners"][0]["tls"] = identity.as_config()
    world.start()
    expected = [
        "FAIL  upstream gateway: its only peer is not well: w1 (nobody listens there)",
        "FAIL  certificate mcp.example.com, shown by listener public, expires in 5 days",
        "",
    ]

    def told() -> list[str]:
        return outrigger_says("status", "--admin", world.admin.removeprefix("http://"))[1].splitlines()[2:5]

    wait_until(lambda: told() == expected, what="both are told")
    world.write_config({"threads": "many"})
    world.process.signal(signal.SIGHUP)
    last = "warn  the last reload was refused, what served before serves on: "
    wait_until(lambda: told()[2].startswith(last) and "threads: expected" in told()[2], what="the reload is told")


def test_by_the_configuration_and_for_machines(world):
    code, text, _ = outrigger_says("status", "--config", world.config_file, "--json")
    assert code == 0
    assert json.loads(text)["listeners"][0]["name"] == "public"


def test_nobody_there(world, raw_upstream):
    code, text, error = outrigger_says("status", "--admin", f"127.0.0.1:{free_port()}")
    assert (code, text) == (1, "") and error.startswith("no Outrigger answers at 127.0.0.1:")
    world.config["admin"] = None
    world.write_config()
    code, _, error = outrigger_says("status", "--config", world.config_file)
    assert code == 64 and "no admin listener" in error


def test_somebody_else_there(raw_upstream):
    def other(connection) -> None:
        connection.read_request()
        connection.send(response(200, {"error": None}))

    somebody = raw_upstream(other)
    code, _, error = outrigger_says("status", "--admin", somebody.address)
    assert code == 1 and "is no Outrigger's admin listener" in error
