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

# The same package, as if it were a later version.
later() { # WORD
    rm -rf /tmp/later
    dpkg-deb -R "$deb" /tmp/later
    sed -i "s/^Version: .*/&+$1/" /tmp/later/DEBIAN/control
    dpkg-deb -b /tmp/later "/tmp/piwheels-node_$1_all.deb" >/dev/null
    install_it "/tmp/piwheels-node_$1_all.deb"
    must [ "$(dpkg-query -W -f '${Version}' piwheels-node | sed 's/.*+//')" = "$1" ]
}
purge() { apt-get -qq purge -y piwheels-node >/tmp/log 2>&1 || { cat /tmp/log; fail purge; }; }
no_questions_left() { [ -z "$(find /etc/xdg /etc/uv -name '*.ucf-*' -o -name '*.dpkg-*')" ]; }

step "before"
useradd --create-home pupil
mkdir -p /home/pupil/.config/pip
printf '[global]\ntimeout = 61\n' > /home/pupil/.config/pip/pip.conf
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
later next
must grep -q '# mine' $ours
must is_enabled builder
must [ -e /etc/piwheels-node/local.toml ]
must grep -q '"key"' /var/lib/piwheels-node/membership/master.json

step "remove: data and settings stay"
apt-get -qq remove -y piwheels-node >/tmp/log 2>&1 || { cat /tmp/log; fail remove; }
must [ -e /var/lib/piwheels-node/membership/master.json ]
must [ -e $ours ]

step "purge with a change of somebody's in our file: that stays, with what we said in it"
purge
must grep -q '# mine' $ours
must [ ! -e /var/lib/piwheels-node ]
must [ ! -e /etc/piwheels-node ]
rm $ours
rmdir /etc/xdg/pip 2>/dev/null || true

step "nothing is left"
snapshot > /tmp/after
diff /tmp/before /tmp/after || fail "files differ"

step "preseeded: what is no address is not written anywhere"
answer index-url string 'farm.example'
install_it
must [ ! -e $ours ]
must [ ! -e $uv ]
purge

step "preseeded: a builder, another index"
answer role select both
answer index boolean true
answer index-url string https://farm.example:8443/simple/
install_it
must pip_uses https://farm.example:8443/simple/

step "pip enable and pip disable: an upgrade changes nothing of it, and asks nothing; reconfiguring does"
must piwheels-node pip enable --index https://other.example >/tmp/log
must pip_uses https://other.example/simple/
later other
must pip_uses https://other.example/simple/
must grep -q https://other.example/simple/ $uv
must no_questions_left
must piwheels-node pip disable >/tmp/log
must [ ! -e $ours ]
later without
must [ ! -e $ours ]
must [ ! -e $uv ]
reconfigure both
must [ -e $ours ]
must [ -e $uv ]
must no_questions_left

step "purge of a master: asked, and kept without an answer; taken with one"
mkdir -p /var/lib/piwheels-node/keys
echo '[master]' > /etc/piwheels-node/master.toml
echo wheels > /var/lib/piwheels-node/database.sqlite
purge
must [ -e /var/lib/piwheels-node/database.sqlite ]
must [ -e /etc/piwheels-node/master.toml ]
install_it
answer purge-master boolean true
purge
must [ ! -e /var/lib/piwheels-node ]
snapshot > /tmp/after
diff /tmp/before /tmp/after || fail "files differ"

step "files of others are never touched, whatever they say"
for text in '[global]\nextra-index-url = https://mine.example/simple\n' '[global]\ntimeout = 60\n'; do
    for file in /etc/pip.conf $ours $uv; do
        mkdir -p "$(dirname "$file")"
        printf "$text" > "$file"
        sum=$(sha256sum "$file")
        install_it
        must [ "$sum" = "$(sha256sum "$file")" ]
        purge
        must [ "$sum" = "$(sha256sum "$file")" ]
        rm "$file"
    done
done

step "/etc/pip.conf that says something else hides nothing; one that names an index does, until pip enable"
printf '[global]\ntimeout = 60\n' > /etc/pip.conf
install_it
must pip_uses https://www.piwheels.org/simple
printf '# ours, said the school\n[global]\nextra-index-url = https://mine.example/simple\ntimeout = 60' > /etc/pip.conf
sum=$(sha256sum /etc/pip.conf)
must pip_uses https://mine.example/simple
must sh -c 'piwheels-node pip status | grep -q "/etc/pip.conf: extra-index-url = https://mine.example/simple: in effect"'
must piwheels-node pip enable --index https://farm.example:8443 >/tmp/log
must sh -c 'pip config list | grep extra-index-url | grep mine.example | grep -q https://farm.example:8443/simple/'
must grep -q '^# ours, said the school$' /etc/pip.conf
purge
must [ "$sum" = "$(sha256sum /etc/pip.conf)" ]
rm /etc/pip.conf

step "nothing is left, once more"
rmdir /etc/xdg/pip /etc/uv 2>/dev/null || true
snapshot > /tmp/after
diff /tmp/before /tmp/after || fail "files differ"

step "a consumer without what is only recommended works, and says what it lacks"
apt-get -qq purge -y python3-fastapi python3-sqlalchemy python3-textual bubblewrap gcc >/tmp/log 2>&1 || { cat /tmp/log; fail purge; }
apt-get -qq -o Dpkg::Use-Pty=0 install --no-install-recommends -y "$deb" >/tmp/log 2>&1 || { cat /tmp/log; fail install; }
must pip_uses https://www.piwheels.org/simple
must piwheels-node status >/tmp/log
must sh -c '! piwheels-node master run --help >/tmp/log 2>&1'
must grep -q 'apt install python3-' /tmp/log
must sh -c '! piwheels-node dashboard >/tmp/log 2>&1'
must grep -q 'apt install python3-textual' /tmp/log

echo "lifecycle: all as it should be"
