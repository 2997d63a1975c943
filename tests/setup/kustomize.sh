#!/usr/bin/env bash
# What renders k8s/: `kubectl kustomize` where kubectl is new enough, as people do it, else a pinned release of kustomize itself.
# Leaves $CACHE/kustomize/build, which takes a folder. Surprise: Debian 12's kubectl is no help, its kustomize is of 2019.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/paths.sh"

VERSION=5.8.0
declare -A SHA256=(
    [amd64]=4dfa8307358dd9284aa4d2b1d5596766a65b93433e8fa3f9f74498941f01c5ef
    [arm64]=a4f48b4c3d4ca97d748943e19169de85a2e86e80bcc09558603e2aa66fb15ce1
)

home=$CACHE/kustomize
mkdir -p "$home"

leave() { # the command line that takes a folder
    printf '#!/bin/sh\nKUBECONFIG=/dev/null exec %s "$@"\n' "$1" >"$home/build.new"
    chmod +x "$home/build.new"
    mv "$home/build.new" "$home/build"
    echo "kustomize: ready ($1)"
}

if KUBECONFIG=/dev/null kubectl version --client 2>/dev/null | grep -q '^Kustomize Version: v5'; then
    leave "kubectl kustomize"
    exit 0
fi
if [ "$("$home/kustomize" version 2>/dev/null)" != "v$VERSION" ]; then
    arch=$(dpkg --print-architecture)
    archive=kustomize_v${VERSION}_linux_$arch.tar.gz
    [ -n "${SHA256[$arch]:-}" ] || {
        echo "kustomize: no pinned release for $arch; install kubectl 1.27 or newer" >&2
        exit 1
    }
    curl -fsSL --retry 3 -o "$home/$archive" \
        "https://github.com/kubernetes-sigs/kustomize/releases/download/kustomize%2Fv$VERSION/$archive" || {
        echo "kustomize: its release cannot be downloaded; install kubectl 1.27 or newer" >&2
        exit 1
    }
    echo "${SHA256[$arch]}  $home/$archive" | sha256sum --check --quiet
    tar -xzf "$home/$archive" -C "$home" kustomize
    rm "$home/$archive"
fi
leave "'$home/kustomize' build"
