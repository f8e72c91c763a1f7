"""Artifacts, partitions and producers: what they take, what they refuse, what they do not show."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import replace
from typing import Any

import pytest

from ezgraph.errors import InvalidValueError, MalformedMessageError
from ezgraph.protocol.artifacts import Artifact, Partition, PartitionKey, Producer, input_filter
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.urls import masked, without_credentials

PRINT = Fingerprint.from_string("x")


def test_a_partition_key_is_a_mapping_that_can_be_a_key() -> None:
    key = PartitionKey(run=3, day="mon")

    assert dict(key) == {"day": "mon", "run": 3}
    assert key == {"run": 3, "day": "mon"} == key
    assert key == PartitionKey({"day": "mon"}, run=3) == PartitionKey([("day", "mon"), ("run", 3)])
    assert {key: 1}[PartitionKey(day="mon", run=3)] == 1
    assert key.text == '{"day":"mon","run":3}'
    assert repr(key) == "PartitionKey(day='mon', run=3)"
    assert PartitionKey() == {}
    assert key != 5
    with pytest.raises(AttributeError):
        key.other = 1  # type: ignore[attr-defined]


def test_values_of_different_types_make_different_keys() -> None:
    keys = [PartitionKey(n=n) for n in (1, True, 1.0, "1", b"1", None, dt.date(2026, 11, 22))]

    assert len(set(keys)) == len(keys)
    assert PartitionKey(n=1) != {"n": True}


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("day", "is no partition key"),
        (5, "is no partition key"),
        ([("day",)], "is no partition key"),
        ({"": 1}, "cannot name a field"),
        ({5: 1}, "cannot name a field"),
        ({"a\nb": 1}, "cannot be shown"),
        ({"day": [1]}, r"'day' of a partition key is \[1\] \(list\)"),
        ({"day": math.nan}, "not NaN"),
        ({"day": "x" * 1100}, "1024 are allowed"),
        ({"day": "\ud800"}, "no partition key"),
    ],
)
def test_what_is_no_partition_key_is_refused(key: Any, says: str) -> None:
    with pytest.raises(InvalidValueError, match=says):
        PartitionKey(key)
    with pytest.raises(InvalidValueError, match=says):
        Partition(key)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"content_fingerprint": 5}, "content fingerprint of PartitionKey.* is 5"),
        ({"input_fingerprint": "abc"}, "'abc' is no fingerprint"),
        ({"location": b"/data"}, "give a path or URL as text"),
        ({"nbytes": -1}, "nbytes of .* is -1"),
        ({"nbytes": True}, "nbytes of .* is True"),
        ({"nbytes": 1.5}, "nbytes"),
    ],
)
def test_what_is_no_partition_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidValueError, match=says):
        Partition({"day": "mon"}, **fields)


def test_a_fingerprint_may_be_given_as_text() -> None:
    assert Partition({}, str(PRINT), "empty") == Partition({}, PRINT)


def test_each_field_of_a_partition_counts() -> None:
    one = Partition({"day": "mon"}, PRINT, PRINT, "/a", 5)
    others = [
        replace(one, key=PartitionKey(day="tue")),
        replace(one, content_fingerprint=Fingerprint.identity()),
        replace(one, input_fingerprint=Fingerprint.empty()),
        replace(one, location="/b"),
        replace(one, nbytes=None),
    ]

    assert len({one.fingerprint, *(each.fingerprint for each in others)}) == 6
    assert len({one, replace(one), *others}) == 6


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"key": ""}, "cannot name an artifact"),
        ({"key": 5}, "cannot name an artifact"),
        ({"key": "k" * 256}, "255 are allowed"),
        ({"type": 5}, "type of artifact 'raw' is 5"),
        ({"format": [1]}, "format of artifact 'raw'"),
        ({"storage": {"x": object()}}, "storage of artifact 'raw': .*object"),
        ({"annotations": "note"}, "annotations of artifact 'raw'"),
        ({"statistics": {5: 1}}, "statistics of artifact 'raw'"),
    ],
)
def test_what_is_no_artifact_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidValueError, match=says):
        Artifact(**{"key": "raw", **fields})


def test_an_artifact_is_not_changed_by_who_made_it() -> None:
    notes = {"subject": "s07"}
    made = Artifact("raw", annotations=notes)
    notes["subject"] = "s08"

    assert made.annotations == {"subject": "s07"}
    assert made.fingerprint == Artifact("raw", annotations={"subject": "s07"}).fingerprint
    assert hash(made) == hash(replace(made))
    assert made.storage_fingerprint == replace(made, key="x", type="y").storage_fingerprint
    assert made.storage_fingerprint != replace(made, storage="/x").storage_fingerprint


def test_a_producer_takes_keys_and_artifacts() -> None:
    raw = Artifact("raw")

    assert Producer([raw], ["filtered"], "1").inputs == ("raw",)
    for bad in ({"inputs": "raw"}, {"inputs": [""]}, {"outputs": 5}, {"version": 1}):
        with pytest.raises(InvalidValueError):
            Producer(**bad)


@pytest.mark.parametrize("given", [5, [PRINT], {"day": PRINT}, {PartitionKey(): "x"}])
def test_what_is_no_filter_is_refused(given: Any) -> None:
    with pytest.raises(InvalidValueError):
        input_filter(given)


def test_a_filter_takes_what_stands_for_a_key() -> None:
    assert input_filter({(("day", "mon"),): PRINT}) == {PartitionKey(day="mon"): PRINT}


# --- JSON of what was not written by us ---


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no JSON of a Partition"),
        ("[]", "expected a JSON object"),
        ('{"$type": "Artifact"}', "this is a 'Artifact', not a Partition"),
        ('{"$version": 2}', "newer ezgraph .version 2"),
        ('{"$version": "x"}', "no version"),
        ('{"key": {"day": [1]}}', r"Partition.key: .*'day'"),
        ('{"key": 5}', "Partition.key: expected the fields"),
        ('{"nbytes": "5"}', "Partition.nbytes: "),
        ('{"nbytes": -5}', "Partition: nbytes"),
        ('{"content_fingerprint": "5"}', "Partition.content_fingerprint: "),
        ('{"location": 5}', "Partition.location: expected text"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_json_that_spells_no_partition_says_where_and_why(text: str, says: str) -> None:
    with pytest.raises(MalformedMessageError, match=says):
        Partition.from_json(text)


def test_unknown_fields_are_ignored_and_absent_ones_have_their_defaults() -> None:
    assert Partition.from_json('{"later": 1, "location": "/a"}') == Partition(location="/a")
    assert Artifact.from_json({"key": "raw"}) == Artifact("raw")
    with pytest.raises(MalformedMessageError, match="lacks the field 'key'"):
        Artifact.from_json("{}")


@pytest.mark.parametrize(
    "spelled",
    ['{"$nonsense": 1}', '{"$bytes": "%"}', '{"$uuid": 5}', '{"$float": "x"}', '{"$array": {}}'],
)
def test_tagged_values_that_spell_nothing_are_refused(spelled: str) -> None:
    text = f'{{"key": "raw", "annotations": {{"a": {spelled}}}}}'

    with pytest.raises(MalformedMessageError, match=r"Artifact\.annotations"):
        Artifact.from_json(text)


# --- credentials ---


@pytest.mark.parametrize(
    ("location", "kept"),
    [
        ("s3://me:hunter2@lab/a@b.h5?day=1", "s3://***@lab/a@b.h5?day=1"),
        ("https://lab/a.h5?token=hunter2&day=1", "https://lab/a.h5?token=***&day=1"),
        ("https://x/a?X-Amz-Signature=hunter2", "https://x/a?X-Amz-Signature=***"),
        ("https://x/a?api_key=hunter2&keyboard=de#b", "https://x/a?api_key=***&keyboard=de#b"),
        ("https://x/a?design=1&author=anna&key=3", "https://x/a?design=1&author=anna&key=3"),
        ("/data/a:b@c.h5?token=1", "/data/a:b@c.h5?token=1"),
        ("C:\\data\\x@y.h5", "C:\\data\\x@y.h5"),
        ("file:///data/x@y.h5", "file:///data/x@y.h5"),
        ("", ""),
    ],
)
def test_what_lets_one_in_is_no_part_of_a_location(location: str, kept: str) -> None:
    assert without_credentials(location) == kept
    assert Partition({}, location=location).location == kept
    made = Artifact("raw", storage={"url": [location]}, annotations={"from": location})
    assert made.storage == {"url": [kept]}
    for shown in (repr(made), made.to_json(), repr(Partition({}, location=location))):
        assert "hunter2" not in shown


def test_a_shown_address_hides_rather_too_much() -> None:
    assert masked("x://h/?author=anna") == "x://h/?author=***"
