"""Goals, ratios, and what the table says of them."""

from __future__ import annotations

import pytest

from ezgraph.bench.rows import (
    Row,
    alone,
    at_least,
    at_least_of_bare,
    at_most,
    at_most_of_bare,
    compared,
    exactly,
    percentile_99,
    shown,
)


def test_a_rate_at_its_share_of_the_bare_rate_passes_and_one_below_fails() -> None:
    goal = at_least_of_bare(0.6)

    at_goal = compared("a", "x", "/s", [600.0], [1000.0], goal=goal)
    below = compared("a", "x", "/s", [599.0], [1000.0], goal=goal)

    assert at_goal.passed is True
    assert below.passed is False


def test_a_time_above_its_share_of_the_bare_time_fails() -> None:
    goal = at_most_of_bare(1.4)

    assert compared("c", "x", "ms", [1.4], [1.0], goal=goal).passed is True
    assert compared("c", "x", "ms", [1.5], [1.0], goal=goal).passed is False


def test_an_absolute_goal_looks_at_what_was_measured_and_not_at_the_ratio() -> None:
    row = compared("c", "x", "ms", [10.0], [1.0], goal=at_most(12.0, "ms"))

    assert row.ratio == 10.0
    assert row.passed is True


def test_a_count_is_what_it_is_to_be_or_fails() -> None:
    assert alone("q", "x", "", [1_000], goal=exactly(1_000)).passed is True
    assert alone("q", "x", "", [1_001], goal=exactly(1_000)).passed is False
    assert alone("q", "x", "", [999], goal=exactly(1_000)).passed is False
    assert exactly(1_000).text == "= 1,000"


def test_a_rate_alone_is_judged_by_the_median_of_its_rounds() -> None:
    assert alone("d", "x", "/s", [1.0, 80_000.0, 90_000.0], goal=at_least(75_000, "/s")).passed


def test_the_ratio_is_the_median_of_the_ratios_of_the_rounds() -> None:
    row = compared("a", "x", "/s", [50.0, 25.0, 500.0], [100.0, 50.0, 100.0])

    assert row.ratio == 0.5


def test_a_row_without_a_goal_has_no_verdict_and_one_that_failed_has() -> None:
    assert alone("e", "x", "s", [1.0]).passed is None
    assert Row("e", "section e", "s", None).passed is False


def test_rounds_of_unequal_number_are_not_compared() -> None:
    with pytest.raises(ValueError, match="zip"):
        compared("a", "x", "/s", [1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("samples", "expected"),
    [([], 0.0), ([3.0], 3.0), ([float(n) for n in range(1, 102)], 100.0)],
)
def test_the_99th_percentile_is_what_one_in_a_hundred_exceeds(
    samples: list[float], expected: float
) -> None:
    assert percentile_99(samples) == pytest.approx(expected)


def test_figures_are_spelled_with_their_unit_and_few_digits() -> None:
    assert shown(12345.6, "/s") == "12,346/s"
    assert shown(0.01234, "s") == "0.012 s"
    assert shown(1.234, "ms") == "1.23 ms"
    assert shown(123.4, "ms") == "123.4 ms"
    assert shown(1234.5, "ms") == "1,234 ms"
