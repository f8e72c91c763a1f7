"""Since when an entry of the configuration is there: kept by puts, new after a delete."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ezgraph.protocol.commands import ChangeConfig
from ezgraph.protocol.config import ConfigCreatedAt, ConfigDelete, ConfigPut
from ezgraph.state.graph import GraphState

if TYPE_CHECKING:
    from tests.unit.broker.conftest import Desk

ALICE = b"alice"
KEY = ("chunker", "x")
DELETE = ChangeConfig(deletes=[ConfigDelete("flow", KEY)])


def put(value: object, *, ephemeral: bool = False) -> ChangeConfig:
    return ChangeConfig([ConfigPut("flow", KEY, value, ephemeral)])


def only_if_created(seq: int) -> ChangeConfig:
    return ChangeConfig(deletes=DELETE.deletes, conditions=[ConfigCreatedAt("flow", KEY, seq)])


@pytest.fixture
def joined(desk: Desk) -> Desk:
    desk.join(ALICE, "session")
    return desk


def created(desk: Desk) -> int:
    held = desk.state.config.get("flow", KEY)
    assert held is not None
    assert held.shown().created_seq == held.created_seq
    return held.created_seq


def test_another_value_and_another_owner_leave_it_as_it_is(joined: Desk) -> None:
    joined.ask(ALICE, put(1))
    first = joined.state.seq

    for change in (put(2), put(2, ephemeral=True), put(3)):
        joined.ask(ALICE, change)
        assert created(joined) == first
    assert joined.state.seq == first + 3


def test_what_was_deleted_and_put_again_is_another_entry(joined: Desk) -> None:
    for change in (put(1), DELETE, put(1)):
        joined.ask(ALICE, change)

    assert created(joined) == joined.state.seq


def test_it_can_be_asked_for_whatever_the_value_is_now(joined: Desk) -> None:
    joined.ask(ALICE, put(1))
    first = joined.state.seq
    joined.ask(ALICE, put(2))

    for seq in (0, first - 1, first + 1):
        refusal = joined.refusal(ALICE, only_if_created(seq))
        assert refusal.code == "precondition_failed"
        assert f"expected to be there since seq {seq}, and it is 2" in refusal.message

    joined.ask(ALICE, only_if_created(first))
    assert "it is absent" in joined.refusal(ALICE, only_if_created(first)).message


def test_a_state_made_of_what_is_live_knows_it_too(joined: Desk) -> None:
    """A checkpoint has the last event of each entry, and nothing that came before."""
    joined.ask(ALICE, put(1))
    first = joined.state.seq
    (event,) = joined.outcome(ALICE, put(2)).events

    state = GraphState.fold([event], epoch=1, seq=event.seq)

    held = state.config.get("flow", KEY)
    assert held is not None
    assert (held.seq, held.created_seq) == (first + 1, first)
