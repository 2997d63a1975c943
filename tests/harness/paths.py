"""Where the parts of the set-up lie: the Python twin of setup/paths.sh."""

import os
import shutil
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
CACHE = Path(os.environ.get("OUTRIGGER_TEST_CACHE", ROOT / ".venvs"))
NODE = CACHE / "nodejs" / "bin" / "node"
NODE_MODULES = TESTS / "node_modules"


def outrigger_binary() -> Path:
    """The binary under test: $OUTRIGGER_BIN, or the release build of this repository."""
    built = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "outrigger"
    binary = Path(os.environ.get("OUTRIGGER_BIN", built)).absolute()
    if not binary.exists():
        raise FileNotFoundError(f"{binary} is missing: run `cargo build --release` or set OUTRIGGER_BIN")
    return binary


def python(environment: str) -> Path:
    """Interpreter of one of the environments that setup/python.sh makes, such as `mcp1`."""
    return CACHE / environment / "bin" / "python"


def system_command(name: str) -> str:
    """Full path of a Debian command; some (nginx) lie outside an ordinary user's PATH."""
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if found is None:
        raise FileNotFoundError(f"{name} is missing: run tests/setup/setup.sh")
    return found
