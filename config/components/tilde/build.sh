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
plugins=$(dpkg -L libt3widget2 libtranscript1 | sed -n 's,^\(/usr/lib/[^/]*/[^/]*\)/.*\.so.*,\1,p' | sort -u)
for folder in $plugins; do
    cp -R "$folder" "$own/"
done
# All that it needs but the C library, which must be the node's own.
for file in /usr/bin/tilde $(find "$own" -name '*.so*' -type f); do
    ldd "$file" | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p'
done | sort -u | while read -r library; do
    case ${library##*/} in
    libc.so.* | libm.so.* | libdl.so.* | libpthread.so.* | librt.so.* | ld-linux*) ;;
    *) cp -L "$library" "$own/" ;;
    esac
done
patchelf --set-rpath /usr/lib/tilde "$PUBLISH_ROOT/usr/bin/tilde"
find "$own" -name '*.so*' -type f -exec patchelf --set-rpath /usr/lib/tilde {} \;
cp -R /usr/share/libt3highlight* "$PUBLISH_ROOT/usr/share/"
