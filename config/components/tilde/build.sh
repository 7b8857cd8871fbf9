#!/bin/sh
# Takes Tilde and its libraries out of Debian's packages. Those that hardly any node has go into a
# folder of their own, where only Tilde looks for them.
set -eu

export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install --no-install-recommends --yes patchelf "$PUBLISH_WORK"/assets/tilde_*.deb

own=$PUBLISH_ROOT/usr/lib/tilde
mkdir -p "$own" "$PUBLISH_ROOT/usr/bin" "$PUBLISH_ROOT/usr/share"
cp /usr/bin/tilde "$PUBLISH_ROOT/usr/bin/"
# A library looks for its tables where they are here. The clipboard of X11 is left out.
tables=$(dpkg -L libtranscript1 | sed -n 's,/aliases.txt$,,p')
mkdir -p "$PUBLISH_ROOT${tables%/*}"
cp -R "$tables" "$PUBLISH_ROOT${tables%/*}/"
# All that it needs but the C library, which must be the node's own.
ldd /usr/bin/tilde | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p' | while read -r library; do
    case ${library##*/} in
    libc.so.* | libm.so.* | libdl.so.* | libpthread.so.* | librt.so.* | ld-linux*) ;;
    *) cp -L "$library" "$own/" ;;
    esac
done
patchelf --set-rpath /usr/lib/tilde "$PUBLISH_ROOT/usr/bin/tilde"
for library in "$own"/*; do
    patchelf --set-rpath /usr/lib/tilde "$library"
done
cp -R /usr/share/libt3highlight* "$PUBLISH_ROOT/usr/share/"
