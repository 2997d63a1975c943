"""k8s/: every overlay renders, fits four versions of Kubernetes to the letter, and keeps a careful operator's rules."""

import re
import subprocess

import pytest
import yaml

from harness.k8s import K8S, OVERLAYS, Overlay, kustomize
from harness.paths import CACHE

#: The oldest that has native sidecars and `preStop.sleep` without being asked, and the newest whose schemas there are.
VERSIONS = ("1.30", "1.32", "1.34", "1.37")
TOOLS = CACHE / "k8s" / "bin"
STYLE = """
extends: default
rules:
  document-start: disable
  line-length: {max: 150}
  braces: {max-spaces-inside: 1}
  comments: {min-spaces-from-content: 1}
  octal-values: disable
"""
#: Keys of the custom resources that we use, as their definitions have them: no schema of theirs comes with Kubernetes'.
CUSTOM = {
    "Certificate": (
        "cert-manager.io/v1",
        {
            "secretName",
            "commonName",
            "dnsNames",
            "isCA",
            "usages",
            "duration",
            "renewBefore",
            "privateKey",
            "issuerRef",
        },
    ),
    "Issuer": ("cert-manager.io/v1", {"ca", "selfSigned"}),
    "PodMonitor": ("monitoring.coreos.com/v1", {"selector", "podMetricsEndpoints"}),
    "PrometheusRule": ("monitoring.coreos.com/v1", {"groups"}),
}


@pytest.fixture(params=OVERLAYS)
def overlay(request) -> Overlay:
    return Overlay(request.param)


def containers(overlay: Overlay) -> list[tuple[dict, dict]]:
    """Every container with its pod, whoever's it is."""
    return [(pod, one) for pod in overlay.pods for one in [*pod.get("initContainers", []), *pod["containers"]]]


def accepted(file, version: str) -> subprocess.CompletedProcess:
    command = [TOOLS / "kubernetes-validate", "--kubernetes-version", version, "--strict", "--quiet", "--no-warn", file]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_four_overlays_are_there():
    assert OVERLAYS == ["contextforge", "egress-mtls", "generic", "replicas-redis"]


