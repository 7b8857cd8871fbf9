#!/bin/sh
# Builds HAProxy as a static program, which needs no library of the node. It has TLS, regular
# expressions and metrics for Prometheus, but no Lua.
set -eu

apk add --no-cache build-base linux-headers openssl-dev openssl-libs-static pcre2-dev pcre2-static

target=linux-glibc
for musl in /lib/ld-musl-*; do
    if [ -e "$musl" ]; then target=linux-musl; fi
done
cd "$PUBLISH_WORK"
tar -xzf "assets/haproxy-$PUBLISH_VERSION.tar.gz"
cd "haproxy-$PUBLISH_VERSION"
make -j"$(nproc)" TARGET=$target LDFLAGS=-static \
    USE_OPENSSL=1 USE_PCRE2=1 USE_PCRE2_JIT=1 USE_PROMEX=1 \
    EXTRAVERSION= SUBVERS= haproxy
mkdir -p "$PUBLISH_ROOT/usr/bin"
strip -o "$PUBLISH_ROOT/usr/bin/haproxy" haproxy
