"""Column names that never collide, and values by their paths."""

from __future__ import annotations

from typing import Any

import pytest

from ezgraph.settings import column_names
from ezgraph.settings.columns import leaves


def test_an_address_alone_with_its_name_has_that_name() -> None:
    assert column_names(["SYS/A", "SYS/B.S.x", "2"]) == {
        "SYS/A": "SYS.A",
        "SYS/B.S.x": "SYS.B.S.x",
        "2": "setting_2",
    }


def test_addresses_that_would_share_a_name_have_a_hash_of_their_own() -> None:
    names = column_names(["SYS/A", "SYS.A", "SYS:A"])

    assert len(set(names.values())) == 3
    assert all(name.startswith("SYS.A_") for name in names.values())
    assert names == column_names(["SYS:A", "SYS/A", "SYS.A", "SYS/A"])


def test_paths_that_read_alike_are_two() -> None:
    names = column_names([("A", "b.c"), ("A", "b", "c"), ("A", 1), ("A", "1")])

    assert len(set(names.values())) == 4


def test_a_name_given_before_stays_and_is_avoided() -> None:
    before = column_names(["SYS/A"])

    after = column_names(["SYS.A", "SYS/A"], before)

    assert after["SYS/A"] == "SYS.A"
    assert after["SYS.A"] != "SYS.A"
    assert before == {"SYS/A": "SYS.A"}


def test_a_name_that_looks_like_a_hash_is_avoided_too() -> None:
    hashed = column_names(["a/b", "a.b"])["a/b"]

    names = column_names(["a/b", "a.b", hashed, f"{hashed}_2"])

    assert len(set(names.values())) == 4


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ({"a": 1, "b": {"c": {"d": [2]}}}, {("a",): 1, ("b", "c", "d"): [2]}),
        ({"a": {}, "b": {1: {}}}, {("a",): {}, ("b", 1): {}}),
        ({}, {}),
        ("text", {(): "text"}),
    ],
)
def test_leaves_stand_at_their_paths(value: Any, wanted: dict[Any, Any]) -> None:
    assert leaves(value) == wanted
