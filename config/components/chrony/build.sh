#!/bin/sh
# Builds chrony as static programs, which need no library of the node.
set -eu

apk add --no-cache build-base linux-headers

cd "$PUBLISH_WORK"
tar -xzf "assets/chrony-$PUBLISH_VERSION.tar.gz"
cd "chrony-$PUBLISH_VERSION"
# Neither keys of NTS nor a filter of system calls: both want libraries that are not static.
CFLAGS='-O2 -static' LDFLAGS=-static ./configure \
    --prefix=/usr --sbindir=/usr/bin --sysconfdir=/etc/chrony \
    --localstatedir=/var --chronyrundir=/run/chrony --chronyvardir=/var/lib/chrony \
    --disable-nts --disable-sechash --without-seccomp --without-libcap --disable-readline
make -j"$(nproc)" chronyd chronyc
mkdir -p "$PUBLISH_ROOT/usr/bin"
for program in chronyd chronyc; do
    strip -o "$PUBLISH_ROOT/usr/bin/$program" "$program"
done
