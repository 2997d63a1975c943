#!/usr/bin/env bash
# Makes a fresh Debian machine able to run the tests: system packages, Python environments, Node and its packages.
#
#   tests/setup/setup.sh [part ...]      parts: system harness mcp1 mcp2 node rmcp k8s kustomize contextforge-1.0.0rc1 contextforge-1.0.7
#                                        (default: all but rmcp)
#
# Everything is pinned, lies below $OUTRIGGER_TEST_CACHE (default: .venvs in the repository) and is made once: a part
# whose stamp matches its pins is left alone, so a second run takes no time. Parts run side by side.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/setup/paths.sh
. "$here/paths.sh"
mkdir -p "$CACHE"

# One set-up at a time: two clones may share the cache.
exec 9>"$CACHE/.lock"
flock 9

parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(system harness mcp1 mcp2 node k8s kustomize contextforge-1.0.0rc1 contextforge-1.0.7)

started=$SECONDS
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# The others need python3-venv, so system packages come first.
for part in "${parts[@]}"; do
    [ "$part" = system ] && "$here/system.sh"
done

declare -A running=()
for part in "${parts[@]}"; do
    case $part in
    system) ;;
    node | rmcp | kustomize) "$here/$part.sh" >"$logs/$part" 2>&1 9>&- & running[$part]=$! ;;
    *) "$here/python.sh" "$part" >"$logs/$part" 2>&1 9>&- & running[$part]=$! ;;
    esac
done

failed=0
for part in "${!running[@]}"; do
    if wait "${running[$part]}"; then
        cat "$logs/$part"
    else
        failed=1
        echo "setup: $part failed:" >&2
        cat "$logs/$part" >&2
    fi
done
[ $failed = 0 ] || exit 1

# Modules are looked up from the script's folder upwards, so servers/ and clients/ find them here.
if [ -d "$CACHE/node/node_modules" ]; then
    ln -sfn "$CACHE/node/node_modules" "$TESTS/node_modules"
fi
echo "setup: ready in $((SECONDS - started)) s, in $CACHE"
