"""Numbers over time in box characters."""

from __future__ import annotations

import pytest

from ezgraph.cli.plot import Points, is_moving, plot


def test_a_step_goes_up_where_the_value_does() -> None:
    drawn = plot([(0.0, 1.0), (10.0, 3.0)], width=14, height=3)

    assert drawn == [
        "3 ┤        ╭──",
        "  ┤        │",
        "1 ┤────────╯",
    ]


def test_what_is_not_there_or_not_finite_is_a_gap() -> None:
    points: Points = [(0.0, 1.0), (4.0, None), (6.0, float("nan")), (8.0, 2.0), (10.0, 1.0)]

    top, bottom = plot(points, width=26, height=2)

    assert (top[3:], bottom[3:]) == (" " * 16 + "────╮", "─" * 8 + " " * 12 + "╰──")


@pytest.mark.parametrize(
    "points",
    [
        [(0.0, -1.7e308), (1.0, 1.7e308)],
        [(5.0, 1.0), (5.0, 2.0)],
        [(0.0, 1e-320), (1.0, 3e-320)],
        [(0.0, -(2.0**62)), (1e9, 0.5), (1e9 + 1e-6, 2.0**62)],
    ],
)
def test_whatever_is_drawn_has_the_size_asked_for(points: Points) -> None:
    for width, height in ((79, 7), (30, 3), (24, 2)):
        drawn = plot(points, width=width, height=height)

        assert len(drawn) == height
        assert max(map(len, drawn)) <= width


def test_only_two_different_numbers_are_worth_a_line() -> None:
    assert is_moving([(0.0, 1.0), (1.0, 2.0)])
    assert not is_moving([(0.0, 1.0), (1.0, 1.0), (2.0, None), (3.0, float("inf"))])
