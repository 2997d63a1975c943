#!/usr/bin/env bash
# The client on rmcp, the Rust SDK (tests/clients/rmcp). It takes minutes to compile, so only the long tests have it.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/paths.sh"

cargo build --quiet --locked --manifest-path "$TESTS/clients/rmcp/Cargo.toml" --target-dir "$CACHE/rmcp"
echo "rmcp: ready"
