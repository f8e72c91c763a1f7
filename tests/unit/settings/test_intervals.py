"""Intervals in which no setting changed."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ezgraph.settings import (
    INIT_FINAL_COMPONENT_ADDRESS,
    PipelineSettingsEvent,
    PipelineSettingsEventType,
    settings_intervals,
)

INITIAL, UPDATED, REMOVED = PipelineSettingsEventType


def event(
    seq: int,
    at: float,
    address: str,
    value: Any,
    kind: PipelineSettingsEventType = UPDATED,
) -> PipelineSettingsEvent:
    return PipelineSettingsEvent(seq, at, address, kind, value)


def sentinel(seq: int, at: float) -> PipelineSettingsEvent:
    return event(seq, at, INIT_FINAL_COMPONENT_ADDRESS, "", INITIAL)


START = [
    event(2, 10.0, "A", {"x": 1}, INITIAL),
    event(1, 9.0, "B", {"y": (1, 2)}, INITIAL),
    sentinel(5, 10.0),
]


def test_the_initials_are_one_row_and_each_later_event_ends_the_one_before() -> None:
    events = [
        *START,
        event(6, 12.0, "A", {"x": 2, "z": 0.5}),
        event(8, 15.0, "B", {"y": (1, 2)}, REMOVED),
        event(9, 16.0, "C", {"w": 1}, INITIAL),
    ]

    found = settings_intervals(events, closed_at=20.0)

    assert [(each.start_s, each.stop_s) for each in found] == [
        (10.0, 12.0),
        (12.0, 15.0),
        (15.0, 16.0),
        (16.0, 20.0),
    ]
    assert [each.values for each in found] == [
        {"A.x": 1, "B.y": (1, 2)},
        {"A.x": 2, "A.z": 0.5, "B.y": (1, 2)},
        {"A.x": 2, "A.z": 0.5},
        {"A.x": 2, "A.z": 0.5, "C.w": 1},
    ]
    assert [(each.seq, each.component, each.event_type) for each in found] == [
        (5, INIT_FINAL_COMPONENT_ADDRESS, "INITIAL"),
        (6, "A", "UPDATED"),
        (8, "B", "REMOVED"),
        (9, "C", "INITIAL"),
    ]


def test_a_start_without_components_is_a_row_without_settings() -> None:
    (found,) = settings_intervals([sentinel(0, 3.0)], closed_at=4.0)

    assert (found.start_s, found.stop_s, found.values) == (3.0, 4.0, {})


def test_without_a_sentinel_each_event_is_a_row() -> None:
    found = settings_intervals(START[:2], closed_at=11.0)

    assert [(each.start_s, each.stop_s, each.values) for each in found] == [
        (9.0, 10.0, {"B.y": (1, 2)}),
        (10.0, 11.0, {"A.x": 1, "B.y": (1, 2)}),
    ]


def test_nothing_makes_no_interval() -> None:
    assert settings_intervals([], closed_at=1.0) == []


@given(st.lists(st.floats(0, 100), max_size=8), st.floats(0, 100), st.floats(0, 100))
def test_intervals_follow_each_other_without_holes_whatever_the_clocks_say(
    times: list[float], start_s: float, closed_at: float
) -> None:
    events = [event(seq + 2, at, "A", {"x": seq}) for seq, at in enumerate(times)]

    found = settings_intervals([sentinel(1, start_s), *events], closed_at=closed_at)

    assert len(found) == len(times) + 1
    assert found[0].start_s == start_s
    assert all(each.start_s <= each.stop_s for each in found)
    assert [each.stop_s for each in found[:-1]] == [each.start_s for each in found[1:]]
    assert found[-1].stop_s == max([start_s, closed_at, *times])
