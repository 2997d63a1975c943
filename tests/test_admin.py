"""The admin listener: alive, ready, and metrics in a form that Prometheus takes without complaint."""

import re

import httpx
import pytest

from harness import (
    JSON,
    Outrigger,
    RawUpstream,
    chunk,
    event,
    event_stream_head,
    free_port,
    plain,
    response,
    wait_until,
)

MCP = "/servers/s/mcp"


def call(method: str = "tools/call", **params) -> bytes:
    return httpx.Request(
        "POST", "http://x", json={"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
    ).content


def upstream_script(connection) -> None:
    """Sessions of its own, streams for GETs, and a connection that goes stale after /stale."""
    while True:
        message = connection.read_request()
        headers = {"Mcp-Session-Id": "s1"} if b'"initialize"' in message.body else {}
        if message.method == "GET":
            connection.send(event_stream_head() + chunk(event("begun")))
            connection.wait_closed()
            return
        connection.send(response(200, {"jsonrpc": "2.0", "id": 7, "result": {"method": message.path}}, headers))
        if b"leave" in message.body:
            connection.read_request()
            return


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    upstream = RawUpstream(upstream_script)
    world = Outrigger(tmp_path_factory.mktemp("admin"), [upstream.address], {"profile": "generic"})
    yield world
    world.end()
    upstream.close()


def get(world, path: str) -> httpx.Response:
    return plain.get(world.admin + path)


def quiet(world) -> dict[str, float]:
    """The metrics once every connection is over, and with it whatever its requests count."""
    wait_until(lambda: world.metrics()["outrigger_connections"] == 0, what="no connection is open")
    return world.metrics()


def changed(world, act) -> dict[str, float]:
    """The metrics that grew while `act` ran, with by how much; durations and the registry's own are left out."""
    before = quiet(world)
    act()
    after = quiet(world)
    return {
        name: value - before.get(name, 0)
        for name, value in after.items()
        if value != before.get(name, 0) and "duration" not in name and "registry" not in name
    }


def ask(world, method: str = "POST", path: str = MCP, body: bytes = b"", **headers: str):
    def act():
        with world.client() as client:
            return client.ask(method, path, body, {**JSON, **headers})

    return act


# -- alive and ready


def test_livez_says_ok(world):
    answer = get(world, "/livez")
    assert (answer.status_code, answer.text) == (200, "ok\n")
    assert answer.headers["content-type"].startswith("text/plain")


def test_readyz_says_what_it_knows(world):
    answer = get(world, "/readyz")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    told = answer.json()
    assert told["ready"] is True and told["draining"] is False
    assert told["generation"] == world.metrics()["outrigger_generation"] == 1
    assert told["registry"] == {"kind": "embedded", "sessions": 0}
    (upstream,) = told["upstreams"]
    assert upstream["name"] == "gateway"
    (peer,) = upstream["peers"]
    assert (peer["healthy"], peer["in_flight"]) == (True, 0)


def test_readyz_shows_a_peer_that_refuses(outrigger, raw_upstream):
    gone, live = f"127.0.0.1:{free_port()}", raw_upstream(upstream_script)
    world = outrigger([gone, live.address], {"profile": "generic"})

    def health() -> dict[str, bool]:
        """After one more request: which peer it goes to is chance."""
        assert ask(world, body=call())().status == 200
        return {peer["name"]: peer["healthy"] for peer in get(world, "/readyz").json()["upstreams"][0]["peers"]}

    shown = wait_until(lambda: (seen := health())[gone] is False and seen, what="the refusing peer is shown")
    assert shown == {gone: False, live.address: True}
    assert get(world, "/readyz").status_code == 200, "one peer is no reason to be taken out of service"
    assert world.metrics()["outrigger_upstream_connect_failures_total"] >= 1


def test_other_paths_do_not_exist_and_the_admin_is_not_on_the_data_listener(world):
    assert get(world, "/nothing").status_code == 404
    assert get(world, "/metrics/").status_code == 404
    with world.client() as client:
        assert b"outrigger_" not in client.ask("POST", "/metrics", call()).body


# -- metrics: form


def test_metrics_are_what_prometheus_takes(world):
    ask(world, body=call())()
    answer = get(world, "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = parse(answer.text)
    assert len(families) >= 15
    for name, (kind, about, samples) in families.items():
        assert name.startswith("outrigger_"), name
        assert re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", name), name
        assert len(about) > 10, f"{name} is not explained"
        assert (kind == "counter") == name.endswith("_total"), f"{name} is a {kind}: promtool check metrics objects"
        if kind == "histogram":
            whole(name, samples)


def parse(text: str) -> dict[str, tuple[str, str, dict]]:
    """Text format 0.0.4, strictly: name → (type, help, {(sample, labels): value}); every family in one piece."""
    assert text.endswith("\n")
    families: dict[str, tuple[str, str, dict]] = {}
    about: dict[str, str] = {}
    sample = re.compile(
        r'([a-zA-Z_:][\w:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\"n])*",?)*)\})? ([-+.\deE]+|\+Inf|NaN)'
    )
    name = ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            _, _, name, about[name_of(line)] = line.split(" ", 3)
        elif line.startswith("# TYPE "):
            _, _, typed, kind = line.split(" ")
            assert typed == name and typed not in families, f"{typed} comes twice, or without HELP"
            families[typed] = (kind, about[typed], {})
        else:
            found = sample.fullmatch(line)
            assert found, f"no sample: {line!r}"
            base = re.sub(r"_(bucket|sum|count)$", "", found[1]) if families[name][0] == "histogram" else found[1]
            assert base == name, f"{found[1]} under {name}"
            key = (found[1], found[2] or "")
            assert key not in families[name][2], f"{key} comes twice"
            families[name][2][key] = float(found[3])
    return families


def name_of(line: str) -> str:
    return line.split(" ")[2]


def whole(name: str, samples: dict) -> None:
    """Buckets are cumulative and end with +Inf, which is the count."""
    buckets = [(labels, value) for (sample, labels), value in samples.items() if sample == f"{name}_bucket"]
    bounds = [float(re.fullmatch(r'le="(.*)"', labels)[1].replace("+Inf", "inf")) for labels, _ in buckets]
    values = [value for _, value in buckets]
    assert bounds == sorted(bounds) and bounds[-1] == float("inf")
    assert values == sorted(values) and values[-1] == samples[(f"{name}_count", "")] > 0
    assert samples[(f"{name}_sum", "")] > 0


# -- metrics: each counts what its name says


def requests(route: str, status: str) -> str:
    return f'outrigger_requests_total{{route="{route}",status="{status}"}}'


def test_a_replaced_server_id_counts(world):
    ask(world, body=call())()
    assert changed(world, ask(world, body=call(server_id="another"))) == {
        requests("mcp", "2xx"): 1,
        "outrigger_server_id_replaced_total": 1,
    }


def test_sessions_count_from_claim_to_release(world):
    ask(world, body=call())()
    claimed = changed(world, ask(world, body=call("initialize")))
    assert claimed == {requests("mcp", "2xx"): 1, "outrigger_sessions_claimed_total": 1}
    assert get(world, "/readyz").json()["registry"] == {"kind": "embedded", "sessions": 1}
    session = {"Mcp-Session-Id": "s1"}
    assert changed(world, ask(world, body=call(), **session)) == {requests("mcp", "2xx"): 1}
    lost = changed(world, ask(world, path="/servers/other/mcp", body=call(), **session))
    assert lost[requests("mcp", "4xx")] == 1 and lost['outrigger_faults_total{kind="session_lost"}'] == 1
    released = changed(world, ask(world, "DELETE", **session))
    assert released == {requests("mcp", "2xx"): 1, "outrigger_sessions_released_total": 1}
    wait_until(
        lambda: get(world, "/readyz").json()["registry"] == {"kind": "embedded", "sessions": 0},
        what="the session is forgotten",
    )


def test_a_request_sent_twice_counts_as_a_retry(world):
    """The kept connection is closed while the next request is on its way."""
    ask(world, body=call(leave=1))()
    again = changed(world, ask(world, body=call("tools/list")))
    assert again["outrigger_retries_total"] == 1
    assert again["outrigger_upstream_connects_total"] == 1
    assert again[requests("mcp", "2xx")] == 1


def test_open_streams_and_connections_are_gauges(world):
    wait_until(lambda: world.metrics()["outrigger_connections"] == 0)
    with world.client() as first, world.client() as second:
        for client in (first, second):
            client.send(b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
            client.read_until(b"begun")
        metrics = world.metrics()
        assert (metrics["outrigger_connections"], metrics["outrigger_streams"]) == (2, 2)
        assert get(world, "/readyz").json()["upstreams"][0]["peers"][0]["in_flight"] == 2
    wait_until(lambda: world.metrics()["outrigger_connections"] == world.metrics()["outrigger_streams"] == 0)
    assert get(world, "/readyz").json()["upstreams"][0]["peers"][0]["in_flight"] == 0


def test_a_hundred_requests_are_a_hundred(world):
    def act():
        with world.client() as client:
            for number in range(100):
                path = "/admin" if number % 4 == 0 else MCP
                client.ask("POST", path, b"{" if number % 5 == 4 and path == MCP else call(), JSON)

    # Of 75 MCP requests, those with 4 modulo 5 (and not 0 modulo 4) are broken: 15.
    counted = changed(world, act)
    assert counted[requests("pass", "2xx")] == 25
    assert counted[requests("mcp", "2xx")] == 60
    assert counted[requests("mcp", "4xx")] == 15
    assert counted['outrigger_faults_total{kind="bad_message"}'] == 15
