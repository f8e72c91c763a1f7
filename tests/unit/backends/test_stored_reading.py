"""A stored graph that is read step by step, while other things happen to it."""

from __future__ import annotations

import pytest

from ezgraph.backends.store import MemoryRows
from ezgraph.backends.stored_graphs import Written, remove_graph, write_graph
from ezgraph.backends.stored_reading import GraphReading
from ezgraph.errors import UnknownGraphError
from ezgraph.protocol.fingerprint_tree import FingerprintTree
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.graph_content import GraphContent
from ezgraph.protocol.graphs import DOMAIN, Graph, contents
from ezgraph.protocol.metadata import SettingsFieldMetadata, SettingsSchemaMetadata
from ezgraph.protocol.settings import SettingsSnapshotValue

SCHEMA = SettingsSchemaMetadata("test", "m.S", [SettingsFieldMetadata("gain", "int")])


def value(gain: int) -> SettingsSnapshotValue:
    return SettingsSnapshotValue(None, {"gain": gain}, {"gain": gain}, SCHEMA)


GRAPH = Graph(
    "rig",
    topology=[(f"a{n}", f"b{n}") for n in range(700)],
    settings={f"SYS/{n}": value(n) for n in range(500)},
    config={"filter": {f"k{n}": n for n in range(300)}},
)


@pytest.fixture
def rows() -> MemoryRows:
    """A store with that graph."""
    rows = MemoryRows()
    write_graph(rows, GRAPH, Written(0.0, "a test"))
    return rows


def test_what_was_read_in_steps_is_the_content_of_the_graph(rows: MemoryRows) -> None:
    reading, steps = GraphReading(rows, "rig", GRAPH.fingerprint), 0
    while not reading.is_done:
        reading.step(rows)
        steps += 1

    assert steps > 3
    content = reading.content
    assert content == GraphContent.of(GRAPH)
    assert (len(content.topology), len(content.settings), len(content.config)) == (700, 500, 300)
    assert content.differing(FingerprintTree(DOMAIN)) == {slot for slot, _ in contents(GRAPH)}


def test_a_graph_that_is_deleted_while_it_is_read_is_unknown_from_then_on(
    rows: MemoryRows,
) -> None:
    reading = GraphReading(rows, "rig", GRAPH.fingerprint)
    reading.step(rows)
    remove_graph(rows, "rig", GRAPH.fingerprint)

    with pytest.raises(UnknownGraphError, match="rig"):
        reading.step(rows)
    with pytest.raises(UnknownGraphError, match="rig"):
        GraphReading(rows, "rig", Fingerprint.from_string("another"))
