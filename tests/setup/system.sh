#!/usr/bin/env bash
# Installs the Debian packages that are missing, as root or through sudo, and leaves no service running.
set -euo pipefail

# command that proves it : package that brings it
wanted=(
    cmake:cmake perl:perl make:make gcc:gcc g++:g++ pkg-config:pkg-config git:git curl:curl jq:jq flock:util-linux
    python3:python3 redis-server:redis-server redis-sentinel:redis-sentinel ip:iproute2 nginx:nginx-light wrk:wrk nghttp:nghttp2-client h2load:nghttp2-client
    openssl:openssl chromium:chromium chromedriver:chromium-driver systemd-analyze:systemd bwrap:bubblewrap groff:groff-base
)

if ! command -v cargo >/dev/null && [ ! -x "$HOME/.cargo/bin/cargo" ]; then
    echo "system: no Rust toolchain; Debian's is too old for Cargo.toml's rust-version, rustup brings a newer one" >&2
    exit 1
fi

missing=()
for entry in "${wanted[@]}"; do
    # nginx lies in /usr/sbin, which is not on every user's PATH.
    PATH=$PATH:/usr/sbin command -v "${entry%%:*}" >/dev/null || missing+=("${entry#*:}")
done
python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
[ -e /usr/include/openssl/ssl.h ] || missing+=(libssl-dev)
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)

if [ ${#missing[@]} = 0 ]; then
    echo "system: nothing missing"
    exit 0
fi
mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)

as_root=()
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || {
        echo "system: missing ${missing[*]}; run this as root, or install them" >&2
        exit 1
    }
    as_root=(sudo)
fi

# A package that brings a service would start it; 101 says "not allowed". An administrator's own policy is left alone.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee $policy >/dev/null
    "${as_root[@]}" chmod 755 $policy
    trap '"${as_root[@]}" rm -f $policy' EXIT
fi
echo "system: installing ${missing[*]}"
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
