#!/bin/sh
# Builds Keepalived as a static program, which needs no library of the node.
set -eu

apk add --no-cache build-base linux-headers libnl3-dev libnl3-static \
    openssl-dev openssl-libs-static pkgconf

cd "$PUBLISH_WORK"
tar -xzf "assets/keepalived-$PUBLISH_VERSION.tar.gz"
cd "keepalived-$PUBLISH_VERSION"
# In the order in which a static linker wants them, which its own checks do not tell it.
CFLAGS='-O2 -static' LDFLAGS=-static LIBS='-lssl -lcrypto' ./configure \
    --prefix=/usr --sbindir=/usr/bin --bindir=/usr/bin --sysconfdir=/etc --localstatedir=/var \
    --with-init=systemd --enable-bfd --disable-iptables --disable-nftables --disable-systemd
make -j"$(nproc)"
mkdir -p "$PUBLISH_ROOT/usr/bin"
strip -o "$PUBLISH_ROOT/usr/bin/keepalived" keepalived/keepalived
if [ -e genhash/genhash ]; then
    strip -o "$PUBLISH_ROOT/usr/bin/genhash" genhash/genhash
fi
