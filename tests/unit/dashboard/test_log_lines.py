# SPDX-License-Identifier: BSD-3-Clause
"""Logs as the screen has them: whole clean lines, and few, whatever a log is like and however it comes."""

from __future__ import annotations

import itertools
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from piwheels_node.core.messages import LogSlice
from piwheels_node.dashboard import logs
from piwheels_node.dashboard.logs import (
    LINE_BYTES,
    LINES_MOST,
    LineReader,
    LogLine,
    LogWindow,
    Wish,
    breaks,
    fetch,
    find,
    places,
    rows,
    seek,
)


def read(data):
    """The lines of a log that came in one part, with what is left over at its end."""
    reader = LineReader()
    texts = [line.text for line in reader.feed(data)]
    return [*texts, reader.rest] if reader.rest else texts


def cut(data, sizes):
    """The data in parts of these sizes, over and over."""
    at, number = 0, 0
    while at < len(data):
        size = sizes[number % len(sizes)]
        yield data[at : at + size]
        at, number = at + size, number + 1


PLAIN = [b"a", b"word ", b"\n", b"\r", b"\r\n", b"\t", b"\xc3\xa9", b"\xc3", "漢".encode(), b"x" * 3000]
CONTROLS = [b"\x1b[31m", b"\x1b[", b"\x1b]0;t\x07", b"\x00", b"\x9b"]
PIECES = st.sampled_from(PLAIN + CONTROLS)
HOSTILE = st.one_of(st.binary(max_size=300), st.lists(PIECES, max_size=60).map(b"".join))


# --- lines ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"plain", "plain"),
        (b"\x1b[1;31merror:\x1b[0m no", "error: no"),
        (b"\x1b]0;owned\x07title", "title"),
        (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        (b"\x1b(Bx\x1bcy", "xy"),
        (b"bell\x07 back\x08 nul\x00", "bell\\x07 back\\x08 nul\\x00"),
        (b"\tindented\tonce", "        indented        once"),
        (b"bad \xff utf-8", "bad \ufffd utf-8"),
        (b"10 %\r 50 %\r100 %", "100 %"),
        (b"dos\r", "dos"),
        ("漢字 [red]x[/red]".encode(), "漢字 [red]x[/red]"),
        ("turned \u202e round \u200b".encode(), "turned \\u202e round "),
        (b"\x9b31m one byte", "\ufffd31m one byte"),
    ],
)
def test_a_line_is_what_a_person_would_have_seen(raw, shown):
    assert read(raw + b"\n") == [shown]


def test_a_line_of_a_megabyte_keeps_its_beginning_and_says_how_much_is_missing():
    (line,) = read(b"x" * 1_000_000 + b"\n")

    assert line == "x" * LINE_BYTES + f"… {1_000_000 - LINE_BYTES:,} more bytes"


def test_a_progress_bar_without_line_feeds_never_grows():
    reader = LineReader()
    for percent in range(10_000):
        assert reader.feed(b"\r%d of 10000 " % percent) == []

    assert reader.rest == "9999 of 10000 "


