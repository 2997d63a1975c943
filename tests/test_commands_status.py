"""`outrigger status`: how the one that runs here is, as a table or for machines."""

import json
import subprocess

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
    assert lines[0].startswith("Outrigger ") and lines[0].endswith("generation 2: ready")
    rows = [line.split() for line in lines]
    assert any(row[:2] == ["1", "draining"] for row in rows)
    assert any(line.startswith("last reload ok ") for line in lines)
    assert ["gateway", "w1", "unchecked", "0"] in rows
    assert ["public", world.address, "no", "gateway"] in rows
    assert ["bad_message", "1"] in rows
    assert lines[-1].startswith("registry embedded: 0 sessions kept; ")
    stream.close()


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
