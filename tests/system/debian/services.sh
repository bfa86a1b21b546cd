# SPDX-License-Identifier: BSD-3-Clause
# The services of the package, under systemd: started by what makes a machine a master or a builder, ready, well,
# logged with fields; builds within the limits of their control groups; stopped; killed and back. Run by `run` in a
# container, and by debian/tests/farm wherever autopkgtest runs, as in the machine that `vm` makes.
set -eu
here=$(dirname "$(readlink -f "$0")")
# INSTALLED=1: the package is there already, as in an autopkgtest, and there is no other to upgrade to.
deb=$(echo /share/piwheels-node_*_all.deb)

step() { echo "-- $*"; }
fail() {
    echo "FAILED: $*" >&2
    tmux -L farm capture-pane -p 2>/dev/null || true
    systemctl status --no-pager --full piwheels-master piwheels-builder || true
    journalctl --no-pager -n 60 -u piwheels-master -u piwheels-builder || true
    exit 1
}
must() { "$@" || fail "$*"; }
soon() { # COMMAND...: within PATIENCE_S
    until=$(($(date +%s) + ${PATIENCE_S:-60}))
    while [ "$(date +%s)" -lt "$until" ]; do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.2
    done
    fail "not soon: $*"
}
is_active() { systemctl is-active --quiet "piwheels-$1"; }
says() { systemctl show -P StatusText "piwheels-$1" | grep -q "$2"; }
pid_of() { systemctl show -P MainPID "piwheels-$1"; }
has_memory() { grep -qw memory "$1/cgroup.controllers"; }
score() { systemd-analyze security --no-pager "piwheels-$1.service" | sed -n 's/.*exposure level.*: \([0-9.]*\).*/\1/p'; }
below() { python3 -c "import sys; sys.exit(not 0 < float(sys.argv[1]) < float(sys.argv[2]))" "$1" "$2"; }
memory_max=201326592

step "install"
[ "${INSTALLED:-}" ] || apt-get -qq -o Dpkg::Use-Pty=0 install -y "$deb" >/tmp/log 2>&1 || { cat /tmp/log; fail install; }
for role in master builder; do
    must systemctl is-enabled --quiet piwheels-$role.service piwheels-$role.path
    must systemctl is-active --quiet piwheels-$role.path
    if is_active $role; then fail "piwheels-$role is not idle"; fi
done

step "a home-made PyPI"
python3 "$here/pypi.py" /tmp/pypi &
pypi=$!
soon test -s /tmp/pypi/index-url
cat > /etc/piwheels-node/local.toml <<SETTINGS
[pypi]
index_url = "$(cat /tmp/pypi/index-url)"
[builder]
memory_bytes = 0
memory_max_bytes = $memory_max
SETTINGS

step "master init starts the master"
piwheels-node master init --name guest --host 127.0.0.1 >/tmp/join 2>/tmp/init || { cat /tmp/init; fail "master init"; }
soon is_active master
soon says master 'serving https://'
must [ "$(ps -o user= -p "$(pid_of master)")" = piwheels-node ]
soon python3 -c 'import ssl, urllib.request; urllib.request.urlopen("https://guest:8443/simple/",
    context=ssl.create_default_context(cafile="/var/lib/piwheels-node/certificate.pem"))'
echo "exposure of piwheels-master: $(score master)"
must below "$(score master)" 2.5

step "builder join starts the builder"
token=$(sed 's/.* //' /tmp/join | tail -n 1)
piwheels-node builder join https://guest:8443 "$token" >/tmp/log 2>&1 || { cat /tmp/log; fail join; }
soon is_active builder
must [ "$(ps -o user= -p "$(pid_of builder)")" = piwheels-build ]
must [ "$(stat -c %U /var/lib/piwheels-node/membership/master.json)" = piwheels-build ]
echo "exposure of piwheels-builder: $(score builder)"
must below "$(score builder)" 4
soon says builder 'waiting for jobs'

step "the builder sees nothing of the master's, nor the other way round"
as() { setpriv --reuid "$1" --regid "$1" --clear-groups sh -c "$2"; }
must as piwheels-build '! cat /var/lib/piwheels-node/keys/operator.key 2>/dev/null'
must as piwheels-node '! cat /var/lib/piwheels-node/membership/master.json 2>/dev/null'
must nsenter --target "$(pid_of builder)" --mount test ! -e /var/lib/piwheels-node/keys/operator.key

step "a build"
piwheels-node build --json quick >/tmp/quick.json 2>/tmp/quick.log || { cat /tmp/quick.json /tmp/quick.log; fail "build"; }
must grep -q '"outcome": "built"' /tmp/quick.json
journalctl --sync
must sh -c 'journalctl -o cat PACKAGE=quick VERSION=1.0 _SYSTEMD_UNIT=piwheels-builder.service | grep -q "built"'
must sh -c 'journalctl -o cat PACKAGE=quick _SYSTEMD_UNIT=piwheels-master.service | grep -q "built"'
must [ "$(journalctl -o json PACKAGE=quick | sed -n 's/.*"JOB":"\([0-9]*\)".*/\1/p' | sort -u | wc -l)" = 1 ]

step "the dashboard shows the builder, and ends"
tmux -L farm -f /dev/null new-session -d -x 120 -y 36 'piwheels-node dashboard; echo "code $?"; sleep 600'
soon sh -c 'tmux -L farm capture-pane -p | grep -q "guest .*idle"'
tmux -L farm capture-pane -p
tmux -L farm send-keys q
soon sh -c 'tmux -L farm capture-pane -p | grep -q "code 0"'
tmux -L farm kill-server