@settings(deadline=None, database=None)
@given(HOSTILE, st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_how_a_log_is_cut_into_parts_makes_no_difference(data, sizes):
    reader = LineReader()
    lines = [line for part in cut(data, sizes) for line in reader.feed(part)]
    whole = LineReader()

    assert lines == whole.feed(data)
    assert reader.rest == whole.rest
    assert sum(line.size_bytes for line in lines) + reader.rest_bytes == len(data)


@settings(deadline=None, database=None)
@given(HOSTILE)
def test_whatever_a_log_has_is_text_that_a_terminal_shows_as_it_is(data):
    for line in read(data):
        assert "\x1b" not in line
        assert all(one.isprintable() or unicodedata.category(one) == "Zs" for one in line), line
        assert len(line) <= 8 * LINE_BYTES + 50


@settings(deadline=None, database=None)
@given(st.binary(max_size=200))
def test_lines_are_counted_by_line_feeds(data):
    assert len(LineReader().feed(data)) == data.count(b"\n")


# --- the window ----------------------------------------------------------------------------------------


def log_of(count, width=10):
    return b"".join(b"%0*d\n" % (width, number) for number in range(1, count + 1))


def slices(data, size, name="log", start=0):
    """The log in answers of a master, from a byte on."""
    return [
        LogSlice(offset, len(data), data[offset : offset + size], name)
        for offset in range(start, max(len(data), start + 1), size)
    ]


def test_a_log_that_grows_is_read_on_and_nothing_comes_twice():
    data, window = log_of(100), LogWindow()
    for part in slices(data, 333):
        window.take(part)

    assert window.texts == data.decode().splitlines()
    assert not window.has_more
    assert window.index_of(57) == 56


def test_a_line_that_is_not_whole_yet_is_shown_and_takes_part():
    window = LogWindow()
    window.take(LogSlice(0, 8, b"one\ntwo ", "log"))
    assert window.texts == ["one", "two "]

    window.take(LogSlice(8, 14, b"more\n.", "log"))
    assert window.texts == ["one", "two more", "."]
    assert window.index_of(3) == 2


def test_a_window_keeps_the_newest_lines_and_knows_where_they_are(monkeypatch):
    monkeypatch.setattr(logs, "LINES_MOST", 50)
    data, window = log_of(1000), LogWindow()
    taken = [window.take(part) for part in slices(data, 500)]

    assert len(window.lines) == 50
    assert window.first_number == 951
    assert window.begin == data.index(b"0000000951")
    assert sum(one.new for one in taken) - sum(one.dropped for one in taken) == 50
    assert window.texts[0] == "0000000951"


def test_long_lines_are_dropped_sooner(monkeypatch):
    monkeypatch.setattr(logs, "CHARACTERS_MOST", 1000)
    window = LogWindow()
    window.take(LogSlice(0, 11_000, log_of(1000), "log"))

    assert len(window.lines) == 100
    assert window.first_number == 901


def test_a_log_opened_in_its_midst_begins_with_a_whole_line():
    data, window = log_of(100), LogWindow()
    window.open(LogSlice(505, len(data), data[505:], "log"), inside=True)

    assert window.texts[0] == "0000000047"
    assert window.begin == data.index(b"0000000047")
    assert window.index_of(47) is None, "its number is not known"


def test_a_log_opened_at_a_line_knows_its_numbers():
    data, window = log_of(100), LogWindow()
    start = data.index(b"0000000040")
    window.open(LogSlice(start, len(data), data[start:], "log"), first_number=40)

    assert window.texts[window.index_of(77)] == "0000000077"
    assert window.index_of(39) is None


@pytest.mark.parametrize(
    "other",
    [
        LogSlice(0, 4, b"new\n", "log of the next lease"),
        LogSlice(0, 4, b"new\n", "log"),
    ],
    ids=["another lease", "shorter than it was"],
)
def test_a_log_that_begins_anew_takes_the_place_of_the_old_one(other):
    window = LogWindow()
    window.take(LogSlice(0, 9, b"one\ntwo\n.", "log"))

    assert window.take(other).anew
    assert window.texts == ["new"]
    assert window.first_number == 1


def test_a_line_begun_before_the_window_is_waited_for():
    window = LogWindow()
    window.open(LogSlice(5, 20, b"x" * 5, "log"), inside=True)
    assert window.texts == []

    window.take(LogSlice(10, 20, b"xxx\nfirst\n", "log"))
    assert window.texts == ["first"]
    assert window.begin == 14


@settings(deadline=None, database=None)
@given(HOSTILE, st.integers(1, 50), st.integers(0, 100))
def test_a_window_always_holds_the_bytes_between_its_begin_and_its_end(data, size, start):
    window = LogWindow()
    start = min(start, len(data))
    first, *more = slices(data, size, start=start)
    window.open(first, inside=True)
    for part in more:
        window.take(part)

    assert window.end == len(data)
    held = sum(line.size_bytes for line in window.lines)
    assert window.lines == [] or data[window.begin : window.begin + held].count(b"\n") == len(window.lines)


def test_a_part_with_too_many_lines_keeps_those_around_a_place(monkeypatch):
    monkeypatch.setattr(logs, "LINES_MOST", 50)
    data, window = log_of(1000), LogWindow()
    place = data.index(b"0000000500")
    window.open(LogSlice(0, len(data), data, "log"), around=place)

    assert window.texts == [f"{number:010}" for number in range(475, 525)]
    assert window.index_of(500) == 25
    assert window.byte_of(25) == place
    assert window.has_more
    window.take(LogSlice(window.end, len(data), data[window.end :], "log"))
    assert window.texts[-1] == "0000001000"


def test_a_number_that_is_known_of_one_line_is_known_of_all():
    data, window = log_of(100), LogWindow()
    window.open(LogSlice(505, len(data), data[505:], "log"), inside=True)
    window.tell_number(data.index(b"0000000060"), 60)

    assert window.texts[window.index_of(77)] == "0000000077"


def test_how_many_lines_begin_before_a_byte():
    window = LogWindow()
    window.take(LogSlice(0, 110, log_of(10), "log"))

    assert [window.lines_before(offset) for offset in (0, 1, 11, 12, 999)] == [0, 1, 1, 2, 10]


def test_the_least_window_is_larger_than_a_screen():
    assert LINES_MOST > 1000
    assert LogLine("a", 2) == ("a", 2)


# --- search --------------------------------------------------------------------------------------------

TEXTS = ["make all", "gcc: Error", "ok", "error again", "done"]


@pytest.mark.parametrize(
    ("wanted", "start", "backward", "found"),
    [
        ("error", 0, False, 1),
        ("error", 2, False, 3),
        ("error", 4, False, 1),
        ("error", 0, True, 3),
        ("error", 2, True, 1),
        ("Error", 2, False, 1),
        ("nothing", 0, False, None),
        ("", 0, False, None),
    ],
)
def test_a_search_goes_on_from_where_it_is_and_round_the_end(wanted, start, backward, found):
    assert find(TEXTS, wanted, start, backward=backward) == found


def test_a_search_in_nothing_finds_nothing():
    assert find([], "x", 0) is None


def test_all_places_in_a_line_are_known():
    assert places("Error: no error", "error") == [(0, 5), (10, 15)]
    assert places("Error: no error", "Error") == [(0, 5)]
    assert places("a.b", ".") == [(1, 2)], "a search is for words, not for a pattern"


@settings(deadline=None, database=None)
@given(st.text(max_size=40), st.text(min_size=1, max_size=5))
def test_what_is_found_is_there(text, wanted):
    for start, stop in places(text, wanted):
        assert text[start:stop].lower() == wanted.lower()


# --- rows ----------------------------------------------------------------------------------------------


def test_a_long_line_has_as_many_rows_as_it_needs():
    assert rows(["short", "0123456789", ""], 4) == [
        (0, 0, 4),
        (0, 4, 5),
        (1, 0, 4),
        (1, 4, 8),
        (1, 8, 10),
        (2, 0, 0),
    ]


@settings(deadline=None, database=None)
@given(st.text(alphabet=st.characters(exclude_categories=["C", "M"]), max_size=200), st.integers(2, 30))
def test_no_row_is_wider_than_the_screen_and_nothing_is_lost(text, width):
    edges = [0, *breaks(text, width), len(text)]
    parts = [text[start:stop] for start, stop in itertools.pairwise(edges)]

    assert "".join(parts) == text
    assert all(cell_len(part) <= width for part in parts)


# --- what is not held ----------------------------------------------------------------------------------


def reading(data, most=1000):
    """How a master gives parts of this log."""

    def read(offset=0, *, last=None, line=None):
        if last is not None:
            offset = max(0, len(data) - last)
        if line is not None:
            offset = len(b"".join(data.splitlines(keepends=True)[: line - 1]))
        return LogSlice(offset, len(data), data[offset : offset + most], "log")

    return read


def test_a_wish_is_for_a_byte_a_line_or_the_end():
    read = reading(log_of(100))

    assert fetch(read, Wish(offset=11)).data.startswith(b"0000000002")
    assert fetch(read, Wish(line=50)).data.startswith(b"0000000050")
    assert fetch(read, Wish(last=11)).data == b"0000000100\n"


@pytest.mark.parametrize(("backward", "found"), [(False, 900), (True, 100)], ids=["forward", "backward"])
def test_words_are_found_in_what_is_not_held(backward, found, monkeypatch):
    monkeypatch.setattr(logs, "SEEK_BYTES", 700)
    lines = [b"needle" if number in {100, 500, 900} else b"hay %d" % number for number in range(1, 1001)]
    data = b"\n".join(lines) + b"\n"
    begin, end = data.index(b"hay 400"), data.index(b"hay 600")

    at = seek(reading(data), "needle", begin, end, backward=backward)

    assert data[at:].startswith(b"needle")
    assert data.count(b"\n", 0, at) + 1 == found


def test_words_in_the_last_line_without_a_line_feed_are_found():
    assert seek(reading(b"one\ntwo\nneedle"), "needle", 0, 4) == 8
    assert seek(reading(b"needle"), "needle", 6, 6) == 0
    assert seek(reading(b"needle"), "needle", 6, 6, backward=True) == 0
    assert seek(reading(b"one\n"), "needle", 0, 0) is None


@settings(deadline=None, database=None)
@given(st.lists(st.sampled_from([b"a", b"needle", b"", b"x" * 50]), max_size=60), st.data())
def test_whatever_is_found_begins_a_line_that_has_the_words(lines, draw):
    data = b"\n".join(lines)
    begin = draw.draw(st.integers(0, len(data)))
    end = draw.draw(st.integers(begin, len(data)))
    at = seek(reading(data, most=64), "needle", begin, end, backward=draw.draw(st.booleans()))

    if at is not None:
        assert data[at:].partition(b"\n")[0].endswith(b"needle") or b"needle" in data[at : at + 64]
    elif b"needle" in data[:begin].rpartition(b"\n")[0]:
        pytest.fail("it is in a whole line that is not held")
