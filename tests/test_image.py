"""k8s/image/Dockerfile: linted, and, as far as can be told without containers, an image that runs what it builds."""

import re
import subprocess
import tomllib

from harness.k8s import K8S, Overlay
from harness.paths import CACHE, ROOT, outrigger_binary

FILE = K8S / "image" / "Dockerfile"
#: What gcr.io/distroless/cc-debian12 has of shared libraries: glibc's and libgcc's.
THERE = {"linux-vdso.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1", "libc.so.6", "libm.so.6", "libgcc_s.so.1"}


def instructions() -> list[tuple[str, str]]:
    """`(word, rest)`, continued lines joined, comments left out."""
    text = re.sub(r"^#.*\n", "", FILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def hadolint(text: str) -> subprocess.CompletedProcess:
    command = [CACHE / "k8s" / "bin" / "hadolint", "--failure-threshold", "style", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True)


def test_hadolint_has_nothing_to_say():
    assert hadolint(FILE.read_text()).stdout == ""
    assert hadolint("FROM debian\nRUN cd /tmp\n").returncode != 0, "or this test could not fail"


def test_two_stages_of_one_debian_and_the_last_is_no_root():
    lines = instructions()
    (build, final) = [rest for word, rest in lines if word == "FROM"]
    assert "bookworm" in build
    assert "distroless/cc-debian12:" in final, "bookworm is Debian 12"
    last = lines[[rest for _, rest in lines].index(final) :]
    assert [rest for word, rest in last if word == "USER"] == ["65532:65532"]
    assert not [rest for word, rest in last if word == "RUN"], "there is no shell"


def test_the_toolchain_is_new_enough():
    wanted = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["rust-version"]
    (have,) = re.findall(r"library/rust:([\d.]+)-", FILE.read_text())
    assert [int(part) for part in have.split(".")] >= [int(part) for part in wanted.split(".")]


def test_the_supervisor_is_process_1_and_reads_what_the_pod_mounts():
    lines = dict(instructions())
    assert lines["ENTRYPOINT"] == '["/usr/bin/outrigger"]'
    words = Overlay("generic").sidecar("outrigger").spec["args"]
    assert lines["CMD"] == str(words).replace("'", '"')
    # The preStop hook finds it by its name: /usr/bin is on the path of every image.
    assert [rest for word, rest in instructions() if word == "COPY"][2].endswith(" /usr/bin/outrigger")


def test_the_user_of_the_image_is_the_user_of_the_pod():
    security = Overlay("generic").sidecar("outrigger").spec["securityContext"]
    assert dict(instructions())["USER"] == f"{security['runAsUser']}:{security['runAsGroup']}"


def test_dependencies_are_built_without_our_sources():
    """So that a change of ours leaves their layer alone: the first build comes before COPY src, with stubs of all."""
    lines = [f"{word} {rest}" for word, rest in instructions()]
    (copied,) = [number for number, line in enumerate(lines) if line.startswith("COPY src")]
    builds = [number for number, line in enumerate(lines) if "cargo build --release --locked" in line]
    assert len(builds) == 2
    assert builds[0] < copied < builds[1]
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    for target in [*manifest.get("example", []), *manifest.get("bench", [])]:
        assert target["path"] in lines[builds[0]], f"Cargo would miss {target['path']}"


def test_the_context_holds_what_is_copied_and_nothing_else():
    allowed = [
        line[1:] for line in (FILE.parent / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"
    ]
    copied = [rest.split()[:-1] for word, rest in instructions() if word == "COPY" and "--from" not in rest]
    assert sorted(allowed) == sorted(name for names in copied for name in names)
    assert all((ROOT / name).exists() for name in allowed)


def test_the_binary_needs_no_library_that_the_image_lacks():
    """OpenSSL above all is inside."""
    lines = subprocess.run(["ldd", outrigger_binary()], capture_output=True, text=True, check=True).stdout.splitlines()
    needed = {line.split()[0].rpartition("/")[2] for line in lines}
    assert "libc.so.6" in needed
    assert needed <= THERE
