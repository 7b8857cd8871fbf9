#!/bin/sh
# Builds BIRD as static programs, which need no library of the node.
set -eu

apk add --no-cache autoconf bison build-base flex linux-headers m4 \
    ncurses-dev ncurses-static readline-dev readline-static

cd "$PUBLISH_WORK"
tar -xzf "assets/bird-$PUBLISH_VERSION.tar.gz"
cd "bird-$PUBLISH_VERSION"
# RPKI over SSH wants a library that is not static; over TCP it works.
CFLAGS='-O2 -static' LDFLAGS=-static ./configure \
    --prefix=/usr --sbindir=/usr/bin --sysconfdir=/etc/bird --runstatedir=/run/bird --disable-libssh
make -j"$(nproc)"
mkdir -p "$PUBLISH_ROOT/usr/bin"
for program in bird birdc birdcl; do
    strip -o "$PUBLISH_ROOT/usr/bin/$program" "$program"
done
mkdir -p "$PUBLISH_ROOT/usr/share/bird"
cp doc/bird.conf.example "$PUBLISH_ROOT/usr/share/bird/"
