"""Which handler is called next, and which is not."""

from __future__ import annotations

import pytest

from ezgraph.flows.variants import Change, Start, Step, Stop, Variants, Version


def with_picture(**values: int) -> Variants:
    variants = Variants()
    for seq, (name, value) in enumerate(values.items(), 1):
        variants.put(name, value, seq)
    variants.end_picture()
    return variants


def all_done(variants: Variants) -> list[Step]:
    steps = []
    while (step := variants.next_step()) is not None:
        steps.append(step)
        variants.done()
    return steps


def test_nothing_starts_before_the_picture_is_whole() -> None:
    variants = Variants()
    variants.put("left", 1, 1)

    assert variants.next_step() is None
    assert not variants.is_settled

    variants.end_picture()
    assert variants.next_step() == Start("left", Version(1, 1))


def test_an_empty_picture_settles_at_once() -> None:
    variants = Variants()

    variants.end_picture()

    assert variants.next_step() is None
    assert variants.is_settled


def test_what_must_stop_stops_before_anything_starts() -> None:
    variants = with_picture(left=1)
    all_done(variants)

    variants.put("right", 2, 2)
    variants.delete("left")

    assert all_done(variants) == [Stop("left"), Start("right", Version(2, 2))]


def test_only_the_newest_of_several_values_is_handed_out() -> None:
    variants = with_picture(left=1)
    all_done(variants)

    for seq in (2, 3, 4):
        variants.put("left", seq, seq)

    assert all_done(variants) == [Change("left", Version(4, 4))]


def test_a_variant_that_came_and_went_unseen_makes_no_call() -> None:
    variants = with_picture()

    variants.put("left", 1, 1)
    variants.delete("left")

    assert all_done(variants) == []


def test_a_variant_removed_and_put_again_is_stopped_and_started() -> None:
    variants = with_picture(left=1)
    all_done(variants)

    variants.delete("left")
    variants.put("left", 1, 3)

    assert all_done(variants) == [Stop("left"), Start("left", Version(1, 3))]


def test_what_is_removed_while_it_starts_is_stopped_afterwards() -> None:
    variants = with_picture(left=1)
    assert variants.next_step() == Start("left", Version(1, 1))

    variants.delete("left")

    assert variants.next_step() is None, "its handler has not returned"
    variants.done()
    assert all_done(variants) == [Stop("left")]


def test_a_picture_taken_anew_stops_what_is_not_in_it_and_repeats_nothing() -> None:
    variants = with_picture(left=1, right=2)
    all_done(variants)

    variants.begin_picture()
    variants.put("right", 2, 2)
    variants.put("third", 3, 9)
    assert variants.next_step() is None
    variants.end_picture()

    assert all_done(variants) == [Stop("left"), Start("third", Version(3, 9))]


def test_what_came_back_while_a_picture_was_taken_goes_on_with_its_newer_version() -> None:
    variants = with_picture(left=1)
    all_done(variants)

    variants.delete("left")
    variants.begin_picture()
    variants.put("left", 5, 7)
    variants.end_picture()

    assert all_done(variants) == [Change("left", Version(5, 7))]


def test_a_start_that_fails_is_tried_again_with_the_next_version_only() -> None:
    variants = with_picture(left=1)
    variants.next_step()
    error = ValueError("no such topic")

    variants.done(error)

    assert dict(variants.failed) == {"left": error}
    assert dict(variants.running) == {}
    assert variants.next_step() is None
    variants.put("left", 2, 2)
    assert all_done(variants) == [Start("left", Version(2, 2))]
    assert dict(variants.failed) == {}


def test_what_never_started_is_not_stopped() -> None:
    variants = with_picture(left=1)
    variants.next_step()
    variants.done(ValueError())

    variants.delete("left")

    assert all_done(variants) == []
    assert dict(variants.failed) == {}


def test_a_change_that_fails_leaves_the_variant_running_as_before() -> None:
    variants = with_picture(left=1)
    all_done(variants)
    variants.put("left", 2, 2)
    variants.next_step()

    variants.done(ValueError())

    assert dict(variants.running) == {"left": Version(1, 1)}
    assert set(variants.failed) == {"left"}
    variants.put("left", 3, 3)
    assert all_done(variants) == [Change("left", Version(3, 3))]
    assert dict(variants.failed) == {}


def test_a_stop_that_fails_counts_as_stopped() -> None:
    variants = with_picture(left=1)
    all_done(variants)
    variants.delete("left")
    variants.next_step()

    variants.done(ValueError())

    assert dict(variants.running) == {}
    assert dict(variants.failed) == {}


def test_when_it_is_closed_all_that_runs_stops_and_nothing_starts() -> None:
    variants = with_picture(left=1, right=2)
    variants.next_step()

    variants.close()
    variants.put("third", 3, 3)
    variants.begin_picture()
    variants.done()

    assert all_done(variants) == [Stop("left")]
    assert variants.is_settled
    assert variants.is_closed


def test_it_cannot_be_done_with_nothing() -> None:
    with pytest.raises(AssertionError, match="no step"):
        Variants().done()


def test_it_says_how_it_is() -> None:
    variants = with_picture(left=1, right=2)
    variants.next_step()
    variants.done()

    assert repr(variants) == "<Variants wanted=2 running=1 failed=0>"
