#!/usr/bin/env bash
# Puts what the end-to-end tests need into a folder of its own: QEMU with
# vfio-user-pci, a Debian kernel, and busybox. Nothing else is changed: apt runs
# with state of its own, packages are unpacked and never installed, no
# maintainer script runs. It needs apt-get, dpkg-deb, tar and a Debian mirror in
# apt's configuration; it does not need to be root.
#
#   setup.sh [DIR]   DIR: $SOFTMDEV_E2E_DIR, or softmdev in the user's cache
#
#   MIRROR   a Debian mirror, in place of the one that apt is set up with
#
# It may be run again at any time, also by several at once: what is there
# already is kept, and a run that was cut short leaves nothing that a later one
# takes for complete. It exits with 3 where it cannot do its work, and says why:
# no tool, no mirror, no network.
set -euo pipefail
# Raise it when what this script makes changes.
version=1
suite=trixie
modules="vfio vfio_iommu_type1 vfio-pci-core vfio-pci"

dir=${1:-${SOFTMDEV_E2E_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/softmdev}}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
began=$SECONDS
say() { echo "setup: $* (at $((SECONDS - began))s)" >&2; }
fail() { echo "setup: $*" >&2; exit 1; }
unavailable() { echo "setup: not possible here: $*" >&2; exit 3; }

exec 9>"$dir/lock"
flock 9
if [ "$(cat "$dir/ready" 2>/dev/null)" = "$version" ]; then
  say "ready in $dir"
  exit 0
fi
rm -f "$dir/ready"

[ "$(uname -m)" = x86_64 ] || unavailable "the programs are for x86_64, this is $(uname -m)"
for tool in apt-get apt-cache dpkg-deb tar xz; do
  command -v "$tool" >/dev/null || unavailable "no $tool"
done
mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' |
  grep -v security | grep '/debian/\?$' | head -1 || true)}
[ -n "$mirror" ] || unavailable "no Debian mirror in apt's configuration; set MIRROR"
keys=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e "$keys" ] || unavailable "no $keys, by which packages are verified"

# apt with lists, cache and status of its own. An empty status makes it fetch
# every library that QEMU needs, whatever the host has. What the host's apt is
# told to run before and after its work would be done to the host's files.
apt=$dir/apt
mkdir -p "$apt"/{lists/partial,cache/archives/partial}
: >"$apt/status"
printf '#clear %s;\n' {APT::Update,DPkg}::{Pre-Invoke,Post-Invoke,Post-Invoke-Success} DPkg::Pre-Install-Pkgs >"$apt/hooks"
printf 'deb [signed-by=%s] %s %s main\n' "$keys" "$mirror" "$suite" "$keys" "$mirror" "$suite-backports" >"$apt/sources.list"
options=(-qq -c "$apt/hooks" -o APT::Update::Error-Mode=any
  -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
  -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
  -o Dir::State::lists="$apt/lists" -o Dir::State::status="$apt/status"
  -o Dir::State::extended_states="$apt/extended" -o Dir::Cache="$apt/cache"
  -o Dir::Log="$apt" -o APT::Sandbox::User=
  -o APT::Install-Recommends=0 -o APT::Architecture=amd64 -o APT::Architectures::=amd64
  -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
  -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false -o Acquire::Retries=3)
say "package lists of $suite"
apt-get "${options[@]}" update || unavailable "the mirror does not answer"

image=$(apt-cache "${options[@]}" depends linux-image-amd64 |
  sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -1 || true)
[ -n "$image" ] || fail "no kernel in $suite"
kernel=${image#linux-image-}

# The kernel's own dependencies are for making an initramfs on a host; ours is
# made here. So it is fetched by itself, together with the packages that newer
# versions split its modules into.
say "QEMU of $suite-backports, $image"
apt-get "${options[@]}" -y --download-only -t "$suite-backports" install qemu-system-x86 ||
  unavailable "no QEMU from the mirror"
parts=$(apt-cache "${options[@]}" depends "$image" | sed -n 's/.*Depends: \(linux-\(modules\|binary\)-[0-9].*\)/\1/p')
# shellcheck disable=SC2086 # a list of words
(cd "$apt/cache/archives" && apt-get "${options[@]}" download "$image" busybox-static $parts) ||
  unavailable "no kernel from the mirror"

say "unpacking"
root=$dir/root
rm -rf "$root"
for d in bin sbin lib lib64; do
  mkdir -p "$root/usr/$d"
  ln -s "usr/$d" "$root/$d"
done
for package in "$apt"/cache/archives/*.deb; do
  dpkg-deb --fsys-tarfile "$package" |
    tar -x -C "$root" --keep-directory-symlink --no-same-owner \
      --exclude='./usr/share/doc' --exclude='./usr/share/man' --exclude='./usr/share/locale'
done

say "the guest's modules"
guest=$dir/guest
rm -rf "$guest"
mkdir -p "$guest/modules"
tree=$root/usr/lib/modules/$kernel
[ -d "$tree" ] || fail "$image has no modules in $tree"
# module NAME unpacks a module and, first, what it depends on, and writes the
# order in which they are loaded. What is built into the kernel is left out.
module() {
  local name=${1//-/_} file out dep
  out=$guest/modules/$name.ko
  [ ! -e "$out" ] || return 0
  file=$(find "$tree/kernel" -regextype posix-extended -regex ".*/${name//_/[-_]}\.ko(\.xz|\.zst|\.gz)?" | head -1)
  if [ -z "$file" ]; then
    grep -qE "/${name//_/[-_]}\.ko$" "$tree/modules.builtin" || fail "$image has no module $name"
    return 0
  fi
  case $file in
    *.xz) xz -dc "$file" ;;
    *.zst) zstd -dqc "$file" ;;
    *.gz) gzip -dc "$file" ;;
    *) cat "$file" ;;
  esac >"$out"
  for dep in $(tr '\0' '\n' <"$out" | sed -n 's/^depends=//p' | tr ',' ' '); do
    module "$dep"
  done
  echo "$name.ko" >>"$guest/modules/order"
}
for m in $modules; do module "$m"; done
cp "$root/usr/bin/busybox" "$guest/busybox"
for v in "$root/boot/vmlinuz-$kernel" "$tree/vmlinuz"; do
  [ ! -e "$v" ] || cp "$v" "$guest/vmlinuz"
done
[ -e "$guest/vmlinuz" ] || fail "$image has no vmlinuz"
echo "$kernel" >"$guest/release"

# The program runs with the loader and the libraries that it came with.
lib=$root/usr/lib/x86_64-linux-gnu
cat >"$dir/qemu-system-x86_64" <<WRAPPER
#!/bin/sh
export QEMU_MODULE_DIR='$lib/qemu'
exec '$root/usr/lib64/ld-linux-x86-64.so.2' --library-path '$lib:$root/usr/lib' \\
  '$root/usr/bin/qemu-system-x86_64' -L '$root/usr/share/qemu' -L '$root/usr/share/seabios' \\
  -L '$root/usr/lib/ipxe/qemu' "\$@"
WRAPPER
chmod +x "$dir/qemu-system-x86_64"
"$dir/qemu-system-x86_64" -device help | grep -q vfio-user-pci || fail "this QEMU has no vfio-user-pci"

# What is unpacked is enough from here on.
rm -rf "$apt" "$tree"
echo "$version" >"$dir/ready"
say "$("$dir/qemu-system-x86_64" --version | head -1), Linux $kernel, ready in $dir"
