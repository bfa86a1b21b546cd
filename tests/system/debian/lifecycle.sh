# SPDX-License-Identifier: BSD-3-Clause
# The life of the package on a machine without systemd running: what each step makes of the files. Run by `run`.
set -eu
deb=$(echo /share/piwheels-node_*_all.deb)
ours=/etc/xdg/pip/pip.conf
uv=/etc/uv/uv.toml

step() { echo "-- $*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }
must() { "$@" || fail "$*"; }
answer() { echo "piwheels-node piwheels-node/$1 $2 $3" | debconf-set-selections; }
install_it() { apt-get -qq -o Dpkg::Use-Pty=0 install -y "${1:-$deb}" >/tmp/log 2>&1 || { cat /tmp/log; fail "install"; }; }
# dpkg-reconfigure asks again what the machine is; a frontend that answers is the role's.
reconfigure() { # ROLE [INDEX]
    cat > /tmp/editor <<EDITOR
#!/bin/sh
sed -i 's|^piwheels-node/role=.*|piwheels-node/role="$1"|; s|^piwheels-node/index=.*|piwheels-node/index="${2:-yes}"|' "\$1"
EDITOR
    chmod +x /tmp/editor
    DEBIAN_FRONTEND=editor EDITOR=/tmp/editor VISUAL=/tmp/editor dpkg-reconfigure piwheels-node >/tmp/log 2>&1 ||
        { cat /tmp/log; fail "reconfigure $1"; }
}
is_enabled() { [ -e /etc/systemd/system/multi-user.target.wants/piwheels-$1.service ]; }
pip_uses() { pip config list | grep -q "extra-index-url='$1'"; }

# Everything that a purge must bring back: names, kinds, modes, owners, contents. Not: what dpkg, apt, debconf and the
# log keep about packages, caches, and accounts, which stay on purpose (README.Debian).
snapshot() {
    find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /share \
        -o -path /var/log -o -path /var/cache -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /root \
        -o -path '/var/lib/ucf/*' -o -path '/var/lib/systemd/deb-systemd-*' \) -prune -o \
        ! -path '/etc/passwd*' ! -path '/etc/group*' ! -path '/etc/shadow*' ! -path '/etc/gshadow*' \
        ! -path '/etc/.pwd.lock' ! -path '/etc/subuid*' ! -path '/etc/subgid*' \
        \( -type f -printf '%p %m %u %g ' -exec sha256sum {} \; -o -printf '%p %m %u %g %l %y\n' \) | sort
}

step "before"
# Byte code of the packages that are there already is no part of ours.
python3 -m compileall -q /usr/lib/python3 >/dev/null 2>&1 || true
pip config list >/dev/null
snapshot > /tmp/before

step "install: a consumer, services enabled and idle"
install_it
must grep -q piwheels.org $ours
must pip_uses https://www.piwheels.org/simple
must grep -q piwheels.org $uv
must is_enabled builder
must is_enabled master
must [ "$(stat -c '%U %a' /var/lib/piwheels-node)" = "piwheels-node 755" ]
must piwheels-node --version
must sh -c 'piwheels-node builder status | grep -q "no master was joined"'
for command in piwheels-node piwheels-node-builder-join piwheels-node-master-init; do
    must [ -e /usr/share/man/man1/$command.1.gz ]
done
must bash -c '. /usr/share/bash-completion/completions/piwheels-node && COMP_WORDS=(piwheels-node mas) COMP_CWORD=1 &&
    _piwheels_node_completion piwheels-node && [ "${COMPREPLY[*]}" = master ]'

step "reconfigure to a builder: no index for pip; and back"
mkdir -p /var/lib/piwheels-node/membership
echo '{"url": "https://farm.example", "name": "pi", "key": "k"}' > /var/lib/piwheels-node/membership/master.json
reconfigure builder
must [ ! -e $ours ]
must [ ! -e $uv ]
must is_enabled builder
reconfigure both
must pip_uses https://www.piwheels.org/simple
must is_enabled builder
reconfigure consumer
if is_enabled builder; then fail "a consumer builds"; fi
must grep -q '"key"' /var/lib/piwheels-node/membership/master.json
reconfigure both
must is_enabled builder

step "upgrade: role, key, settings and edits stay"
echo '# mine' >> $ours
echo '[builder]' > /etc/piwheels-node/local.toml
dpkg-deb -R "$deb" /tmp/next
sed -i 's/^Version: .*/&+next/' /tmp/next/DEBIAN/control
dpkg-deb -b /tmp/next /tmp/piwheels-node_next_all.deb >/dev/null
install_it /tmp/piwheels-node_next_all.deb
must [ "$(dpkg-query -W -f '${Version}' piwheels-node | sed 's/.*+//')" = next ]
must grep -q '# mine' $ours
must is_enabled builder
must [ -e /etc/piwheels-node/local.toml ]
must grep -q '"key"' /var/lib/piwheels-node/membership/master.json

step "remove: data and settings stay"
apt-get -qq remove -y piwheels-node >/tmp/log 2>&1 || { cat /tmp/log; fail remove; }
must [ -e /var/lib/piwheels-node/membership/master.json ]
must [ -e $ours ]

step "purge with a change of somebody's in our file: that stays, with what we said in it"
apt-get -qq purge -y piwheels-node >/tmp/log 2>&1 || { cat /tmp/log; fail purge; }
must grep -q '# mine' $ours
must [ ! -e /var/lib/piwheels-node ]
must [ -e /etc/piwheels-node/local.toml ]
rm -r $ours /etc/piwheels-node
rmdir /etc/xdg/pip 2>/dev/null || true

step "nothing is left"
snapshot > /tmp/after
diff /tmp/before /tmp/after || fail "files differ"

step "preseeded: a builder, another index"
answer role select both
answer index boolean true
answer index-url string https://farm.example:8443/simple/
install_it
must pip_uses https://farm.example:8443/simple/

step "purge of a master: asked, and kept without an answer; taken with one"
mkdir -p /var/lib/piwheels-node/keys
echo wheels > /var/lib/piwheels-node/database.sqlite
apt-get -qq purge -y piwheels-node >/tmp/log 2>&1 || { cat /tmp/log; fail purge; }
must [ -e /var/lib/piwheels-node/database.sqlite ]
install_it
answer purge-master boolean true
apt-get -qq purge -y piwheels-node >/tmp/log 2>&1 || { cat /tmp/log; fail purge; }
must [ ! -e /var/lib/piwheels-node ]
rmdir /etc/xdg/pip 2>/dev/null || true
snapshot > /tmp/after
diff /tmp/before /tmp/after || fail "files differ"

step "files of others are never touched, whatever they say"
for text in '[global]\nextra-index-url = https://mine.example/simple\n' '[global]\ntimeout = 60\n'; do
    for file in /etc/pip.conf $ours; do
        mkdir -p "$(dirname "$file")"
        printf "$text" > "$file"
        sum=$(sha256sum "$file")
        install_it
        must [ "$sum" = "$(sha256sum "$file")" ]
        apt-get -qq purge -y piwheels-node >/tmp/log 2>&1 || { cat /tmp/log; fail purge; }
        must [ "$sum" = "$(sha256sum "$file")" ]
        rm "$file"
    done
done

echo "lifecycle: all as it should be"
