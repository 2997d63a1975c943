"""k8s/overlays/replicas-redis: three pods as rendered, each in a network of its own, are one to a client.

Real Redis, with no more rights than conf/redis.yaml asks for; real MCP servers; mTLS by the manifest's certificate.
"""

import json
import re
from contextlib import ExitStack

import httpx
import pytest

from harness import wait_until
from harness.container import Container, permitted
from harness.k8s import Overlay
from harness.mcp import SERVER_KINDS, McpSession
from harness.paths import ROOT
from harness.places import Place
from harness.plain import get
from harness.redis import RedisServer

pytestmark = pytest.mark.skipif(not permitted(), reason="this machine allows no user namespaces")

PODS = ("outrigger-a", "outrigger-b", "outrigger-c")
#: It stands for the gateway.
SERVER = SERVER_KINDS["python-v1"]
#: What it takes for its own; with the manifest's it would refuse every request.
PUBLIC_URL = "http://localhost:8080"
REGISTRY_FAILED = "The session registry is unavailable"


def rights() -> str:
    """What conf/redis.yaml says that Outrigger's user needs."""
    text = (ROOT / "conf" / "redis.yaml").read_text().replace("\n    #    ", "")
    return re.search(r"ACL SETUSER outrigger on >… (.*)", text).group(1)


class Client(McpSession):
    """One that tries again where it is told to: on a busy machine Redis now and then takes longer than 100 ms."""

    def post(self, *args, **options) -> httpx.Response:
        def told() -> httpx.Response | None:
            answer = super(Client, self).post(*args, **options)
            return None if "retry-after" in answer.headers and REGISTRY_FAILED in answer.text else answer

        return wait_until(told, what="an answer that rests on Redis")


class Pod:
    """A member and its gateway."""

    def __init__(self, name: str, place: Place, member: Container):
        self.name, self.member = name, member
        self.url = f"http://{place.front}:8080{SERVER.path}"
        self.admin = f"http://{place.front}:9901"

    def ready(self) -> bool:
        return self.member.probe("readiness")


@pytest.fixture
def pods(tmp_path, namespaces, pki, start) -> list[Pod]:
    overlay = Overlay("replicas-redis")
    sidecar = overlay.sidecar("outrigger")
    with ExitStack() as ends:
        redis = RedisServer(tmp_path, host=namespaces.redis_host, login=True, rights=rights(), port=6379)
        ends.callback(redis.end)
        pods = []
        for name in PODS:
            place = namespaces.place(name)
            port = int(sidecar.environment()["GATEWAY_PORT"])
            gateway = start(f"gateway-{name}", [*place.launcher, *SERVER.argv(name, port)])
            own = {"POD_NAME": name, "POD_IP": place.back, "PUBLIC_URL": PUBLIC_URL}
            hosts = {"redis": namespaces.redis_host}
            member = Container(sidecar, tmp_path / name, pki, start, place, own, hosts)
            gateway.wait_ready(lambda gateway=gateway, port=port: gateway.listens(port))
            pods.append(Pod(name, place, member))
        for pod in pods:
            wait_until(pod.ready)
        yield pods


def test_a_session_goes_on_by_whichever_pod_it_enters(pods):
    session = Client(pods[0].url)
    seen = [json.loads(session.call(pod.url, "count")) for pod in [*pods, *pods]]
    assert seen == [{"name": "outrigger-a", "count": number} for number in range(1, 7)]
    session.close()


def test_a_pod_that_ends_takes_its_sessions_and_no_others(pods):
    first, second = Client(pods[0].url), Client(pods[1].url)
    assert json.loads(first.call(pods[2].url, "count"))["name"] == "outrigger-a"
    hook = pods[0].member.sidecar.spec["lifecycle"]["preStop"]["exec"]["command"]
    assert pods[0].member.inside(*hook).returncode == 0
    assert pods[0].member.process.wait() == 0
    for pod in pods[1:]:
        answer = first.post(pod.url, "tools/list")
        assert (answer.status_code, answer.json()["error"]["message"]) == (404, "Session not found; initialize again")
        assert json.loads(second.call(pod.url, "count"))["name"] == "outrigger-b"
    first.close()
    second.close()


def test_from_outside_the_admin_listener_gives_probes_and_metrics_only(pods):
    """As kubelet and Prometheus come; what tells more is for who is inside."""
    statuses = {
        path: get(f"{pods[0].admin}{path}").status_code for path in ("/livez", "/readyz", "/startupz", "/metrics")
    }
    assert set(statuses.values()) == {200}, statuses
    assert get(f"{pods[0].admin}/config").status_code == 403
    assert pods[0].member.get(9901, "/config") == 200
