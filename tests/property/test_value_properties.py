"""What a rig makes, as values: they come back from JSON and bytes, and their fingerprints hold."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ezgraph.backends.store import MemoryRows
from ezgraph.backends.stored_graphs import Written, read_graph, write_graph
from ezgraph.protocol.artifacts import Artifact, Partition, PartitionKey
from ezgraph.protocol.differences import GraphDiff, difference
from ezgraph.protocol.fingerprint_tree import FingerprintTree
from ezgraph.protocol.fingerprints import Fingerprint, canonical, named, named_with
from ezgraph.protocol.graphs import Graph, Snapshot
from ezgraph.protocol.metadata import ComponentMetadata, SettingsFieldMetadata
from ezgraph.protocol.recordings import (
    RecordedChange,
    RecordedPartition,
    Recording,
    RecordingInfo,
)
from ezgraph.protocol.stored import PartitionRow, RecordingRow
from ezgraph.protocol.tagged import from_tagged, to_tagged
from ezgraph.testing import strategies as ours
from ezgraph.wire import codec

quick = settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60)


DATACLASSES = (
    ours.messages(ComponentMetadata), ours.messages(SettingsFieldMetadata), ours.artifacts
)


@given(st.one_of(*DATACLASSES))
@quick
def test_the_quick_form_of_an_encoding_is_the_one_that_walks_the_fields(value: Any) -> None:
    first = fields(value)[0].name

    assert named(value) == named_with(value, {first: getattr(value, first)})


VALIDATORS: dict[Any, Any] = {}


def validator(cls: Any) -> Any:
    if cls not in VALIDATORS:
        schema = cls.json_schema()
        jsonschema.Draft202012Validator.check_schema(schema)
        VALIDATORS[cls] = jsonschema.Draft202012Validator(schema)
    return VALIDATORS[cls]


def through_json(value: Any) -> Any:
    text = value.to_json()
    validator(type(value)).validate(json.loads(text))
    return type(value).from_json(text)


@given(ours.values)
def test_any_value_comes_back_from_json_as_it_was(value: Any) -> None:
    text = json.dumps(to_tagged(value), allow_nan=False)

    back = from_tagged(json.loads(text))

    assert canonical(back) == canonical(value)
    assert type(back) is type(value)
    assert json.dumps(to_tagged(back), sort_keys=True) == json.dumps(
        to_tagged(value), sort_keys=True
    )


@given(ours.plain_values)
def test_what_can_be_compared_is_equal_when_it_comes_back(value: Any) -> None:
    assert from_tagged(json.loads(json.dumps(to_tagged(value)))) == value


@given(ours.fingerprints, ours.fingerprints, ours.fingerprints)
def test_fingerprints_are_a_commutative_monoid_with_an_absorbing_element(
    a: Fingerprint, b: Fingerprint, c: Fingerprint
) -> None:
    assert a.combine(b) == b.combine(a)
    assert a.combine(b).combine(c) == a.combine(b.combine(c)) == a.combine(b, c)
    assert a.combine(Fingerprint.identity()) == a
    assert a.combine(Fingerprint.empty(), b).is_empty
    assert a.is_empty or a.is_identity or not a.combine(a).is_identity
    assert Fingerprint.from_hex(str(a)) == a


@given(ours.partition_keys)
def test_a_partition_key_is_its_text(key: PartitionKey) -> None:
    again = PartitionKey.from_text(key.text)

    assert again == key == dict(key) == PartitionKey(list(key.items())[::-1])
    assert hash(again) == hash(key)
    assert again.text == key.text
    assert dict(again) == dict(key)


@given(ours.partitions)
def test_a_partition_comes_back(partition: Partition) -> None:
    assert through_json(partition) == partition
    row = PartitionRow(partition, 1.0, "me")
    assert codec.decode(codec.encode(row), PartitionRow) == row


@given(ours.artifacts)
@quick
def test_an_artifact_comes_back(artifact: Artifact) -> None:
    assert through_json(artifact) == artifact
    assert through_json(artifact).fingerprint == artifact.fingerprint
    decoded: Artifact = codec.decode(codec.encode(artifact), Artifact)
    assert decoded == artifact
    assert hash(decoded) == hash(artifact)


@given(
    ours.recordings,
    st.lists(ours.recorded_partitions, max_size=2).map(tuple),
    st.lists(ours.recorded_changes, max_size=2).map(tuple),
)
@quick
def test_a_recording_comes_back(
    info: RecordingInfo,
    partitions: tuple[RecordedPartition, ...],
    changes: tuple[RecordedChange, ...],
) -> None:
    recording = Recording(info, partitions, changes)

    assert through_json(recording) == recording
    assert through_json(info) == info
    row = RecordingRow(info)
    assert codec.decode(codec.encode(row), RecordingRow) == row


@given(ours.graphs, st.integers(0, 2**62), st.floats(0, 4e9), st.text(max_size=5))
@quick
def test_a_graph_comes_back_from_json_and_from_a_store(
    graph: Graph, seq: int, time: float, reason: str
) -> None:
    taken = Snapshot(graph, seq, 1, time, reason=reason)
    assert through_json(taken) == taken

    rows = MemoryRows()
    write_graph(rows, graph, Written(1.0, "me"))
    read = read_graph(rows, graph.name, graph.fingerprint)

    assert read == graph
    assert replace(read, name="x").fingerprint == graph.fingerprint  # computed anew


@given(ours.graphs, ours.graphs)
@quick
def test_a_difference_is_false_exactly_where_fingerprints_are_equal(one: Graph, two: Graph) -> None:
    found = difference(one, two)

    assert bool(found) == (one.fingerprint != two.fingerprint)
    assert not difference(one, replace(one, name="x"))
    back = difference(two, one)
    assert (back.edges_added, back.edges_removed) == (found.edges_removed, found.edges_added)
    assert {each.name for each in back.settings.changed} == {
        each.name for each in found.settings.changed
    }
    assert through_json(found) == found
    assert isinstance(found, GraphDiff)


slots = st.tuples(st.sampled_from(["edge", "settings"]), st.text(max_size=3))


@given(st.lists(st.tuples(slots, st.none() | st.binary(min_size=16, max_size=16))))
def test_a_tree_is_the_same_however_its_parts_came(
    steps: list[tuple[tuple[str, ...], bytes | None]],
) -> None:
    grown, model = FingerprintTree("test"), dict[tuple[str, ...], bytes]()
    for number, (slot, content) in enumerate(steps):
        if content is None:
            grown.remove(slot)
            model.pop(slot, None)
        else:
            grown.put(slot, content)
            model[slot] = content
        if number % 3 == 0:
            grown.fingerprint()  # asked in between
    fresh = FingerprintTree("test")
    for slot in sorted(model, reverse=True):
        fresh.put(slot, model[slot])

    assert grown.fingerprint() == fresh.fingerprint()
    assert len(grown) == len(model)
    assert FingerprintTree("other").fingerprint() != fresh.fingerprint()


def test_arrays_of_every_layout_come_back_from_json() -> None:
    made: list[Any] = [
        np.arange(6).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.zeros((0, 3), "<f4"),
        np.array([(1, 2.0)], [("n", "<u1"), ("x", ">f8", (2,))]),
        np.float32(1.5),
        np.str_("a\0"),
        np.datetime64("2026-11-22"),
    ]
    for each in made:
        back = from_tagged(json.loads(json.dumps(to_tagged(each))))
        assert type(back) is type(each)
        assert back.dtype == each.dtype
        assert np.array_equal(back, each)


@pytest.mark.parametrize("cls", [Artifact, Partition, Graph, Snapshot, GraphDiff, Recording])
def test_a_schema_is_one_of_json_schema_and_refuses_other_things(cls: Any) -> None:
    checked = validator(cls)

    assert not checked.is_valid([])
    assert not checked.is_valid({"$type": "Other", "key": "a", "name": "a"})
