"""Restores while brokers crash, disks fail and owners end: the old state or the new one."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, get_args
from uuid import UUID

import pytest

from ezgraph.backends import stored_tags
from ezgraph.backends.stored_graphs import Written
from ezgraph.errors import EzGraphError, RestoreRefusedError, VetoedError
from ezgraph.graph.attendant import Attendant, Identified
from ezgraph.protocol.commands import (
    ChangeConfig,
    Command,
    Connect,
    Disconnect,
    ReportSettings,
    UpdateUnits,
)
from ezgraph.protocol.config import ConfigPut
from ezgraph.protocol.events import (
    Event,
    SettingsChanged,
    SettingsOwed,
    SettingsSettled,
    StateRestored,
)
from ezgraph.protocol.graphs import Snapshot
from ezgraph.protocol.replies import RestoreReport
from ezgraph.protocol.settings import SettingsSnapshotValue
from ezgraph.protocol.stored_commands import Restore
from ezgraph.state.content import graph_of
from ezgraph.state.graph import GraphState
from ezgraph.testing import Network, SimulatedBroker, SimulatedClient
from ezgraph.testing.broker import CrashPoint
from ezgraph.testing.guarantees import check_calls, check_history, check_watch

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

    from ezgraph.protocol.fingerprints import Fingerprint
    from ezgraph.protocol.routed import Routed, SettingsChangeRequest, SettingsCheckRequest
    from ezgraph.testing import Call

UNITS = ("SYS/A", "SYS/B")
POINTS = get_args(CrashPoint)


def value(gain: int) -> SettingsSnapshotValue:
    return SettingsSnapshotValue(None, {"gain": gain}, {"gain": gain})


class Telling:
    """A command on its way; awaited, it is the seq it reached."""

    def __init__(self, command: Command) -> None:
        self.command = command

    def __await__(self) -> Generator[Telling, Any, Any]:
        return (yield self)


class Owner:
    """A process that runs units: the real attendant, on a simulated client."""

    def __init__(self, network: Network, units: tuple[str, ...] = UNITS, gain: int = 1) -> None:
        self.client = SimulatedClient(network, f"owner {network.number()}", kind="process")
        self.gains = dict.fromkeys(units, gain)
        self.vetoes: set[str] = set()
        self.asked = 0
        self.thinks_s = 0.0
        self._network = network
        self._attendant = Attendant(
            self._tell, lambda: Identified(UUID(int=1), units), begin=self._handed
        )
        for unit in units:
            self._attendant.take_changes(unit, self._change, check=self._check)
        self.client.engine.on_handed = self._handed
        self.client.start()
        self.client.call(UpdateUnits(list(units), []))
        for unit in units:
            self.report(unit)

    def report(self, unit: str) -> Call:
        return self.client.call(ReportSettings(unit, value(self.gains[unit])))

    def set(self, gain: int) -> None:
        for unit in self.gains:
            self.gains[unit] = gain
            self.report(unit)

    async def _check(self, request: SettingsCheckRequest) -> None:
        self.asked += 1
        if request.address in self.vetoes:
            raise VetoedError("locked")

    async def _change(self, request: SettingsChangeRequest) -> SettingsSnapshotValue:
        self.gains[request.address] = request.changes["gain"]
        return value(self.gains[request.address])

    async def _tell(self, command: Command, _: float) -> int:
        reply = await Telling(command)
        if isinstance(reply, EzGraphError):
            raise reply
        return int(reply.seq)

    def _handed(self, request: Routed) -> None:
        self._step(self._attendant.attend(request), None)

    def _step(self, attending: Coroutine[Any, Any, Any], result: object) -> None:
        with suppress(StopIteration):
            telling = attending.send(result)
            self._network.after(self.thinks_s, lambda: self._say(telling.command, attending))

    def _say(self, command: Command, attending: Coroutine[Any, Any, Any]) -> None:
        if not self.client.gone:
            self.client.call(
                command, timeout=60.0, on_result=lambda told: self._step(attending, told)
            )


class Rig:
    """A broker, who restores, an owner, and a snapshot of how it all was."""

    def __init__(self, seed: int) -> None:
        self.network = Network(seed)
        self.broker = SimulatedBroker(self.network)
        self.asker = SimulatedClient(self.network, "asker")
        self.asker.start()
        self.owner = Owner(self.network)
        self.do(Connect("A", "B"))
        self.do(ChangeConfig([ConfigPut("filter", ("low",), 1)]))
        self.network.run_until(lambda: len(self.state.settings) == len(UNITS), 5.0)
        self.frozen = graph_of(self.state, "rig")
        self.freeze()
        self.owner.set(2)
        self.do(Disconnect("A", "B"))
        self.do(Connect("B", "C"))
        self.do(ChangeConfig([ConfigPut("filter", ("high",), 2)]))
        self.network.run_until(lambda: self.settings() == [2, 2], 5.0)
        self.before = self.state.content_fingerprint()

    @property
    def state(self) -> Any:
        engine = self.broker.engine
        assert engine is not None
        return engine.state

    def settings(self) -> list[Any]:
        return [self.state.settings[each].value.structured_value["gain"] for each in UNITS]

    def freeze(self) -> None:
        engine = self.broker.engine
        assert engine is not None
        snapshot, written = Snapshot(self.frozen, self.state.seq, 1), Written(0.0, "a test")
        engine.journal.change(lambda store: stored_tags.write_tag(store, snapshot, "best", written))
        self.do(Connect("committed", "with it"))
        self.do(Disconnect("committed", "with it"))

    def do(self, command: Command) -> None:
        call = self.asker.call(command)
        self.network.run_until(lambda: call.ended is not None, 5.0)
        assert not isinstance(call.result, EzGraphError), call.result

    def restore(self, *, seconds: float = 20.0) -> Call:
        return self.asker.call(Restore("rig", "best", dry_run=False), timeout=seconds)

    def until(self, call: Call, seconds: float = 30.0) -> None:
        self.network.run_until(lambda: call.ended is not None, seconds)
        self.network.run_until(lambda: self.broker.engine is not None, seconds)

    def is_old(self) -> bool:
        return not self.state.owed and self.state.content_fingerprint() == self.before

    def is_new(self) -> bool:
        """Whether it is all as it was, but for settings that their owners have still to take."""
        now = graph_of(self.state, "rig")
        return (
            now.topology == self.frozen.topology
            and now.config == self.frozen.config
            and all(
                self.state.owed[each].value == value(1)
                if each in self.state.owed
                else now.settings[each] == value(1)
                for each in UNITS
            )
        )

    def check(self) -> None:
        history = self.broker.history()
        check_history(history)
        check_calls(history, self.asker)


def stored(rig: Rig) -> list[Event]:
    """All that was ever journaled."""
    return [event for each in rig.broker.history().transactions() for event in each]


def restored(rig: Rig) -> int:
    """How often the rig was restored."""
    return sum(isinstance(each.body, StateRestored) for each in stored(rig))


def content(rig: Rig) -> Fingerprint:
    """What the journal comes to, whether or not a broker runs."""
    events = stored(rig)
    state = GraphState.fold(events, epoch=events[-1].epoch, seq=events[-1].seq)
    return state.content_fingerprint()


def test_a_restore_is_done_once_and_taken_by_its_owners() -> None:
    rig = Rig(1)

    call = rig.restore()
    rig.until(call)
    rig.network.run_until(lambda: not rig.state.owed, 5.0)

    assert isinstance(call.result, RestoreReport)
    assert rig.state.content_fingerprint() == rig.frozen.fingerprint
    assert restored(rig) == 1
    rig.check()


@pytest.mark.parametrize("after", range(12))
def test_wherever_the_broker_dies_it_is_the_old_state_or_the_new(after: int) -> None:
    """It dies at every step of every pass that a restore takes, and comes back."""
    for point in POINTS:
        dies_and_comes_back(Rig(7), point, after * 0.0015)


def dies_and_comes_back(rig: Rig, point: CrashPoint, after_s: float) -> None:
    call = rig.restore()
    rig.network.run(after_s)
    assert rig.broker.engine is not None
    rig.broker.crash_at = point
    rig.broker.restart_after(0.5)
    rig.network.after(0.3, rig.broker.crash)  # if it was over by then
    rig.network.run_until(lambda: rig.broker.crashes > 0, 5.0)
    found = content(rig)
    begun = [each for each in stored(rig) if is_of_restore(each.body)]

    rig.until(call)
    rig.network.run_until(lambda: not rig.state.owed, 5.0)

    assert isinstance(call.result, RestoreReport), call.result
    assert rig.state.content_fingerprint() == rig.frozen.fingerprint
    assert restored(rig) == 1  # although it was asked for again
    assert rig.owner.gains == dict.fromkeys(UNITS, 1)
    assert bool(begun) == (found != rig.before)
    rig.check()


def is_of_restore(body: object) -> bool:
    return isinstance(body, StateRestored | SettingsOwed | SettingsSettled)


@pytest.mark.parametrize("fails", ["before", "after", "torn"])
def test_a_disk_that_fails_under_a_restore_leaves_all_of_it_or_nothing(fails: Any) -> None:
    rig = Rig(3)
    call = rig.restore()
    rig.network.run_until(lambda: rig.owner.asked == len(UNITS), 5.0)
    rig.broker.disk.fails = fails
    rig.network.run_until(lambda: rig.broker.crashes > 0, 5.0)
    rig.broker.restart_after(2.0)
    rig.network.run(1.9)

    whole = restored(rig) == 1
    assert whole == (fails != "before")  # one transaction is not torn: that strikes what follows
    assert (content(rig) == rig.before) == (not whole)
    rig.until(call)
    if isinstance(call.result, EzGraphError):  # who asks a broker that has failed is told so
        assert call.result.code == "journal_failed"
        call = rig.restore()
        rig.until(call)
    rig.network.run_until(lambda: not rig.state.owed, 5.0)
    assert isinstance(call.result, RestoreReport)
    assert rig.state.content_fingerprint() == rig.frozen.fingerprint


@pytest.mark.parametrize("seed", range(8))
def test_an_owner_that_dies_at_any_moment_is_owed_or_was_asked_before_and_nothing_changed(
    seed: int,
) -> None:
    rig = Rig(seed)
    call = rig.restore(seconds=8.0)
    rig.network.run(seed * 0.002)
    rig.owner.client.crash()

    rig.until(call)
    rig.network.run_until(lambda: not rig.state.processes, 8.0)

    if isinstance(call.result, RestoreReport):
        assert restored(rig) == 1
        owed = set(rig.state.owed)  # the rest it had taken before
        again = Owner(rig.network, gain=9)
        rig.network.run_until(lambda: not rig.state.owed and len(rig.state.settings) == 2, 8.0)
        assert again.gains == {each: 1 if each in owed else 9 for each in UNITS}
        assert rig.settings() == list(again.gains.values())
    else:
        assert restored(rig) == 0
        assert not rig.state.owed
    rig.check()


def test_a_veto_changes_nothing_and_an_owner_asked_again_after_a_cut_answers_once() -> None:
    rig = Rig(5)
    rig.owner.vetoes = {"SYS/B"}

    call = rig.restore()
    rig.network.run(0.003)
    rig.owner.client.commands.cut()
    rig.until(call)

    error = call.result
    assert isinstance(error, RestoreRefusedError)
    assert isinstance(error.report, RestoreReport)
    assert [each[0] for each in error.report.vetoed] == ["SYS/B"]
    assert rig.is_old()
    rig.check()


def test_what_comes_in_between_is_planned_for_and_owners_are_asked_again() -> None:
    rig = Rig(6)
    rig.owner.thinks_s = 0.1

    call = rig.restore()
    rig.network.run_until(lambda: rig.owner.asked == len(UNITS), 5.0)
    rig.asker.call(Connect("C", "D"))
    rig.until(call)

    assert isinstance(call.result, RestoreReport)
    assert rig.owner.asked == 2 * len(UNITS)
    assert ("C", "D") in call.result.edges_removed
    assert rig.is_new()
    rig.check()


def test_who_watches_gets_a_restore_whole() -> None:
    rig = Rig(8)
    record = rig.asker.watch(())

    rig.until(rig.restore())
    rig.network.run_until(lambda: not rig.state.owed, 5.0)
    rig.network.run(1.0)

    events = [each for each in record.items if isinstance(each, Event)]
    begun = next(each for each in events if isinstance(each.body, StateRestored))
    whole = [each.seq for each in events if each.txn_first == begun.seq]
    assert whole == list(range(begun.seq, begun.txn_last + 1))
    taken = [each.body for each in events if isinstance(each.body, SettingsChanged)]
    assert [each.address for each in taken if each.answers is not None] == list(UNITS)
    check_watch(rig.broker.history(), record)
