"""Runs the official conformance suite against a URL and reads its checks."""

import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .paths import NODE, NODE_MODULES, TESTS

_SUITE = NODE_MODULES / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"


@dataclass(frozen=True)
class Result:
    """What the suite found. `passed`: every scored scenario is without a failure, as its exit code says."""

    passed: bool
    #: How often each `(scenario, check, status)` came.
    checks: Counter
    summary: str


def run_suite(url: str, revision: str, folder: Path) -> Result:
    """`revision` is a requirement set of the suite: 2025-11-25 or 2026-07-28. Takes some 4 s."""
    return _run(url, ["--requirements", revision], folder)


def run_scenario(url: str, scenario: str, folder: Path) -> Result:
    return _run(url, ["--scenario", scenario], folder)


def run_clients(command: Sequence[str | Path], revision: str, folder: Path) -> Result:
    """The client scenarios of a requirement set, all at once; `command` gets a server's URL as its last argument."""
    words = " ".join(str(word) for word in command)
    # Each scenario may have to start a sidecar of its own first.
    return _suite(["client", "--command", words, "--requirements", revision, "--timeout", "150000"], folder)


def _run(url: str, what: list[str], folder: Path) -> Result:
    return _suite(["server", "--url", url, *what], folder)


def _suite(words: list[str], folder: Path) -> Result:
    command = [str(word) for word in (NODE, _SUITE, *words, "--output-dir", folder)]
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, env=os.environ | {"PYTHONPATH": path})
    checks = Counter()
    for file in folder.glob("**/checks.json"):
        # [server-]<scenario>-<time of day>
        run = str(file.parent.relative_to(folder))
        scenario = re.sub(r"^(?:server-)?(.*)-\d{4}-\d\d-\d\dT.*$", r"\1", run)
        checks.update((scenario, check["id"], check["status"]) for check in json.loads(file.read_text()))
    return Result(done.returncode == 0, checks, done.stdout[done.stdout.find("SUMMARY ===") :] + done.stderr)
