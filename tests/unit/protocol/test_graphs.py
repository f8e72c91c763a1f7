"""Graphs and snapshots as values, what their fingerprints depend on, and how two differ."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from ezgraph.errors import InvalidValueError, MalformedMessageError
from ezgraph.protocol.artifacts import Artifact, Producer
from ezgraph.protocol.differences import FieldChange, difference
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.graphs import Graph, Snapshot
from ezgraph.protocol.metadata import (
    DynamicSettingsMetadata,
    InputStreamMetadata,
    SettingsFieldMetadata,
    SettingsSchemaMetadata,
    UnitMetadata,
)
from ezgraph.protocol.settings import SettingsSnapshotValue
from ezgraph.protocol.snapshot import Edge

SCHEMA = SettingsSchemaMetadata("dataclass", "lab.S", [SettingsFieldMetadata("gain", "float")])


def unit(address: str, gain: float = 1.0, **more: Any) -> UnitMetadata:
    fields: dict[str, Any] = {
        "address": address,
        "name": "AMP",
        "component_type": "lab.Amp",
        "settings_type": "lab.S",
        "initial_settings": (None, {"gain": gain}),
        "dynamic_settings": DynamicSettingsMetadata(True, f"{address}/SETTINGS"),
        "settings_schema": SCHEMA,
        "streams": {"IN": InputStreamMetadata("IN", f"{address}/IN", "lab.Samples")},
    }
    return UnitMetadata(**{**fields, **more})


BASE = Graph(
    "rig",
    artifacts=[Artifact("raw")],
    producers=[Producer((), ("raw",), "1")],
    topology={"A/OUT": ["B/IN", "C/IN"]},
    components={"A": unit("A"), "B": unit("B")},
    settings={"A": {"gain": 1.0, "filter": {"low": 1, "high": 40}}},
    config={"processor": {"chunker:default": {"size": 3}}},
)


def test_a_graph_puts_what_it_is_given_in_order() -> None:
    made = Graph(
        "rig",
        [Artifact("b"), Artifact("a")],
        topology=[("b", "c"), ("a", "b"), ("a", "b")],
        settings={"B": 5, "A": SettingsSnapshotValue(b"x", "text")},
    )

    assert list(made.artifacts) == ["a", "b"]
    assert made.topology == (Edge("a", "b"), Edge("b", "c"))
    assert list(made.settings) == ["A", "B"]
    assert made.settings["B"] == SettingsSnapshotValue(None, "5", None)
    assert repr(made) == "<Graph 'rig' edges=2 components=0 settings=2 artifacts=2>"
    assert hash(made) == hash(replace(made))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"name": ""}, "cannot name a graph"),
        ({"artifacts": [Artifact("a"), Artifact("a")]}, "have the same key"),
        ({"artifacts": {"a": 5}}, "an artifact 'a' is 5"),
        ({"artifacts": 5}, "give a sequence of Artifact"),
        ({"producers": [5]}, "among producers is 5"),
        ({"producers": [Producer((), ("a",)), Producer(("b",), ("a",))]}, "output of two"),
        ({"topology": "ab"}, "topology is 'ab'"),
        ({"topology": [("a",)]}, "is no edge"),
        ({"topology": [("a", "")]}, "is no edge"),
        ({"components": {"X": unit("A")}}, "its address is 'A'"),
        ({"components": {"A": {}}}, "give a ComponentMetadata"),
        ({"settings": [1]}, "give a mapping of address to value"),
        ({"settings": {"": 1}}, "non-empty text"),
        ({"config": {"t": 5}}, "give a Mapping"),
        ({"config": {"t": {"k": object()}}}, "config 't' 'k': a builtins.object"),
    ],
)
def test_what_is_no_graph_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidValueError, match=says):
        Graph(**{"name": "rig", **fields})


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"graph": 5}, "is of a Graph"),
        ({"seq": -1}, "seq of a snapshot is -1"),
        ({"seq": True}, "seq of a snapshot is True"),
        ({"epoch": 1 << 63}, "epoch of a snapshot"),
        ({"time": math.nan}, "seconds since 1970"),
        ({"time": "now"}, "seconds since 1970"),
        ({"reason": None}, "give a text"),
        ({"fingerprint": Fingerprint.identity()}, "its graph's is"),
        ({"fingerprint": 5}, "give a Fingerprint"),
    ],
)
def test_what_is_no_snapshot_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidValueError, match=says):
        Snapshot(**{"graph": BASE, **fields})


def test_a_snapshot_has_the_fingerprint_of_its_graph() -> None:
    taken = Snapshot(BASE, 5, 1, 1.7e9)

    assert taken.fingerprint == BASE.fingerprint
    assert taken.name == "rig"
    assert replace(taken, seq=9, reason="again").fingerprint == taken.fingerprint
    assert "seq=5" in repr(taken)


def test_a_snapshot_in_json_of_another_content_is_refused() -> None:
    text = Snapshot(BASE, 5).to_json().replace('"gain": 1.0', '"gain": 2.0')

    with pytest.raises(MalformedMessageError, match="cannot have the fingerprint"):
        Snapshot.from_json(text)


def based(**changes: Any) -> Graph:
    return replace(BASE, **changes)


SAME = {
    "its name": based(name="other"),
    "opaque bytes of settings that have a structure": based(
        settings={
            "A": SettingsSnapshotValue(
                b"pickle",
                {"gain": 1.0, "filter": {"low": 1, "high": 40}},
                {"gain": 1.0, "filter": {"low": 1, "high": 40}},
                SCHEMA,
            )
        },
    ),
    "opaque bytes of initial settings that have a structure": based(
        components={"A": unit("A", initial_settings=(b"pickle", {"gain": 1.0})), "B": unit("B")},
    ),
    "the order of anything": Graph(
        "rig",
        [Artifact("raw")],
        [Producer((), ("raw",), "1")],
        [("A/OUT", "C/IN"), ("A/OUT", "B/IN")],
        {"B": unit("B"), "A": unit("A")},
        {"A": {"filter": {"high": 40, "low": 1}, "gain": 1.0}},
        {"processor": {"chunker:default": {"size": 3}}, "empty": {}},
    ),
}
OTHER = {
    "an edge more": based(topology=(*BASE.topology, Edge("x", "y"))),
    "an edge less": based(topology=BASE.topology[:1]),
    "a component less": based(components={"A": unit("A")}),
    "a field of metadata": based(components={"A": unit("A", main="run"), "B": unit("B")}),
    "a setting": based(settings={"A": {"gain": 1.0, "filter": {"low": 1, "high": 41}}}),
    "the type of a setting": based(settings={"A": {"gain": 1, "filter": {"low": 1, "high": 40}}}),
    "settings more": based(settings={**BASE.settings, "B": {}}),
    "bytes where there is no structure": based(settings={"A": SettingsSnapshotValue(b"x", "S()")}),
    "other bytes where there is no structure": based(
        settings={"A": SettingsSnapshotValue(b"y", "S()")}
    ),
    "configuration": based(config={"processor": {"chunker:default": {"size": 4}}}),
    "its key": based(config={"processor": {"chunker:other": {"size": 3}}}),
    "an artifact": based(artifacts={"raw": Artifact("raw", storage="/x")}),
    "the key of an artifact": based(artifacts={"other": Artifact("raw")}),
    "a producer": based(producers=(Producer((), ("raw",), "2"),)),
}


@pytest.mark.parametrize("what", list(SAME))
def test_the_fingerprint_does_not_depend_on(what: str) -> None:
    assert SAME[what].fingerprint == BASE.fingerprint
    assert not difference(BASE, SAME[what])


@pytest.mark.parametrize("what", list(OTHER))
def test_the_fingerprint_depends_on(what: str) -> None:
    prints = {each.fingerprint for each in (BASE, *OTHER.values())}

    assert len(prints) == len(OTHER) + 1
    assert difference(BASE, OTHER[what])


def test_a_known_graph_has_the_fingerprint_it_always_had() -> None:
    assert str(Graph("rig").fingerprint) == "efb2d9b720788e98dd0096431adad5f8"
    assert str(BASE.fingerprint) == "9de9b729aba2d181e9cbaa1af95d09d1"


# --- differences ---


def test_settings_differ_field_by_field() -> None:
    new = based(
        settings={"A": {"gain": 2.0, "filter": {"low": 1}, "mode": None}, "B": {"gain": 1}},
    )

    found = difference(BASE, new)

    assert found.settings.added == ["B"]
    (changed,) = found.settings.changed
    assert changed.name == "A"
    assert changed.fields == [
        FieldChange(("filter", "high"), 40, None, is_there=False),
        FieldChange(("gain",), 1.0, 2.0),
        FieldChange(("mode",), None, None, was_there=False),
    ]
    assert (found.old, found.new) == (BASE.fingerprint, new.fingerprint)
    assert not any((found.components, found.config, found.edges_added, found.moved))


def test_settings_without_structure_differ_by_their_text_and_their_bytes() -> None:
    def with_settings(serialized: bytes, text: str) -> Graph:
        return based(settings={"A": SettingsSnapshotValue(serialized, text)})

    (by_text,) = difference(with_settings(b"x", "a"), with_settings(b"x", "b")).settings.changed
    (by_bytes,) = difference(with_settings(b"x", "a"), with_settings(b"y", "a")).settings.changed

    assert by_text.fields == [FieldChange(("text",), "a", "b")]
    assert by_bytes.fields == [FieldChange(("serialized",), b"x", b"y")]


def test_edges_are_added_and_removed() -> None:
    found = difference(BASE, based(topology=[("A/OUT", "B/IN"), ("B/OUT", "D/IN")]))

    assert found.edges_added == [Edge("B/OUT", "D/IN")]
    assert found.edges_removed == [Edge("A/OUT", "C/IN")]


def test_a_component_that_stands_elsewhere_has_moved_and_its_settings_with_it() -> None:
    new = based(
        components={"SYS/A": unit("SYS/A"), "B": unit("B")},
        settings={"SYS/A": {"gain": 5.0, "filter": {"low": 1, "high": 40}}},
    )

    found = difference(BASE, new)

    assert [(each.old_address, each.new_address) for each in found.moved] == [("A", "SYS/A")]
    assert not found.components
    (changed,) = found.settings.changed
    assert (changed.name, changed.fields) == ("SYS/A", [FieldChange(("gain",), 1.0, 5.0)])
    assert found.settings.added == found.settings.removed == []


def test_of_twins_that_stand_elsewhere_nobody_can_say_which_is_which() -> None:
    old = Graph("rig", components={"A": unit("A"), "B": unit("B")})
    new = Graph("rig", components={"C": unit("C"), "D": unit("D")})

    found = difference(old, new)

    assert found.moved == []
    assert (found.components.added, found.components.removed) == (["C", "D"], ["A", "B"])


def test_initial_settings_are_told_once() -> None:
    changed = {"A": unit("A", 2.0), "B": unit("B")}
    with_live = based(
        components=changed, settings={"A": {"gain": 2.0, "filter": {"low": 1, "high": 40}}}
    )
    only_initial = based(components=changed)

    assert not difference(BASE, with_live).components
    assert difference(BASE, with_live).settings
    (told,) = difference(BASE, only_initial).components.changed
    assert told.fields == [FieldChange(("initial_settings", "gain"), 1.0, 2.0)]


def test_metadata_and_configuration_differ_by_their_fields() -> None:
    new = based(
        components={"A": unit("A", main="run"), "B": unit("B")},
        config={"processor": {"chunker:default": {"size": 4}, "other": 1}},
        artifacts={"raw": Artifact("raw", format="nwb")},
        producers=(Producer((), ("raw",), "2"),),
    )

    found = difference(BASE, new)

    assert [(c.name, c.fields) for c in found.components.changed] == [
        ("A", [FieldChange(("main",), None, "run")])
    ]
    assert found.config.added == ["processor other"]
    assert found.config.changed[0].fields == [FieldChange(("size",), 3, 4)]
    assert found.artifacts.changed[0].fields == [FieldChange(("format",), "", "nwb")]
    assert found.producers.changed[0].fields == [FieldChange(("version",), "1", "2")]


def test_producers_that_differ_by_their_version_alone_are_a_difference() -> None:
    one = Graph("rig", producers=[Producer(["a"], (), "")])
    two = Graph("rig", producers=[Producer(["a"], (), "2"), Producer(["a"], (), "")])

    assert difference(one, two)
    assert difference(two, one)
    assert not difference(two, Graph("rig", producers=two.producers[::-1]))
