"""Which history may go."""

from __future__ import annotations

import pytest

from ezgraph.broker.retention import (
    Holding,
    Spans,
    events_between_checkpoints,
    is_worth_a_checkpoint,
    new_floor,
)
from ezgraph.config import Retention

HOUR = 3600.0


def holding(
    *spans: tuple[int, int], needed_after: int = 10**9, covered: int = 10**9, used_bytes: int = 0
) -> Holding:
    """Events whose wall time is an hour each after the one before."""
    return Holding(
        Spans(spans or ((1, 1000),)), used_bytes, lambda seq: seq * HOUR, needed_after, covered
    )


def test_without_bounds_everything_stays() -> None:
    assert new_floor(Retention(), holding(), wall=1e9) == 1
    assert not Retention().is_bounded


def test_a_number_of_events_is_kept_to_the_event() -> None:
    assert new_floor(Retention(events=100), holding(), wall=0.0) == 901
    assert new_floor(Retention(events=1000), holding(), wall=0.0) == 1
    assert new_floor(Retention(events=5000), holding(), wall=0.0) == 1


def test_events_are_counted_across_the_gap_that_a_restore_left() -> None:
    spans = ((1, 100), (10**15 + 1, 10**15 + 50))

    assert new_floor(Retention(events=60), holding(*spans, needed_after=10**16, covered=10**16),
                     wall=0.0) == 91
    assert new_floor(Retention(events=20), holding(*spans, needed_after=10**16, covered=10**16),
                     wall=0.0) == 10**15 + 31


def test_what_is_older_than_the_bound_goes() -> None:
    keep = Retention(age_s=100 * HOUR)

    assert new_floor(keep, holding(), wall=1000 * HOUR) == 900
    assert new_floor(keep, holding(), wall=50 * HOUR) == 1


def test_of_a_journal_twice_too_large_half_the_events_stay() -> None:
    keep = Retention(size_bytes=500)

    assert new_floor(keep, holding(used_bytes=1000), wall=0.0) == 501
    assert new_floor(keep, holding(used_bytes=499), wall=0.0) == 1


def test_the_narrowest_bound_counts() -> None:
    keep = Retention(events=100, size_bytes=500, age_s=10 * HOUR)

    assert new_floor(keep, holding(used_bytes=1000), wall=1000 * HOUR) == 990


def test_what_a_client_may_still_need_stays_up_to_the_cap() -> None:
    keep = Retention(events=100, max_pinned_events=300)

    assert new_floor(keep, holding(needed_after=850), wall=0.0) == 851
    assert new_floor(keep, holding(needed_after=3), wall=0.0) == 601


def test_nothing_beyond_the_older_checkpoint_goes() -> None:
    assert new_floor(Retention(events=1), holding(covered=400), wall=0.0) == 401


@pytest.mark.parametrize(
    ("index", "seq"), [(-5, 3), (0, 3), (2, 5), (3, 11), (4, 12), (5, 13), (99, 13)]
)
def test_spans_count_only_numbers_that_were_given(index: int, seq: int) -> None:
    spans = Spans(((3, 5), (11, 12)))

    assert len(spans) == 5
    assert spans.seq_at(index) == seq


def test_an_empty_history_begins_at_one() -> None:
    assert Spans(()).seq_at(0) == 1
    assert new_floor(Retention(events=5), holding(needed_after=0, covered=0), wall=0.0) == 1


def test_checkpoints_come_as_often_as_little_history_is_kept() -> None:
    assert events_between_checkpoints(Retention(), 20_000) == 20_000
    assert events_between_checkpoints(Retention(events=5_000), 20_000) == 5_000
    assert events_between_checkpoints(Retention(events=10), 20_000) == 1_000
    assert events_between_checkpoints(Retention(events=10), 50) == 50


@pytest.mark.parametrize(
    ("keep", "used_bytes", "worth"),
    [
        (Retention(), 10**9, False),
        (Retention(events=900), 0, True),  # a tenth would go
        (Retention(events=901), 0, False),
        (Retention(size_bytes=600), 1000, True),
        (Retention(size_bytes=999), 1000, False),
        (Retention(age_s=HOUR), 0, True),
    ],
)
def test_a_checkpoint_is_made_for_compaction_when_a_good_part_would_go(
    keep: Retention, used_bytes: int, *, worth: bool
) -> None:
    held = holding(covered=0, used_bytes=used_bytes)

    assert is_worth_a_checkpoint(keep, held, wall=1000 * HOUR) is worth


def test_a_few_huge_events_are_worth_a_checkpoint_and_a_few_small_ones_are_not() -> None:
    few = ((1, 20),)

    assert is_worth_a_checkpoint(Retention(events=5), holding(*few), wall=0.0) is False
    huge = holding(*few, used_bytes=10_000)
    assert is_worth_a_checkpoint(Retention(size_bytes=4_999), huge, wall=0.0) is True
    assert is_worth_a_checkpoint(Retention(size_bytes=5_001), huge, wall=0.0) is False


def test_what_is_pinned_is_not_worth_a_checkpoint() -> None:
    held = holding(needed_after=50, covered=0)

    assert is_worth_a_checkpoint(Retention(events=10), held, wall=0.0) is False
