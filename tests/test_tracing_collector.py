"""The way to the collector: what the variables OTEL_* say is done; one that is away, slow or unwell harms nobody."""

import time

import pytest

from harness import JSON, Outrigger, Pki, answering, free_port, response, wait_until
from harness.collector import Collector

CALL = b'{"jsonrpc":"2.0","id":7,"method":"ping"}'
ANSWER = response(200, {"jsonrpc": "2.0", "id": 7, "result": {}})

#: SERVER, the rooms, and in room 6 and 7; a new connection has one more.
SPANS = 8


@pytest.fixture
def otel(monkeypatch):
    """Sets variables by what stands behind `OTEL_`."""

    def setting(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(f"OTEL_{name}", str(value))

    return setting


@pytest.fixture
def collecting():
    running = []

    def make(*statuses, **options) -> Collector:
        running.append(Collector(*statuses, **options))
        return running[-1]

    yield make
    for collector in running:
        collector.close()


def ask(world: Outrigger, times: int = 1) -> None:
    with world.client() as client:
        for _ in range(times):
            assert client.ask("POST", "/mcp", CALL, JSON).status == 200


def dropped(world: Outrigger, reason: str) -> int:
    return world.metrics()[f'outrigger_spans_dropped_total{{reason="{reason}"}}']


def test_the_last_spans_leave_with_the_process(outrigger, raw_upstream, collecting, otel):
    collector = collecting()
    otel(EXPORTER_OTLP_ENDPOINT=collector.url, BSP_SCHEDULE_DELAY=3_600_000)
    world = outrigger([raw_upstream(answering(ANSWER)).address])
    ask(world, 5)
    world.reload()
    ask(world, 5)
    world.stop()
    assert len(collector.spans) == 10 * SPANS + 2
    assert {span.resource["outrigger.generation"] for span in collector.spans} == {1, 2}


def test_what_the_variables_say(outrigger, raw_upstream, collecting, otel):
    collector = collecting()
    otel(
        EXPORTER_OTLP_TRACES_ENDPOINT=f"{collector.url}/custom/path",
        EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
        EXPORTER_OTLP_PROTOCOL="http/protobuf",
        EXPORTER_OTLP_HEADERS="authorization=Bearer%20key-of-the-collector,x-tenant=a",
        EXPORTER_OTLP_COMPRESSION="gzip",
        SERVICE_NAME="sidecar",
        RESOURCE_ATTRIBUTES="deployment.environment.name=test,service.version=ours",
        BSP_SCHEDULE_DELAY=20,
    )
    world = outrigger([raw_upstream(answering(ANSWER)).address])
    ask(world)
    collector.wait(SPANS + 1)
    wait_until(lambda: world.metrics()["outrigger_spans_exported_total"] == SPANS + 1)
    export = collector.exports[0]
    assert export.path == "/custom/path"
    assert export.headers["host"] == collector.url.removeprefix("http://")
    assert export.headers["content-type"] == "application/x-protobuf"
    assert export.headers["content-encoding"] == "gzip"
    assert (export.headers["authorization"], export.headers["x-tenant"]) == ("Bearer key-of-the-collector", "a")
    about = export.spans[0].resource
    assert about["service.name"] == "sidecar"
    assert about["deployment.environment.name"] == "test"
    assert about["service.version"] == "ours"
    assert "key-of-the-collector" not in world.story()


def test_a_collector_behind_mutual_tls(outrigger, raw_upstream, collecting, otel, pki):
    tls = pki.server_context(pki.issue("localhost"), client_ca=pki.ca)
    identity = pki.issue("sidecar")
    collector = collecting(tls=tls)
    otel(EXPORTER_OTLP_ENDPOINT=collector.url, EXPORTER_OTLP_CERTIFICATE=pki.ca, BSP_SCHEDULE_DELAY=20)
    otel(EXPORTER_OTLP_CLIENT_CERTIFICATE=identity.cert, EXPORTER_OTLP_CLIENT_KEY=identity.key)
    ask(outrigger([raw_upstream(answering(ANSWER)).address]))
    collector.wait(SPANS + 1)


def test_a_collector_that_nobody_vouches_for_gets_nothing(outrigger, raw_upstream, collecting, otel, pki, tmp_path):
    collector = collecting(tls=pki.server_context(pki.issue("localhost")))
    stranger = Pki(tmp_path / "stranger")
    otel(EXPORTER_OTLP_ENDPOINT=collector.url, EXPORTER_OTLP_CERTIFICATE=stranger.ca)
    otel(EXPORTER_OTLP_TIMEOUT=500, BSP_SCHEDULE_DELAY=20)
    world = outrigger([raw_upstream(answering(ANSWER)).address])
    ask(world)
    wait_until(lambda: dropped(world, "export_failed") == SPANS + 1)
    assert collector.exports == []


def test_a_collector_that_is_away_costs_spans_and_nothing_else(outrigger, raw_upstream, otel):
    otel(EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}", EXPORTER_OTLP_TIMEOUT=300, BSP_SCHEDULE_DELAY=20)
    world = outrigger([raw_upstream(answering(ANSWER)).address])
    ask(world, 3)
    wait_until(lambda: dropped(world, "export_failed") == 3 * SPANS + 1)
    assert "spans are lost: the trace collector did not take them" in wait_until(world.story)
    world.stop()


def test_a_collector_that_comes_back_gets_what_was_refused(outrigger, raw_upstream, collecting, otel):
    collector = collecting(503, 503, 200)
    otel(EXPORTER_OTLP_ENDPOINT=collector.url, BSP_SCHEDULE_DELAY=20)
    world = outrigger([raw_upstream(answering(ANSWER)).address])
    ask(world)
    wait_until(lambda: world.metrics()["outrigger_spans_exported_total"] == SPANS + 1)
    first, *_, last = collector.exports
    assert len(collector.exports) >= 3
    assert {span.id for span in first.spans} <= {span.id for span in collector.spans}
    assert last.spans
    assert dropped(world, "export_failed") == 0


def test_what_a_collector_does_not_want_is_not_sent_again(outrigger, raw_upstream, collecting, otel):
    collector = collecting(400)
    otel(EXPORTER_OTLP_ENDPOINT=collector.url, BSP_SCHEDULE_DELAY=100)
    world = outrigger([raw_upstream(answering(ANSWER)).address])
    ask(world)
    wait_until(lambda: dropped(world, "export_failed") == SPANS + 1)
    assert sum(len(export.spans) for export in collector.exports) == SPANS + 1


def test_a_slow_collector_makes_nobody_wait(outrigger, raw_upstream, collecting, otel):
    collector = collecting()
    collector.hold()
    otel(EXPORTER_OTLP_ENDPOINT=collector.url, EXPORTER_OTLP_TIMEOUT=60_000, BSP_SCHEDULE_DELAY=20)
    otel(BSP_MAX_QUEUE_SIZE=20, BSP_MAX_EXPORT_BATCH_SIZE=10)
    world = outrigger([raw_upstream(answering(ANSWER)).address])
    ask(world, 100)
    kept = len(collector.spans) + 20
    wait_until(lambda: dropped(world, "queue_full") >= 100 * SPANS + 1 - kept)
    begun = time.monotonic()
    world.stop()
    assert time.monotonic() - begun < 15, "the end of the process is not the collector's to decide"


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"EXPORTER_OTLP_PROTOCOL": "grpc"}, 'OTEL_EXPORTER_OTLP_PROTOCOL is \\"grpc\\"; there is http/protobuf only'),
        ({"TRACES_SAMPLER": "xray"}, 'OTEL_TRACES_SAMPLER is \\"xray\\"; there are always_on'),
        (
            {"EXPORTER_OTLP_ENDPOINT": "https://localhost", "EXPORTER_OTLP_CERTIFICATE": "/no/such/file"},
            "/no/such/file",
        ),
    ],
)
def test_whoever_cannot_be_traced_is_served(outrigger, raw_upstream, otel, variables, reason):
    otel(**{"EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", **variables})
    world = outrigger([raw_upstream(answering(ANSWER)).address])
    ask(world)
    story = world.story()
    assert "tracing is off: " in story and reason in story, story


@pytest.mark.parametrize("off", [{"SDK_DISABLED": "true"}, {"TRACES_EXPORTER": "none"}])
def test_it_can_be_switched_off(outrigger, raw_upstream, collecting, otel, off):
    collector = collecting()
    otel(EXPORTER_OTLP_ENDPOINT=collector.url, BSP_SCHEDULE_DELAY=20, **off)
    world = outrigger([raw_upstream(answering(ANSWER)).address])
    ask(world)
    world.stop()
    assert collector.exports == []
