"""When two values of the configuration are the same, and how deep one is."""

from __future__ import annotations

import datetime as dt
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from ezgraph.protocol.settings import EnumValue
from ezgraph.state.config_values import is_deeper_than, is_same_value
from ezgraph.wire import values

VALUES: list[Any] = [
    None, False, 0, 0.0, -0.0, float("nan"), 1, 1.0, True, "", "1", b"", b"1", [], (), {}, set(),
    frozenset(), [1], [1.0], [True], (1,), {1}, {1.0}, {True}, frozenset({1}), {"a": 1},
    {"a": 1.0}, {"a": True}, {"a": None}, {"b": 1}, {1: "a"}, {True: "a"}, {"a": [1, {"b": (2,)}]},
    {"a": [1, {"b": [2]}]}, 1j, 2**80, UUID(int=1), EnumValue("m", "C", "A", 1),
    EnumValue("m", "C", "B", 1), dt.datetime(2024, 1, 1, tzinfo=dt.UTC), dt.date(2024, 1, 1),
    dt.datetime(2024, 1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1))), np.arange(3),
    np.arange(3.0), np.arange(3).reshape(3, 1), np.float32(1), np.float64(1),
]  # fmt: skip


def copied(value: Any) -> Any:
    """Return an equal value that is another object, where there can be one."""
    match value:
        case dict():
            return {name: copied(item) for name, item in reversed(value.items())}
        case list():
            return [copied(item) for item in value]
        case np.ndarray():
            return value.copy()
        case float() if type(value) is float:
            return float(repr(value))
        case _:
            return value


def test_a_value_is_the_same_as_itself_and_as_no_other() -> None:
    for row, one in enumerate(VALUES):
        for column, other in enumerate(VALUES):
            assert is_same_value(one, copied(other)) is (row == column), (one, other)


@pytest.mark.parametrize(
    ("value", "depth"),
    [(1, 0), ("text", 0), ([], 1), ({}, 1), ([1, 2], 1), ({"a": []}, 2), ([({},)], 3)],
)
def test_each_container_within_another_makes_a_value_one_deeper(value: Any, depth: int) -> None:
    assert not is_deeper_than(value, depth)
    assert depth == 0 or is_deeper_than(value, depth - 1)
    assert is_deeper_than([value], depth)


def test_the_deepest_part_counts_wherever_it_stands() -> None:
    assert is_deeper_than({"a": 1, "b": [1, [2, [3]]], "c": 2}, 3)
    assert not is_deeper_than({"a": 1, "b": [1, [2, [3]]], "c": 2}, 4)


NAN_NAMED: list[Any] = [
    {float("nan"): 1}, {float("nan"): 2}, {(float("nan"),): 1}, {(1,): 1}, {(1.0,): 1},
    {(True,): 1}, {float("nan"): 1, float("nan") + 0: 2}, {1: "a", "b": 2}, {None: 1}, {b"a": 1},
]  # fmt: skip


def again(value: Any) -> Any:
    """Return an equal value of other objects, names and all; as if it had come once more."""
    return values.unpack(values.pack(value))


def test_names_that_no_name_equals_are_told_apart_as_exactly_as_values() -> None:
    for row, one in enumerate(NAN_NAMED):
        for column, other in enumerate(NAN_NAMED):
            assert is_same_value(one, again(other)) is (row == column), (one, other)


def test_members_of_sets_are_told_apart_by_what_is_in_them() -> None:
    members = [(1,), (1.0,), (True,), (float("nan"),), frozenset({1}), frozenset({1.0}),
               EnumValue("m", "C", "A", 1), EnumValue("m", "C", "B", 1)]  # fmt: skip
    for row, one in enumerate(members):
        for column, other in enumerate(members):
            assert is_same_value({one}, again({other})) is (row == column), (one, other)
