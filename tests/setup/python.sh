#!/usr/bin/env bash
# Makes one Python environment, $CACHE/NAME, from requirements/NAME.txt.   python.sh NAME
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/paths.sh"

name=$1
pins=$TESTS/setup/requirements/$name.txt
venv=$CACHE/$name
stamp=$venv/.stamp
want=$(cat "$pins" <(python3 -VV) | sha256sum)

if [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then
    echo "$name: ready"
    exit 0
fi
rm -rf "$venv"
python3 -m venv "$venv"
"$venv/bin/pip" install -q --no-deps --disable-pip-version-check -r "$pins"
echo "$want" >"$stamp"
echo "$name: installed"
