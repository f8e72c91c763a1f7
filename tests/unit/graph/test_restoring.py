"""Which snapshot is meant, and what is waited for when a restore was done."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from ezgraph.client.watch import Compacted, Progress
from ezgraph.errors import InvalidCommandError
from ezgraph.graph.restoring import _Following, named
from ezgraph.protocol.events import Body, Event, SettingsOwed, SettingsSettled, Source, key_of
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.settings import SettingsSnapshotValue
from ezgraph.state.graph import GraphState

PRINT = Fingerprint.from_string("then")
OWED = SettingsOwed("C", SettingsSnapshotValue())


class Items:
    """A subscription that has some items."""

    def __init__(self, *items: object) -> None:
        self._items = deque(items)

    def take_arrived(self) -> object | None:
        return self._items.popleft() if self._items else None


def event(body: Body) -> Event:
    return Event(1, 9, 8, 9, 9, 0.0, 0.0, key_of(body), Source(), None, body)


def following(*items: object) -> _Following:
    subscription: Any = Items(*items)
    return _Following(subscription, {"A", "B", "C"})


def test_a_tag_a_fingerprint_and_its_text_name_a_snapshot() -> None:
    assert named("best") == ("best", None)
    assert named(PRINT) == named(str(PRINT)) == (None, PRINT)
    assert named(str(PRINT)[:-1]) == (str(PRINT)[:-1], None)
    for each in ("", None, 7, b"best"):
        with pytest.raises(InvalidCommandError, match="tag"):
            named(each)


def test_it_is_over_when_each_address_is_settled_and_says_who_did_not_take_it() -> None:
    settled, refused = SettingsSettled("A"), SettingsSettled("B", "it jams")
    found = following(event(settled), Progress(9), event(refused), event(OWED))
    part = following(event(settled))

    assert found.is_over()
    assert found.settled == {"A", "B", "C"}
    assert found.refused == {"B": "it jams", "C": "another restore took its place"}
    assert not part.is_over()
    assert part.settled == {"A"}


def test_where_history_was_compacted_the_state_tells_what_is_settled() -> None:
    state = GraphState()
    state.owed = {"C": OWED}
    found = following(Compacted(5, state), event(SettingsSettled("C")))
    waiting = following(Compacted(5, state))

    assert found.is_over()
    assert not waiting.is_over()
    assert waiting.settled == {"A", "B"}
