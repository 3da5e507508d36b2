# Runs one command of a build with the image's file system put together at ./merged, in mount and
# process namespaces of its own: whatever happens, no mount and no process outlives it.
# Called in the build's folder:
#   enter.sh KIND SOURCE OPTIONS [MOUNT-SOURCE MOUNT-TARGET]... -- COMMAND...
# KIND, SOURCE and OPTIONS say how to mount the image below.
set -eu
mount -t "$1" -o "$3" "$2" lower
shift 3
# `volatile`: nothing of a build needs to be on the disk before its layer is. The mark that it leaves
# would keep the next command out, so the working folder is a new one.
rm -rf work
mkdir work
# Relative, so that no character of the folder's own path can be mistaken for a separator.
mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work,redirect_dir=off,metacopy=off,index=off,volatile overlay merged
cd merged
mount -t proc -o nosuid,nodev,noexec proc proc
mount -t tmpfs -o nosuid,mode=755,size=16m dev dev
for device in null zero full random urandom tty; do
    : > "dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
ln -s /proc/self/fd dev/fd
mkdir dev/shm
mount -t tmpfs -o nosuid,nodev,mode=1777 shm dev/shm
mount -t tmpfs -o nosuid,nodev,mode=755 run run
mount -t tmpfs -o nosuid,nodev,mode=1777 tmp tmp
for file in hosts resolv.conf; do
    if [ -e "/etc/$file" ] && [ -f "etc/$file" ]; then
        mount --bind "/etc/$file" "etc/$file"
    fi
done
mkdir -p run/lock run/fermion-build
cp -R ../settings/. run/fermion-build/
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then
        mkdir -p ".$2"
    else
        mkdir -p "$(dirname ".$2")"
        : > ".$2"
    fi
    mount --bind "$1" ".$2"
    mount -o remount,bind,ro ".$2"
    shift 2
done
shift
cd ..
exec "$@"
