"""A flood of lines of one kind is cut and summed up; nobody who does not read the log stops what is logged."""

import json
import os
import signal
import subprocess
import threading
from contextlib import suppress

import httpx

from harness import JSON, Outrigger, RawClient, RawUpstream, answering, response, wait_until
from harness.paths import outrigger_binary

CALL = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


def flood(world: Outrigger, requests: int) -> None:
    """Requests that are refused, each with a line of its own beside the access line."""
    with world.client() as client:
        for number in range(requests):
            answer = client.ask("POST", "/mcp", CALL, {**JSON, "Host": f"evil-{number}.example"})
            assert answer.status == 403


def refused(world: Outrigger) -> list[dict]:
    return [line for line in world.log() if "does not have" in line.get("message", "") and "more" not in line]


def sums(world: Outrigger) -> list[dict]:
    return [line for line in world.log() if "more" in line]


def test_a_flood_is_cut_and_every_line_of_it_is_counted(outrigger):
    world = outrigger(["127.0.0.1:1"], {"log": {"burst": 3}})
    flood(world, 200)
    world.stop()
    written, more = refused(world), sum(line["more"] for line in sums(world))
    assert 3 <= len(written) < 200 and len(written) + more == 200
    (said,) = {line["level"] for line in sums(world)}
    assert said == "warn"
    last = sums(world)[-1]
    assert last["message"].startswith(f"… {last['more']} more of this kind in {last['seconds']} s: listener public:")
    assert len(world.access_log()) == 200, "every request has its line"


def test_a_flood_is_summed_up_while_it_lasts(outrigger):
    world = outrigger(["127.0.0.1:1"], {"log": {"burst": 1}})
    flood(world, 50)
    (first,) = wait_until(lambda: sums(world), what="the first sum")
    assert first["seconds"] == 10


def test_without_a_burst_everything_is_written(outrigger):
    world = outrigger(["127.0.0.1:1"], start=False)
    world.config["log"]["burst"] = None
    world.start()
    flood(world, 60)
    world.stop()
    assert len(refused(world)) == 60 and not sums(world)


def test_access_lines_are_cut_where_that_is_asked_for(outrigger, raw_upstream):
    upstream = raw_upstream(answering(response(200, {"jsonrpc": "2.0", "id": 1, "result": {}})))
    world = outrigger([upstream.address], {"log": {"access_burst": 5}})
    with world.client() as client:
        for _ in range(300):
            assert client.ask("POST", "/mcp", CALL, JSON).status == 200
    world.stop()
    (end,) = [line for line in world.log() if "access lines" in line.get("message", "")]
    assert 5 <= len(world.access_log()) < 300
    assert len(world.access_log()) + end["more"] == 300


#: A pipe holds 64 KiB, and the writer's memory four megabytes; each line is some 1,400 bytes long.
MANY, LONG = 4_000, "s" * 1_000


def ask(client: RawClient) -> None:
    for _ in range(MANY):
        assert client.ask("POST", f"/servers/{LONG}/mcp", CALL, JSON).status == 200


class Unread:
    """Outrigger whose standard error is a pipe that nobody reads."""

    def __init__(self, folder, peer: str):
        self.world = Outrigger(folder, [peer], start=False)
        self.world.write_config()
        self.unread, end = os.pipe()
        command = [outrigger_binary(), "run", "--config", self.world.config_file]
        self.process = subprocess.Popen(command, stderr=end, stdin=subprocess.DEVNULL, start_new_session=True)
        os.close(end)
        wait_until(self._ready, what="outrigger ready")

    def _ready(self) -> bool:
        with suppress(httpx.TransportError):
            return self.world.ready()
        return False

    def end(self) -> None:
        os.close(self.unread)
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def test_a_log_that_nobody_reads_stops_no_request(tmp_path):
    answer = response(200, {"jsonrpc": "2.0", "id": 1, "result": {}})
    upstream = RawUpstream(answering(answer))
    unread = Unread(tmp_path, upstream.address)
    try:
        with unread.world.client() as client:
            ask(client)
        assert unread.world.metrics()["outrigger_log_lines_lost_total"] > 0
        unread.process.send_signal(signal.SIGTERM)
        assert unread.process.wait(30) == 0, "nor does it keep anybody from ending"
    finally:
        unread.end()
        upstream.close()


def test_a_reader_that_comes_back_finds_whole_lines_and_how_many_are_lost(tmp_path):
    answer = response(200, {"jsonrpc": "2.0", "id": 1, "result": {}})
    upstream = RawUpstream(answering(answer))
    unread = Unread(tmp_path, upstream.address)
    got = bytearray()

    def read() -> None:
        while data := os.read(unread.unread, 65536):
            got.extend(data)

    reader = threading.Thread(target=read)
    try:
        with unread.world.client() as client:
            ask(client)
        lost = int(unread.world.metrics()["outrigger_log_lines_lost_total"])
        reader.start()
        wait_until(lambda: b'"lost":' in got, what="the line that says so")
        unread.process.send_signal(signal.SIGTERM)
        assert unread.process.wait(30) == 0
        reader.join()
        lines = [json.loads(line) for line in got.decode().splitlines()]
        access = [line for line in lines if line["target"] == "access"]
        assert sum(line.get("lost", 0) for line in lines) == lost > 0
        assert len(access) + lost == MANY
    finally:
        unread.end()
        upstream.close()
