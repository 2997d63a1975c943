# Where the parts of the set-up lie. Sourced by the scripts here and in ../run; tests/harness/paths.py says the same for Python.
TESTS=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
ROOT=$(cd "$TESTS/.." && pwd)
CACHE=${OUTRIGGER_TEST_CACHE:-$ROOT/.venvs}
NODE_BIN=$CACHE/nodejs/bin
