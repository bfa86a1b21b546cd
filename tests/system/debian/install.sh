# SPDX-License-Identifier: BSD-3-Clause
# The steps of docs/install.md on a fresh machine, letter by letter, by an ordinary user with sudo, as blocks for
# `tools/install_page.py`. Run by `run DEB install`, whose output it is, and by `vm`. What differs from machine to
# machine and matters to nobody (the token) is left out.
set -eu
here=$(dirname "$(readlink -f "$0")")
useradd --create-home --shell /bin/bash --groups adm pi
echo 'pi ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/pi
cp /share/piwheels-node_*_all.deb /home/pi/

begin() { echo "@@ $1"; }
pi() { su --login pi --command "set -o pipefail; $1"; }
show() { # COMMAND: the command as a person types it, and what it prints
    echo "    \$ $1"
    pi "$(echo "$1" | sed "s/TOKEN/${token:-}/")" >/tmp/shown 2>&1 || { cat /tmp/shown; exit 1; }
    sed -e 's/^/    /' -e 's/ *$//' -e 's/[A-Za-z0-9_-]\{40,\}\(\.[A-Za-z0-9_-]*\)\{0,1\}/TOKEN/g' /tmp/shown
}
soon() {
    for _ in $(seq $((${PATIENCE_S:-60} * 5))); do
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
python3 "$here/pypi.py" /tmp/pypi &
soon test -s /tmp/pypi/index-url
printf '[pypi]\nindex_url = "%s"\n' "$(cat /tmp/pypi/index-url)" > /etc/piwheels-node/pypi.toml
show 'sudo piwheels-node master init --name guest --host 127.0.0.1'
token=$(sed -n 's/^sudo piwheels-node builder join [^ ]* //p' /tmp/shown)
soon is_doing master serving
show 'systemctl show -P StatusText piwheels-master'
begin builder
show 'sudo piwheels-node builder join https://guest:8443 TOKEN'
soon is_doing builder waiting
show 'systemctl show -P StatusText piwheels-builder'
show 'sudo piwheels-node builder status'
begin build
show 'sudo piwheels-node build quick | cut -c 1-100'
show 'journalctl -q -o cat PACKAGE=quick'
begin pip
show 'sudo piwheels-node pip enable'
show 'python3 -m venv venv'
show 'venv/bin/pip install -q quick 2>/dev/null'
show 'venv/bin/pip list | grep quick'
begin status
show 'sudo piwheels-node status'
kill $!
rm -r /tmp/pypi # the next test of this machine waits for its own
