"""P6: bad material never replaces good, however it is bad. Each is told once, with its reason; the next good one is
taken, and an event stream lives through all of it.
"""

import datetime
import os
import shutil
import signal
import subprocess
import time

import pytest

from harness import LAST_CHUNK, chunk, event, event_stream_head, response, wait_until
from harness.paths import system_command
from harness.rotating import Rotating, serial_of

DAY = datetime.timedelta(days=1)


def endless(connection):
    """Script: a GET's stream says something all the time; a POST is answered."""
    while True:
        message = connection.read_request()
        if message.method == "POST":
            connection.send(response(200, {"jsonrpc": "2.0", "id": message.json["id"], "result": {}}))
            continue
        connection.send(event_stream_head() + chunk(event("begun")))
        number = 0
        while not connection.closed and number < 10_000:
            connection.send(chunk(event(str(number))))
            number += 1
            time.sleep(0.02)
        connection.send(LAST_CHUNK)


def too_weak() -> bytes:
    """A certificate that OpenSSL would refuse to show, but not before a client is there."""
    command = [system_command("openssl"), "req", "-x509", "-newkey", "rsa:1024", "-nodes", "-keyout", os.devnull]
    return subprocess.run([*command, "-subj", "/CN=weak"], capture_output=True, check=True).stdout


@pytest.fixture
def rotating(outrigger, pki, raw_upstream, tmp_path) -> Rotating:
    ca = tmp_path / "clients.pem"
    shutil.copyfile(pki.ca, ca)
    options = {"client_ca": str(ca), "client_auth": "optional"}
    config = {"reload": {"settle": "100ms"}}
    running = Rotating(outrigger, pki, [raw_upstream(endless).address], config, options=options)
    running.ca = ca
    return running


def test_every_kind_of_bad_material_is_refused_with_its_reason(rotating, pki):
    cert, key, ca, now = rotating.tls.cert, rotating.tls.key, rotating.ca, datetime.datetime.now()
    files = (cert, key, ca)
    good = {file: file.read_bytes() for file in files}
    other = pki.issue("localhost", label="another")
    expired = pki.issue("localhost", label="expired", not_before=now - 2 * DAY, not_after=now - DAY)
    early = pki.issue("localhost", label="early", not_before=now + DAY, not_after=now + 2 * DAY)
    clients = pki.client("somebody")
    locked = pki.client("locked", passphrase="unknown")

    def pair(identity):
        return {cert: identity.cert.read_bytes(), key: identity.key.read_bytes()}

    bad = [
        ({key: other.key.read_bytes()}, "is not the key of the certificate"),
        (pair(expired), "expired"),
        (pair(early), "not valid"),
        (pair(clients), "lacks serverAuth"),
        (pair(locked), "encrypted"),
        ({cert: good[cert][: len(good[cert]) // 2]}, "ends in the middle of a PEM block"),
        ({key: good[key][: len(good[key]) // 2]}, "ends in the middle of a PEM block"),
        ({cert: b""}, "is empty"),
        ({cert: good[cert] + too_weak()}, "ca key too small"),
        ({key: None}, "No such file or directory"),
        ({ca: b""}, "is empty"),
        ({ca: b"no certificate\n"}, "no PEM certificate"),
        ({ca: good[cert]}, "nobody could be verified by it: unable to get local issuer certificate"),
        ({ca: too_weak()}, "nobody could be verified by it: "),
        ({ca: good[ca][:200]}, "ends in the middle of a PEM block"),
    ]
    first = rotating.serial()
    with rotating.world.open_stream() as stream:
        for times, (contents, reason) in enumerate(bad, 1):
            for file, content in contents.items():
                file.write_bytes(content) if content is not None else file.unlink()
            said = rotating.wait_said("reload refused", "generation 1 serves on", times=times)
            assert reason in said and "outrigger.yaml:" in said and "listeners[1].tls." in said, said
            assert "PRIVATE" not in said
            assert rotating.serial() == first
            for file in files:
                file.write_bytes(good[file])
        new = rotating.files()
        rotating.copy(new)
        rotating.wait_shown(new)
        assert rotating.ready() == 2 and len(rotating.refusals()) == len(bad)
        seen = [stream.read_chunk() for _ in range(50)]
    assert seen == [event(str(number)) for number in range(50)]


def test_a_worker_that_dies_meanwhile_is_followed_by_one_with_the_good(rotating):
    """It does not depend on what the files hold by then."""
    first = rotating.serial()
    rotating.tls.cert.write_bytes(b"")
    rotating.tls.key.unlink()
    rotating.wait_said("reload refused")
    (worker,) = rotating.world.worker_pids()
    os.kill(worker, signal.SIGKILL)
    assert rotating.serial() == first, "connections wait, and are shown the same"
    rotating.wait_said("generation 2 ready")
    assert rotating.world.metrics()["outrigger_worker_restarts_total"] == 1
    new = rotating.files()
    rotating.copy(new)
    wait_until(lambda: rotating.serial() == serial_of(new.cert), what="the next good one is taken")
