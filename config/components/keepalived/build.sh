#!/bin/sh
# Builds Keepalived as a static program, which needs no library of the node.
set -eu

apk add --no-cache build-base linux-headers libnl3-dev libnl3-static \
    openssl-dev openssl-libs-static pkgconf

cd "$PUBLISH_WORK"
tar -xzf "assets/keepalived-$PUBLISH_VERSION.tar.gz"
cd "keepalived-$PUBLISH_VERSION"
# It names its libraries in no order that a static linker can follow: as a group, each is looked into
# again. Hardening would make it a program that is linked when it starts.
CFLAGS='-O2 -static' LDFLAGS='-static -Wl,--start-group' ./configure \
    --prefix=/usr --sbindir=/usr/bin --bindir=/usr/bin --sysconfdir=/etc --localstatedir=/var \
    --with-init=systemd --enable-bfd --disable-iptables --disable-nftables --disable-systemd \
    --disable-hardening
make -j"$(nproc)"
mkdir -p "$PUBLISH_ROOT/usr/bin"
strip -o "$PUBLISH_ROOT/usr/bin/keepalived" keepalived/keepalived
if [ -e genhash/genhash ]; then
    strip -o "$PUBLISH_ROOT/usr/bin/genhash" genhash/genhash
fi
