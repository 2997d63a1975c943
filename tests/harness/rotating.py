"""Outrigger with a TLS listener whose files are replaced while it runs, and what can be seen of that from outside."""

import shutil
from pathlib import Path

from cryptography import x509

from .outrigger import Outrigger
from .pki import Identity, Pki
from .ports import free_port
from .raw import RawClient
from .waiting import PATIENCE, wait_until

#: A request that every upstream of a test can answer.
PING = b'{"jsonrpc":"2.0","id":7,"method":"ping"}'
_JSON = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


class Rotating:
    """`world` has a listener `secure` beside its first; `tls` are the files that it shows, `files()` makes others."""

    def __init__(
        self,
        outrigger,
        pki: Pki,
        peers: list[str],
        config: dict | None = None,
        tls: Identity | None = None,
        options: dict | None = None,
    ):
        """`outrigger`: the fixture. `tls`: files of the test's own making. `options` of the listener's `tls`."""
        self._pki = pki
        self._issued = 0
        #: Generations that were waited for.
        self._awaited = 1
        self.address = f"127.0.0.1:{free_port()}"
        self.world: Outrigger = outrigger(peers, config, start=False)
        self.tls = tls or self.files()
        self.world.config["listeners"].append(
            {
                "name": "secure",
                "address": self.address,
                "upstream": "gateway",
                "tls": self.tls.as_config() | (options or {}),
            }
        )
        self.world.start()

    def files(self) -> Identity:
        """A certificate and key for localhost in files of their own, which nobody reads."""
        self._issued += 1
        return self._pki.issue("localhost", label=f"{self.world.folder.parent.name}-{self._issued}")

    def copy(self, identity: Identity) -> None:
        """What is in these files, into the files that are served; each is written in place."""
        shutil.copyfile(identity.cert, self.tls.cert)
        shutil.copyfile(identity.key, self.tls.key)

    # -- what is seen

    def serial(self) -> int:
        """Of the certificate that a new connection is shown; the connection serves a request, too."""
        with RawClient(self.address, self._pki.client_context()) as client:
            assert client.ask("POST", "/mcp", PING, _JSON).json["id"] == 7
            return int(client.certificate()["serialNumber"], 16)

    def wait_shown(self, identity: Identity, patience: float = PATIENCE) -> None:
        """Until a newer generation shows this certificate, and no other any more."""
        wanted = serial_of(identity.cert)
        wait_until(lambda: self.serial() == wanted, patience, "the certificate is shown", every=0.01)
        # While two generations accept, either may be met.
        drains = lambda: self.ready() > self._awaited and self.draining() == self.ready() - 1  # noqa: E731
        wait_until(drains, patience, "the old generation drains")
        assert self.serial() == wanted
        self._awaited = self.ready()

    def said(self, *words: str) -> list[str]:
        """The supervisor's lines with all these words."""
        lines = [line["message"] for line in self.world.log() if line.get("role") == "supervisor"]
        return [line for line in lines if all(word in line for word in words)]

    def wait_said(self, *words: str, times: int = 1) -> str:
        """The supervisor's last line with all these words, once there are so many."""
        wait_until(lambda: len(self.said(*words)) >= times, what=f"{times} lines with {words}")
        return self.said(*words)[-1]

    def ready(self) -> int:
        """How many generations were ready."""
        return len(self.said("generation", " ready in "))

    def draining(self) -> int:
        """How many generations have said that they drain."""
        return len(self.said("generation", " drains "))

    def refusals(self) -> list[str]:
        return self.said("serves on")


def serial_of(cert: Path) -> int:
    """Of the first certificate in a PEM file."""
    return x509.load_pem_x509_certificate(cert.read_bytes()).serial_number
