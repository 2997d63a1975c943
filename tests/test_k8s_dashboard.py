"""k8s/monitoring: the dashboard asks for metrics and labels that there are, in words that Prometheus understands."""

import json
import re
import subprocess

from harness import JSON, free_port, wait_until
from harness.k8s import K8S, Overlay
from harness.paths import CACHE

DASHBOARD = json.loads((K8S / "monitoring" / "outrigger.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
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


def test_every_series_is_one_that_the_binary_has(outrigger):
    world = outrigger([f"127.0.0.1:{free_port()}"])
    # What is counted by reason is there once it has happened.
    with world.client() as client:
        assert client.ask("POST", "/mcp", b'{"jsonrpc":"2.0","id":7,"method":"ping"}', JSON).status == 502
    with world.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n")
        client.wait_closed()
    wait_until(lambda: any(name.startswith("outrigger_refused_heads_total{") for name in world.metrics()))
    has: dict[str, set[str]] = {}
    for sample in world.metrics():
        name, _, labels = sample.partition("{")
        has.setdefault(name, set()).update(re.findall(r"(\w+)=", labels))
    asked = {name for text in EXPRESSIONS for name in re.findall(r"\boutrigger_\w+", text)}
    assert len(asked) >= 15
    assert asked <= set(has)
    for text in EXPRESSIONS:
        (name,) = set(re.findall(r"\boutrigger_\w+", text))
        grouped = [label for by in re.findall(r"by \(([^)]*)\)", text) for label in by.split(",")]
        assert {*re.findall(r"(\w+)=~?\"", text), *grouped} <= has[name] | GIVEN, text


def test_prometheus_understands_every_expression():
    assert wrong(EXPRESSIONS) == [None] * len(EXPRESSIONS)
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
