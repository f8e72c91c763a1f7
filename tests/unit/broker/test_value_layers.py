"""A setting has two layers, the session's initial and the process's live value (item 18).

Effective is live, else initial, else none, in whatever order the layers come and go; every event
carries the effective value, and a removal the last one.
"""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

import pytest

from ezgraph.protocol.commands import (
    Command,
    Goodbye,
    RegisterMetadata,
    ReportSettings,
    Revert,
    UpdateUnits,
)
from ezgraph.protocol.events import SettingsChanged, SettingsLayer
from ezgraph.protocol.metadata import ComponentMetadata, DynamicSettingsMetadata, GraphMetadata
from ezgraph.protocol.settings import SettingsEventType, SettingsSnapshotValue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.unit.broker.conftest import Desk

SESSION, OTHER, PROCESS = b"session", b"other", b"process"
INITIAL, UPDATED, REMOVED = SettingsEventType


def metadata(gain: int, *addresses: str) -> GraphMetadata:
    dynamic = DynamicSettingsMetadata(enabled=True)
    return GraphMetadata(
        components={
            each: ComponentMetadata(each, each, "m.A", "m.S", (b"o", {"gain": gain}), dynamic)
            for each in addresses or ("A",)
        }
    )


def report(gain: int) -> ReportSettings:
    return ReportSettings("A", SettingsSnapshotValue(None, {"gain": gain}, {"gain": gain}))


STEPS: dict[str, tuple[bytes, Command]] = {
    "register": (SESSION, RegisterMetadata(metadata(1))),
    "session goes": (SESSION, Goodbye()),
    "report": (PROCESS, report(5)),
    "process goes": (PROCESS, Goodbye()),
}
ORDERS = [
    order
    for order in permutations(STEPS)
    if order.index("register") < order.index("session goes")
    and order.index("report") < order.index("process goes")
]


def effective(desk: Desk, address: str = "A") -> object:
    entry = desk.state.settings.get(address)
    return entry and (entry.value.structured_value or {}).get("gain")


def changes(desk: Desk) -> list[tuple[SettingsEventType, object]]:
    """What was said about A, kind and value."""
    return [
        (event.body.event_type, (event.body.value.structured_value or {}).get("gain"))
        for event in desk.events
        if isinstance(event.body, SettingsChanged) and event.body.address == "A"
    ]


@pytest.fixture
def rig(desk: Desk) -> Desk:
    """A session, another one, and a process that runs unit A."""
    desk.join(SESSION)
    desk.join(OTHER)
    desk.join(PROCESS, "process")
    desk.ask(PROCESS, UpdateUnits(["A", "B"], []))
    return desk


@pytest.mark.parametrize("order", ORDERS, ids=", ".join)
def test_the_effective_value_is_live_else_initial_else_none(
    rig: Desk, order: Sequence[str]
) -> None:
    has_initial = has_live = False
    before: object = None
    for step in order:
        said = len(changes(rig))

        rig.bodies(*STEPS[step])

        has_initial = has_initial or step == "register"
        has_initial = has_initial and step != "session goes"
        has_live = (has_live or step == "report") and step != "process goes"
        expected = 5 if has_live else 1 if has_initial else None
        assert effective(rig) == expected, step
        new = changes(rig)[said:]
        if expected == before and step != "register":
            assert new == [], step
        elif expected is None:
            assert new == [(REMOVED, before)], step
        else:
            assert [value for _, value in new] == [expected], step
        before = expected


@pytest.mark.parametrize("order", ORDERS, ids=", ".join)
def test_in_every_order_the_events_alone_tell_the_effective_value(
    rig: Desk, order: Sequence[str]
) -> None:
    for step in order:
        rig.bodies(*STEPS[step])
        told: object = None
        for kind, value in changes(rig):
            told = None if kind is REMOVED else value
        assert told == effective(rig), step


