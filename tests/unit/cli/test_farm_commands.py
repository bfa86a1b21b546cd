# SPDX-License-Identifier: BSD-3-Clause
"""Words of the commands `master` and `builder`: help, times, names, URLs, and what a wrong call is told."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import click
import pytest
from click.testing import CliRunner
from fix_command import clean_environ

from piwheels_node.cli.connection import Connection
from piwheels_node.cli.main import group
from piwheels_node.cli.master.words import url_for_others
from piwheels_node.cli.times import ago, duration_s, moment
from piwheels_node.core.errors import NodeError, UsageError
from piwheels_node.core.settings import MasterSettings, Settings

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def commands(of=group, path=()):
    """Every command and group below the first: ("master", "token", "new")."""
    context = click.Context(of)
    for name in of.list_commands(context):
        command = of.get_command(context, name)
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_command_has_an_example_and_a_word_on_each_option(path):
    done = CliRunner().invoke(group, [*path, "--help"], terminal_width=400, max_content_width=400)

    assert done.exit_code == 0
    assert re.search(f"Example: (sudo )?piwheels-node {' '.join(path)}", done.output)
    options = [line for line in done.output.splitlines() if line.startswith("  -")]
    assert options
    assert all(len(line.strip().split("  ")) > 1 for line in options), options


def test_groups_list_their_commands_without_importing_one():
    code = (
        "import sys; from piwheels_node.cli import main, master, builder; import click\n"
        "for one in (master.group, builder.group):\n"
        "    one.get_help(click.Context(one))\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert set(done.stdout.split()) & {"httpx", "pydantic", "rich", "sqlalchemy", "fastapi"} == set()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["builder", "join", "https://farm", "too-short"], 2, "not a join token"),
        (["builder", "join", "http://192.0.2.1", "x" * 32], 2, "https only"),
        (["builder", "join", "ftp://farm", "x" * 32], 2, "not the URL of a master"),
        (["builder", "join", "https://farm/path", "x" * 32], 2, "not the URL of a master"),
        (["builder", "join", "https://farm:99999", "x" * 32], 2, "not the URL of a master"),
        (["builder", "join", "https://key@farm", "x" * 32], 2, "not the URL of a master"),
        (["builder", "join", "https://farm", "x" * 32, "--name", "a b"], 2, "is no name"),
        (["builder", "join", "http://127.0.0.1:9", f"{'x' * 32}.{'ab' * 32}"], 2, "https"),
        (["builder", "join", "http://127.0.0.1:9", "x" * 32], 3, "does not answer"),
        (["builder", "run"], 3, "no master was joined"),
        (["master", "run"], 3, "master init"),
        (["master", "token", "list"], 3, "no master is running"),
        (["master", "token", "new", "--expires", "soon"], 2, "not a time"),
        (["master", "token", "new", "--uses", "0"], 2, "--uses"),
        (["master", "token", "revoke", "x"], 2, "ID"),
        (["master", "builders", "pause"], 2, "--all"),
        (["master", "builders", "pause", "a", "--all"], 2, "--all"),
        (["master", "builders", "revoke"], 2, "NAME"),
        (["master", "builders", "purge", "a", "--since", "never", "--why", "x"], 2, "not a time"),
        (["master", "builders", "purge", "a", "--why", "x"], 2, "--since"),
        (["master", "cancel", "first"], 2, "JOB"),
        (["master", "fixes", "add", "pycups", "Not_A_Name"], 2, "not the name of a Debian package"),
        (["master", "fixes", "add", "pycups", *(f"lib{n}" for n in range(40))], 2, "32 packages at most"),
        (["master", "fixes", "list", "--state", "fine"], 2, "--state"),
        (["master", "fixes", "accept", "it"], 2, "RULE"),
    ],
)
def test_a_wrong_call_is_told_what_is_wrong_and_leaves_nothing(words, code, said, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "piwheels_node.cli", *words, "--data", str(tmp_path / "data")],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env=clean_environ(),
    )

    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and path.name != "lock"] == []


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("7d", 604800), (" 2W ", 1209600)]
)
def test_durations_are_read(text, seconds):
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "h", "-1h", "1y", "1h30m", "nan", "1e3s"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(UsageError, match="not a time"):
        duration_s(text)


def test_moments_are_read_as_times_or_as_so_long_ago():
    assert moment("3h", NOW) == NOW - timedelta(hours=3)
    assert moment("2026-11-20T10:00+02:00", NOW) == datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
    assert moment("2026-11-20", NOW).tzinfo is not None
    for text in ("yesterday", "99999999999999w", "2026-13-01"):
        with pytest.raises(UsageError, match="not a time"):
            moment(text, NOW)


def test_how_long_ago_is_told_in_one_unit():
    told = [ago(NOW - timedelta(seconds=seconds), NOW) for seconds in (5, 119, 120, 7199, 7200, 200_000)]

    assert told == ["5 s", "119 s", "2 min", "119 min", "2 h", "2 d"]
    assert ago(None, NOW) == "never"
    assert ago(NOW + timedelta(hours=1), NOW) == "0 s"


def settings(**master):
    return Settings(master=MasterSettings(**master))


def test_builders_are_told_the_set_url_else_the_name_else_the_address():
    assert (
        url_for_others("https://0.0.0.0:8443", settings(url="https://farm.example/"))
        == "https://farm.example"
    )
    assert url_for_others("https://192.0.2.7:8443", settings()) == "https://192.0.2.7:8443"
    for listens in ("https://0.0.0.0:8443", "https://[::]:8443"):
        named = url_for_others(listens, settings())
        assert named.startswith("https://")
        assert named.endswith(":8443")
        assert "0.0.0.0" not in named
        assert "[::]" not in named


def endpoint(data, **said):
    (data / "endpoint.json").write_text(json.dumps(said))
    return Connection(data).endpoint()


def test_a_master_that_listens_everywhere_is_asked_on_loopback(tmp_path):
    assert endpoint(tmp_path, url="https://0.0.0.0:8443").url == "https://127.0.0.1:8443"
    assert endpoint(tmp_path, url="https://[::]:8443").url == "https://[::1]:8443"
    assert endpoint(tmp_path, url="https://192.0.2.7:1").url == "https://192.0.2.7:1"


def test_the_certificate_that_the_master_shows_is_the_one_to_believe(tmp_path):
    (tmp_path / "c.pem").write_text("PEM")

    assert (
        endpoint(tmp_path, url="https://127.0.0.1:1", certificate=str(tmp_path / "c.pem")).certificate
        == "PEM"
    )
    assert endpoint(tmp_path, url="http://127.0.0.1:1", certificate=None).certificate is None
    with pytest.raises(NodeError, match="certificate cannot be read"):
        endpoint(tmp_path, url="https://127.0.0.1:1", certificate=str(tmp_path / "none.pem"))


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", "{"])
def test_an_endpoint_that_is_no_endpoint_is_no_running_master(tmp_path, content):
    (tmp_path / "endpoint.json").write_text(content)

    with pytest.raises(NodeError, match="no master is running"):
        Connection(tmp_path).endpoint()


def test_another_master_is_believed_by_the_certificate_that_is_named(tmp_path):
    (tmp_path / "c.pem").write_text("PEM")

    there = Connection(tmp_path, master="https://farm.example", certificate=tmp_path / "c.pem").endpoint()

    assert (there.url, there.certificate) == ("https://farm.example", "PEM")
    assert Connection(tmp_path, master="https://farm.example").endpoint().certificate is None
