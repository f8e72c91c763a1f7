"""What is measured on: histories, wirings and rigs that are what they claim to be."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import pytest

from ezgraph.backends.base import Backend
from ezgraph.bench.history import history, write_history
from ezgraph.bench.shapes import SHAPES
from ezgraph.bench.snapshots import rig
from ezgraph.bench.wiring import build_time
from ezgraph.bench.workbench import wiring, wiring_commands
from ezgraph.protocol.commands import Connect, Disconnect
from ezgraph.protocol.events import key_of
from ezgraph.state.dag import DAG
from ezgraph.state.graph import GraphState
from ezgraph.wire import codec

if TYPE_CHECKING:
    from pathlib import Path


def test_a_history_is_dense_and_leaves_nothing_behind() -> None:
    events = list(history(200))

    state = GraphState.fold(events, epoch=1, seq=200)

    assert [event.seq for event in events] == list(range(1, 201))
    assert [event.prev for event in events] == list(range(200))
    assert all(event.key == key_of(event.body) for event in events)
    assert all(event.txn_first <= event.seq <= event.txn_last for event in events)
    assert (state.processes, state.settings, state.unit_owner) == ({}, {}, {})


def test_a_history_too_short_to_open_and_close_is_refused() -> None:
    with pytest.raises(ValueError, match="20 events"):
        list(history(20))


def test_a_written_history_can_be_read_and_ends_with_a_checkpoint(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/h.db"

    write_history(url, 120)

    with Backend.from_url(url).connect() as connection, connection.open_journal() as journal:
        read = [codec.decode_event(each) for each in journal.read(0).events]
        assert journal.head == 120
        assert journal.checkpoint_seq == 120
    assert read == list(history(120))


def test_a_checkpoint_before_a_tail_stands_for_all_that_comes_before_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/h.db"

    write_history(url, 120, tail=50)

    with Backend.from_url(url).connect() as connection, connection.open_journal() as journal:
        checkpoint = journal.load_checkpoint()
        assert checkpoint is not None
        live = [codec.decode_live_event(each, checkpoint.blobs) for each in checkpoint.entries]
        assert (journal.head, checkpoint.seq) == (120, 70)
    found = GraphState.fold(live, epoch=1, seq=70)
    expected = GraphState.fold(list(history(120))[:70], epoch=1, seq=70)
    assert found.fingerprint() == expected.fingerprint()
    assert len(found.unit_owner) == 16


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 10, 250])
def test_a_shape_has_so_many_distinct_edges_and_no_loop(shape: str, count: int) -> None:
    edges = SHAPES[shape](count)

    dag = DAG()
    for edge in edges:
        dag.add_edge(*edge)

    assert len(edges) == len(dag.edge_owners) == count


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_is_the_same_in_every_run(shape: str) -> None:
    assert SHAPES[shape](300) == SHAPES[shape](300)


def test_wiring_that_the_dag_refuses_is_no_measurement() -> None:
    with pytest.raises(ValueError, match="1 edges were refused"):
        build_time([("a", "b"), ("b", "a")])


def test_wiring_commands_connect_and_disconnect_so_that_each_is_a_change() -> None:
    held: set[tuple[str, str]] = set()

    for command in islice(wiring_commands("x"), 40):
        assert isinstance(command, Connect | Disconnect)
        edge = (command.from_topic, command.to_topic)
        assert (edge in held) is isinstance(command, Disconnect)
        held ^= {edge}

    assert held == set()
    assert len({(start, end) for start, end, _ in islice(wiring("x"), 40)}) == 20


def test_a_rig_has_five_settings_each_and_few_schemas() -> None:
    units = list(rig(100, schemas=True).components.values())

    assert all(len(unit.initial_settings[1]) == 5 for unit in units)
    assert len({repr(unit.settings_schema) for unit in units}) == 4
    assert all(unit.settings_schema is None for unit in rig(5, schemas=False).components.values())
