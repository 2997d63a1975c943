"""What the log tells of starts and reloads, for people and for machines, and that it tells no secret of anybody's."""

import json
import re
import signal

from harness import Outrigger, chunk, event, event_stream_head, secrets, wait_until


def told(world: Outrigger) -> list[dict]:
    """The supervisor's sentences, with a name each."""
    return [line for line in world.log() if line["role"] == "supervisor" and "event" in line]


def test_a_rotation_reads_as_a_story(outrigger, raw_upstream):
    def stream(connection):
        connection.read_request()
        connection.send(event_stream_head() + chunk(event("begun")))
        connection.wait_closed()

    world = outrigger([raw_upstream(stream).address])
    with world.open_stream():
        world.reload()
    wait_until(lambda: told(world)[-1]["event"] == "drained", what="the stream has ended")
    world.stop()
    lines = told(world)
    assert [line["event"] for line in lines] == [
        *("begin", "starting", "ready", "starting", "ready", "draining", "drained"),
        *("stopping", "draining", "drained", "stopped"),
    ]
    begin, _, _, starting, ready, draining, drained, *_ = lines
    assert begin["message"] == f"outrigger {begin['version']} runs {world.config_file}"
    assert begin["config"] == str(world.config_file)
    assert (starting["generation"], ready["generation"]) == (2, 2)
    assert ready["message"] == f"generation 2 ready in {ready['seconds']:.1f} s"
    assert (draining["generation"], draining["streams"]) == (1, 1)
    assert draining["message"].startswith("generation 1 drains 1 stream, ")
    assert drained["generation"] == 1


def test_a_refused_reload_says_who_serves_on(outrigger):
    world = outrigger(["127.0.0.1:1"])
    world.config_file.write_text("listeners: nonsense\n")
    world.process.signal(signal.SIGHUP)
    line = wait_until(lambda: [line for line in told(world) if line["event"] == "reload_refused"], what="the refusal")[
        0
    ]
    assert (line["level"], line["still_serves"]) == ("error", 1)
    assert line["message"].endswith("; generation 1 serves on")


def test_text_is_for_people(outrigger):
    world = outrigger(["127.0.0.1:1"], {"log": {"format": "text"}})
    with world.client() as client:
        assert client.ask("GET", "/nothing", headers={}).status == 502
    world.stop()
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    lines = world.process.err.read_text().splitlines()
    shape = re.compile(rf"{stamp} (error|warn |info ) (supervisor|worker 1) [\w:]+: .+")
    assert lines and all(shape.fullmatch(line) for line in lines), lines
    assert any(re.search(r"supervisor outrigger::supervisor: generation 1 ready in \d+\.\d s$", line) for line in lines)
    (access,) = [line for line in lines if " access: " in line]
    assert json.loads(access.partition(" access: ")[2])["status"] == 502


def test_what_the_harness_looks_for_it_finds():
    """The check at the end of every Outrigger, against a log that does hold secrets."""
    secrets.note_head(
        "POST /messages/?session_id=0123456789abcdef HTTP/1.1", [("Authorization", "Bearer tell-nobody-else")]
    )
    secrets.note_key("-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC+/x\n-----END PRIVATE KEY-----\n")
    log = "session 0123456789abcdef of tell-nobody-else has MIIEvQIBADANBgkqhkiG9w0BAQEFAASC+/x"
    assert secrets.leaked(log) == {"0123456789abcdef", "tell-nobody-else", "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"}
    assert not secrets.leaked("session 01234567 of nobody")
