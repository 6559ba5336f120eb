#!/bin/sh
# Makes the root of the booted test host: a small Debian with systemd, sshd, syslog daemons and nft. Usage: make_root.sh DIRECTORY
# Needs root, debootstrap and a mirror (DEBIAN_MIRROR). The directory appears only once it is complete.
set -eu

directory=$1
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
packages=systemd,systemd-sysv,dbus,libpam-systemd,openssh-server,openssh-client,sshpass,nftables,iptables,iproute2
packages=$packages,rsyslog,procps,python3,ca-certificates,ufw,firewalld,libfaketime,busybox

mkdir -p "$(dirname "$directory")"
exec 9>"$directory.lock"
flock 9 # several tests may ask at once
[ ! -e "$directory" ] || exit 0
made=$(mktemp -d "$directory.XXXXXX")
trap 'rm -rf "$made"' EXIT
debootstrap --variant=minbase --include="$packages" bookworm "$made" "$mirror" >"$made.log" 2>&1 ||
    { tail -n 20 "$made.log" >&2; exit 1; }
chroot "$made" systemctl disable ufw firewalld >/dev/null 2>&1 # each is started by the test that needs it
rm -rf "$made.log" "$made/var/cache/apt/archives" "$made/var/lib/apt/lists"
mkdir -p "$made/var/cache/apt/archives/partial" "$made/var/lib/apt/lists/partial"
chmod 0755 "$made"
mv -T "$made" "$directory"