def test_the_yaml_is_tidy():
    files = sorted(K8S.rglob("*.yaml"))
    assert len(files) > 15
    done = subprocess.run([TOOLS / "yamllint", "--strict", "-d", STYLE, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("version", VERSIONS)
def test_it_fits_the_schema_strictly(overlay, version, tmp_path):
    own = [one for one in overlay.objects if one["kind"] not in CUSTOM]
    assert len(own) >= 4
    file = tmp_path / "manifests.yaml"
    file.write_text(yaml.safe_dump_all(own))
    done = accepted(file, version)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schema_knows_what_it_refuses(tmp_path):
    """Or the test before could not fail: an unknown key deep inside, and a hook that the version does not know yet."""
    (deployment,) = Overlay("generic").of("Deployment")
    file = tmp_path / "manifests.yaml"
    file.write_text(yaml.safe_dump(deployment))
    assert accepted(file, "1.30").returncode == 0
    assert accepted(file, "1.28").returncode != 0, "preStop.sleep"
    deployment["spec"]["template"]["spec"]["initContainers"][0]["livenessProbe"]["httpGet"]["pathh"] = "/"
    file.write_text(yaml.safe_dump(deployment))
    assert accepted(file, "1.30").returncode != 0


def test_custom_resources_have_known_keys_only(overlay):
    for one in overlay.objects:
        if one["kind"] in CUSTOM:
            version, keys = CUSTOM[one["kind"]]
            assert one["apiVersion"] == version
            assert set(one["spec"]) <= keys, one["metadata"]["name"]


def test_every_certificate_has_an_issuer_and_its_key_changes_with_it(overlay):
    issuers = {one["metadata"]["name"] for one in overlay.of("Issuer")}
    for one in overlay.of("Certificate"):
        issuer = one["spec"]["issuerRef"]
        assert issuer["name"] in issuers or issuer["kind"] == "ClusterIssuer"
        assert one["spec"].get("isCA") or one["spec"]["privateKey"]["rotationPolicy"] == "Always"


def test_containers_may_do_nothing_that_they_need_not(overlay):
    for pod, container in containers(overlay):
        for name, security in [("pod", pod["securityContext"]), (container["name"], container["securityContext"])]:
            assert not {"privileged", "sysctls", "procMount"} & set(security), name
        rights = {**pod["securityContext"], **container["securityContext"]}
        assert rights["runAsNonRoot"] is True
        assert rights["seccompProfile"] == {"type": "RuntimeDefault"}
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & set(pod)
        assert not [volume for volume in pod["volumes"] if "hostPath" in volume]


def test_every_container_asks_for_what_it_needs_and_has_a_bound(overlay):
    for _, container in containers(overlay):
        resources = container["resources"]
        assert set(resources["requests"]) == {"cpu", "memory"}
        assert "memory" in resources["limits"]


def test_images_have_a_version(overlay):
    for _, container in containers(overlay):
        assert re.search(r":v?\d+\.\d+", container["image"]), container["image"]


def test_outrigger_is_a_native_sidecar_with_three_probes(overlay):
    for sidecar in overlay.sidecars:
        assert sidecar.spec["restartPolicy"] == "Always"
        probes = {kind: sidecar.spec[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness")}
        assert {kind: probe["httpGet"]["path"] for kind, probe in probes.items()} == {
            "startup": "/startupz",
            "liveness": "/livez",
            "readiness": "/readyz",
        }
        # A start may take its time, a hang is noticed in half a minute, and who is not ready is out at once.
        bounds = {kind: probe["periodSeconds"] * probe["failureThreshold"] for kind, probe in probes.items()}
        assert bounds == {"startup": 30, "liveness": 30, "readiness": 10}


def test_the_gateway_is_reached_through_outrigger_only(overlay):
    """It listens on loopback, nobody outside is told its port, and it is ready when the clients' way to it is."""
    sidecar = overlay.sidecar("outrigger")
    port = sidecar.environment()["GATEWAY_PORT"]
    environment = {one["name"]: one.get("value") for one in overlay.gateway["env"]}
    assert (environment["HOST"], environment["PORT"]) == ("127.0.0.1", port)
    assert "ports" not in overlay.gateway
    (listener,) = sidecar.config["listeners"]
    assert overlay.gateway["readinessProbe"]["httpGet"]["port"] == int(listener["address"].rpartition(":")[2])


def test_ports_in_services_and_policies_are_numbers_that_a_container_listens_on(overlay):
    """Numbers: https://github.com/kubernetes/kubernetes/issues/127958."""
    ours = {port["containerPort"] for sidecar in overlay.sidecars for port in sidecar.spec["ports"]}
    labels = overlay.get("Deployment", "outrigger")["spec"]["template"]["metadata"]["labels"]
    services = [one["spec"] for one in overlay.of("Service") if one["spec"]["selector"] == labels]
    assert services
    for service in services:
        assert {port["targetPort"] for port in service["ports"]} <= ours
    policy = overlay.get("NetworkPolicy", "outrigger")["spec"]
    assert policy["podSelector"] == {"matchLabels": labels}
    assert policy["policyTypes"] == ["Ingress"]
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == ours
    # Everybody may use the public listener, and nothing else.
    assert [rule["ports"] for rule in policy["ingress"] if "from" not in rule] == [[{"port": 8080}]]


def test_what_a_pod_refers_to_is_there_or_is_asked_for(overlay):
    """A ConfigMap or Secret is the overlay's, cert-manager's, or made by the commands in the overlays' first lines."""
    made = {one["metadata"]["name"] for one in overlay.of("ConfigMap")}
    made |= {one["spec"]["secretName"] for one in overlay.of("Certificate")}
    asked = "".join(
        (K8S / "overlays" / name / "kustomization.yaml").read_text() for name in (overlay.name, "contextforge")
    )
    made |= set(re.findall(r"kubectl create (?:secret generic|configmap) --namespace mcp (\S+)", asked))
    named = re.findall(
        r"(?:configMap|secret|secretRef|configMapKeyRef|secretKeyRef):\s+(?:\w+: .*\s+)*?(?:name|secretName): (\S+)",
        yaml.safe_dump(overlay.pods),
    )
    assert len(named) >= 2
    assert set(named) <= made


def test_three_members_stand_apart_and_go_one_at_a_time():
    overlay = Overlay("replicas-redis")
    deployment = overlay.get("Deployment", "outrigger")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["replicas"] == 3
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    terms = deployment["template"]["spec"]["affinity"]["podAntiAffinity"]
    apart = [one["podAffinityTerm"] for one in terms["preferredDuringSchedulingIgnoredDuringExecution"]]
    assert [one["topologyKey"] for one in apart] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    assert all(one["labelSelector"]["matchLabels"] == labels for one in apart)
    budget = overlay.get("PodDisruptionBudget", "outrigger")["spec"]
    assert (budget["maxUnavailable"], budget["selector"]["matchLabels"]) == (1, labels)
    members = overlay.get("Service", "members")["spec"]
    assert (members["clusterIP"], members["publishNotReadyAddresses"]) == ("None", True)


def test_only_the_members_reach_redis_and_each_others_listener():
    overlay = Overlay("replicas-redis")
    labels = overlay.get("Deployment", "outrigger")["spec"]["template"]["metadata"]["labels"]
    us = [{"podSelector": {"matchLabels": labels}}]
    redis = overlay.get("NetworkPolicy", "redis")["spec"]
    assert redis["podSelector"]["matchLabels"] == overlay.get("Service", "redis")["spec"]["selector"] != labels
    assert [rule["from"] for rule in redis["ingress"]] == [us]
    policy = overlay.get("NetworkPolicy", "outrigger")["spec"]
    assert [rule["from"] for rule in policy["ingress"] if rule["ports"] == [{"port": 8444}]] == [us]


def test_the_client_key_is_mounted_where_it_is_used_and_nowhere_else():
    overlay = Overlay("egress-mtls")
    mounted = {
        one["name"] for _, one in containers(overlay) for mount in one["volumeMounts"] if mount["name"] == "payments"
    }
    assert mounted == {"egress"}
    # Nor does anybody but the gateway of this pod reach what speaks with it.
    addresses = [address for one in overlay.sidecar("egress").config["listeners"] for address in one["address"]]
    assert addresses == ["127.0.0.1:9101", "[::1]:9101"]


def test_the_base_alone_names_no_server():
    """Overlays say what it is; what is Outrigger's is said once."""
    (deployment,) = [one for one in kustomize(K8S / "base") if one["kind"] == "Deployment"]
    assert deployment["spec"]["template"]["spec"]["containers"] == []
    for overlay in map(Overlay, OVERLAYS):
        base = deployment["spec"]["template"]["spec"]["initContainers"][0]
        ours = overlay.sidecar("outrigger").spec
        same = set(base) - {"env", "ports", "volumeMounts"}
        assert {key: base[key] for key in same} == {key: ours[key] for key in same}
