#!/usr/bin/env bash
# Measures Outrigger beside a bare Pingora pass-through and an nginx pass-through (compare; first events of streams: events), two
# members of which one forwards to the other (hop), and what TLS handshakes cost beside nginx (handshakes); prints tables in Markdown.
#
#   tests/bench/run.sh [short|full] [compare|events|hop|handshakes]    full (default): about 15 minutes; short: every step once
#
# Absolute figures belong to one machine on one day; the ratios are what counts. Fails if any request fails, never because of a time.
# $OUTRIGGER_BIN and $BARE_BIN name other binaries than the release build's.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
built=${CARGO_TARGET_DIR:-$root/target}/release

missing=()
[ -n "${OUTRIGGER_BIN:-}" ] || missing+=(--bin outrigger)
[ -n "${BARE_BIN:-}" ] || missing+=(--example bare)
if [ ${#missing[@]} -gt 0 ]; then
    cargo --locked build --quiet --release --manifest-path "$root/Cargo.toml" "${missing[@]}"
fi
export OUTRIGGER_BIN=${OUTRIGGER_BIN:-$built/outrigger} BARE_BIN=${BARE_BIN:-$built/examples/bare}

# The driver and its load keep to the second processor; every proxy is pinned to the first (see machine.py).
for run in ${2:-compare events hop handshakes}; do
    python3 "$here/$run.py" "${1:-full}"
done
