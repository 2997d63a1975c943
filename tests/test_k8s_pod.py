"""k8s/: a sidecar as its manifest has it, run without Kubernetes: PID 1, a read-only root, no rights, nobody's user.

It starts before its gateway, answers the manifest's probes, and ends by its preStop hook while the gateway lives on.
"""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from harness import wait_until
from harness.container import Container, permitted
from harness.contextforge import SETTINGS
from harness.k8s import OVERLAYS, Overlay, project, variables
from harness.paths import python

SIDECARS = [(name, sidecar.name) for name in OVERLAYS for sidecar in Overlay(name).sidecars]

pytestmark = pytest.mark.skipif(not permitted(), reason="this machine allows no user namespaces")


@pytest.fixture
def container(tmp_path, pki, start):
    """Runs a sidecar: `container("generic", "outrigger")`."""
    return lambda overlay, name: Container(Overlay(overlay).sidecar(name), tmp_path, pki, start)


@pytest.mark.parametrize(("overlay", "name"), SIDECARS)
def test_it_runs_as_the_manifest_says_and_answers_the_probes(overlay, name, container):
    running = container(overlay, name)
    wait_until(lambda: running.probe("startup"), what="it has started, without its gateway")
    wait_until(lambda: running.probe("readiness"))
    assert running.probe("liveness")
    status = Path(f"/proc/{running.pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert "CapEff:\t0000000000000000" in status
    assert running.inside("/usr/bin/outrigger", "version").stdout.startswith("outrigger ")


def test_it_drains_by_its_hook_while_the_gateway_lives_on(container, start, tmp_path):
    running = container("generic", "outrigger")
    wait_until(lambda: running.probe("readiness"))
    gateway = running.sidecar.overlay.gateway
    ready = gateway["readinessProbe"]["httpGet"]
    assert running.get(ready["port"], ready["path"]) == 502, "no gateway yet"
    (tmp_path / "health").write_text("ok\n")
    port = running.sidecar.environment()["GATEWAY_PORT"]
    server = start("gateway", running.beside("python3", "-m", "http.server", "--bind", "127.0.0.1", port), cwd=tmp_path)
    wait_until(
        lambda: running.get(ready["port"], ready["path"]) == 200, what="the gateway is reached through Outrigger"
    )

    hook = running.sidecar.spec["lifecycle"]["preStop"]["exec"]["command"]
    began = time.monotonic()
    assert running.inside(*hook).returncode == 0
    assert time.monotonic() - began >= 5
    assert running.process.wait() == 0
    assert server.running
    said = [json.loads(line).get("message", "") for line in running.process.err.read_text().splitlines()]
    assert said[-1] == "stopped"


def test_a_real_contextforge_beside_it_is_ready_by_its_own_probes(container, start, tmp_path):
    """With the environment of the manifest, and the commands and paths that kubelet would ask with."""
    if not python("contextforge-1.0.0rc1").exists():
        pytest.skip("`tests/setup/setup.sh contextforge-1.0.0rc1` makes it")
    running = container("contextforge", "outrigger")
    wait_until(lambda: running.probe("readiness"))
    overlay = running.sidecar.overlay
    secret = SETTINGS | {"DATABASE_URL": f"sqlite:///{tmp_path}/mcp.db", "CACHE_TYPE": "database"}
    environment = secret | variables(overlay, overlay.gateway)
    command = [python("contextforge-1.0.0rc1"), "-m", "uvicorn", "mcpgateway.main:app", "--workers", "1"]
    command += ["--host", environment["HOST"], "--port", environment["PORT"]]
    gateway = start("gateway", running.beside(*command), env=environment)
    for kind in ("startup", "liveness"):
        words = running.beside(*overlay.gateway[f"{kind}Probe"]["exec"]["command"])
        gateway.wait_ready(lambda words=words: subprocess.run(words, capture_output=True).returncode == 0, 90)
    ready = overlay.gateway["readinessProbe"]["httpGet"]
    wait_until(lambda: running.get(ready["port"], ready["path"]) == 200, what="ready, by the way that clients take")


def test_a_reload_needs_no_more_rights(container):
    running = container("contextforge", "outrigger")
    wait_until(lambda: running.probe("readiness"))
    os.kill(running.pid, signal.SIGHUP)
    wait_until(lambda: "generation 2 ready" in running.process.err.read_text(), what="a second generation")
    assert running.probe("liveness")


def test_a_renewed_certificate_and_a_changed_configuration_are_taken_up_in_place(container, pki):
    """No pod is replaced and nobody sends a signal: kubelet swaps what is mounted."""
    running = container("egress-mtls", "egress")
    wait_until(lambda: running.probe("readiness"))
    project(running.volumes["payments"], running.sidecar.content("payments", pki))
    wait_until(lambda: "generation 2 ready" in running.process.err.read_text(), what="the new certificate")
    (changed,) = running.sidecar.content("egress-config", pki).values()
    project(running.volumes["egress-config"], {"outrigger.yaml": changed + "log: { level: debug }\n"})
    wait_until(lambda: "generation 3 ready" in running.process.err.read_text(), what="the new configuration")
    assert running.probe("liveness")
