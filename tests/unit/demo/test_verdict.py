from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ezgraph.demo.record import is_recorded, line_of
from ezgraph.demo.verdict import compare

if TYPE_CHECKING:
    from ezgraph.protocol.events import Event


@pytest.fixture
def lines(history: list[Event]) -> list[str]:
    return [line_of(event) for event in history if is_recorded(event)]


def test_a_record_of_every_event_once_in_order_is_ok(
    history: list[Event], lines: list[str]
) -> None:
    verdict = compare(history, lines)

    assert verdict.ok
    assert (verdict.settings, verdict.topology, verdict.recorded) == (3, 2, 5)
    assert (verdict.journal_events, verdict.first_seq, verdict.last_seq) == (7, 1, 7)


def test_a_missing_event_is_told(history: list[Event], lines: list[str]) -> None:
    for index, seq in enumerate([2, 4, 5, 6, 7]):
        spoiled = lines[:index] + lines[index + 1 :]

        (difference,) = compare(history, spoiled).differences
        assert f"seq {seq} " in difference
        assert "not in the record" in difference


def test_an_event_recorded_twice_is_told(history: list[Event], lines: list[str]) -> None:
    (difference,) = compare(history, [*lines, lines[-1]]).differences

    assert difference == "seq 7 is in the record 2 times"


def test_two_events_in_the_wrong_order_are_told(history: list[Event], lines: list[str]) -> None:
    lines[0], lines[1] = lines[1], lines[0]

    (difference,) = compare(history, lines).differences

    assert difference == "line 2 of the record has seq 2 after 4: out of order"


def test_a_changed_value_is_told_with_both_values(history: list[Event], lines: list[str]) -> None:
    lines[2] = lines[2].replace("40.0", "40.5")

    (difference,) = compare(history, lines).differences

    assert "line 3 of the record differs from seq 5: body is" in difference
    assert "40.5" in difference
    assert "40.0" in difference


def test_an_event_the_journal_does_not_have_is_told(history: list[Event], lines: list[str]) -> None:
    invented = json.dumps({**json.loads(lines[-1]), "seq": 99})

    (difference,) = compare(history, [*lines, invented]).differences

    assert "seq 99" in difference


def test_an_event_that_is_not_to_be_recorded_is_told(
    history: list[Event], lines: list[str]
) -> None:
    (difference,) = compare(history, [line_of(history[0]), *lines]).differences

    assert "seq 1" in difference


@pytest.mark.parametrize("line", ["", "{", "[1]", '"text"', '{"kind": "SettingsChanged"}'])
def test_a_line_that_is_no_event_is_told(history: list[Event], lines: list[str], line: str) -> None:
    (difference,) = compare(history, [*lines, line]).differences

    assert difference == "line 6 of the record is no event"


def test_a_hole_in_the_journal_itself_is_told(history: list[Event], lines: list[str]) -> None:
    journal = [*history[:-1], replace(history[-1], seq=9)]
    lines[-1] = line_of(journal[-1])

    (difference,) = compare(journal, lines).differences

    assert difference == "the journal has seq 9 where 7 belongs"


def test_an_empty_record_of_an_empty_journal_is_not_ok() -> None:
    assert not compare([], []).ok
