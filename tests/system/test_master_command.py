# SPDX-License-Identifier: BSD-3-Clause
"""`master` and `builder` as people run them: from nothing to a wheel over HTTPS, and what can go wrong."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from fix_command import Running, clean_environ, program_for_all, until
from fix_pypi import HomeMadePyPI
from sdists import make_sdist

from piwheels_node.builder.farm import membership
from piwheels_node.cli.connection import Connection
from piwheels_node.cli.node import ThisMachine
from piwheels_node.core.builders import Mode
from piwheels_node.core.messages import TokenRequest

_PROGRAM = (sys.executable, "-m", "piwheels_node.cli")
SLEEPS = "import time; time.sleep(600)"


class Hall:
    """One machine that is a master, and builders on it with directories of their own."""

    def __init__(self, directory, pypi, program=_PROGRAM):
        self.program = program
        self.directory = directory
        self.pypi = pypi
        self.master = directory / "master"
        self.settings = ["--set", f"pypi.index_url={pypi.index_url}", "--set", "pypi.max_age_s=0"]

    def start(self, *words, data=None, environ=None):
        whole = [*self.program, *words, "--data", str(data or self.master)]
        return Running(whole, self.directory, environ or clean_environ())

    def run(self, *words, data=None, said=None, code=0):
        """Run a command to its end; gives what it printed. `said` goes to its standard input."""
        done = subprocess.run(
            [*self.program, *words, "--data", str(data or self.master)],
            cwd=self.directory,
            env=clean_environ(),
            capture_output=True,
            text=True,
            check=False,
            input=said or "",
        )
        assert done.returncode == code, done.stderr
        self.err = done.stderr
        return done.stdout

    def init(self, *words):
        return self.run("master", "init", "--host", "127.0.0.1", "--port", "1", *words)

    def serve(self, *words):
        serving = self.start("master", "run", "--host", "127.0.0.1", "--port", "0", *self.settings, *words)
        serving.until("until Ctrl-C")
        self.url = json.loads((self.master / "endpoint.json").read_text())["url"]
        return serving

    def token(self, **wanted):
        """A join token, made without a command."""
        with Connection(self.master).client() as client:
            return client.create_token(TokenRequest(**wanted)).token

    def join(self, name, **wanted):
        """A builder that has joined without a command; gives its directory."""
        data = self.directory / name
        membership.join(data, self.url, self.token(**wanted), name)
        return data

    def build(self, data, *words):
        """A builder's service."""
        return self.start("builder", "run", *self.settings, *words, data=data)

    def builders(self):
        """The builders, by name, as the master tells."""
        with Connection(self.master).client() as client:
            return {one.name: one for one in client.builders()}


@pytest.fixture
def hall(open_tmp_path, pypi):
    return Hall(open_tmp_path, pypi)


