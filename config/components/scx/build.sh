#!/bin/sh
# Builds the schedulers as static programs, which need no library of the node.
set -eu

apk add --no-cache bpftool build-base cargo clang clang-dev clang-libclang elfutils-dev jq libbpf-dev \
    libseccomp-dev linux-headers lld llvm openssl-dev openssl-libs-static pkgconf rust \
    zlib-dev zlib-static zstd-dev zstd-static

cd "$PUBLISH_WORK"
tar -xzf "assets/$PUBLISH_TAG.tar.gz"
cd "scx-$PUBLISH_VERSION"
host=$(rustc -vV | sed -n 's/^host: //p')
variable=CARGO_TARGET_$(echo "$host" | tr 'a-z-' 'A-Z_')_RUSTFLAGS
export CARGO_BUILD_TARGET="$host" PKG_CONFIG_ALL_STATIC=1 LIBBPF_SYS_STATIC=1
export "$variable=-C target-feature=+crt-static -L /usr/lib -lz -lzstd --remap-path-prefix=$PUBLISH_WORK=/build"
cargo build --release --locked
mkdir -p "$PUBLISH_ROOT/usr/bin"
find "target/$host/release" -maxdepth 1 -name 'scx*' -type f -perm -u+x | while read -r program; do
    strip -o "$PUBLISH_ROOT/usr/bin/$(basename "$program")" "$program"
done
