"""P5: the egress. A gateway speaks plain HTTP to a listener on loopback, and all that it reads leads back there."""

import json
from contextlib import ExitStack

import pytest

from harness import JSON, answering, chunk, event, event_stream_head, free_port, response
from harness.http1 import LAST_CHUNK
from harness.mcp import SdkClient
from harness.stage import Http1Client, call, result

OK = response(200, result(ok=True))


@pytest.fixture
def egress(outrigger, raw_upstream, pki):
    """Starts strict-mTLS servers with these scripts and an egress for them: the first on a port, all by path."""

    def make(**scripts) -> "Egress":
        context = pki.server_context(pki.issue("localhost"), client_ca=pki.ca)
        servers = {name: raw_upstream(script, tls=context) for name, script in scripts.items()}
        return Egress(outrigger, pki, servers)

    return make


class Egress:
    """`port` leads to the first server, `shared` to each of them by its name as the path."""

    def __init__(self, outrigger, pki, servers):
        self.servers = servers
        tls = {"ca": str(pki.ca), "server_name": "localhost", **pki.client("gateway").as_config()}
        upstreams = {
            name: {"peers": [server.address], "host": f"{name}.example:{server.port}", "tls": tls}
            for name, server in servers.items()
        }
        self.port, self.shared = free_port(), free_port()
        first = {"name": "port", "address": loopback(self.port), "upstream": next(iter(servers)), "scope": False}
        paths = [{"path": f"/{name}", "upstream": name} for name in servers]
        shared = {"name": "shared", "address": loopback(self.shared), "paths": paths, "scope": False}
        config = {"listeners": [first, shared], "upstreams": {"gateway": None, **upstreams}}
        self.world = outrigger([], config)

    def ask(self, port: int, path: str, body: bytes = b"", host: str = "localhost", at: str = "127.0.0.1", **headers):
        """As a gateway that registered http://localhost:PORT/PATH."""
        with Http1Client(f"{at}:{port}") as client:
            fields = {"Host": f"{host}:{port}", **(JSON if body else {}), **headers}
            return client.ask("POST" if body else "GET", path, body, fields)


def loopback(port: int) -> list[str]:
    return [f"127.0.0.1:{port}", f"[::1]:{port}"]


def redirect(status: int, location: str) -> bytes:
    return response(status, b"", {"Location": location})


def test_a_server_is_reached_over_both_loopback_addresses_by_port_and_by_path(egress):
    asked = egress(pay=answering(OK), hr=answering(OK))
    for at, host in (("127.0.0.1", "localhost"), ("127.0.0.1", "127.0.0.1"), ("::1", "localhost"), ("::1", "[::1]")):
        for port, path in ((asked.port, "/mcp"), (asked.shared, "/pay/mcp"), (asked.shared, "/hr/mcp?x=/hr/mcp")):
            answer = asked.ask(port, path, call(), host, at)
            assert (answer.status, answer.json) == (200, result(ok=True)), (at, host, path)
    pay, hr = (asked.servers[name].requests for name in ("pay", "hr"))
    assert {request.path for request in pay} == {"/mcp"} and len(pay) == 8
    assert {request.path for request in hr} == {"/mcp?x=/hr/mcp"} and len(hr) == 4


def test_the_server_is_called_as_by_a_client_of_its_own(egress):
    asked = egress(pay=answering(OK))
    forged = {"X-Forwarded-For": "10.0.0.1", "Forwarded": "for=10.0.0.1", "Authorization": "Bearer abc"}
    for path in ("/pay/mcp", "/pay/anything/else"):
        assert asked.ask(asked.shared, path, call(), **forged).status == 200
    for request in asked.servers["pay"].requests:
        fields = {name.lower(): value for name, value in request.headers}
        assert fields["host"] == f"pay.example:{asked.servers['pay'].port}"
        assert fields["authorization"] == "Bearer abc"
        assert not {name for name in fields if name.startswith(("x-forwarded", "forwarded"))}


def test_a_path_that_leads_nowhere_is_not_found(egress):
    asked = egress(pay=answering(OK))
    for path in ("/mcp", "/", "/payments/mcp", "/PAY/mcp", "/%70ay/mcp", "/servers/pay/mcp", "/.well-known/pay/x"):
        assert asked.ask(asked.shared, path, call()).status == 404, path
    assert asked.servers["pay"].requests == []


def test_only_this_machine_is_let_in(egress):
    asked = egress(pay=answering(OK))
    assert asked.ask(asked.shared, "/pay/mcp", call(), host="evil.example").status == 403
    assert asked.ask(asked.shared, "/pay/mcp", call(), Origin="https://evil.example").status == 403
    assert asked.servers["pay"].requests == []


