"""P6: bad material never replaces good. Each bad reload is explained with file and line, counted, and met by nobody."""

import signal
import time
from pathlib import Path

import pytest
import yaml

from harness import (
    JSON,
    RawClient,
    RawUpstream,
    chunk,
    event,
    event_stream_head,
    free_port,
    result_for_each,
    wait_until,
)

FAILED = 'outrigger_reloads_total{result="failed"}'
OK = 'outrigger_reloads_total{result="ok"}'
PING = b'{"jsonrpc":"2.0","id":7,"method":"ping"}'


class ServingWorld:
    """Outrigger with a TLS listener and an event stream that runs from the first reload to the last."""

    def __init__(self, outrigger, raw_upstream, pki):
        self._pki = pki
        self.upstream: RawUpstream = raw_upstream(stream_of_numbers, result_for_each)
        self.secure = f"127.0.0.1:{free_port()}"
        self.identity = pki.issue("localhost", label="served")
        self.world = outrigger([self.upstream.address], start=False)
        tls = self.identity.as_config()
        self.world.config["listeners"].append(
            {"name": "secure", "address": self.secure, "upstream": "gateway", "tls": tls}
        )
        self.world.start()
        self.stream = self.world.client()
        self.stream.send(b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        assert self.stream.read_head().status == 200
        self.serial = self.shown_serial()

    def shown_serial(self) -> str:
        """Serial number of the certificate that a new connection is shown; the connection serves a request, too."""
        with RawClient(self.secure, self._pki.client_context()) as client:
            assert client.ask("POST", "/mcp", PING, JSON).json["id"] == 7
            return client.certificate()["serialNumber"]

    def refused_reload(self) -> str:
        """SIGHUP that must come to nothing; what the log says about it."""
        before = self.world.metrics()
        workers = self.world.worker_pids()
        self.world.process.signal(signal.SIGHUP)
        wait_until(lambda: self.world.metrics()[FAILED] == before[FAILED] + 1, what="the failed reload is counted")
        after = self.world.metrics()
        assert after[OK] == before[OK]
        assert after["outrigger_generation"] == before["outrigger_generation"]
        assert abs(after["outrigger_last_reload_timestamp_seconds"] - time.time()) < 10
        wait_until(lambda: self.world.worker_pids() == workers, what="only the old worker is left")
        assert self.shown_serial() == self.serial
        said = lambda: [line for line in self.world.log() if "serves on" in line.get("message", "")]  # noqa: E731
        wait_until(lambda: len(said()) == after[FAILED], what="the log's line about it")
        assert said()[-1]["level"] == "error"
        return said()[-1]["message"]

    def stream_is_whole(self) -> None:
        """Every number up to now has come, once and in order."""
        sent = self.upstream.connections[0].numbers_sent
        for number in range(sent):
            assert self.stream.read_chunk() == event(str(number))


def stream_of_numbers(connection) -> None:
    connection.numbers_sent = 0
    connection.read_request()
    connection.send(event_stream_head())
    while not connection.closed:
        connection.send(chunk(event(str(connection.numbers_sent))))
        connection.numbers_sent += 1
        time.sleep(0.02)


@pytest.fixture
def serving(outrigger, raw_upstream, pki):
    return ServingWorld(outrigger, raw_upstream, pki)


def line_of(file: Path, words: str) -> int:
    return next(number for number, line in enumerate(file.read_text().splitlines(), 1) if words in line)


def test_every_bad_reload_is_refused_explained_and_counted(serving, pki, tmp_path):
    world, good = serving.world, serving.world.config_file.read_text()
    file, cert, key = world.config_file, serving.identity.cert, serving.identity.key
    contents = {path: path.read_bytes() for path in (cert, key)}
    other = pki.issue("localhost", label="other")

    def edited(**changes) -> str:
        return yaml.safe_dump(yaml.safe_load(good) | changes, sort_keys=False)

    file.write_text(edited(upstreams={"gateway": {"peers": [serving.upstream.address], "flavour": "sweet"}}))
    said = serving.refused_reload()
    assert f"{file}:{line_of(file, 'flavour')}: upstreams.gateway.flavour: unknown key" in said

    file.write_text(edited(timeouts={"idle": "soon"}, limits={"body": "much"}))
    said = serving.refused_reload()
    for words in ("idle: soon", "body: much"):
        assert f"{file}:{line_of(file, words)}: " in said, "all problems at once"

    file.write_text(good + "listeners: [\n")
    assert f"{file}:" in serving.refused_reload()

    file.unlink()
    assert str(file) in serving.refused_reload()
    file.write_text(good)

    line = f"{file}:{line_of(file, 'cert:')}: listeners[1].tls.cert: "
    for bad in (b"", b"no certificate\n", contents[cert][:200]):
        cert.write_bytes(bad)
        said = serving.refused_reload()
        assert line in said and str(cert) in said
    cert.unlink()
    assert line in serving.refused_reload()
    cert.write_bytes(contents[cert])

    key.write_bytes(other.key.read_bytes())
    said = serving.refused_reload()
    assert f"{file}:{line_of(file, 'key:')}: listeners[1].tls.key: is not the key of the certificate" in said
    assert "PRIVATE" not in said
    key.write_bytes(contents[key])

    taken = RawUpstream(port=free_port())
    listeners = [*yaml.safe_load(good)["listeners"], {"address": taken.address, "upstream": "gateway"}]
    file.write_text(edited(listeners=listeners))
    assert f"cannot listen on {taken.address}" in serving.refused_reload()
    taken.close()

    every = f"0.0.0.0:{world.port}"
    file.write_text(edited(listeners=[yaml.safe_load(good)["listeners"][0] | {"address": every}]))
    assert f"cannot listen on {every} as long as {world.address} serves" in serving.refused_reload()
    file.write_text(edited(listeners=listeners))

    # The same file is good now: the address is free, and the certificate is a newer one.
    pki.issue("localhost", label="served")
    world.process.signal(signal.SIGHUP)
    wait_until(lambda: world.metrics()[OK] == 1, what="the good reload is counted")
    wait_until(lambda: serving.shown_serial() != serving.serial, what="the newer certificate is shown")
    with RawClient(taken.address) as client:
        assert client.ask("POST", "/mcp", PING, JSON).status == 200
    serving.stream_is_whole()
    serving.stream.close()
    world.stop()


def test_a_first_start_with_bad_material_serves_nothing_and_says_why(outrigger, tmp_path):
    world = outrigger(["127.0.0.1:1"], start=False)
    missing = tmp_path / "missing.pem"
    world.config["listeners"][0]["tls"] = {"cert": str(missing), "key": str(missing)}
    with pytest.raises(RuntimeError, match="exited with 64"):
        world.start()
    said = world.process.err.read_text()
    assert f"{world.config_file}:{line_of(world.config_file, 'cert:')}: listeners[0].tls.cert: {missing}" in said