step "an ordinary user's pip gets it from the master, with no option"
piwheels-node pip enable >/tmp/log 2>&1 || { cat /tmp/log; fail "pip enable"; }
must piwheels-node pip status --json >/tmp/log
must grep -q https://guest:8443/simple/ /tmp/log
id pupil >/dev/null 2>&1 || useradd --create-home pupil
su - pupil -c 'python3 -m venv venv && venv/bin/pip install quick' >/tmp/log 2>&1 || { cat /tmp/log; fail "pip install"; }
must [ "$(su - pupil -c "venv/bin/python -c 'import _quick; print(_quick.answer())'")" = 42 ]

step "a build has a control group of its own, below the service's"
timeout "${PATIENCE_S:-60}" piwheels-node build slow >/tmp/slow.log 2>&1 &
soon says builder 'building slow 1.0'
group=/sys/fs/cgroup$(systemctl show -P ControlGroup piwheels-builder)
soon grep -q . "$group"/build-*/cgroup.procs
# A machine has the kernel's controllers; a container has them where somebody passed them on.
systemd-detect-virt --quiet --container || must has_memory "$group"
if has_memory "$group"; then
    must [ "$(cat "$group"/build-*/memory.max)" = "$memory_max" ]
    must [ "$(cat "$group"/build-*/memory.swap.max)" = 0 ]
    must [ "$(cat "$group"/build-*/pids.max)" -gt 0 ]
fi

step "stopping gives the lease back, at once"
before=$(date +%s)
must systemctl stop piwheels-builder
must [ $(($(date +%s) - before)) -lt 45 ]
must [ "$(systemctl show -P Result piwheels-builder)" = success ]
must [ -z "$(ps -o pid= -U piwheels-build)" ]
must sh -c 'journalctl -o cat PACKAGE=slow _SYSTEMD_UNIT=piwheels-builder.service | grep -q "given back"'
sleep 2
if is_active builder; then fail "what was stopped has started again"; fi

step "another builder gets it"
must systemctl start piwheels-builder
soon says builder 'building slow 1.0'

step "a builder that hangs is killed by the watchdog, and comes back"
mkdir -p /run/systemd/system/piwheels-builder.service.d
printf '[Service]\nWatchdogSec=%ss\nTimeoutAbortSec=2s\n' $((${PATIENCE_S:-60} / 15)) > /run/systemd/system/piwheels-builder.service.d/soon.conf
must systemctl daemon-reload
must systemctl restart piwheels-builder
soon says builder 'building slow 1.0'
was=$(pid_of builder)
kill -STOP "$was"
soon sh -c "[ \"\$(systemctl show -P NRestarts piwheels-builder)\" -ge 1 ]"
must [ "$(pid_of builder)" != "$was" ]
soon says builder 'building\|waiting'
must sh -c 'journalctl -o cat -u piwheels-builder | grep -qi watchdog'

step "a build that takes all memory is ended, and its builder is not"
was=$(pid_of builder)
piwheels-node master builders skip --all >/tmp/log 2>&1 || { cat /tmp/log; fail "skip"; }
timeout "${PATIENCE_S:-60}" piwheels-node build hog >/tmp/hog.log 2>&1 &
soon sh -c 'journalctl -o cat PACKAGE=hog _SYSTEMD_UNIT=piwheels-builder.service | grep -q out-of-memory'
must [ "$(pid_of builder)" = "$was" ]
if has_memory "$group"; then
    # It was the kernel, for the limit of that group and of no other.
    must sh -c 'journalctl -k -o cat | grep -q "oom-kill:constraint=CONSTRAINT_MEMCG.*oom_memcg=[^,]*piwheels-builder.service/build-"'
fi

step "a wrong setting is told once, and not tried again and again"
must systemctl stop piwheels-builder
printf '[builder]\nno_such = 1\n' > /etc/piwheels-node/wrong.toml
systemctl start piwheels-builder >/dev/null 2>&1 || true
soon systemctl is-failed --quiet piwheels-builder
sleep 1
must [ "$(systemctl show -P ExecMainStatus piwheels-builder)" = 2 ]
must sh -c 'journalctl -o cat -u piwheels-builder | grep -q "no_such"'
rm /etc/piwheels-node/wrong.toml
must systemctl reset-failed piwheels-builder

if [ "${INSTALLED:-}" ]; then
    kill "$pypi"
    echo "services: all as it should be"
    exit 0
fi

step "an upgrade restarts what runs, and loses nothing"
must systemctl start piwheels-builder
soon is_active builder
was=$(pid_of master)
dpkg-deb -R "$deb" /tmp/next
sed -i 's/^Version: .*/&+next/' /tmp/next/DEBIAN/control
dpkg-deb -b /tmp/next /tmp/piwheels-node_next_all.deb >/dev/null
apt-get -qq -o Dpkg::Use-Pty=0 install -y /tmp/piwheels-node_next_all.deb >/tmp/log 2>&1 || { cat /tmp/log; fail upgrade; }
soon is_active master
soon is_active builder
must [ "$(pid_of master)" != "$was" ]
soon says builder 'building\|waiting'

step "purge stops everything"
must systemctl stop piwheels-builder
printf 'piwheels-node piwheels-node/purge-master boolean true\n' | debconf-set-selections
apt-get -qq purge -y piwheels-node >/tmp/log 2>&1 || { cat /tmp/log; fail purge; }
if is_active master || is_active builder; then fail "something runs still"; fi
must [ ! -e /var/lib/piwheels-node ]
must [ ! -e /etc/piwheels-node ]
must [ ! -e /etc/xdg/pip/pip.conf ]
must [ ! -e /etc/uv/uv.toml ]
must [ -z "$(find / -xdev -name 'piwheels-node*.crt' -o -xdev -name 'piwheels-node*.pem')" ]
kill "$pypi"
echo "services: all as it should be"