@pytest.mark.parametrize("written", ["/messages/?session_id=1", "https://{own}/messages/?session_id=1"])
def test_the_endpoint_event_points_to_the_egress(egress, written):
    def script(connection):
        while True:
            request = connection.read_request()
            if request.path == "/sse":
                endpoint = written.format(own=request.header("host"))
                connection.send(event_stream_head() + chunk(f"event: endpoint\ndata: {endpoint}\n\n".encode()))
            else:
                connection.send(response(202))

    asked = egress(pay=script)
    for port, prefix in ((asked.port, ""), (asked.shared, "/pay")):
        with Http1Client(f"127.0.0.1:{port}") as client:
            stream = client.begin("GET", f"{prefix}/sse", b"", {"Host": f"localhost:{port}"})
            assert stream.read_head().status == 200
            endpoint = f"{prefix}/messages/?session_id=1"
            assert stream.read_piece() == f"event: endpoint\ndata: {endpoint}\n\n".encode()
            assert asked.ask(port, endpoint, call()).status == 202
    paths = [request.path for request in asked.servers["pay"].requests]
    assert sorted(paths) == ["/messages/?session_id=1"] * 2 + ["/sse"] * 2


@pytest.mark.parametrize("location", ["/mcp/", "https://{own}/mcp/", "https://localhost:{port}/mcp/"])
def test_what_a_slash_would_redirect_is_asked_for_there(egress, location):
    def script(connection):
        while True:
            request = connection.read_request()
            own = request.header("host")
            where = location.format(own=own, port=own.rpartition(":")[2])
            connection.send(OK if request.path == "/mcp/" else redirect(307, where))

    asked = egress(pay=script)
    answer = asked.ask(asked.shared, "/pay/mcp", call())
    assert (answer.status, answer.json) == (200, result(ok=True))
    assert [request.path for request in asked.servers["pay"].requests] == ["/mcp", "/mcp/"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["https://login.example/", "/elsewhere", "http://localhost/mcp"])
def test_no_other_redirect_reaches_the_gateway(egress, status, location):
    asked = egress(pay=answering(redirect(status, location)))
    answer = asked.ask(asked.shared, "/pay/mcp", call("tools/call"))
    assert (answer.status, answer.json["id"], answer.header("location")) == (502, 7, None)
    assert "redirect" in answer.json["error"]["message"]
    assert len(asked.servers["pay"].requests) == 1


def test_a_location_beside_mcp_points_to_the_egress(egress):
    def script(connection):
        own = connection.read_request().header("host")
        connection.send(redirect(302, f"https://{own}/login?next=/mcp"))

    asked = egress(pay=script)
    answer = asked.ask(asked.shared, "/pay/docs")
    public = f"http://localhost:{asked.shared}/pay/login?next=/mcp"
    assert (answer.status, answer.header("location")) == (302, public)


def test_the_metadata_of_a_protected_resource_is_found_by_its_public_name(egress):
    def script(connection):
        own = connection.read_request().header("host")
        connection.send(response(200, {"resource": f"https://{own}/mcp"}))

    asked = egress(pay=script)
    answer = asked.ask(asked.shared, "/.well-known/oauth-protected-resource/pay/mcp")
    assert json.loads(answer.body)["resource"] == f"http://localhost:{asked.shared}/pay/mcp"
    assert asked.servers["pay"].requests[-1].path == "/.well-known/oauth-protected-resource/mcp"


def test_a_stream_comes_whole(egress):
    def script(connection):
        connection.read_request()
        connection.send(event_stream_head() + chunk(event("one")))
        connection.send(chunk(event("two")) + LAST_CHUNK)

    asked = egress(pay=script)
    answer = asked.ask(asked.shared, "/pay/mcp")
    assert answer.body == event("one") + event("two")


@pytest.fixture(scope="module")
def sdk(tmp_path_factory):
    with ExitStack() as ends:

        def make(client: str) -> SdkClient:
            running = SdkClient(client, tmp_path_factory.mktemp(client))
            ends.callback(running.end)
            return running

        yield make


@pytest.mark.parametrize("client", ["python_v1", "typescript_v1"])
def test_real_clients_work_through_a_shared_port(outrigger, mcp_server, sdk, client):
    """Both transports at once behind one port, each by its path; an HTTP+SSE client refuses any endpoint but ours."""
    kinds = ("python-v1", "python-v1-sse")
    upstreams = {kind: {"peers": mcp_server(kind).peers[:1]} for kind in kinds}
    port = free_port()
    paths = [{"path": f"/to/{kind}", "upstream": kind} for kind in kinds]
    shared = {"name": "shared", "address": loopback(port), "paths": paths, "scope": False}
    outrigger([], {"listeners": [shared], "upstreams": {"gateway": None, **upstreams}})
    running = sdk(client)
    servers = [mcp_server(kind).kind for kind in kinds]
    jobs = [running.begin(f"http://localhost:{port}/to/{kind.name}{kind.path}", kind) for kind in servers]
    for job in jobs:
        assert job.report()["tools"]
