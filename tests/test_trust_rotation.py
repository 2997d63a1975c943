"""P6 upstream: a client certificate changes, its server stops taking the old one, and no request fails."""

import os
import shutil
import signal
import threading
from contextlib import suppress

import pytest

from harness import JSON, PATIENCE, Pki, response, wait_until
from harness.stage import MCP, Http1Client, call, result

WAYS = (MCP, "/admin")


def naming_the_client(connection) -> None:
    """Every request is answered with the common name in the client's certificate."""
    certificate = connection._sock.getpeercert() or {"subject": ()}
    names = {name: value for part in certificate["subject"] for name, value in part}
    while True:
        connection.read_request()
        connection.send(response(200, result(client=names.get("commonName"))))


class Rotating:
    """Outrigger before a server that takes clients of two authorities, and the identity that Outrigger shows it."""

    def __init__(self, outrigger, raw_upstream, pki, folder, kind="rsa"):
        self._pki = pki
        self._server_identity = pki.issue("localhost")
        self._old, self._new = Pki(folder / "old"), Pki(folder / "new")
        both = folder / "both.pem"
        both.write_bytes(self._old.ca.read_bytes() + self._new.ca.read_bytes())
        self.server = raw_upstream(naming_the_client, tls=self._taking(both))
        self.shown = self._old.client("old", kind=kind)
        self.next = self._new.client("new", kind=kind)
        self.expired = self._old.client("expired", kind=kind, days=(-2, -1))
        tls = {"ca": str(pki.ca), "server_name": "localhost", **self.shown.as_config()}
        self.world = outrigger([], {"upstreams": {"gateway": {"peers": [self.server.address], "tls": tls}}})

    def _taking(self, client_ca):
        return self._pki.server_context(self._server_identity, client_ca=client_ca)

    def put(self, *kinds: str) -> None:
        """The next certificate, or its key, stands where the old one was, by an atomic rename."""
        for kind in kinds:
            there = getattr(self.shown, kind)
            beside = there.with_suffix(".next")
            shutil.copy(getattr(self.next, kind), beside)
            beside.rename(there)

    def refuse_the_old_one(self) -> None:
        """From now on no handshake with it succeeds."""
        self.server._tls = self._taking(self._new.ca)

    def client(self, path: str, client: Http1Client | None = None) -> str:
        """Whom the server takes us for."""
        with client or Http1Client(self.world.address) as client:
            return named(client, path)

    def refused_reload(self) -> str:
        """SIGHUP that comes to nothing; what the log says."""
        said = lambda: [line["message"] for line in self.world.log() if "serves on" in line.get("message", "")]  # noqa: E731
        before = len(said())
        self.world.process.signal(signal.SIGHUP)
        return wait_until(lambda: said()[before:], what="the refusal in the log")[0]


def named(client: Http1Client, path: str) -> str:
    answer = client.ask("POST", path, call(), JSON)
    assert answer.status == 200, answer.body
    return answer.json["result"]["client"]


@pytest.fixture
def rotating(outrigger, raw_upstream, pki, tmp_path) -> Rotating:
    return Rotating(outrigger, raw_upstream, pki, tmp_path)


def test_no_request_fails_when_the_server_stops_taking_the_old_certificate(rotating):
    """Load on both ways through, over new and kept connections, from before the rotation until after the refusal."""
    seen: dict[str, list[str]] = {f"{kind} {path}": [] for kind in ("new", "kept") for path in WAYS}
    failures: list[BaseException] = []
    over = threading.Event()

    def load(kind: str, path: str) -> None:
        client = None
        try:
            while not over.is_set():
                client = client or Http1Client(rotating.world.address)
                answer = client.ask("POST", path, call(), JSON)
                assert answer.status == 200, answer.body
                seen[f"{kind} {path}"].append(answer.json["result"]["client"])
                if kind == "new" or answer.header("connection") == "close":
                    client.close()
                    client = None
        except BaseException as failure:  # noqa: BLE001 - raised again by the test
            failures.append(failure)

    loads = [threading.Thread(target=load, args=key.split(), daemon=True) for key in seen]
    idle = {path: Http1Client(rotating.world.address) for path in WAYS}
    assert [named(client, path) for path, client in idle.items()] == ["old", "old"]
    for thread in loads:
        thread.start()
    wait_until(lambda: failures or all(len(names) > 20 for names in seen.values()), what="load before the rotation")
    rotating.put("cert", "key")
    rotating.world.reload()
    rotating.refuse_the_old_one()
    marks = {key: len(names) for key, names in seen.items()}
    # These belong to the generation that has retired, and their requests are its own.
    assert [named(client, path) for path, client in idle.items()] == ["new", "new"]
    more = lambda: all(len(names) > marks[key] + 20 for key, names in seen.items())  # noqa: E731
    wait_until(lambda: failures or more(), what="load after the refusal")
    over.set()
    for thread in loads:
        thread.join(PATIENCE)
    assert failures == []
    for key, names in seen.items():
        assert set(names[marks[key] + 2 :]) == {"new"}, key
    assert rotating.server.failed_handshakes == []


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
def test_a_connection_of_the_old_identity_is_not_used_again(outrigger, raw_upstream, pki, tmp_path, kind):
    """The server would still take it: what is opened under one identity is not the other one's."""
    rotating = Rotating(outrigger, raw_upstream, pki, tmp_path, kind)
    assert [rotating.client(path) for path in WAYS] == ["old", "old"]
    kept = {path: Http1Client(rotating.world.address) for path in WAYS}
    assert [named(client, path) for path, client in kept.items()] == ["old", "old"]
    assert len(rotating.server.connections) == (2 if kind == "rsa" else 3)
    rotating.put("cert", "key")
    rotating.world.reload()
    assert [named(client, path) for path, client in kept.items()] == ["new", "new"]


