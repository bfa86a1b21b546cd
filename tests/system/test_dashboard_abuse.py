# SPDX-License-Identifier: BSD-3-Clause
"""The dashboard on terminals that are poor, small, or suddenly gone; and on none."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fix_command import clean_environ

from piwheels_node.dashboard.look import CONSOLE_GLYPHS

SHOW = [sys.executable, str(Path(__file__).resolve().parents[1] / "support" / "show_farm.py")]
PROGRAM = [sys.executable, "-m", "piwheels_node.cli"]
LAST = b"Why builds failed"
"""On the first screen, once the farm has told all."""

ESCAPES = re.compile(r"\x1b(?:\[[0-9;?<>=$]*[a-zA-Z]|[()][AB0]|[78=>c]|\]22;default\x07)")
LEAVES_ALTERNATE_SCREEN = b"\x1b[?1049l"


def sent_in_all(shows):
    """All that it sends until it is left at the first screen."""
    shows.until(LAST)
    shows.type(b"q")
    assert shows.ended() == 0
    return shows.sent.decode()


def text_of(sent):
    """Without the escapes that Textual makes: nothing else may be in it that a terminal obeys."""
    return ESCAPES.sub("", sent)


@pytest.mark.parametrize("ignore_hangup", [False, True])
def test_it_ends_when_its_terminal_is_gone_whoever_ignores_the_hangup(on_pty, ignore_hangup):
    shows = on_pty([*SHOW, "3"], ignore_hangup=ignore_hangup, TERM="xterm-256color")
    shows.until(LAST)

    shows.hang_up()

    assert shows.ended() == 130


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_the_terminal_is_as_before(on_pty, number):
    shows = on_pty([*SHOW, "3"], TERM="xterm-256color")
    shows.until(LAST)

    shows.process.send_signal(number)

    assert shows.ended() == 130
    assert LEAVES_ALTERNATE_SCREEN in shows.sent


@pytest.mark.parametrize("key", [b"q", b"\x03", b"\x11"])
def test_q_and_ctrl_c_and_ctrl_q_leave_it(on_pty, key):
    shows = on_pty([*SHOW, "3"], TERM="xterm-256color")
    shows.until(LAST)

    shows.type(key)

    assert shows.ended() == 0
    assert LEAVES_ALTERNATE_SCREEN in shows.sent


def test_a_terminal_that_becomes_tiny_and_large_again_shows_the_same(on_pty):
    shows = on_pty([*SHOW, "3"], TERM="xterm-256color")
    shows.until(LAST)

    for _ in range(10):
        for columns, lines in ((20, 5), (1, 1), (200, 60), (20, 5)):
            shows.resize(columns, lines)
        shows.until(b"needs 40x10", since=len(shows.sent))
        seen = len(shows.sent)
        shows.resize(80, 24)
        shows.until(LAST, since=seen)


def test_a_console_gets_sixteen_colours_and_glyphs_of_its_font(on_pty):
    shows = on_pty([*SHOW, "12"], TERM="linux")
    sent = sent_in_all(shows)

    assert set(text_of(sent)) - {"\r", "\n"} <= CONSOLE_GLYPHS
    colours = {part for found in re.findall(r"\x1b\[([0-9;]*)m", sent) for part in found.split(";")}
    assert not colours & {"38", "48"}, "no more than sixteen colours"
    assert not colours & {str(number) for number in range(100, 108)}, "the console has no bright backgrounds"
    assert colours & {"30", "31", "32", "33", "37", "91", "93", "97"}


def test_no_color_takes_the_colours_and_leaves_the_signs(on_pty):
    shows = on_pty([*SHOW, "12"], TERM="xterm-256color", COLORTERM="truecolor", NO_COLOR="1")
    sent = sent_in_all(shows)

    for found in re.findall(r"\x1b\[38;2;(\d+);(\d+);(\d+)", sent):
        assert len(set(found)) == 1, f"{found} is a colour"
    assert re.search(r"X .*pi-02", text_of(sent))


@pytest.mark.parametrize("term", ["xterm-256color", "linux"])
def test_hostile_names_are_shown_and_never_obeyed(on_pty, term):
    shows = on_pty([*SHOW, "0"], TERM=term)
    text = text_of(sent_in_all(shows))

    assert "[@click=app.quit]" in text
    assert "\\x1b[2J" in text
    assert not [one for one in text if not one.isprintable() and one not in "\r\n"]


@pytest.mark.parametrize("missing", ["stdin", "stdout"])
def test_without_a_terminal_it_says_what_to_use(on_pty, missing, tmp_path):
    words = [*PROGRAM, "dashboard", "--data", str(tmp_path)]
    line = f"{' '.join(words)} {'</dev/null' if missing == 'stdin' else '>/dev/null'}"
    shows = on_pty(["sh", "-c", line], TERM="xterm")

    assert shows.ended() == 2
    assert b"piwheels-node status" in shows.sent


def test_no_master_here_is_an_error_that_says_what_to_do(on_pty, tmp_path):
    shows = on_pty([*PROGRAM, "dashboard", "--data", str(tmp_path)], TERM="xterm")

    assert shows.ended() == 3
    assert b"--master URL" in shows.sent


def test_a_machine_that_only_builds_is_shown_itself_and_its_master_may_be_away(on_pty, tmp_path):
    joined = tmp_path / "membership" / "master.json"
    joined.parent.mkdir()
    joined.write_text(json.dumps({"url": "http://127.0.0.1:9", "name": "pi-7", "key": "k"}))
    shows = on_pty([*PROGRAM, "dashboard", "--data", str(tmp_path)], TERM="xterm-256color")

    shows.until(b"this machine")
    shows.until(b"builder")
    shows.type(b"1")
    shows.until(b"no answer")
    shows.type(b"q")

    assert shows.ended() == 0


def test_a_machine_without_textual_is_told_which_package_has_it(tmp_path):
    code = (
        "import sys; sys.modules['textual'] = None; sys.argv = ['piwheels-node', 'dashboard']\n"
        "from piwheels_node.cli.main import main; main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=clean_environ(), check=False
    )

    assert ended.returncode == 3
    assert "sudo apt install python3-textual" in ended.stderr
