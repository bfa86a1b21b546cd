# SPDX-License-Identifier: BSD-3-Clause
"""Pictures of numbers: what is there is seen, in proportion, in every alphabet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piwheels_node.dashboard.charts import axis, bar, level, resampled, stacked, trend

EIGHTHS, BLOCKS, CONSOLE = " ▁▂▃▄▅▆▇█", " ▄█", " ░▒█"
NUMBERS = st.lists(st.integers(0, 10_000), max_size=80)


@pytest.mark.parametrize(
    ("alphabet", "drawn"), [(EIGHTHS, "▁▂▃▄▅▆▇█"), (BLOCKS, "▄▄▄▄▄███"), (CONSOLE, "░░░▒▒▒██")]
)
def test_a_trend_rises_with_its_numbers(alphabet, drawn):
    assert trend(range(1, 9), 8, alphabet) == [drawn]


def test_a_trend_of_some_rows_fills_them_from_below():
    assert trend([0, 1, 2, 3, 4], 5, CONSOLE, height=2) == ["   ░█", " ▒███"]


def test_the_newest_number_is_at_the_right_edge():
    assert trend([5], 4, CONSOLE) == ["   █"]
    assert trend([0, 0, 9], 3, CONSOLE) == ["  █"]


def test_trends_can_share_a_scale():
    assert trend([2], 1, EIGHTHS, most=16) == ["▁"]


@given(NUMBERS, st.integers(1, 40), st.sampled_from([EIGHTHS, BLOCKS, CONSOLE]), st.integers(1, 5))
def test_a_trend_has_its_size_and_shows_all_that_is_not_zero(values, width, alphabet, height):
    drawn = trend(values, width, alphabet, height=height)

    assert [len(row) for row in drawn] == [width] * height
    shown = resampled(values, width)
    seen = [any(row[width - len(shown) + at] != " " for row in drawn) for at in range(len(shown))]
    assert seen == [value > 0 for value in shown]


@given(NUMBERS, st.integers(1, 40))
def test_nothing_is_lost_where_there_is_no_room_for_each_number(values, width):
    shown = resampled(values, width)

    assert sum(shown) == sum(values)
    assert len(shown) <= width


@given(st.integers(0, 100), st.integers(1, 100), st.integers(1, 50))
def test_a_level_is_within_its_steps(value, most, steps):
    assert (level(value, most, steps) > 0) == (value > 0)
    assert level(value, most, steps) <= steps


def test_a_bar_is_as_long_as_its_share():
    assert bar(50, 100, 10) == "█" * 5
    assert bar(1, 1000, 10) == "█"
    assert bar(0, 1000, 10) == ""


def test_columns_have_their_parts_on_top_of_each_other():
    drawn = stacked([(2, 2), (4, 0), (0, 1), (0, 0)], 4, ("█", "▒"), 4)

    assert ["".join(one for one, _ in row) for row in drawn] == ["▒█  ", "▒█  ", "██  ", "██▒ "]
    assert [which for _, which in drawn[0]] == [1, 0, -1, -1]


@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=30), st.integers(2, 12)
)
def test_each_part_that_is_not_zero_is_seen(columns, height):
    drawn = stacked(columns, height, ("█", "▒"), max(sum(column) for column in columns))

    for at, column in enumerate(columns):
        seen = {row[at][1] for row in drawn} - {-1}
        assert seen == {number for number, value in enumerate(column) if value}


@pytest.mark.parametrize(
    ("most", "round_number"), [(0, 1), (1, 1), (3, 3), (7, 8), (142, 200), (27, 30), (2000, 2000)]
)
def test_an_axis_ends_at_a_round_number(most, round_number):
    assert axis(most) == round_number
