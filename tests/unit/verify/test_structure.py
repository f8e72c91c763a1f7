"""What a journal alone shows of restores."""

from __future__ import annotations

from dataclasses import replace

from ezgraph.protocol.events import (
    Body,
    ConfigValueSet,
    EdgeConnected,
    EdgeDisconnected,
    Event,
    PauseChanged,
    SettingsOwed,
    Source,
    StateRestored,
    key_of,
)
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.settings import SettingsSnapshotValue
from ezgraph.testing.traces import history_of
from ezgraph.verify.structure import check_restores

RESTORED = StateRestored("rig", Fingerprint.from_string("then"), 1, 1, 1, 1, "best")
MADE: list[Body] = [
    EdgeDisconnected("a", "b", None, topology_changed=False),
    EdgeDisconnected("a", "b", "s1", topology_changed=True),
    EdgeConnected("b", "c", None, topology_changed=True),
    ConfigValueSet("filter", ("low",), 1),
    SettingsOwed("SYS/A", SettingsSnapshotValue()),
]


def transaction(*bodies: Body) -> list[Event]:
    last = len(bodies)
    return [
        Event(1, seq, seq - 1, 1, last, 1.0, 1.0, key_of(body), Source(), 7, body)
        for seq, body in enumerate(bodies, 1)
    ]


def found(events: list[Event]) -> list[str]:
    return [finding.what for finding in check_restores(history_of(events))]


def test_a_restore_is_what_it_says_it_is() -> None:
    assert found(transaction(RESTORED, *MADE)) == []
    assert found(transaction(PauseChanged(paused=True))) == []


def test_a_restore_of_which_a_part_is_missing_is_found() -> None:
    for number in (2, 3, 4):
        events = transaction(RESTORED, *MADE[:number], *MADE[number + 1 :])
        assert found(events) == [f"the restore at 1 tells (1, 1, 1, 1) and makes {told(number)}"]
    assert "tells (2, 1, 1, 1)" in found(transaction(replace(RESTORED, edges_added=2), *MADE))[0]


def told(missing: int) -> tuple[int, ...]:
    return tuple(0 if place == missing else 1 for place in (2, 0, 4, 3))


def test_a_restore_within_another_transaction_is_found() -> None:
    (what,) = found(transaction(PauseChanged(paused=True), RESTORED, *MADE))

    assert what == "a restore begins within a transaction: 2"
