"""k8s/: the configurations are right where they will be read, and their numbers go with those of the pods."""

import json
import re
import subprocess

import pytest
import yaml

from harness.k8s import K8S, OVERLAYS, Overlay, Sidecar, kustomize, mebibytes, seconds, variables
from harness.paths import ROOT, outrigger_binary

SIDECARS = [(name, sidecar.name) for name in OVERLAYS for sidecar in Overlay(name).sidecars]
#: Seconds that a server may take to end once its clients are gone, and that are left over in the end.
SERVER, REST = 15, 5


@pytest.fixture(params=SIDECARS, ids="-".join)
def sidecar(request) -> Sidecar:
    overlay, name = request.param
    return Overlay(overlay).sidecar(name)


def check(sidecar: Sidecar, folder, pki, environment: dict[str, str]) -> subprocess.CompletedProcess:
    """`outrigger check` on its configuration as in the container, but that every mount lies below `folder`."""
    mounts = sidecar.lay_out(folder, pki)
    (file,) = [place / "outrigger.yaml" for place, _ in mounts.values() if (place / "outrigger.yaml").exists()]
    text = file.read_text()
    for path, (place, _) in mounts.items():
        text = text.replace(path, str(place))
    file.write_text(text)
    return subprocess.run([outrigger_binary(), "check", file], env=environment, capture_output=True, text=True)


def test_the_configuration_is_right(sidecar, tmp_path, pki):
    done = check(sidecar, tmp_path, pki, sidecar.environment())
    assert done.returncode == 0, done.stderr
    assert ": ok: " in done.stdout


def test_without_its_environment_it_is_not(tmp_path, pki):
    """Or the test before could not fail."""
    done = check(Overlay("contextforge").sidecar("outrigger"), tmp_path, pki, {})
    assert done.returncode == 64
    for variable in ("PROFILE", "PUBLIC_URL", "PROXY_NETWORK", "GATEWAY_PORT"):
        assert f"the environment variable `{variable}` is not set" in done.stderr


def test_members_differ_from_the_base_in_what_makes_them_members():
    base = Overlay("contextforge").sidecar("outrigger").config
    members = Overlay("replicas-redis").sidecar("outrigger").config
    assert set(members) - set(base) == {"member"}
    for key in set(base) - {"sessions"}:
        assert members[key] == base[key], key


def test_both_sides_of_the_pod_have_one_public_url():
    for name in OVERLAYS:
        overlay = Overlay(name)
        url = overlay.sidecar("outrigger").environment()["PUBLIC_URL"]
        if name != "generic":
            assert variables(overlay, overlay.gateway)["APP_DOMAIN"] == url
        assert yaml.safe_dump_all(overlay.objects).count(url) == 1, "it is written once"


def test_every_port_is_one_that_the_configuration_opens(sidecar):
    config = sidecar.config
    opened = [
        config["admin"]["address"],
        *(address for one in config["listeners"] for address in _list(one["address"])),
    ]
    opened += _list(config["member"]["address"]) if "member" in config else []
    reachable = {int(address.rpartition(":")[2]) for address in opened if address.startswith("0.0.0.0:")}
    assert {port["containerPort"] for port in sidecar.spec["ports"]} == reachable
    admin = int(config["admin"]["address"].rpartition(":")[2])
    ports = {port["name"]: port["containerPort"] for port in sidecar.spec["ports"]}
    for kind in ("startup", "liveness", "readiness"):
        assert ports[sidecar.spec[f"{kind}Probe"]["httpGet"]["port"]] == admin


def test_prometheus_asks_every_admin_port(sidecar):
    (template,) = [one["spec"]["template"] for one in sidecar.overlay.of("Deployment")]
    monitor = Overlay("replicas-redis").get("PodMonitor", "outrigger")["spec"]
    assert monitor["selector"]["matchLabels"] == template["metadata"]["labels"]
    admin = int(sidecar.config["admin"]["address"].rpartition(":")[2])
    (port,) = [port["name"] for port in sidecar.spec["ports"] if port["containerPort"] == admin]
    assert {"port": port, "path": "/metrics", "interval": "15s"} in monitor["podMetricsEndpoints"]
    annotations = template["metadata"]["annotations"]
    if sidecar.name == "outrigger":
        # One port is all that they can say.
        assert (annotations["prometheus.io/port"], annotations["prometheus.io/path"]) == (str(admin), "/metrics")


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_pod_lives_as_long_as_its_parts_need_to_end(name):
    """Outrigger: preStop, then the drain. The gateway outlives it by its own preStop; what it calls outlives both."""
    overlay = Overlay(name)
    clients = overlay.sidecar("outrigger")
    hook = clients.spec["lifecycle"]["preStop"]["exec"]["command"]
    assert hook[:3] == ["outrigger", "stop", "--after"]
    drained = seconds(hook[3]) + seconds(clients.config["shutdown"]["timeout"])
    gateway = overlay.gateway["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert gateway >= drained
    last = [seconds(one.config["shutdown"]["timeout"]) for one in overlay.sidecars if one is not clients]
    assert all("lifecycle" not in one.spec for one in overlay.sidecars if one is not clients)
    assert overlay.pod["terminationGracePeriodSeconds"] >= gateway + SERVER + sum(last) + REST


def test_streams_of_a_draining_generation_may_outlive_a_reload_not_the_pod(sidecar):
    """`drain` is for reloads, without a bound by Kubernetes; `shutdown` for the pod's end."""
    assert seconds(sidecar.config["drain"]["timeout"]) > seconds(sidecar.config["shutdown"]["timeout"])
    assert seconds(sidecar.config["shutdown"]["timeout"]) < sidecar.overlay.pod["terminationGracePeriodSeconds"]


def test_the_memory_limit_holds_what_was_measured(sidecar):
    """README, Speed: the supervisor, all generations at once, every connection an event stream over TLS."""
    readme = (ROOT / "README.md").read_text()
    supervisor, worker = map(float, re.search(r"\| idle, resident .*?\| ([\d.]+) \+ ([\d.]+) MiB", readme).groups())
    stream = float(re.search(r"\| per event stream over TLS \| ([\d.]+) KiB", readme).group(1))
    config = sidecar.config
    generations = config["drain"]["max_generations"] + 1
    needed = supervisor + generations * worker + config["limits"]["connections"] * stream / 1024
    limit = mebibytes(sidecar.spec["resources"]["limits"]["memory"])
    assert needed * 1.1 < limit, f"{needed:.0f} MiB and a tenth for bodies"
    assert mebibytes(sidecar.spec["resources"]["requests"]["memory"]) > supervisor + worker


def test_the_processor_limit_is_that_of_its_threads(sidecar):
    """So that no thread waits for the rest of a period, with the processor idle."""
    assert int(sidecar.spec["resources"]["limits"]["cpu"]) == sidecar.config["threads"]


def test_the_configuration_keeps_its_name_when_it_changes():
    """A new name would replace the pods, and with them every session, where a reload is enough: files are watched."""
    schema = json.loads(subprocess.run([outrigger_binary(), "schema"], capture_output=True, check=True).stdout)
    assert schema["properties"]["reload"]["properties"]["watch"]["default"] is True
    for folder in [K8S / "base", *(K8S / "overlays" / name for name in OVERLAYS)]:
        names = {one["metadata"]["name"] for one in kustomize(folder) if one["kind"] == "ConfigMap"}
        assert "outrigger" in names


def _list(one: str | list[str]) -> list[str]:
    return [one] if isinstance(one, str) else one
