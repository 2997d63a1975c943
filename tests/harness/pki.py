"""A test PKI, made anew for every session: nothing secret is ever committed."""

import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import trustme


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

    def issue(self, *names: str, label: str | None = None, not_after: datetime | None = None) -> Identity:
        """A new certificate for these names (DNS names or addresses); `label`, or the first name, names the files."""
        leaf = self._authority.issue_cert(*names, not_after=not_after)
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
