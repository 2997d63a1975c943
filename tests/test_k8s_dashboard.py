"""k8s/monitoring: dashboard and alerts ask for metrics and labels that there are, in words Prometheus understands."""

import json
import re
import subprocess

import pytest
import yaml

from harness import JSON, free_port, response, wait_until
from harness.k8s import K8S, Overlay
from harness.paths import CACHE
from harness.raw import RawClient

DASHBOARD = json.loads((K8S / "monitoring" / "outrigger.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
ALERTS = [
    rule
    for group in yaml.safe_load((K8S / "monitoring" / "alerts.yaml").read_text())["spec"]["groups"]
    for rule in group["rules"]
]
#: Reads a JSON list of expressions, writes one of what is wrong with each, or null.
PARSER = """
import json, promql_parser, sys
def wrong(text):
    try:
        promql_parser.parse(text)
    except ValueError as error:
        return str(error)
print(json.dumps([wrong(text) for text in json.load(sys.stdin)]))
"""
#: What Prometheus adds to every sample, and what a histogram's buckets have.
GIVEN = {"namespace", "pod", "le"}


def wrong(expressions: list[str]) -> list[str | None]:
    """By expression what Prometheus would say against it."""
    # Grafana fills its variables in before.
    asked = [text.replace("$__rate_interval", "5m").replace("$__range", "1h") for text in expressions]
    command = [CACHE / "k8s" / "bin" / "python", "-c", PARSER]
    return json.loads(
        subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=True).stdout
    )


@pytest.fixture
def has(outrigger, raw_upstream, pki) -> dict[str, set[str]]:
    """Every series with its labels; what is counted by reason is there once it has happened."""
    peers = [
        raw_upstream(lambda one: one.read_request() and one.send(response(500, b"no"))).address,
        f"127.0.0.1:{free_port()}",
    ]
    health = {"health": {"tcp": True, "interval": "200ms", "timeout": "200ms", "unhealthy_threshold": 1}}
    world = outrigger(peers, {"upstreams": {"gateway": health}}, start=False)
    secure = f"127.0.0.1:{free_port()}"
    tls = pki.issue("localhost").as_config()
    world.config["listeners"].append({"name": "secure", "address": secure, "upstream": "gateway", "tls": tls})
    world.start()
    for _ in range(2):
        with world.client() as client:
            client.ask("POST", "/mcp", b'{"jsonrpc":"2.0","id":7,"method":"ping"}', JSON)
    with world.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n")
        client.wait_closed()
    with world.client() as client:
        assert client.ask("POST", "/mcp", b"{", JSON).status == 400
    with RawClient(secure) as client:
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        client.wait_closed()
    there: dict[str, set[str]] = {}

    def all_there() -> bool:
        for sample in world.metrics():
            name, _, labels = sample.partition("{")
            there.setdefault(name, set()).update(re.findall(r"(\w+)=", labels))
        counted = ("refused_heads", "normalised", "faults", "tls_handshake_failures")
        return (
            all(f"outrigger_{name}_total" in there for name in counted) and "outrigger_upstream_peer_unhealthy" in there
        )

    wait_until(all_there, what="each was counted")
    return there


def test_every_series_is_one_that_the_binary_has(has):
    asked = {name for text in EXPRESSIONS for name in names(text)}
    assert len(asked) >= 20
    assert asked <= set(has)
    for text in EXPRESSIONS:
        (name,) = set(names(text))
        assert labels(text) <= has[name] | GIVEN, text


def test_every_alert_asks_for_what_there_is(has):
    for alert in ALERTS:
        text, annotations = alert["expr"], alert["annotations"]
        assert names(text) and set(names(text)) <= set(has), text
        assert labels(text) <= {label for name in names(text) for label in has[name]} | GIVEN, text
        # What its sentence names must have come through the sum.
        grouped = set(",".join(re.findall(r"by \(([^)]*)\)", text)).split(","))
        assert set(re.findall(r"\$labels\.(\w+)", annotations["summary"])) <= grouped, text
        assert annotations["description"] and alert["labels"]["severity"] in ("critical", "warning")
    assert len({alert["alert"] for alert in ALERTS}) == len(ALERTS) >= 8


def names(text: str) -> list[str]:
    return re.findall(r"\boutrigger_\w+", text)


def labels(text: str) -> set[str]:
    grouped = [label for by in re.findall(r"by \(([^)]*)\)", text) for label in by.split(",")]
    return {*re.findall(r"(\w+)=~?\"", text), *grouped}


def test_prometheus_understands_every_expression():
    expressions = [*EXPRESSIONS, *(alert["expr"] for alert in ALERTS)]
    assert wrong(expressions) == [None] * len(expressions)
    assert wrong(["sum by (le (x)"]) != [None], "or this test could not fail"


def test_panels_say_what_they_show_and_do_not_overlap():
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells
    assert max(x for x, _ in taken) == 23, "as wide as the page"
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for panel in PANELS:
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]


def test_grafana_finds_it():
    found = Overlay("replicas-redis").get("ConfigMap", "outrigger-dashboard")
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(found["data"]["outrigger.json"]) == DASHBOARD
