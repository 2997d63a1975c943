"""A test PKI, made anew for every session: nothing secret is ever committed."""

import datetime
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from . import secrets
from .paths import ROOT


@dataclass(frozen=True)
class Identity:
    """A certificate chain and its key, as PEM files."""

    cert: Path
    key: Path
    #: Holds what the key is encrypted with.
    passphrase: Path | None = None

    def as_config(self) -> dict:
        """In the shape that Outrigger's `tls` takes."""
        passphrase = {"key_passphrase_file": str(self.passphrase)} if self.passphrase else {}
        return {"cert": str(self.cert), "key": str(self.key), **passphrase}


class Pki:
    """One certificate authority in a folder of its own."""

    def __init__(self, folder: Path, authority: trustme.CA | None = None, ca: Path | None = None):
        """`authority`: an intermediate one, below the one in `ca`."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._authority = authority or trustme.CA()
        self._intermediate = authority.cert_pem.bytes() if authority else b""
        self.ca = ca or folder / "ca.pem"
        if not ca:
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
        secrets.note_key(identity.key.read_text())
        return identity

    def client(
        self,
        name: str,
        serial: int | None = None,
        kind: str = "rsa",
        passphrase: str | None = None,
        days: tuple[float, float] = (-1, 1),
        label: str | None = None,
        serving: bool = False,
    ) -> Identity:
        """A client certificate whose common name is `name`; with `serial` it may be the second of that number.

        `serving`: it is a server's as well, of this name.

        `kind`: rsa, ec or ed25519. `days`: from and until when it is valid, counted from now.
        """
        makers = {
            "rsa": lambda: rsa.generate_private_key(65537, 2048),
            "ec": lambda: ec.generate_private_key(ec.SECP256R1()),
            "ed25519": ed25519.Ed25519PrivateKey.generate,
        }
        key, now = makers[kind](), datetime.datetime.now(datetime.UTC)
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if serving else [])]
        authority = x509.load_pem_x509_certificate(self._authority.cert_pem.bytes())
        signer = serialization.load_pem_private_key(self._authority.private_key_pem.bytes(), None)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(authority.subject)
            .public_key(key.public_key())
            .serial_number(serial or x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=days[0]))
            .not_valid_after(now + datetime.timedelta(days=days[1]))
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(signer, hashes.SHA256())
        )
        stem = self._folder / (label or f"client-{name}")
        identity = Identity(stem.with_suffix(".crt"), stem.with_suffix(".key"))
        encryption = serialization.NoEncryption()
        if passphrase:
            identity = Identity(identity.cert, identity.key, stem.with_suffix(".passphrase"))
            identity.passphrase.write_text(f"{passphrase}\n")
            encryption = serialization.BestAvailableEncryption(passphrase.encode())
        pem = serialization.Encoding.PEM
        identity.cert.write_bytes(certificate.public_bytes(pem) + self._intermediate)
        identity.key.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, encryption))
        return identity

    def child(self, name: str) -> "Pki":
        """An intermediate authority; what it issues comes with its own certificate, and is trusted by our `ca`."""
        return Pki(self._folder / name, self._authority.create_child_ca(), self.ca)

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
