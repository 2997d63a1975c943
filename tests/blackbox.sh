#!/bin/sh
# Runs the black-box suite; what fails is run once more, alone.   tests/blackbox.sh pytest-command [argument ...]
#
# A machine that others share may stand still for longer than the bound that a test holds us to; a fault of ours fails
# again. Both results are printed, and many failures at once are no bad moment: they stand.
set -u
few=5
failures=$(dirname "$0")/.pytest_cache/v/cache/lastfailed

rm -f "$failures"
"$@"
code=$?
# 1 = tests failed; anything else, and a list that is not there, is another matter.
[ $code = 1 ] && [ -f "$failures" ] || exit $code
failed=$(grep -c ': true' "$failures")
[ "$failed" -le $few ] || exit $code
echo "blackbox: $failed failed while others ran beside; once more, alone:"
exec "$@" -n 0 --last-failed
