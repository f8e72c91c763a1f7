"""What a flow is, as keys and a record of them."""

from __future__ import annotations

import pytest

from ezgraph.errors import InvalidCommandError, InvalidKeyError, UnknownFlowError
from ezgraph.flows.record import FlowRecord, read_record, settings_of


def test_each_variant_is_a_key_of_its_own_in_the_order_given() -> None:
    found = settings_of({"chunker": {"b": 1, "a": 2}, "idle": {}, "a:b/c": {"a": None}})

    assert list(found.items()) == [
        (("chunker", "b"), 1), (("chunker", "a"), 2), (("a:b/c", "a"), None),
    ]


@pytest.mark.parametrize(
    ("variants", "said"),
    [
        ([("chunker", {})], "variants is given as list"),
        ({"chunker": ["default"]}, "what processor 'chunker' is to run is given as list"),
        (None, "variants is given as NoneType"),
    ],
)
def test_variants_of_another_shape_are_refused_with_the_right_one(
    variants: object, said: str
) -> None:
    with pytest.raises(InvalidCommandError, match=said) as refused:
        settings_of(variants)

    assert "{processor: {variant:" in str(refused.value)


@pytest.mark.parametrize("variants", [{"": {"a": 1}}, {"chunker": {"": 1}}, {"chunker": {7: 1}}])
def test_names_that_are_no_segments_are_refused(variants: object) -> None:
    with pytest.raises(InvalidKeyError):
        settings_of(variants)


def test_a_record_reads_back_as_it_was_written() -> None:
    record = FlowRecord("morning", (("chunker", "a:b"), ("reader", "x")))

    assert read_record("morning", record.to_value()) == record


@pytest.mark.parametrize(
    "value",
    [None, 7, [], {}, {"keys": None}, {"keys": "chunker:a"}, {"keys": [["chunker", ""]]},
     {"keys": ["chunker:a"]}, {"keys": [7]}],
)
def test_what_somebody_else_put_in_its_place_is_no_record(value: object) -> None:
    with pytest.raises(UnknownFlowError, match="was not written by start_flow"):
        read_record("morning", value)
