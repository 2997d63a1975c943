"""Runs the official conformance suite against a URL and reads its checks."""

import json
import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from .paths import NODE, NODE_MODULES

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


def _run(url: str, what: list[str], folder: Path) -> Result:
    command = [NODE, _SUITE, "server", "--url", url, *what, "--output-dir", folder]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=170)
    checks = Counter()
    for file in folder.glob("server-*/checks.json"):
        # server-<scenario>-<time of day>
        scenario = re.sub(r"^server-(.*)-\d{4}-\d\d-\d\dT.*$", r"\1", file.parent.name)
        checks.update((scenario, check["id"], check["status"]) for check in json.loads(file.read_text()))
    return Result(done.returncode == 0, checks, done.stdout[done.stdout.find("=== SUMMARY ===") :] + done.stderr)
