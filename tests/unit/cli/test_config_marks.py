"""What JSON has not survives it, marked."""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from ezgraph.cli.configuration.marks import marked, unmarked
from ezgraph.errors import ConfigError
from ezgraph.testing import strategies as ours
from ezgraph.wire import values


@given(ours.values)
def test_any_value_of_the_bus_survives_a_json_file(value: Any) -> None:
    carried = values.unpack(values.pack(value))  # enum members and such are others then

    again = unmarked(json.loads(json.dumps(marked(carried), allow_nan=False)))

    assert values.pack(again) == values.pack(carried)


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ({"a": [1, 2.5, None, True, "x"]}, {"a": [1, 2.5, None, True, "x"]}),
        (math.inf, {"$float": "inf"}),
        (b"abc", {"$bytes": "YWJj"}),
        ((1, (b"a",)), {"$tuple": [1, {"$tuple": [{"$bytes": "YQ=="}]}]}),
        ({"a": 1, "$bytes": "x"}, {"a": 1, "$bytes": "x"}),
    ],
)
def test_what_json_has_stays_as_it_is_and_little_else_is_packed(value: Any, form: Any) -> None:
    assert marked(value) == form
    assert unmarked(form) == value


@pytest.mark.parametrize(
    "value", [{"$bytes": "YWJj"}, dt.date(2026, 5, 1), {1: 2}, {1, 2}, np.arange(3), {"$tuple": []}]
)
def test_a_mapping_that_looks_like_a_mark_and_all_else_is_packed(value: Any) -> None:
    form = marked(value)

    assert form.keys() == {"$packed"}
    assert values.pack(unmarked(form)) == values.pack(value)


@pytest.mark.parametrize(
    "form",
    [
        {"$float": "1"}, {"$float": []}, {"$bytes": "???"}, {"$bytes": 5}, {"$tuple": 5},
        {"$packed": "YWJj"}, {"$packed": ""}, {"$packed": None},
    ],
)  # fmt: skip
def test_a_mark_that_stands_for_nothing_says_where(form: Any) -> None:
    with pytest.raises(ConfigError, match=r"f: gains\[1\].x: .* stands for no value"):
        unmarked([0, {"x": form}], "f: gains")
