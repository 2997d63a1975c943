"""Kubernetes without a cluster: overlays as people render them, and what is in their pods' volumes and variables."""

import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import yaml

from .paths import CACHE, ROOT
from .pki import Pki
from .redis import PASSWORD

K8S = ROOT / "k8s"
OVERLAYS = sorted(folder.name for folder in (K8S / "overlays").iterdir())

#: What people make before, as the kustomizations' first lines say.
_SECRETS = {
    "redis": {"password": PASSWORD, "users.acl": "user default off\n"},
    "contextforge": {"DATABASE_URL": "sqlite:////tmp/mcp.db", "JWT_SECRET_KEY": "for-tests-only"},
}


def kustomize(folder: Path) -> list[dict]:
    """The objects of a kustomization."""
    return list(yaml.safe_load_all(_rendered(folder)))


@cache
def _rendered(folder: Path) -> str:
    build = CACHE / "kustomize" / "build"
    done = subprocess.run([build, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, f"warnings: {done.stderr}"
    return done.stdout


class Overlay:
    """A rendered overlay of k8s/overlays."""

    def __init__(self, name: str):
        self.name = name
        self.objects = kustomize(K8S / "overlays" / name)

    def get(self, kind: str, name: str) -> dict:
        (found,) = [one for one in self.of(kind) if one["metadata"]["name"] == name]
        return found

    def of(self, kind: str) -> list[dict]:
        return [one for one in self.objects if one["kind"] == kind]

    @property
    def pods(self) -> list[dict]:
        """The specifications of all pods, whoever makes them."""
        return [one["spec"]["template"]["spec"] for one in self.objects if "template" in one.get("spec", {})]

    @property
    def pod(self) -> dict:
        """That which Outrigger is in."""
        return self.get("Deployment", "outrigger")["spec"]["template"]["spec"]

    @property
    def gateway(self) -> dict:
        (container,) = self.pod["containers"]
        return container

    @cached_property
    def sidecars(self) -> list["Sidecar"]:
        return [Sidecar(self, container) for container in self.pod["initContainers"]]

    def sidecar(self, name: str) -> "Sidecar":
        (found,) = [one for one in self.sidecars if one.name == name]
        return found


@dataclass(frozen=True)
class Sidecar:
    """A container of Outrigger's."""

    overlay: Overlay
    spec: dict

    @property
    def name(self) -> str:
        return self.spec["name"]

    @property
    def config_file(self) -> str:
        """Where it finds its configuration."""
        return self.spec["args"][self.spec["args"].index("--config") + 1]

    @property
    def config(self) -> dict:
        """Its configuration as written, variables and all."""
        (mount,) = [one for one in self.spec["volumeMounts"] if Path(self.config_file).is_relative_to(one["mountPath"])]
        name = self._volume(mount["name"])["configMap"]["name"]
        return yaml.safe_load(self.overlay.get("ConfigMap", name)["data"][Path(self.config_file).name])

    def environment(self) -> dict[str, str]:
        return variables(self.overlay, self.spec)

    def lay_out(self, folder: Path, pki: Pki) -> dict[str, tuple[Path, bool]]:
        """Fills `folder` with what its volumes hold. By mount path: what is there, and whether it may be written to.

        Certificates that cert-manager would issue are `pki`'s, with the names that the manifests ask for.
        """
        mounts = {}
        for mount in self.spec["volumeMounts"]:
            assert "subPath" not in mount, "such a mount never sees a change"
            place = folder / self.name / mount["name"]
            place.mkdir(parents=True)
            writable = "emptyDir" in self._volume(mount["name"])
            if not writable:
                project(place, self.content(mount["name"], pki))
            mounts[mount["mountPath"]] = (place, writable)
        return mounts

    def content(self, volume: str, pki: Pki) -> dict[str, str]:
        """Files of a volume by name; certificates are issued anew."""
        return self._content(self._volume(volume), pki)

    def _volume(self, name: str) -> dict:
        (volume,) = [one for one in self.overlay.pod["volumes"] if one["name"] == name]
        return volume

    def _content(self, volume: dict, pki: Pki) -> dict[str, str]:
        match volume:
            case {"projected": {"sources": sources}}:
                return {name: text for source in sources for name, text in self._content(source, pki).items()}
            case {"configMap": {"name": "payments-ca", **rest}}:
                return _chosen({"ca.crt": pki.ca.read_text()}, rest)
            case {"configMap": {"name": name, **rest}}:
                return _chosen(self.overlay.get("ConfigMap", name)["data"], rest)
            case {"secret": {"secretName": name, **rest}} | {"secret": {"name": name, **rest}}:
                return _chosen(self._secret(name, pki), rest)
        raise AssertionError(f"{volume} is unknown here")

    def _secret(self, name: str, pki: Pki) -> dict[str, str]:
        if name in _SECRETS:
            return _SECRETS[name]
        (asked,) = [one["spec"] for one in self.overlay.of("Certificate") if one["spec"]["secretName"] == name]
        issued = pki.issue(*asked["dnsNames"], label=name)
        return {
            "tls.crt": issued.cert.read_text(),
            "tls.key": issued.key.read_text(),
            "ca.crt": pki.ca.read_text(),
        }


def project(place: Path, files: dict[str, str]) -> None:
    """Fills a volume as kubelet does: files are links through `..data`, and a change is one rename of that."""
    version = Path(tempfile.mkdtemp(dir=place, prefix=".."))
    for name, content in files.items():
        (version / name).write_text(content)
    (place / "..new").symlink_to(version.name)
    (place / "..new").rename(place / "..data")
    for name in files:
        if not (place / name).is_symlink():
            (place / name).symlink_to(f"..data/{name}")


def variables(overlay: Overlay, container: dict) -> dict[str, str]:
    """What kubelet would set for a container, but for Secrets; the pod's own address is loopback."""
    return {one["name"]: _value(overlay, one) for one in container.get("env", [])}


def _value(overlay: Overlay, variable: dict) -> str:
    if "value" in variable:
        return variable["value"]
    match variable["valueFrom"]:
        case {"configMapKeyRef": {"name": name, "key": key}}:
            return overlay.get("ConfigMap", name)["data"][key]
        case {"fieldRef": {"fieldPath": "metadata.name"}}:
            return "outrigger-5d9c7b6f4-x2x8k"
        case {"fieldRef": {"fieldPath": "status.podIP"}}:
            return "127.0.0.1"
    raise AssertionError(f"{variable} is unknown here")


def _chosen(data: dict[str, str], rest: dict) -> dict[str, str]:
    """All of it, or the items that a volume names."""
    if "items" not in rest:
        return data
    return {item["path"]: data[item["key"]] for item in rest["items"]}


def seconds(text: str | int) -> float:
    """`30s`, `1h`: a time of the configuration."""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    unit = text.lstrip("0123456789")
    return float(text.removesuffix(unit)) * units[unit]


def mebibytes(text: str) -> float:
    """`256Mi`, `1Gi`: a quantity of memory."""
    units = {"Ki": 1 / 1024, "Mi": 1, "Gi": 1024}
    return float(text[:-2]) * units[text[-2:]]
