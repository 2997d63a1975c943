"""A test PKI, made anew for every session: nothing secret is ever committed."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import trustme

from .paths import ROOT


@dataclass(frozen=True)
class Identity:
    """A certificate chain and its key, as PEM files."""

    cert: Path
    key: Path

    def as_config(self) -> dict:
        """In the shape that Outrigger's `tls` takes."""
        return {"cert": str(self.cert), "key": str(self.key)}


class Pki:
    """One certificate authority in a folder of its own."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.ca))

    def issue(self, *names: str, label: str | None = None, rsa: bool = False, **options) -> Identity:
        """A new certificate for these names (DNS names or addresses); `label`, or the first name, names the files.

        `rsa`: not of the kind ECDSA P-256. `options`: trustme's, such as `common_name` and `not_after`.
        """
        kind = trustme.KeyType.RSA if rsa else trustme.KeyType.ECDSA
        leaf = self._authority.issue_cert(*names, key_type=kind, **options)
        stem = label or names[0].replace(":", "_")
        identity = Identity(self._folder / f"{stem}.crt", self._folder / f"{stem}.key")
        identity.cert.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(str(identity.key))
        return identity

    def server_context(self, identity: Identity, client_ca: Path | None = None, alpn=("http/1.1",)) -> ssl.SSLContext:
        """For a test's own TLS server; with `client_ca` it demands a client certificate."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=client_ca)
        context.load_cert_chain(identity.cert, identity.key)
        context.set_alpn_protocols(list(alpn))
        if client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def client_context(self, identity: Identity | None = None, alpn=("http/1.1",)) -> ssl.SSLContext:
        """For a test's own TLS client, trusting this authority only."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if identity:
            context.load_cert_chain(identity.cert, identity.key)
        context.set_alpn_protocols(list(alpn))
        return context


class Generated:
    """What certs/generate.sh makes, right and wrong: `generated["client-expired"]`."""

    def __init__(self, folder: Path):
        self.folder = folder
        #: What it printed.
        self.printed = ""
        self.again()
        self.ca = folder / "ca.crt"
        self.other_ca = folder / "other-ca.crt"

    def __getitem__(self, name: str) -> Identity:
        return Identity(self.folder / f"{name}.crt", self.folder / f"{name}.key")

    def again(self) -> None:
        """Everything but the CAs is made anew."""
        command = [ROOT / "certs" / "generate.sh", self.folder]
        self.printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
