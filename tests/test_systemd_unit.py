"""conf/outrigger.service: systemd takes it, calls it well locked up, and gives it the time that its drain takes."""

import json
import re
import subprocess

import pytest

from harness.k8s import seconds
from harness.paths import ROOT, outrigger_binary, system_command

UNIT = (ROOT / "conf" / "outrigger.service").read_text()


@pytest.fixture
def unit(tmp_path):
    """The unit with the binary under test: systemd looks whether it is there."""
    file = tmp_path / "outrigger.service"
    file.write_text(UNIT.replace("/usr/local/bin/outrigger", str(outrigger_binary())))
    return file


def analyze(*words) -> subprocess.CompletedProcess:
    return subprocess.run([system_command("systemd-analyze"), *words], capture_output=True, text=True)


def settings(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def schema() -> dict:
    return json.loads(subprocess.run([outrigger_binary(), "schema"], capture_output=True, check=True).stdout)[
        "properties"
    ]


def test_systemd_takes_it(unit):
    done = analyze("verify", "--man=no", unit)
    assert (done.returncode, done.stderr) == (0, "")
    unit.write_text(unit.read_text() + "\n[Service]\nNoSuchKey=1\n")
    assert "NoSuchKey" in analyze("verify", "--man=no", unit).stderr, "or this test could not fail"


def test_it_may_do_little(unit):
    """systemd's own measure goes from 0 to 10, and calls what is below 2 OK; a unit without hardening has 9.6."""
    done = analyze("security", "--offline=true", "--no-pager", "--threshold=20", unit)
    assert done.returncode == 0, done.stdout[-500:]


def test_it_has_the_time_that_a_drain_takes(schema):
    default = schema["shutdown"]["properties"]["timeout"]["default"]
    assert int(settings("TimeoutStopSec")[0]) > seconds(default)
    # The supervisor alone hears SIGTERM, or its workers would drain without its word.
    assert settings("KillMode") == ["mixed"]


def test_sessions_and_sockets_lie_where_it_may_write(schema):
    default = schema["sessions"]["properties"]["embedded"]["properties"]["path"]["default"]
    assert default == f"/var/lib/{settings('StateDirectory')[0]}"
    assert settings("Environment") == [f"XDG_RUNTIME_DIR=/run/{settings('RuntimeDirectory')[0]}"]


def test_a_wrong_configuration_is_not_tried_again():
    """64 is what `outrigger` leaves then, and a reload asks first."""
    assert settings("RestartPreventExitStatus") == ["64"]
    check, reload = settings("ExecReload")
    assert check == settings("ExecStartPre")[0]
    assert reload == "/bin/kill -HUP $MAINPID"
