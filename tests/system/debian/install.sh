# SPDX-License-Identifier: BSD-3-Clause
# The steps of docs/install.md on a fresh machine, letter by letter, as blocks for `tools/install_page.py`. Run by
# `run DEB install`. What differs from machine to machine and matters to nobody (token, numbers) is left out.
set -eu
cd /share

begin() { echo "@@ $1"; }
show() { # COMMAND: the command as a person types it, and what it prints
    echo "    \$ $1"
    sh -c "$(echo "$1" | sed 's/sudo //g')" 2>&1 | sed -e 's/^/    /' -e 's/ *$//' \
        -e 's/[A-Za-z0-9_-]\{40,\}\(\.[A-Za-z0-9_-]*\)\{0,1\}/TOKEN/g'
}
soon() {
    for _ in $(seq 300); do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.2
    done
    echo "not soon: $*" >&2
    exit 1
}
is_doing() { systemctl show -P StatusText "piwheels-$1" | grep -q "$2"; }

begin consumer
show 'sudo apt install -q -y ./piwheels-node_*_all.deb 2>/dev/null | grep "^Setting up piwheels-node"'
show 'pip config list'
begin master
python3 /share/pypi.py /tmp/pypi &
soon test -s /tmp/pypi/index-url
printf '[pypi]\nindex_url = "%s"\n' "$(cat /tmp/pypi/index-url)" > /etc/piwheels-node/pypi.toml
piwheels-node master init --name guest --host 127.0.0.1 >/tmp/join 2>/tmp/said
echo '    $ sudo piwheels-node master init --name guest --host 127.0.0.1'
sed -e 's/^/    /' -e 's/ *$//' /tmp/said
sed -e 's/^/    /' -e 's/[^ ]*$/TOKEN/' /tmp/join
soon is_doing master serving
show 'systemctl show -P StatusText piwheels-master'
begin builder
echo '    $ sudo piwheels-node builder join https://guest:8443 TOKEN'
piwheels-node builder join https://guest:8443 "$(sed 's/.* //' /tmp/join | tail -n 1)" 2>&1 | sed 's/^/    /'
soon is_doing builder waiting
show 'systemctl show -P StatusText piwheels-builder'
show 'sudo piwheels-node builder status'
begin build
show 'sudo piwheels-node build quick | cut -c 1-100'
show 'journalctl -q -o cat PACKAGE=quick'
