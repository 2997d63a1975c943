"""Metrics over reloads and crashes, in both formats: what was shown is never taken back, clean ends count exactly."""

import os
import re
import signal
import threading
from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from harness import ANY_RESULT, JSON, chunk, event, event_stream_head, plain, response, wait_until

SOURCES = Path(__file__).parent.parent / "src"
README = Path(__file__).parent.parent / "README.md"
MCP = "/servers/s/mcp"
CALL = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x"}}'
ACCEPT = {"Accept": "application/openmetrics-text; version=1.0.0;q=0.5,text/plain;q=0.2"}
ANSWERED = 'outrigger_requests_total{route="mcp",status="2xx"}'


def script(connection) -> None:
    while True:
        message = connection.read_request()
        if message.method == "GET":
            connection.send(event_stream_head() + chunk(event("begun")))
            connection.wait_closed()
            return
        connection.send(response(200, {"jsonrpc": "2.0", "id": 7, "result": ANY_RESULT}, {}))


@pytest.fixture
def world(outrigger, raw_upstream):
    return outrigger([raw_upstream(script).address], {"profile": "generic"})


def is_total(name: str) -> bool:
    return bool(re.match(r"outrigger_\w+(_total|_bucket|_sum|_count)(\{|$)", name))


class Scraper(threading.Thread):
    """Scrapes without a pause and compares each scrape with the one before."""

    def __init__(self, world):
        super().__init__()
        self.world, self.going, self.scrapes, self.last, self.fell = world, True, 0, {}, []

    def run(self) -> None:
        while self.going:
            now = self.world.metrics()
            for name, before in self.last.items():
                if is_total(name) and now.get(name, 0) < before:
                    self.fell.append((name, before, now.get(name)))
            self.last = now
            self.scrapes += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.going = False
        self.join()


class Load(threading.Thread):
    """One client that asks without a pause and counts its answers."""

    def __init__(self, world):
        super().__init__()
        self.world, self.going, self.answers = world, True, 0

    def run(self) -> None:
        with httpx.Client(base_url=self.world.url, trust_env=False) as client:
            while self.going:
                assert client.post(MCP, content=CALL, headers=JSON).status_code == 200
                self.answers += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.going = False
        self.join()


def test_counters_never_fall_over_reloads_and_end_exactly(world):
    streams = []
    with Scraper(world) as scraper, Load(world) as one, Load(world) as two:
        for _ in range(3):
            streams.append(world.open_stream())
            world.reload()
    assert scraper.fell == []
    assert scraper.scrapes > 20
    assert min(one.answers, two.answers) > 20
    # Three generations drain a stream each: theirs are in the sum, and so is what is open in them.
    wait_until(lambda: world.metrics()["outrigger_connections"] == 3, what="only the streams are open")
    metrics = world.metrics()
    assert metrics["outrigger_streams"] == 3
    assert metrics[ANSWERED] == one.answers + two.answers
    assert metrics['outrigger_reloads_total{result="ok"}'] == 3
    for stream in streams:
        stream.close()
    wait_until(lambda: len(world.worker_pids()) == 1, what="only one generation is left")
    metrics = world.metrics()
    assert (metrics["outrigger_streams"], metrics["outrigger_connections"]) == (0, 0)
    assert metrics[ANSWERED] == one.answers + two.answers + 3
    assert metrics["outrigger_request_duration_seconds_count"] == one.answers + two.answers + 3


def test_a_worker_that_is_killed_takes_nothing_back_that_was_shown(world):
    with world.client() as client:
        for _ in range(10):
            assert client.ask("POST", MCP, CALL, JSON).status == 200
    shown = wait_until(lambda: (seen := world.metrics())[ANSWERED] == 10 and seen, what="all are counted")
    os.kill(world.worker_pids()[0], signal.SIGKILL)
    wait_until(lambda: world.last_ready() == 2, what="another generation serves")
    after = world.metrics()
    assert {name: value for name, value in shown.items() if is_total(name) and after.get(name, 0) < value} == {}
    assert after[ANSWERED] == 10
    assert after["outrigger_worker_restarts_total"] == 1
    assert after["outrigger_connections"] == 0


def test_a_generation_that_stands_still_counts_with_its_last_word(world):
    stream = world.open_stream()
    old = world.worker_pids()[0]
    assert world.metrics()["outrigger_streams"] == 1
    world.reload()
    os.kill(old, signal.SIGSTOP)
    try:
        metrics = world.metrics()
        assert metrics["outrigger_streams"] == 1
        assert metrics["outrigger_generation"] == 2
    finally:
        os.kill(old, signal.SIGCONT)
    stream.close()
    wait_until(lambda: world.metrics()["outrigger_streams"] == 0, what="the stream's end is counted")


def test_openmetrics_for_those_who_ask_for_it(world):
    with world.client() as client:
        client.ask("POST", MCP, CALL, JSON)
    answer = httpx.get(world.admin + "/metrics", trust_env=False, headers=ACCEPT)
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    requests = families["outrigger_requests"]
    assert requests.type == "counter" and {sample.name for sample in requests.samples} == {"outrigger_requests_total"}
    assert families["outrigger_request_duration_seconds"].unit == "seconds"
    assert plain.get(world.admin + "/metrics").headers["content-type"].startswith("text/plain; version=0.0.4")


def documented() -> set[str]:
    return set(re.findall(r"^\| `(outrigger_\w+)", README.read_text(), re.MULTILINE))


def test_every_metric_of_the_code_is_in_the_readme_and_nothing_else():
    in_code = set()
    for source in SOURCES.rglob("*.rs"):
        in_code |= set(re.findall(r'"(outrigger_[a-z_]+)"', source.read_text().split("#[cfg(test)]")[0]))
    assert in_code == documented()


def test_labels_are_few_and_tell_of_nobody(world):
    """Whatever a client sends: no id, no path and no name of a client's becomes a label."""
    with world.client() as client:
        client.ask("POST", "/servers/secret-server/mcp", CALL, {**JSON, "Mcp-Session-Id": "secret-session"})
        client.ask("POST", "/secret-path", CALL, JSON)
    text = plain.get(world.admin + "/metrics").text
    assert "secret" not in text
    labels = set(re.findall(r'[{,]([a-z_]+)="', text))
    assert labels <= {
        "route",
        "status",
        "kind",
        "reason",
        "result",
        "le",
        "upstream",
        "peer",
        "version",
        "by",
        "role",
        "file",
        "subject",
        "serial",
    }
