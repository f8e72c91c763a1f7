"""Whether a state holds what was asked of served graphs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ezgraph.protocol.commands import (
    AnnounceNodes,
    Command,
    Revert,
    ServeGraph,
    WithdrawGraph,
)
from ezgraph.protocol.events import (
    Body,
    Event,
    GraphServed,
    NodeAnnounced,
    SessionOpened,
    Source,
    key_of,
)
from ezgraph.protocol.served import NodeCard
from ezgraph.state.graph import GraphState
from ezgraph.verify.effects import is_true

SERVE = ServeGraph("run", "root", "i", ["h:1"], None)
CARD = NodeCard("n", ["a", 1], 2, "m.Node", "f4")


def state_of(*bodies: Body) -> GraphState:
    events = [
        Event(1, seq, seq - 1, seq, seq, 0.0, 0.0, key_of(body), Source(), None, body)
        for seq, body in enumerate((SessionOpened("s", 6.0), *bodies), 1)
    ]
    return GraphState.fold(events, epoch=1, seq=len(events))


SERVED = GraphServed("run", "root", "s", "i", ["h:1"])
ANNOUNCED = NodeAnnounced("run", "n", ["a", 1], 2, "m.Node", "f4")


@pytest.mark.parametrize(
    ("command", "when_so", "when_not"),
    [
        (SERVE, [SERVED], []),
        (SERVE, [SERVED], [replace(SERVED, owner="other")]),
        (SERVE, [SERVED], [replace(SERVED, root_uid="other")]),
        (SERVE, [SERVED], [replace(SERVED, endpoints=[])]),
        (AnnounceNodes("run", [CARD]), [SERVED, ANNOUNCED], [SERVED]),
        (
            AnnounceNodes("run", [CARD]),
            [SERVED, ANNOUNCED],
            [SERVED, replace(ANNOUNCED, summary="other")],
        ),
        (AnnounceNodes("run", [], ["n"]), [SERVED], [SERVED, ANNOUNCED]),
        (WithdrawGraph("run"), [replace(SERVED, owner="other")], [SERVED]),
        (Revert(), [], [SERVED]),
    ],
)
def test_what_was_asked_is_so_or_is_not(
    command: Command, when_so: list[Body], when_not: list[Body]
) -> None:
    assert is_true(state_of(*when_so), command, "s", "session")
    assert not is_true(state_of(*when_not), command, "s", "session")
