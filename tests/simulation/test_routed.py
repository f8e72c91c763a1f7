"""Requests to units and changes of settings, while everything on the way goes wrong."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, get_args
from uuid import UUID

import pytest

from ezgraph.broker.routes import asker_of
from ezgraph.config import BrokerConfig
from ezgraph.errors import EzGraphError, StaleWriteError, VetoedError
from ezgraph.graph.attendant import Attendant, Identified
from ezgraph.protocol.commands import (
    ChangeSettings,
    Command,
    ReportSettings,
    RequestProcess,
    UpdateUnits,
)
from ezgraph.protocol.events import Event, SettingsChanged
from ezgraph.protocol.replies import Done, SettingsSet
from ezgraph.protocol.routed import (
    ProcessControlErrorCode,
    ProcessControlRequest,
    ProcessControlResponse,
    Routed,
    SettingsChangeRequest,
)
from ezgraph.protocol.settings import SettingsSnapshotValue
from ezgraph.testing import Network, SimulatedBroker, SimulatedClient
from ezgraph.testing.broker import CrashPoint
from ezgraph.testing.guarantees import check_calls, check_history, check_replica, check_watch

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from ezgraph.client.resumption import ResumeToken
    from ezgraph.testing import Call

UNITS = ("SYS/A", "SYS/B")
POINTS = get_args(CrashPoint)
OVERDUE_S = 4.0
MAYBE = {"owner_silent", "owner_gone", "deadline", "change_overdue"}
"""Errors after which a change may have been made anyway."""


def asked_under(route: str) -> tuple[str, int]:
    """The client and the request's id that a route's id names."""
    asker = asker_of(route)
    assert asker is not None
    return asker.client, asker.request_id


class Telling:
    """A command on its way; awaited, it is what it was answered."""

    def __init__(self, command: Command | None, seconds: float) -> None:
        self.command = command
        self.seconds = seconds

    def __await__(self) -> Generator[Telling, Any, Any]:
        return (yield self)


class Owner:
    """A process that runs the units: the real attendant, on a simulated client."""

    def __init__(self, rig: Rig, resume: ResumeToken | None = None) -> None:
        self.rig = rig
        name = f"owner {rig.network.number()}"
        self.client = SimulatedClient(rig.network, name, kind="process", resume=resume)
        self.runs: Counter[str] = Counter()
        self.settings: dict[str, dict[str, Any]] = {each: {"x": 0, "y": 0} for each in UNITS}
        self.takes_s = 0.0
        self.silent = False
        self.heeds_cancel = True
        self.cancelled: set[object] = set()
        self.attendant = Attendant(
            self.tell, lambda: Identified(UUID(int=1), UNITS), begin=self.handed
        )
        self.attendant.handler = self.handle
        for unit in UNITS:
            self.attendant.take_changes(unit, self.change, timeout_s=OVERDUE_S)
        self.client.engine.on_handed = self.handed
        self.client.start()
        self.register()

    def register(self) -> None:
        self.client.call(UpdateUnits(list(UNITS), []), on_result=self.registered)

    def registered(self, result: object) -> None:
        if self.client.gone:
            return
        if not isinstance(result, Done):  # the one before holds them still
            self.rig.network.after(0.2, self.register)
            return
        for unit in UNITS:
            self.report(unit)

    def report(self, unit: str) -> Call:
        """Report what the settings are, as after a change by hand."""
        form = dict(self.settings[unit])

        def reported(result: object) -> None:
            if isinstance(result, Done):
                note(result.seq)
            manager.__exit__(None, None, None)

        manager = self.attendant.reporting(unit)
        note = manager.__enter__()
        value = SettingsSnapshotValue(None, form, form)
        return self.client.call(ReportSettings(unit, value), on_result=reported)

    # --- its attendant ---

    def handed(self, request: Routed) -> None:
        if self.silent:
            return
        attending = self.attendant.attend(request)
        self.step(attending, None)
        limit = self.attendant.changes.time_for(request)
        if limit is not None:
            self.rig.network.after(limit, lambda: self.give_up(request, attending))

    def give_up(self, request: Routed, attending: Coroutine[Any, Any, None]) -> None:
        """Do what a process client does when a change has taken too long."""
        overdue = self.attendant.give_up(request)
        if overdue is None:
            return
        if self.heeds_cancel:
            self.cancelled.add(attending)
            with suppress(asyncio.CancelledError):
                attending.throw(asyncio.CancelledError())
        self.step(self.attendant.send(overdue), None)

    def step(self, attending: Coroutine[Any, Any, Any], result: object) -> None:
        """Go on with a request until it waits for something."""
        if attending in self.cancelled:
            return
        if self.client.gone or self.client.lost is not None:
            attending.close()
            return
        try:
            if isinstance(result, EzGraphError):
                waits = attending.throw(result)
            else:
                waits = attending.send(result)
        except StopIteration:
            return
        if waits.command is None:
            self.rig.network.after(waits.seconds, lambda: self.step(attending, None))
        else:
            told = waits.command
            self.client.call(
                told, timeout=waits.seconds, on_result=lambda r: self.step(attending, r)
            )

    async def tell(self, command: Command, timeout: float) -> int:  # noqa: ASYNC109
        done = await Telling(command, timeout)
        return int(done.seq)

    async def handle(self, request: ProcessControlRequest) -> bytes:
        self.runs[request.request_id] += 1
        await Telling(None, self.takes_s)
        return request.request_id.encode()

    async def change(self, request: SettingsChangeRequest) -> object:
        self.runs[request.request_id] += 1
        if request.changes.get("x") == "veto":
            raise VetoedError("not x")
        await Telling(None, self.takes_s)
        if self.attendant.is_stale(request):
            raise StaleWriteError("it was changed by hand meanwhile")
        now = self.settings[request.address]
        now.update(request.changes)
        return dict(now)


class Rig:
    """A broker, an owner, and who asks."""

    def __init__(self, seed: int = 0, *, askers: int = 1) -> None:
        self.network = Network(seed)
        self.broker = SimulatedBroker(self.network, BrokerConfig(ttl_s=2.0))
        self.owners = [Owner(self)]
        self.askers = [self.asker() for _ in range(askers)]
        settled = self.network.run_until(lambda: len(self.settings_events()) >= len(UNITS), 3.0)
        assert settled

    def asker(self, kind: str = "session") -> SimulatedClient:
        name = f"asker {self.network.number()}"
        return SimulatedClient(self.network, name, kind=kind, high_water_mark=10**5).start()

    @property
    def owner(self) -> Owner:
        return self.owners[-1]

    def settings_events(self) -> list[Event]:
        events = self.broker.history().events
        return [each for each in events if isinstance(each.body, SettingsChanged)]

    def seq_of(self, unit: str) -> int:
        return max(e.seq for e in self.settings_events() if e.key == ("settings", unit))

    def replace_owner(self) -> None:
        self.owner.client.crash()
        self.owners.append(Owner(self))

    def take_owner_over(self) -> None:
        token, settings = self.owner.client.resume_token, self.owner.settings
        self.owner.client.crash()
        self.owners.append(Owner(self, token))
        self.owner.settings = settings

    def wait(self, *calls: Call) -> None:
        reached = self.network.run_until(lambda: all(c.ended is not None for c in calls), 30.0)
        assert reached, [str(each) for each in calls if each.ended is None]

    def check(self) -> None:
        """Every promise to who asked, to the owner, and of the journal."""
        history = self.broker.history()
        check_history(history)
        for client in [*self.askers, *(each.client for each in self.owners)]:
            check_calls(history, client)
            check_replica(history, client.fingerprints)
            for record in client.watches:
                check_watch(history, record)
        for owner in self.owners:
            assert not [each for each, runs in owner.runs.items() if runs > 1]
        self.check_changes()
        self.check_requests()

    def check_requests(self) -> None:
        for asker in self.askers:
            for call in asker.calls:
                if isinstance(call.result, ProcessControlResponse) and call.result.ok:
                    assert call.result.payload == call.result.request_id.encode()
                    assert asked_under(call.result.request_id) == (asker.lease_id, call.request_id)

    def check_changes(self) -> None:
        events = {each.seq: each for each in self.settings_events()}
        calls = {
            (asker.lease_id, call.request_id): call
            for asker in self.askers
            for call in asker.calls
            if isinstance(call.command, ChangeSettings)
        }
        caused = {
            asked_under(each.body.answers): each
            for each in events.values()
            if isinstance(each.body, SettingsChanged) and each.body.answers
        }
        assert len(caused) == sum(bool(each.body.answers) for each in events.values())  # type: ignore[union-attr]
        for who, event in caused.items():
            self.check_event(event, who[0], calls[who].command, events)
        for who, call in calls.items():
            self.check_answer(call, caused.get(who), events)

    def check_event(
        self, event: Event, client: str, command: Any, events: dict[int, Event]
    ) -> None:
        body = event.body
        assert isinstance(body, SettingsChanged)
        assert body.asked_by is not None
        assert (body.asked_by.client, body.asked_by.reason) == (client, command.reason)
        assert body.address == command.address
        assert body.value.structured_value is not None
        assert command.changes.items() <= body.value.structured_value.items()
        if command.expected_seq is not None:
            before = max(s for s, e in events.items() if s < event.seq and e.key == event.key)
            assert before == command.expected_seq, "an update was lost"

    def check_answer(self, call: Call, event: Event | None, events: dict[int, Event]) -> None:
        result, command = call.result, call.command
        assert isinstance(command, ChangeSettings)
        if isinstance(result, SettingsSet):
            told = events[result.seq]
            assert event in (None, told)
            assert isinstance(told.body, SettingsChanged)
            assert told.body.value == result.value
            assert command.changes.items() <= (result.value.structured_value or {}).items()
        elif isinstance(result, EzGraphError) and result.code not in MAYBE:
            assert event is None, f"{result.code}, and yet it was made"

    def check_nothing_is_left(self) -> None:
        """When all have gone, the broker has forgotten every route."""
        for asker in self.askers:
            asker.close()
        self.owner.client.close()
        self.network.run(4.0)
        assert self.broker.engine is not None
        routes = self.broker.engine.core.routing.routes
        tables = (
            routes._by_id, routes._of_owner, routes._of_client, routes._lines, routes._overdue
        )
        assert not any(tables)


def change(unit: str = UNITS[0], *, n: int = 1, **more: Any) -> ChangeSettings:
    return ChangeSettings(unit, {"x": n, "y": n}, reason=f"because of {n}", **more)


def code_of(call: Call) -> str:
    assert isinstance(call.result, EzGraphError), call
    return call.result.code


# --- one story each ---


def test_a_change_is_made_reported_stored_and_answered() -> None:
    rig = Rig()
    record = rig.askers[0].watch(("settings",), 0)

    call = rig.askers[0].call(change())
    rig.wait(call)
    rig.network.run(1.0)

    assert isinstance(call.result, SettingsSet)
    assert call.result.value.structured_value == {"x": 1, "y": 1}
    assert call.result.seq in [each.seq for each in record.items if isinstance(each, Event)]
    rig.check()
    rig.check_nothing_is_left()


@pytest.mark.parametrize("seed", range(3))
def test_changes_of_50_clients_at_once_are_each_made_whole_in_an_event_of_its_own(
    seed: int,
) -> None:
    rig = Rig(seed, askers=50)
    calls = [
        asker.call(change(n=n, timeout_s=30.0), timeout=30.0)
        for n, asker in enumerate(rig.askers)
    ]
    rig.wait(*calls)

    seqs = [call.result.seq for call in calls if isinstance(call.result, SettingsSet)]
    assert len(set(seqs)) == 50
    for event in rig.settings_events():
        assert isinstance(event.body, SettingsChanged)
        form = event.body.value.structured_value
        assert form is not None
        assert form["x"] == form["y"]
    rig.check()
    rig.check_nothing_is_left()


@pytest.mark.parametrize("seed", range(3))
def test_of_50_that_compare_and_set_one_wins_and_the_others_are_told(seed: int) -> None:
    rig = Rig(seed, askers=50)
    seq = rig.seq_of(UNITS[0])

    calls = [a.call(change(n=n, expected_seq=seq)) for n, a in enumerate(rig.askers)]
    rig.wait(*calls)

    assert sum(isinstance(call.result, SettingsSet) for call in calls) == 1
    assert {code_of(c) for c in calls if not isinstance(c.result, SettingsSet)} == {"stale"}
    rig.check()


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("passes", range(5))
@pytest.mark.parametrize("kind", ["session", "guest"])
def test_a_change_under_way_survives_a_crash_of_the_broker(
    point: CrashPoint, passes: int, kind: str
) -> None:
    rig = Rig(passes)
    asker = rig.asker(kind)
    rig.askers.append(asker)
    rig.network.run(0.1)
    rig.owner.takes_s = 0.05
    call = asker.call(change())
    request = asker.call(RequestProcess(UNITS[0], "move"))
    rig.network.run(0.02 * passes)
    rig.broker.crash_at = point
    asker.call(RequestProcess(UNITS[1], "wake"))  # a pass to crash in
    rig.broker.restart_after(0.5)
    rig.wait(call, request)
    rig.network.run(3.0)
    rig.broker.start()

    assert isinstance(call.result, SettingsSet), call
    assert isinstance(request.result, ProcessControlResponse)
    assert request.result.ok, request
    assert rig.broker.crashes == 1
    rig.check()


@pytest.mark.parametrize("kind", ["session", "guest"])
def test_a_report_that_is_back_before_who_asked_says_who_that_was(kind: str) -> None:
    rig = Rig()
    asker = rig.asker(kind)
    rig.askers.append(asker)
    rig.network.run(0.1)
    rig.owner.takes_s = 0.3
    call = asker.call(change())
    rig.network.run(0.1)
    rig.broker.crash()
    asker.stall(1.2)
    rig.broker.start()
    rig.network.run(1.0)

    event = rig.settings_events()[-1]
    assert isinstance(event.body, SettingsChanged)
    assert event.body.asked_by is not None
    known = asker.name if kind == "session" else None  # a guest is not in the journal
    assert event.body.asked_by.program == known
    rig.wait(call)
    assert isinstance(call.result, SettingsSet)
    assert call.result.seq == event.seq
    assert set(rig.owner.runs.values()) == {1}
    rig.check()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("who", ["owner", "asker"])
def test_a_connection_that_is_cut_costs_no_request(seed: int, who: str) -> None:
    rig = Rig(seed)
    asker = rig.askers[0]
    rig.owner.takes_s = rig.network.random.uniform(0.0, 0.1)
    calls = [asker.call(change(n=n)) for n in range(3)]
    calls += [asker.call(RequestProcess(UNITS[1], "move")) for _ in range(3)]
    cut = rig.owner.client if who == "owner" else asker
    for _ in range(4):
        rig.network.run(rig.network.random.uniform(0.0, 0.1))
        here_s, there_s = (rig.network.random.choice((0.0, 0.05, 0.4)) for _ in range(2))
        cut.commands.cut(here_s=here_s, there_s=there_s)
    rig.wait(*calls)

    assert all(isinstance(call.result, SettingsSet) for call in calls[:3])
    for call in calls[3:]:
        assert isinstance(call.result, ProcessControlResponse)
        assert call.result.ok
    assert set(rig.owner.runs.values()) == {1}
    rig.check()
    rig.check_nothing_is_left()


@pytest.mark.parametrize("how", ["cut", "restart"])
def test_an_owner_that_has_nothing_to_say_is_reached_on_its_new_connection_at_once(
    how: str,
) -> None:
    rig = Rig()
    rig.network.run(3.0)
    if how == "cut":
        rig.owner.client.commands.cut()
    else:
        rig.broker.crash()
        rig.broker.start()
    rig.network.run(0.4)

    call = rig.askers[0].call(change())
    rig.wait(call)

    assert isinstance(call.result, SettingsSet)
    assert call.ended is not None
    assert call.ended - call.started < 0.8
    rig.check()


def test_who_asked_an_owner_that_crashes_is_told_when_that_is_certain() -> None:
    rig = Rig()
    rig.owner.silent = True
    asker = rig.askers[0]
    calls = [asker.call(change()), asker.call(change(n=2))]
    calls.append(asker.call(RequestProcess(UNITS[0], "move")))
    rig.network.run(0.1)
    rig.owner.client.crash()
    rig.wait(*calls)

    assert code_of(calls[0]) == "owner_gone"
    assert code_of(calls[1]) in ("no_owner", "unknown_component")
    assert isinstance(calls[2].result, ProcessControlResponse)
    assert calls[2].result.error_code is ProcessControlErrorCode.PROCESS_DISCONNECTED
    assert all(call.ended is not None and call.ended - call.started < 1.5 for call in calls)
    rig.check()


def test_a_program_that_takes_the_owner_over_gets_what_comes_and_not_what_was() -> None:
    rig = Rig()
    rig.owner.silent = True
    asker = rig.askers[0]
    old = [asker.call(change()), asker.call(RequestProcess(UNITS[0], "move"))]
    waiting = asker.call(change(n=2))
    rig.network.run(0.1)
    rig.take_owner_over()
    rig.wait(*old, waiting)
    new = asker.call(change(n=3))
    rig.wait(new)

    assert code_of(old[0]) == "owner_gone"
    assert isinstance(old[1].result, ProcessControlResponse)
    assert old[1].result.error_code is ProcessControlErrorCode.PROCESS_DISCONNECTED
    assert isinstance(waiting.result, SettingsSet)
    assert isinstance(new.result, SettingsSet)
    assert len(rig.owner.runs) == 2
    rig.check()


def test_what_was_refused_to_one_program_is_not_what_the_next_one_under_that_number_made() -> None:
    """A broker that starts anew has forgotten its refusals, and so how far that program counted."""
    rig = Rig()
    holder, refused = rig.owner, Owner(rig)
    rig.owners.append(refused)
    rig.network.run(4.0)
    rig.broker.crash()
    holder.client.crash()
    rig.take_owner_over()
    rig.broker.start()
    rig.network.run(5.0)

    first, heirs = refused.client.calls[0], rig.owner.client.calls
    assert code_of(first) == "address_collision"
    made = next(call for call in heirs if isinstance(call.result, Done))
    assert made.request_id in [each.request_id for each in refused.client.calls]
    rig.check()


def test_a_silent_owner_holds_the_line_and_nobody_longer_than_they_said() -> None:
    rig = Rig(askers=2)
    rig.owner.takes_s = 3.0
    seq = rig.seq_of(UNITS[0])
    first = rig.askers[0].call(change(timeout_s=1.0), timeout=1.2)
    rig.network.run(0.05)
    second = rig.askers[1].call(change(n=2, expected_seq=seq, timeout_s=5.0), timeout=6.0)
    third = rig.askers[1].call(change(n=3, timeout_s=1.5), timeout=2.0)
    other = rig.askers[1].call(change(UNITS[1], n=4, timeout_s=5.0), timeout=6.0)
    rig.wait(first, second, third, other)

    assert code_of(first) == code_of(third) == "owner_silent"
    assert "busy with changes" in str(third.result)
    assert code_of(second) == "stale"  # the first was made after all
    assert isinstance(other.result, SettingsSet)
    assert other.ended is not None
    assert other.ended - other.started < 3.2  # another address waits for nobody
    rig.check()


@pytest.mark.parametrize("heeds_cancel", [True, False])
def test_a_changer_that_takes_too_long_keeps_nobody_and_its_late_report_is_true(
    heeds_cancel: bool,
) -> None:
    rig = Rig(askers=2)
    rig.owner.takes_s, rig.owner.heeds_cancel = OVERDUE_S + 3.0, heeds_cancel
    first = rig.askers[0].call(change(timeout_s=20.0), timeout=20.0)
    rig.network.run(0.1)
    rig.owner.takes_s = 0.0
    next_one = rig.askers[1].call(change(n=2, timeout_s=20.0), timeout=20.0)
    other = rig.askers[1].call(change(UNITS[1], n=3))
    rig.wait(first, next_one, other)

    assert code_of(first) == "change_overdue"
    assert first.ended is not None
    assert first.ended - first.started < OVERDUE_S + 0.1
    assert isinstance(other.result, SettingsSet)
    if heeds_cancel:
        assert isinstance(next_one.result, SettingsSet)
    else:
        assert code_of(next_one) == "owner_busy"
        rig.network.run(4.0)
        late = rig.settings_events()[-1].body
        assert isinstance(late, SettingsChanged)
        assert late.value.structured_value == rig.owner.settings[UNITS[0]] == {"x": 1, "y": 1}
        assert asked_under(late.answers or "") == (rig.askers[0].lease_id, first.request_id)
    last = rig.askers[1].call(change(n=4))
    rig.wait(last)
    assert isinstance(last.result, SettingsSet)
    rig.check()
    rig.check_nothing_is_left()


def test_a_change_by_hand_at_the_owner_is_not_overwritten_by_who_had_not_seen_it() -> None:
    rig = Rig()
    seq = rig.seq_of(UNITS[0])
    call = rig.askers[0].call(change(n=9, expected_seq=seq))
    while not rig.owner.client.stalled and rig.network.now < 60:
        routes = rig.broker.engine.core.routing.routes  # type: ignore[union-attr]
        if len(routes):  # it is on its way to the owner
            break
        rig.network.run(0.0002)
    rig.owner.settings[UNITS[0]]["x"] = 5
    rig.owner.report(UNITS[0])
    rig.wait(call)

    assert code_of(call) == "stale"
    assert rig.owner.settings[UNITS[0]]["x"] == 5
    rig.check()


def test_a_veto_changes_nothing() -> None:
    rig = Rig()
    before = rig.broker.seq

    call = rig.askers[0].call(ChangeSettings(UNITS[0], {"x": "veto"}))
    rig.wait(call)

    assert code_of(call) == "vetoed"
    assert "not x" in str(call.result)
    assert rig.broker.seq == before
    rig.check()


def test_an_asker_that_crashes_leaves_nothing_behind() -> None:
    rig = Rig(askers=2)
    rig.owner.takes_s = 2.0
    rig.askers[0].call(change())
    rig.askers[0].call(change(n=2))
    rig.askers[0].call(RequestProcess(UNITS[1], "move"))
    rig.network.run(0.1)
    rig.askers[0].crash()
    call = rig.askers[1].call(change(n=3))
    rig.wait(call)

    assert isinstance(call.result, SettingsSet)
    assert rig.owner.settings[UNITS[0]]["x"] == 3
    assert len(rig.owner.runs) == 3  # the second waited, and was never handed over
    rig.check()
    rig.check_nothing_is_left()


# --- everything at once ---


def ask_something(rig: Rig, n: int) -> Call:
    random = rig.network.random
    asker, unit = random.choice(rig.askers), random.choice(UNITS)
    timeout = random.choice((0.5, 3.0, 10.0))
    broker_s = timeout * 0.9
    what = random.random()
    if what < 0.3:
        return asker.call(RequestProcess(unit, "move", None, broker_s), timeout=timeout)
    if what < 0.6:
        return asker.call(change(unit, n=n, timeout_s=broker_s), timeout=timeout)
    if what < 0.9:
        seq = rig.seq_of(unit)
        return asker.call(
            change(unit, n=n, expected_seq=seq, timeout_s=broker_s), timeout=timeout
        )
    veto = ChangeSettings(unit, {"x": "veto"}, reason=f"because of {n}", timeout_s=broker_s)
    return asker.call(veto, timeout=timeout)


def go_wrong(rig: Rig) -> None:
    random = rig.network.random

    def change_by_hand() -> None:
        unit = random.choice(UNITS)
        rig.owner.settings[unit]["x"] = rig.owner.settings[unit]["y"] = random.randint(1000, 2000)
        rig.owner.report(unit)

    def crash_broker() -> None:
        rig.broker.crash_at = random.choice(POINTS)
        rig.broker.restart_after(random.uniform(0.0, 0.6))

    def cut(client: SimulatedClient) -> None:
        client.commands.cut(here_s=random.choice((0.0, 0.3)), there_s=random.choice((0.0, 0.3)))

    def take_over() -> None:
        if rig.owner.client.lease_id and rig.owner.client.lost is None:
            rig.take_owner_over()

    faults: list[tuple[Callable[[], None], int]] = [
        (change_by_hand, 3),
        (crash_broker, 1),
        (lambda: cut(rig.owner.client), 3),
        (lambda: cut(random.choice(rig.askers)), 3),
        (rig.replace_owner, 1),
        (take_over, 1),
        (lambda: rig.owner.client.commands.repeat_for(0.2), 1),
        (lambda: random.choice(rig.askers).commands.repeat_for(0.2), 1),
    ]
    fault = random.choices([each for each, _ in faults], [weight for _, weight in faults])[0]
    fault()


@pytest.mark.parametrize("seed", range(60))
def test_whatever_goes_wrong_every_promise_holds(seed: int) -> None:
    rig = Rig(seed, askers=4)
    for n in range(60):
        ask_something(rig, n)
        rig.owner.takes_s = rig.network.random.choice((0.0, 0.0, 0.02, 0.3))
        if rig.network.random.random() < 0.02:
            rig.owner.takes_s = OVERDUE_S + rig.network.random.uniform(-1.0, 2.0)
            rig.owner.heeds_cancel = rig.network.random.random() < 0.5
        rig.network.run(rig.network.random.uniform(0.0, 0.08))
        if rig.network.random.random() < 0.2:
            go_wrong(rig)
    rig.broker.start()
    calls = [call for asker in rig.askers for call in asker.calls]
    rig.wait(*calls)
    rig.network.run(3.0)
    rig.broker.start()
    rig.owner.takes_s = 0.0
    rig.network.run(OVERDUE_S + 3.0)

    last = [asker.call(change(n=100)) for asker in rig.askers]
    rig.wait(*last)
    assert all(isinstance(call.result, SettingsSet) for call in last), last
    rig.check()
    rig.check_nothing_is_left()
