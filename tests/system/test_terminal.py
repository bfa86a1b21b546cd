# SPDX-License-Identifier: BSD-3-Clause
"""What a person sees: a live table in a real terminal (tmux, 80x24), lines in a pipe, JSON for scripts.

Whatever a package calls itself or prints comes as text: it can neither colour nor move anything.
"""

from __future__ import annotations

import os
import re
import subprocess

import pytest
from fix_command import clean_environ, until
from sdists import c_extension, make_sdist

KEYS = [
    *("project", "version", "outcome", "reason", "captured", "debian_package", "fix", "packages"),
    *("wheel", "size_bytes", "duration_s", "message"),
]
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
LIVE_ROW = re.compile(r"^tiny 1\.0 +\d+\.\d s +fetch prepare ask build inspect upload *$", re.MULTILINE)
HOSTILE = "\x1b[31m\x1b]0;owned\x07\x9b2J\x08[red]x[/red]"
BUILDS_A_WHILE = "import time; time.sleep(2)"


def offer(command, made):
    """Two packages that build and one that has no header; gives their names."""
    quick = make_sdist(made, "a-package-with-quite-a-long-name", "1.0")
    slow = make_sdist(made, "tiny", "1.0", c_source=c_extension("_tiny"), setup=BUILDS_A_WHILE)
    broken = make_sdist(
        made, "broken", "2.0", c_source=c_extension("_broken", prelude="#include <cups/http.h>")
    )
    for path, name in ((quick, "a-package-with-quite-a-long-name"), (slow, "tiny"), (broken, "broken")):
        command.pypi.add(path, project=name)
    return ["a-package-with-quite-a-long-name", "tiny", "broken"]


def test_a_terminal_shows_the_steps_while_they_go_on_and_then_a_table_that_fits(command, made, terminal):
    window = terminal()
    window.type(command.words("standalone", *offer(command, made)))

    live = until(lambda: (seen := window.lines()) and LIVE_ROW.search("\n".join(seen)) and seen, "steps")
    assert all(len(line) <= 80 for line in live)

    final = window.until("code 3")
    start = next(number for number, line in enumerate(final) if line.startswith("package"))
    assert start <= 1, final
    assert final[start].split() == ["package", "outcome", "time", "size", "wheel"]
    assert all(len(line) <= 80 for line in final)
    row = next(line for line in final if line.startswith("tiny 1.0"))
    assert re.fullmatch(r"tiny 1\.0 +built +\d+\.\d s +[\d.]+ kB +cp\d+-cp\d+-linux_\w+ *", row), row
    assert any("missing-header" in line for line in final)
    assert not any(line.startswith(("fetch", "prepare")) for line in final)
    assert sum(line.startswith("tiny 1.0") for line in final) == 1, "the live table is gone"


def test_colours_are_there_and_no_color_takes_them_away(command, made, terminal):
    command.pypi.add(make_sdist(made, "little", "1.0"), project="little")
    window = terminal()
    window.type(command.words("standalone", "little"))
    window.until("code 0")
    assert any("\x1b[32mbuilt" in line for line in window.lines(colours=True))

    window.type(["env", "NO_COLOR=1", *command.words("standalone", "little")])
    window.until("built before")
    window.until("code 0")

    assert not any(re.search(r"\x1b\[[0-9;]*3[0-7]", line) for line in window.lines(colours=True))


def test_a_pipe_gets_the_table_only_and_progress_is_plain_lines(command, made):
    ended = command.standalone(*offer(command, made))

    assert ended.code == 3
    assert "\x1b" not in ended.out + ended.err
    lines = ended.out.splitlines()
    assert lines[0].split() == ["package", "outcome", "time", "size", "wheel"]
    assert "tiny 1.0: build" in ended.err.splitlines()
    assert re.search(r"^tiny 1\.0: built in \d+\.\d s$", ended.err, re.MULTILINE)
    assert re.search(r"^broken 2\.0: missing-header cups/http\.h in", ended.err, re.MULTILINE)


def test_json_is_pure_and_has_the_documented_keys(command, made):
    ended = command.standalone(*offer(command, made), "--json")

    assert [list(one) for one in ended.results] == [KEYS] * 3
    outcomes = [(one["outcome"], one["reason"], one["captured"]) for one in ended.results]
    assert outcomes == [("built", None, None)] * 2 + [("failed", "missing-header", "cups/http.h")]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_that_goes_away_is_no_traceback(command, made, options):
    command.pypi.add(make_sdist(made, "little", "1.0"), project="little")
    read, write = os.pipe()
    os.close(read)

    ended = subprocess.run(
        command.words("standalone", "little", *options),
        stdout=write,
        stderr=subprocess.PIPE,
        env=clean_environ(),
        text=True,
        timeout=40,
        check=False,
    )
    os.close(write)

    assert "Traceback" not in ended.stderr
    assert "Exception" not in ended.stderr
    assert ended.returncode == 130


def test_what_a_package_prints_is_text_and_nothing_else(command, made, terminal):
    """The evidence of a failure is the package's own words: here escapes and markup."""
    said = f"a.c:1:1: fatal error: {HOSTILE}.h: No such file or directory"
    setup = f"print({said!r}); raise SystemExit(1)"
    command.pypi.add(make_sdist(made, "hostile", "1.0", setup=setup), project="hostile")

    ended = command.standalone("hostile")

    assert ended.code == 3
    assert not CONTROL.search(ended.out + ended.err)
    assert "[red]x[/red]" in ended.out
    window = terminal()
    window.type(command.words("standalone", "hostile"))
    assert any("[red]x[/red]" in line for line in window.until("code 3"))
    assert "owned" not in window("display-message", "-p", "#{pane_title}")


def test_a_name_with_escapes_is_refused_without_saying_it_raw(command):
    for word in ("\x1b[31mred", "[red]x[/red]", "x==1.0\x1b]0;owned\x07"):
        ended = command.standalone(word)

        assert ended.code == 2
        assert not CONTROL.search(ended.err)


def test_a_file_name_on_pypi_with_escapes_never_reaches_the_terminal(command, made):
    sdist = make_sdist(made, "sly", "1.0")
    command.pypi.add(sdist, project="sly", requires_python="\x1b[31m>=3")
    command.pypi.add(sdist.rename(made / "sly-2.0\x1b[31m[red].tar.gz"), project="sly")

    ended = command.standalone("sly")

    assert not CONTROL.search(ended.out + ended.err)
