"""`openssl s_client`, the tool that every operator has: one handshake, what it agreed on, and one request within it."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .paths import system_command
from .pki import Identity
from .waiting import PATIENCE

_REQUEST = "GET /s_client HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class Handshake:
    """What s_client printed."""

    printed: str

    def _find(self, pattern: str) -> str | None:
        found = re.search(pattern, self.printed, re.MULTILINE)
        return found and found[1]

    @property
    def protocol(self) -> str | None:
        """Such as TLSv1.3; None if there was no handshake."""
        agreed = self._find(r"^(?:New|Reused), (?!\(NONE\))(\S+), Cipher is")
        # That line names the version in which the cipher first appeared.
        return agreed and (self._find(r"^\s*Protocol\s*: (\S+)") or agreed)

    @property
    def cipher(self) -> str | None:
        return self._find(r"^(?:New|Reused), \S+, Cipher is (?!\(NONE\))(\S+)")

    @property
    def reused(self) -> bool:
        return self._find(r"^(Reused), ") is not None

    @property
    def alpn(self) -> str | None:
        return self._find(r"^ALPN protocol: (\S+)")

    @property
    def subject(self) -> str | None:
        """Of the certificate that was shown."""
        return self._find(r"^subject=(.*)$")

    @property
    def status(self) -> int | None:
        """Of the answer to the request; None if there was none."""
        # s_client prints it in the middle of a line if a session ticket is being printed.
        found = self._find(r"HTTP/1\.1 (\d+)")
        return found and int(found)

    @property
    def alert(self) -> int | None:
        """The number of the alert that ended it."""
        found = self._find(r"SSL alert number (\d+)")
        return found and int(found)


def s_client(
    address: str, *options: str | Path, ca: Path | None = None, identity: Identity | None = None, request: bool = True
) -> Handshake:
    """Runs it against `address`; without `request` it ends with the handshake, too early for session tickets."""
    command = [system_command("openssl"), "s_client", "-connect", address]
    command += ["-CAfile", ca] if ca else []
    command += ["-cert", identity.cert, "-key", identity.key] if identity else []
    # With -ign_eof the connection's end is the other side's to say.
    command += [*options, *(["-ign_eof"] if request else [])]
    text = _REQUEST if request else ""
    done = subprocess.run(list(map(str, command)), input=text, capture_output=True, text=True, timeout=PATIENCE)
    return Handshake(done.stdout + done.stderr)
