# SPDX-License-Identifier: BSD-3-Clause
"""The command as a process: exit codes, what goes where, help, and how little is imported for it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from piwheels_node import __version__
from piwheels_node.core.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from piwheels_node.core.settings import ENVIRONMENT_PREFIX

NO_SETTINGS = os.path.dirname(__file__)
"""A directory without any."""

COMMANDS = ["build", "builder", "doctor", "libs", "master", "pip", "standalone", "status"]
HEAVY = {"alembic", "elftools", "fastapi", "httpx", "pydantic", "rich", "sqlalchemy", "starlette", "uvicorn"}


def run(*arguments, cwd=None, **environ):
    kept = {key: value for key, value in os.environ.items() if not key.startswith(ENVIRONMENT_PREFIX)}
    return subprocess.run(
        [sys.executable, "-m", "piwheels_node.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=60,
        env={**kept, "COLUMNS": "200", "PIWHEELS_NODE_SETTINGS": NO_SETTINGS, **environ},
    )


def imported_by(module):
    """Top-level names that importing a module brings in."""
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}, set(done.stdout.split())


def test_the_version_is_that_of_the_package():
    done = run("--version")

    assert done.returncode == EXIT_OK
    assert done.stdout.strip() == f"piwheels-node, version {__version__}"


@pytest.mark.parametrize("arguments", [["--help"], ["-h"]])
def test_help_lists_every_command(arguments):
    done = run(*arguments)

    assert done.returncode == EXIT_OK
    assert [word for word in COMMANDS if f"  {word} " in done.stdout] == COMMANDS
    assert "Example: piwheels-node" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_has_an_example_and_a_word_on_each_option(command):
    done = run(command, "--help")

    assert done.returncode == EXIT_OK
    assert re.search(f"Example: (sudo )?piwheels-node {command}", done.stdout)
    listed = [line for line in done.stdout.splitlines() if line.startswith("  -")]
    assert listed
    assert all(len(line.split("  ")) > 2 for line in listed), listed


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["nothing"], "No such command"),
        (["--nothing"], "No such option"),
        (["build"], "Missing argument"),
        (["standalone"], "nothing is named to build"),
        (["standalone", "a>=1"], "NAME==VERSION"),
        (["standalone", "--port", "70000", "a"], "65535"),
        (["standalone", "--set", "builder.nise=1", "a"], "builder.nice"),
        (["standalone", "--set", "builder.nice", "a"], "needs a value"),
        (["standalone", "--set", "builder.nice=-1", "a"], "0 or more"),
        (["standalone", "--python", "/nonexistent-python", "a"], "/nonexistent-python"),
        (["build", "--master", "http://192.0.2.1/", "--key-file", "/dev/null", "a"], "https"),
        (["build", "--master", "ftp://x/", "--key-file", "/dev/null", "a"], "not the URL of a master"),
    ],
)
def test_a_wrong_call_ends_with_2_and_says_what_is_wrong(arguments, word, tmp_path):
    done = run(*arguments, cwd=tmp_path, XDG_DATA_HOME=str(tmp_path))

    assert done.returncode == EXIT_USAGE, done.stderr
    assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_python_that_is_none_leaves_no_directory_behind(tmp_path):
    done = run("standalone", "--data", str(tmp_path / "farm"), "--python", "/nonexistent-python", "a")

    assert done.returncode == EXIT_USAGE
    assert not (tmp_path / "farm").exists()


@pytest.mark.parametrize("variable", ["PIWHEELS_NODE_BUILDER_NISE", "PIWHEELS_NODE_SETTING"])
def test_a_variable_that_nobody_knows_ends_with_2(variable):
    done = run("standalone", "a", **{variable: "1"})

    assert done.returncode == EXIT_USAGE
    assert variable in done.stderr
    assert "did you mean" in done.stderr


def test_a_master_that_does_not_run_ends_with_3_and_a_hint(tmp_path):
    done = run("build", "--data", str(tmp_path), "spidev")

    assert done.returncode == EXIT_FAILED
    assert "no master is running" in done.stderr
    assert f"standalone --keep --data {tmp_path}" in done.stderr


def test_a_master_that_does_not_answer_ends_with_3(tmp_path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "operator.key").write_text("key\n")
    (tmp_path / "endpoint.json").write_text(json.dumps({"url": "http://127.0.0.1:9", "pid": 1}))

    done = run("build", "--data", str(tmp_path), "spidev")

    assert done.returncode == EXIT_FAILED
    assert "does not answer" in done.stderr


def test_a_key_that_is_not_there_ends_with_3(tmp_path):
    done = run("build", "--data", str(tmp_path), "--master", "http://127.0.0.1:9", "spidev")

    assert done.returncode == EXIT_FAILED
    assert str(tmp_path / "keys" / "operator.key") in done.stderr


def test_a_data_directory_that_cannot_be_made_ends_with_3(tmp_path):
    (tmp_path / "file").write_text("")

    done = run("standalone", "--data", str(tmp_path / "file" / "farm"), "spidev")

    assert done.returncode == EXIT_FAILED
    assert "data directory cannot be used" in done.stderr


def test_the_command_line_itself_imports_nothing_heavy():
    names, _ = imported_by("piwheels_node.cli.main")

    assert names & HEAVY == set()


def test_a_builder_imports_no_database_and_no_web_server():
    names, modules = imported_by("piwheels_node.builder.farm.service")

    # rich is not ours: httpx takes it for its own command line where it is installed
    assert names & {"alembic", "fastapi", "sqlalchemy", "starlette", "uvicorn"} == set()
    assert not any(name.startswith("piwheels_node.master") for name in modules)


def test_asking_a_master_imports_no_database_and_no_web_server():
    names, modules = imported_by("piwheels_node.cli.build")

    assert names & {"alembic", "elftools", "fastapi", "sqlalchemy", "starlette", "uvicorn"} == set()
    assert not any(name.startswith(("piwheels_node.master", "piwheels_node.builder")) for name in modules)


def test_core_imports_nothing_of_ours_and_little_of_others():
    names, modules = imported_by("piwheels_node.core.messages, piwheels_node.core.settings")

    assert names & (HEAVY - {"pydantic"}) == set()
    ours = {name for name in modules if name.startswith("piwheels_node.")}
    assert {name.split(".")[1] for name in ours} == {"core"}