def test_the_layer_is_named_in_the_event(rig: Desk) -> None:
    rig.bodies(*STEPS["register"])
    rig.bodies(*STEPS["report"])
    rig.bodies(*STEPS["process goes"])
    rig.bodies(*STEPS["session goes"])

    bodies = [each.body for each in rig.events if isinstance(each.body, SettingsChanged)]

    assert [(body.event_type, body.layer) for body in bodies] == [
        (INITIAL, SettingsLayer.INITIAL),
        (UPDATED, SettingsLayer.LIVE),
        (UPDATED, SettingsLayer.INITIAL),
        (REMOVED, SettingsLayer.INITIAL),
    ]
    assert bodies[1].process_id is not None
    assert bodies[2].process_id is None
    assert bodies[2].value.serialized == b"o"


def test_registering_over_a_live_value_announces_the_live_one_and_keeps_the_new_initial(
    rig: Desk,
) -> None:
    rig.bodies(SESSION, RegisterMetadata(metadata(1)))
    rig.bodies(PROCESS, report(5))

    rig.bodies(SESSION, RegisterMetadata(metadata(2)))

    assert changes(rig)[-1] == (INITIAL, 5)
    assert effective(rig) == 5
    rig.bodies(PROCESS, Goodbye())
    assert changes(rig)[-1] == (UPDATED, 2)
    assert effective(rig) == 2


def test_another_session_that_takes_over_the_address_gives_the_new_initial(rig: Desk) -> None:
    rig.bodies(SESSION, RegisterMetadata(metadata(1)))
    rig.bodies(PROCESS, report(5))
    rig.bodies(SESSION, Goodbye())
    rig.bodies(OTHER, RegisterMetadata(metadata(2)))
    assert effective(rig) == 5

    rig.bodies(PROCESS, Goodbye())

    assert effective(rig) == 2


def test_a_unit_that_is_let_go_falls_back_like_one_whose_process_goes(rig: Desk) -> None:
    rig.bodies(SESSION, RegisterMetadata(metadata(1)))
    rig.bodies(PROCESS, report(5))

    rig.bodies(PROCESS, UpdateUnits([], ["A"]))

    assert effective(rig) == 1
    assert changes(rig)[-1] == (UPDATED, 1)
    before = len(rig.events)
    rig.bodies(PROCESS, Goodbye())
    assert len(changes(rig)) == 3
    assert len(rig.events) > before


def test_revert_of_the_session_leaves_a_live_value(rig: Desk) -> None:
    rig.bodies(SESSION, RegisterMetadata(metadata(1)))
    rig.bodies(PROCESS, report(5))

    rig.bodies(SESSION, Revert())
    assert effective(rig) == 5

    rig.bodies(PROCESS, Revert())
    assert effective(rig) is None
    assert rig.state.unit_owner == {}


def test_an_address_that_is_no_longer_registered_loses_its_initial_value(rig: Desk) -> None:
    rig.bodies(SESSION, RegisterMetadata(metadata(1, "A", "B")))

    rig.bodies(SESSION, RegisterMetadata(metadata(1, "B")))

    assert effective(rig) is None
    assert effective(rig, "B") == 1
    assert changes(rig)[-1] == (REMOVED, 1)


def test_of_several_reports_the_last_counts_and_only_it_is_taken_back(rig: Desk) -> None:
    for gain in (5, 6, 7):
        rig.bodies(PROCESS, report(gain))

    rig.bodies(PROCESS, Goodbye())

    assert changes(rig) == [(UPDATED, 5), (UPDATED, 6), (UPDATED, 7), (REMOVED, 7)]


def test_a_unit_taken_by_another_process_starts_with_the_initial_value(rig: Desk) -> None:
    rig.bodies(SESSION, RegisterMetadata(metadata(1)))
    rig.bodies(PROCESS, report(5))
    rig.bodies(PROCESS, UpdateUnits([], ["A"]))
    rig.join(b"second", "process")

    rig.bodies(b"second", UpdateUnits(["A"], []))
    assert effective(rig) == 1
    rig.bodies(b"second", report(9))
    rig.bodies(PROCESS, Goodbye())

    assert effective(rig) == 9
