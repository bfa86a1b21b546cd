# SPDX-License-Identifier: BSD-3-Clause
# debian/tests, run by autopkgtest in this very guest: those that are named, by default those that a container can run.
set -eu
here=$(dirname "$(readlink -f "$0")")
names=
for name in ${AUTOPKGTESTS:-consumer unit}; do names="$names --test-name=$name"; done
# shellcheck disable=SC2086 # the names are words on purpose
autopkgtest --no-built-binaries $names --ignore-restrictions=breaks-testbed,isolation-machine --env=PATIENCE_S="${PATIENCE_S:-}" \
    /share/piwheels-node_*_all.deb "$here/../../.." -- null
