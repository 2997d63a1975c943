"""What must never be read in a log: whatever of a secret's kind the harness hands out or sees on a wire.

`note(text)` remembers a secret; http1, http2, mcp, pki and redis call it. `leaked(log)` names those that a log holds.
A secret is known by its longest word, so that one look-up for each word of a log suffices, however many secrets.
"""

import re
from collections.abc import Iterable

#: Fields whose values are secrets; session ids among them.
_FIELDS = {"authorization", "proxy-authorization", "cookie", "set-cookie", "mcp-session-id"}

_WORD = re.compile(r"[A-Za-z0-9_-]+")
_IN_QUERY = re.compile(r"(?:session_?id|access_token)=([^&#\s\"]+)", re.IGNORECASE)

#: Shorter words are no secrets: some test's `s1` is part of a name elsewhere.
_SHORTEST = 8

_noted: set[str] = set()


def note(*texts: str) -> None:
    for text in texts:
        word = max(_WORD.findall(text), key=len, default="")
        if len(word) >= _SHORTEST:
            _noted.add(word)


def note_head(start: str, fields: Iterable[tuple[str, str]]) -> None:
    """The secrets in a message's first line and fields."""
    note(*_IN_QUERY.findall(start))
    for name, value in fields:
        if name.lower() in _FIELDS:
            # Of a cookie only the value is secret; what else stands beside one that is set is not.
            parts = value.split(";")[:1] if name.lower() == "set-cookie" else value.split(";")
            note(*(part.partition("=")[2] or part for part in parts))


def note_key(pem: str) -> None:
    """A private key: each of its lines by itself."""
    note(*(line for line in pem.splitlines() if not line.startswith("-----")))


def leaked(log: str) -> set[str]:
    return _noted.intersection(_WORD.findall(log))