@pytest.fixture(scope="module")
def open_hall():
    """A master that serves already, for all tests that do nothing to the master itself."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="piwheels-node-test-")))
        directory.chmod(0o755)
        pypi = HomeMadePyPI()
        stack.callback(pypi.close)
        hall = Hall(directory, pypi)
        hall.init()
        stack.enter_context(hall.serve())
        yield hall


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_from_nothing_to_a_wheel_that_another_build_needs(hall, made):
    """The second build needs the first one's wheel, which only the master's own index has: pip trusts it."""
    hall.pypi.add(make_sdist(made, "little", "1.0"), project="little")
    hall.pypi.add(make_sdist(made, "needy", "1.0", requires=["little"]), project="needy")
    told = hall.init().split()
    assert told[:4] == ["sudo", "piwheels-node", "builder", "join"]
    with hall.serve() as serving:
        assert hall.url.startswith("https://127.0.0.1:")
        data = hall.directory / "pi"
        hall.run("builder", "join", hall.url, "-", "--name", "pi", data=data, said=f"{told[5]}\n")
        with hall.build(data) as building:
            building.until("builds for")
            for name in ("little", "needy"):
                (result,) = json.loads(hall.run("build", name, "--json"))
                assert result["outcome"] == "built", result
            said = json.loads(hall.run("builder", "status", "--json", data=data))
            assert (said["running"], said["builder"]["built"]) == (True, 2)
            machine = ThisMachine(data, Path("/none"))
            shown = until(lambda: (seen := machine.look().builder) and len(seen.ended) == 2 and seen, "both")
            assert [one.project for one in shown.ended] == ["needy", "little"]
            assert (shown.name, shown.master, shown.builds) == ("pi", hall.url, [])
            assert building.end(signal.SIGTERM).code == 0
        assert serving.end(signal.SIGTERM).code == 0
    assert "Traceback" not in serving.err + building.err
    assert not (hall.master / "endpoint.json").exists()
    assert machine.look().builder is None


def test_init_makes_everything_once_and_for_the_right_eyes(hall):
    hall.init("--name", "farm.example")
    kept = {
        path: path.read_bytes()
        for path in (hall.master / "certificate.pem", *sorted((hall.master / "keys").iterdir()))
    }
    assert mode(hall.master) == 0o755
    assert mode(hall.master / "keys") == 0o700
    assert {path.name: mode(path) for path in kept} == {
        "certificate.pem": 0o644,
        "certificate.key": 0o600,
        "operator.key": 0o600,
    }
    assert "farm.example" in hall.err

    assert hall.init("--name", "farm.example") == ""
    assert "nothing was changed" in hall.err
    assert {path: path.read_bytes() for path in kept} == kept
    hall.run("master", "init", "--name", "other.example", code=3)
    assert "does not name other.example" in hall.err


def test_init_and_run_beside_a_running_master_change_nothing(open_hall):
    assert open_hall.init() == ""
    assert "nothing was changed" in open_hall.err
    open_hall.run("master", "run", "--host", "127.0.0.1", code=3)
    assert "serves this directory already" in open_hall.err


def test_tokens_are_made_listed_and_revoked(open_hall):
    line = open_hall.run("master", "token", "new", "--uses", "3", "--expires", "2h", "--note", "class 7b")
    assert line.startswith(f"sudo piwheels-node builder join {open_hall.url} ")
    assert "3 machines" in open_hall.err

    tokens = json.loads(open_hall.run("master", "token", "list", "--json"))
    assert (tokens[0]["uses_left"], tokens[0]["note"]) == (3, "class 7b")
    assert (tokens[-1]["uses_left"], tokens[-1]["note"]) == (10, "made by master init")
    assert {one["token"] for one in tokens} == {None}

    open_hall.run("master", "token", "revoke", str(tokens[0]["token_id"]))
    assert "revoked" in open_hall.run("master", "token", "list")
    open_hall.run("builder", "join", open_hall.url, line.split()[-1], data=open_hall.directory / "b", code=3)
    assert "revoked" in open_hall.err
    assert not (open_hall.directory / "b" / "membership" / "master.json").exists()


def test_orders_reach_a_builder_in_the_middle_of_a_build(open_hall, made):
    open_hall.pypi.add(make_sdist(made, "slow", "1.0", setup=SLEEPS), project="slow")
    with open_hall.build(open_hall.join("ordered")) as building:
        building.until("builds for")
        with open_hall.start("build", "slow") as asking:
            asking.until("slow 1.0: build")
            number = re.search(r"slow 1.0 \(job (\d+)\): taken", building.err)[1]
            open_hall.run("master", "builders", "pause", "ordered", "--why", "the fan")
            building.until("standing still: told to pause: the fan")
            assert open_hall.builders()["ordered"].mode is Mode.PAUSE
            assert "pause: the fan" in open_hall.run("master", "builders", "list")
            open_hall.run("master", "builders", "resume", "ordered")
            building.until("taking jobs again")
            assert "slow 1.0 is cancelled" in open_hall.run("master", "builders", "skip", "--all")
            building.until(f"slow 1.0 (job {number}): given back")
            assert asking.end().code == 3
        open_hall.run("master", "builders", "drain", "--all")
        building.until("told to drain")
        open_hall.run("master", "builders", "resume", "--all")
        open_hall.run("master", "cancel", number, code=3)
        assert "ended already" in open_hall.err


def test_a_revoked_builder_ends_and_says_why_and_comes_back_only_with_approval(open_hall, made):
    data = open_hall.join("revoked")
    with open_hall.build(data) as building:
        building.until("builds for")
        open_hall.run("master", "builders", "revoke", "revoked")
        ended = building.end()
    assert ended.code == 3
    assert "revoked" in ended.err
    open_hall.run("builder", "run", data=data, code=3)
    open_hall.run("builder", "join", open_hall.url, open_hall.token(), "--name", "revoked", data=data, code=3)
    assert "builders approve revoked" in open_hall.err
    open_hall.run("master", "builders", "approve", "revoked")
    open_hall.join("revoked")
    with open_hall.build(data) as building:
        building.until("builds for")


def test_a_pending_builder_builds_once_it_is_approved(open_hall, made):
    open_hall.pypi.add(make_sdist(made, "awaited", "1.0"), project="awaited")
    token = json.loads(open_hall.run("master", "token", "new", "--needs-approval", "--json"))["token"]
    data = open_hall.directory / "pending"
    open_hall.run("builder", "join", open_hall.url, token, "--name", "pending", data=data)
    assert "must approve" in open_hall.err
    with open_hall.build(data) as building:
        building.until("is pending on its master")
        with open_hall.start("build", "awaited") as asking:
            asking.until("awaited 1.0: queued")
            open_hall.run("master", "builders", "approve", "--all")
            assert asking.end().code == 0


def test_a_purge_is_asked_for_twice_and_withdraws(open_hall, made):
    open_hall.pypi.add(make_sdist(made, "regretted", "1.0"), project="regretted")
    data = open_hall.join("purged")
    with open_hall.build(data) as building:
        building.until("builds for")
        open_hall.run("build", "regretted")
    words = ["master", "builders", "purge", "purged", "--since", "1h", "--why", "distrust"]
    open_hall.run(*words, said="n\n", code=130)
    open_hall.run(*words, code=130)
    assert json.loads(open_hall.run(*words, "--json", "--yes")) == {
        "wheels": ["regretted-1.0-py3-none-any.whl"],
        "jobs": 1,
    }
    assert open_hall.run(*words, said="y\n").strip() == ""  # click 8.1 echoes a space there
    assert "0 wheels are withdrawn" in open_hall.err


def test_a_builder_waits_for_a_master_that_is_away_and_says_so_once(hall, made):
    hall.pypi.add(make_sdist(made, "little", "1.0"), project="little")
    hall.init()
    with hall.serve():
        data = hall.join("pi")
    port = hall.url.rpartition(":")[2]
    with hall.build(data) as building:
        building.until("waiting for it")
        time.sleep(1.5)
        with hall.start("master", "run", "--host", "127.0.0.1", "--port", port, *hall.settings) as serving:
            serving.until("until Ctrl-C")
            building.until("builds for")
            assert building.err.count("does not answer") == 1
            hall.run("build", "little")


def test_a_directory_that_was_copied_with_its_key_is_noticed(open_hall):
    """Two services with one key: the later one is heard, the earlier one ends, and says why."""
    data = open_hall.join("copied")
    copy = open_hall.directory / "copy"
    shutil.copytree(data, copy)
    with open_hall.build(data) as first:
        first.until("builds for")
        with open_hall.build(copy) as second:
            second.until("builds for")
            ended = first.end()
    assert ended.code == 3
    assert "another process" in ended.err


def test_one_service_runs_on_a_directory(open_hall):
    data = open_hall.join("alone")
    with open_hall.build(data) as building:
        building.until("builds for")
        open_hall.run("builder", "run", data=data, code=3)
        assert "service is running" in open_hall.err
        open_hall.run("builder", "leave", data=data, code=3)
    open_hall.run("builder", "leave", data=data)
    assert open_hall.err == f"alone is no builder of {open_hall.url} any more.\n"
    open_hall.run("builder", "run", data=data, code=3)
    assert json.loads(open_hall.run("builder", "status", "--json", data=data))["joined"] is False


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives root away")
def test_a_master_that_root_starts_is_whoever_owns_its_directory(open_tmp_path, pypi):
    hall = Hall(open_tmp_path, pypi, program_for_all())
    hall.init()
    for path in (hall.master, *hall.master.rglob("*")):
        shutil.chown(path, "nobody", "nogroup")
    with hall.serve() as serving:
        lines = Path(f"/proc/{serving.process.pid}/status").read_text().splitlines()
        status = dict(line.split(":", 1) for line in lines)
        nobody = (hall.master / "keys").stat()
        assert set(status["Uid"].split()) == {str(nobody.st_uid)}
        assert set(status["Gid"].split()) == {str(nobody.st_gid)}
        assert set(status["Groups"].split()) <= {str(nobody.st_gid)}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes accounts")
def test_the_systems_master_has_an_account_and_settings_of_its_own(open_tmp_path):
    """In a mount namespace with an /etc of its own, of which nothing is left."""
    script = """
        set -e
        for name in etc var/lib; do
            mkdir -p $1/$name/upper $1/$name/work
            mount -t overlay overlay -o lowerdir=/$name,upperdir=$1/$name/upper,workdir=$1/$name/work /$name
        done
        rm -f /etc/piwheels-node/master.toml; rm -rf /var/lib/piwheels-node
        sed -i /^piwheels-node:/d /etc/passwd /etc/shadow /etc/group /etc/gshadow
        shift
        "$@" master init --port 8444; "$@" master init
        cat /etc/piwheels-node/master.toml
        stat -c '%U %a %n' /var/lib/piwheels-node /var/lib/piwheels-node/keys/*
        getent passwd piwheels-node
    """
    layers = open_tmp_path / "layers"
    layers.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "tmpfs", layers], check=False
    )  # overlays on overlays fail
    assert mounted.returncode == 0
    try:
        environ = {name: value for name, value in clean_environ().items() if name != "PIWHEELS_NODE_SETTINGS"}
        done = subprocess.run(
            ["unshare", "--mount", "bash", "-c", script, "bash", str(layers), *_PROGRAM],
            capture_output=True,
            text=True,
            check=False,
            env=environ,
        )
    finally:
        subprocess.run(["umount", layers], check=True)

    assert done.returncode == 0, done.stderr
    assert "made: the account piwheels-node" in done.stderr
    assert "nothing was changed" in done.stderr
    assert 'host = "0.0.0.0"\nport = 8444\n' in done.stdout
    assert "piwheels-node 755 /var/lib/piwheels-node\n" in done.stdout
    for name in ("certificate.key", "operator.key"):
        assert f"piwheels-node 600 /var/lib/piwheels-node/keys/{name}\n" in done.stdout
    assert ":/usr/sbin/nologin" in done.stdout
