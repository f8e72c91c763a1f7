"""Slices as they are typed: those of NumPy, and nothing that would be evaluated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays

from ezgraph.cli.data_nodes.slices import parse_index
from ezgraph.errors import ConfigError


@pytest.mark.parametrize(
    ("typed", "index"),
    [
        ("[1000:2000]", (slice(1000, 2000),)),
        ("1000:2000", (slice(1000, 2000),)),
        (" [10:20, ::2] ", (slice(10, 20), slice(None, None, 2))),
        ("[-5:]", (slice(-5, None),)),
        ("::-1", (slice(None, None, -1),)),
        (":", (slice(None),)),
        ("3,", (3,)),
        ("[..., -1]", (..., -1)),
        ("[ 1 : 2 : 3 ]", (slice(1, 2, 3),)),
        ("+4", (4,)),
    ],
)
def test_a_slice_is_what_numpy_would_take(typed: str, index: tuple[object, ...]) -> None:
    assert parse_index(typed) == index


@given(arrays.basic_indices((4, 5, 6), allow_newaxis=False))
def test_every_basic_index_that_is_printed_is_read_again(index: object) -> None:
    parts = index if isinstance(index, tuple) else (index,)
    array = np.arange(120).reshape(4, 5, 6)
    if not parts:
        return

    typed = ",".join(_printed(each) for each in parts)

    np.testing.assert_array_equal(array[parse_index(f"[{typed}]")], array[parts])


def _printed(part: object) -> str:
    if isinstance(part, slice):
        bounds = (part.start, part.stop, part.step)
        return ":".join("" if each is None else str(each) for each in bounds)
    return "..." if part is ... else str(part)


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "[]",
        ",",
        "a",
        "1:2:3:4",
        "[1",
        "1 2",
        "1.5",
        "None",
        "-",
        "1:-",
        "__import__('os').system('true')",
        "9" * 20,
        "٣",
        "1,,2",
        "....",
    ],
)
def test_what_is_no_slice_is_refused_and_shown(typed: str) -> None:
    with pytest.raises(ConfigError, match="is no slice"):
        parse_index(typed)