def test_half_a_rotation_is_refused_and_changes_nothing(rotating):
    rotating.put("cert")
    said = rotating.refused_reload()
    assert "upstreams.gateway.tls.key: is not the key of the certificate in `cert`" in said
    assert [rotating.client(path) for path in WAYS] == ["old", "old"]
    rotating.put("key")
    rotating.world.reload()
    assert [rotating.client(path) for path in WAYS] == ["new", "new"]


@pytest.mark.parametrize(
    ("kind", "bad", "reason"),
    [
        ("cert", lambda pem: pem[: len(pem) // 2], "ends in the middle of a PEM block"),
        ("cert", lambda pem: b"", "is empty"),
        ("key", lambda pem: pem[: len(pem) // 2], "ends in the middle of a PEM block"),
        ("key", None, "No such file or directory"),
    ],
    ids=["half-written certificate", "empty certificate", "half-written key", "no key"],
)
def test_good_bad_good(rotating, kind, bad, reason):
    file = getattr(rotating.shown, kind)
    good = file.read_bytes()
    if bad:
        file.write_bytes(bad(good))
    else:
        file.unlink()
    assert reason in rotating.refused_reload()
    assert [rotating.client(path) for path in WAYS] == ["old", "old"]
    file.write_bytes(good)
    rotating.put("cert", "key")
    rotating.world.reload()
    assert [rotating.client(path) for path in WAYS] == ["new", "new"]


def test_a_worker_that_dies_is_followed_even_if_a_certificate_has_expired(outrigger, raw_upstream, pki):
    """Refused where there is something better, an old generation or the operator at the keyboard; here there is not."""
    server = raw_upstream(naming_the_client, tls=pki.server_context(pki.issue("localhost")))
    brief = pki.client("brief", days=(-1, 4 / 86_400))
    tls = {"ca": str(pki.ca), "server_name": "localhost", **brief.as_config()}
    world = outrigger([], {"upstreams": {"gateway": {"peers": [server.address], "tls": tls}}})
    assert "expired" not in world.story()
    refused = lambda: f"{brief.cert}: the certificate expired on" in world.story()  # noqa: E731

    def reload_is_refused() -> bool:
        world.process.signal(signal.SIGHUP)
        with suppress(AssertionError):
            return wait_until(refused, 1)
        return False

    wait_until(reload_is_refused, what="the certificate has expired")
    worker = world.worker_pids()[-1]
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: worker not in world.worker_pids() and world.ready(), what="another worker")
    with Http1Client(world.address) as client:
        assert named(client, MCP) is None
    assert "upstream gateway: expired certificate" in world.story()


def test_bad_material_is_not_taken_up_by_a_generation_that_leaves(rotating, pki):
    """Nobody has found right what it reads then: here a reload has refused it, and no other generation came."""
    kept = {path: Http1Client(rotating.world.address) for path in WAYS}
    assert [named(client, path) for path, client in kept.items()] == ["old", "old"]
    rotating.next = rotating.expired
    rotating.put("cert", "key")
    assert "the certificate expired on" in rotating.refused_reload()
    [worker] = rotating.world.worker_pids()
    os.kill(worker, signal.SIGTERM)
    wait_until(lambda: "what was read before stays in use" in rotating.world.story(), what="it says so")
    assert [named(client, path) for path, client in kept.items()] == ["old", "old"]
