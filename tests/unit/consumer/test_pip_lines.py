# SPDX-License-Identifier: BSD-3-Clause
"""One line more in a pip.conf and one less: the rest stays byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piwheels_node.consumer.pip_config import added, inserted, is_own_file, own_file, removed
from piwheels_node.consumer.pip_files import parse
from piwheels_node.core.errors import NodeError

OURS, OTHER = "https://ours.test/simple/", "https://other.test/simple"
KEY = ("global", "extra-index-url")
RASPBERRY_PI_OS = b"[global]\nextra-index-url=https://other.test/simple\n"

FILES = {
    "raspberry pi os": (RASPBERRY_PI_OS, b"[global]\nextra-index-url=https://other.test/simple\n    %s\n"),
    "no newline at the end": (RASPBERRY_PI_OS.rstrip(), RASPBERRY_PI_OS + b"    %s"),
    "ends of lines of another system": (
        RASPBERRY_PI_OS.replace(b"\n", b"\r\n"),
        b"[global]\r\nextra-index-url=https://other.test/simple\r\n    %s\r\n",
    ),
    "several, and a comment": (
        b"[global]\nextra-index-url =\n  a\n  # why\n\n  b\n\n; more\ntimeout = 5\n",
        b"[global]\nextra-index-url =\n  a\n  # why\n\n  b\n    %s\n\n; more\ntimeout = 5\n",
    ),
    "indented": (
        b"[global]\n  timeout = 5\n  extra-index-url = a\n",
        b"[global]\n  timeout = 5\n  extra-index-url = a\n      %s\n",
    ),
    "indented, without the option": (
        b"[global]\n  timeout = 5\n",
        b"[global]\n  extra-index-url = %s\n  timeout = 5\n",
    ),
    "an empty value": (b"[global]\nextra-index-url =\n", b"[global]\nextra-index-url =\n    %s\n"),
    "another section": (
        b"[list]\nformat = columns\n",
        b"[list]\nformat = columns\n[global]\nextra-index-url = %s\n",
    ),
    "only a section": (b"[global]", b"[global]\nextra-index-url = %s"),
    "only a comment": (b"# mine\n", b"# mine\n[global]\nextra-index-url = %s\n"),
    "nothing": (b"", b"[global]\nextra-index-url = %s\n"),
    "not ascii": (
        "# für den Pi\n[global]\nextra-index-url = a\n".encode(),
        "# für den Pi\n[global]\nextra-index-url = a\n    %s\n".encode(),
    ),
}


@pytest.mark.parametrize(("before", "after"), FILES.values(), ids=FILES)
def test_one_line_is_added_and_taken_out_and_the_rest_is_as_it_was(before, after):
    changed = added(before, OURS, "pip.conf")

    assert changed == after.replace(b"%s", OURS.encode())
    assert parse(changed)[KEY].split()[-1] == OURS
    assert removed(changed, OURS, inserted(before, changed), "pip.conf") == before


LINES = [
    "[global]",
    "[install]",
    "extra-index-url = a",
    "extra-index-url =",
    "  b",
    "\tc",
    "# d",
    "",
    "timeout = 1",
]


@given(st.lists(st.sampled_from(LINES), max_size=8), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_whatever_the_file_it_comes_back_or_is_refused(lines, end, ends):
    before = (end.join(lines) + (end if ends else "")).encode()
    try:
        read = parse(before)
    except ValueError:
        return
    try:
        changed = added(before, OURS, "pip.conf")
    except NodeError:
        return

    again = parse(changed)
    assert again.pop(KEY).split() == [*read.pop(KEY, "").split(), OURS]
    assert again == read
    assert removed(changed, OURS, inserted(before, changed), "pip.conf") == before


def test_what_somebody_added_since_stays():
    changed = added(b"[global]\ntimeout = 5\n", OURS, "pip.conf")
    put_in = inserted(b"[global]\ntimeout = 5\n", changed)
    edited = changed.replace(OURS.encode() + b"\n", OURS.encode() + b"\n    later\n")

    after = removed(edited, OURS, put_in, "pip.conf")
    assert parse(after)[KEY].split() == ["later"]
    assert parse(after)["global", "timeout"] == "5"


def test_a_line_that_somebody_has_moved_is_found():
    put_in = inserted(RASPBERRY_PI_OS, added(RASPBERRY_PI_OS, OURS, "pip.conf"))
    edited = f"# new\n[global]\nextra-index-url =\n  {OURS}\n  {OTHER}\n".encode()

    assert (
        removed(edited, OURS, put_in, "pip.conf")
        == f"# new\n[global]\nextra-index-url =\n  {OTHER}\n".encode()
    )


def test_a_line_that_is_gone_already_is_no_trouble():
    assert removed(RASPBERRY_PI_OS, OURS, b"    x\n", "pip.conf") == RASPBERRY_PI_OS


def test_a_url_among_others_on_a_line_is_left_to_a_person():
    with pytest.raises(NodeError, match="by hand"):
        removed(f"[global]\nextra-index-url = a {OURS} b\n".encode(), OURS, b"", "pip.conf")


def test_a_default_that_would_be_hidden_is_refused():
    with pytest.raises(NodeError, match="by hand"):
        added(b"[DEFAULT]\nextra-index-url = a\n[global]\n", OURS, "pip.conf")


def test_the_own_file_is_known_until_somebody_changes_it():
    assert parse(own_file(OURS)) == {KEY: OURS}
    assert is_own_file(own_file(OURS))
    assert is_own_file(own_file(OTHER))
    assert not is_own_file(own_file(OURS) + b"timeout = 5\n")
    assert not is_own_file(RASPBERRY_PI_OS)
    assert not is_own_file(own_file(OURS)[:-1])
