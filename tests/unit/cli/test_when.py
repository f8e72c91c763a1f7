"""A point in the history as it is typed."""

from __future__ import annotations

import datetime as dt

import pytest

from ezgraph import ConfigError
from ezgraph.cli.when import When, parse_when
from ezgraph.protocol.events import Event, PauseChanged, Source

NOW = dt.datetime(2026, 11, 22, 15, 0, 0).astimezone().timestamp()


@pytest.mark.parametrize(
    ("typed", "seconds_before_now"),
    [("10m", 600), ("1h30m", 5400), ("2d", 172_800), ("1.5s", 1.5), ("14:03", 57 * 60)],
)
def test_a_time_can_be_typed_as_an_age_or_a_clock(typed: str, seconds_before_now: float) -> None:
    assert parse_when(typed, now=NOW) == When(wall_time=NOW - seconds_before_now)


def test_a_time_with_a_zone_is_of_that_zone() -> None:
    at = dt.datetime(2026, 11, 22, 14, 3, tzinfo=dt.UTC)

    assert parse_when("2026-11-22T14:03Z", now=NOW).wall_time == at.timestamp()


def test_digits_are_a_seq() -> None:
    assert parse_when("812", now=NOW) == When(seq=812)


@pytest.mark.parametrize("typed", ["", "soon", "-3", "25:00", "m"])
def test_anything_else_is_refused_with_examples(typed: str) -> None:
    with pytest.raises(ConfigError, match="14:03"):
        parse_when(typed, now=NOW)


def test_an_event_is_later_by_its_seq_or_by_its_time() -> None:
    body = PauseChanged(paused=True)
    event = Event(1, 7, 6, 7, 7, 100.0, 0.0, ("control", "pause"), Source(), None, body)

    assert When(seq=6).is_before(event)
    assert not When(seq=7).is_before(event)
    assert When(wall_time=99.0).is_before(event)
    assert not When(wall_time=100.0).is_before(event)
