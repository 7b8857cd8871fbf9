# Makes the world that an image is tried in, and runs a program there: the image's folders over those
# of the base, as systemd-sysext merges them, and nothing else of this machine but a few devices.
#
#   sh -c THIS publish IMAGE BASE WORLD READY PROGRAM [ARGUMENT]…
#
# In namespaces of its own, in which it is root. READY is made once the world is: what goes wrong later
# is the program's own.
set -eu
image=$1 base=$2 world=$3 ready=$4
shift 4
mount -t tmpfs -o mode=755 tmpfs "$world"
cd "$world"
mkdir .image .base .empty
mount --rbind "$image" .image
mount --rbind "$base" .base
# The last one keeps it read-only where there is but one of the others.
merge() {
    layers=
    for layer in "$@"; do
        if [ -d "$layer" ] && [ ! -L "$layer" ]; then layers=$layers$layer:; fi
    done
    if [ -n "$layers" ]; then
        mkdir "$top"
        mount -t overlay -o "lowerdir=$layers.empty" overlay "$top"
    fi
}
for top in usr opt; do
    merge .image/$top .base/$top
done
for top in bin sbin lib lib32 lib64 libx32; do
    if [ -L .base/$top ]; then
        ln -s "$(readlink .base/$top)" $top
    else
        merge .base/$top
    fi
done
mkdir dev etc proc root run tmp var var/tmp .old
chmod 1777 tmp var/tmp
echo 'root:x:0:0:root:/root:/bin/sh' >etc/passwd
echo 'root:x:0:' >etc/group
if [ -d .image/etc ]; then
    cp -R .image/etc/. etc
fi
for device in null zero full random urandom; do
    : >dev/$device
    mount --bind /dev/$device dev/$device
done
ln -s /proc/self/fd dev/fd
# In some containers it may not be mounted; most programs do without.
mount -t proc proc proc 2>/dev/null || :
umount -l .image .base
: >"$ready"
# As on a node, whatever this machine has.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# This is the first process of its namespace, which no signal of its own kind reaches: the program is its
# child, and a process like any other. What a shell says of how that ended is nobody's.
if pivot_root . .old 2>/dev/null; then
    cd /
    # A base may have no such program; then the old world stays in a corner.
    umount -l /.old 2>/dev/null || :
else
    set -- chroot . "$@"
fi
set +e
unset PWD OLDPWD SHLVL
exec 3>&2 2>/dev/null
(exec "$@" 2>&3 3>&-)
exit $?
