"""The time bounds of G7: a lease ends when it has to, and not before."""

from __future__ import annotations

from array import array
from collections import Counter

import pytest

from ezgraph.protocol.events import (
    EndReason,
    Event,
    SessionClosed,
    SessionOpened,
    SessionTakenOver,
    Source,
    key_of,
)
from ezgraph.verify.endings import ClockOffset, EndingCheck, Faults, FaultSeen, LeaseSeen
from ezgraph.verify.findings import Place
from ezgraph.verify.history import History
from ezgraph.verify.records import Fault

TTL_S, STALL_S = 2.0, 0.3
OPENED = 100.0
PID = 7
FAR = 1_000.0


def event(seq: int, wall: float, body: SessionOpened | SessionTakenOver | SessionClosed) -> Event:
    return Event(1, seq, seq - 1, seq, seq, wall, wall, key_of(body), Source("s"), None, body)


def history(
    closed: float | None = None,
    reason: EndReason = EndReason.LOST,
    taken_over: float | None = None,
) -> History:
    events = [event(1, OPENED, SessionOpened("s", TTL_S))]
    if taken_over is not None:
        events.append(event(2, taken_over, SessionTakenOver("s", TTL_S, "h", 1, OPENED)))
    if closed is not None:
        events.append(event(len(events) + 1, closed, SessionClosed("s", reason)))
    return History(events)


def lease(
    *,
    heard: list[float] | None = None,
    renewed: list[float] | None = None,
    goodbye: float | None = None,
    left: float | None = None,
    leaving: float | None = None,
    offset: ClockOffset | None = None,
) -> LeaseSeen:
    return LeaseSeen(
        Place("t", 2), "s", "session", PID, TTL_S, offset or ClockOffset(),
        array("d", heard or []), array("d", renewed or []), goodbye, 1, left,
        leaving,
    )


def found(
    seen: LeaseSeen, truth: History, *faults: FaultSeen, horizon: float = FAR
) -> tuple[list[str], Counter[str], Counter[str]]:
    checked: Counter[str] = Counter()
    unchecked: Counter[str] = Counter()
    check = EndingCheck(truth, Faults(faults), horizon, STALL_S, checked, unchecked)
    findings = list(check.check(seen))
    assert {each.guarantee for each in findings} <= {"G7"}
    return [each.what for each in findings], checked, unchecked


def note(wall: float, fault: Fault, pid: int | None = PID) -> FaultSeen:
    return FaultSeen(wall, fault, pid)


UP = note(OPENED, Fault.BROKER_UP, None)  # faults are noted, and this is none


@pytest.mark.parametrize(("closed", "kept"), [(110.0, True), (110.3, True), (110.5, False)])
def test_a_goodbye_ends_its_lease_at_once(closed: float, kept: bool) -> None:
    what, checked, _ = found(lease(goodbye=110.0), history(closed, EndReason.CLOSED))

    assert (not what) is kept
    assert checked["G7"] == 1


@pytest.mark.parametrize(
    ("leaving", "reason", "kept"),
    [
        (109.95, EndReason.CLOSED, True),
        (109.95, EndReason.LOST, False),
        (110.5, EndReason.CLOSED, False),
        (None, EndReason.CLOSED, False),
    ],
)
def test_a_goodbye_whose_answer_was_lost_may_end_its_lease(
    leaving: float | None, reason: EndReason, kept: bool
) -> None:
    what, _, _ = found(lease(heard=[109.9], leaving=leaving), history(110.0, reason))

    assert (not what) is kept, what


def test_a_goodbye_that_ended_nothing_is_found() -> None:
    what, _, _ = found(lease(goodbye=110.0), history())

    assert "never ended" in what[0]


@pytest.mark.parametrize(("closed", "kept"), [(111.0, True), (111.25, True), (111.5, False)])
def test_a_killed_process_loses_its_lease_within_a_second(closed: float, kept: bool) -> None:
    what, checked, _ = found(lease(), history(closed), note(110.0, Fault.KILLED))

    assert (not what) is kept, what
    assert checked["G7"] == 2  # not too early, and not too late


def test_closed_sockets_end_a_lease_as_a_crash_does() -> None:
    assert not found(lease(left=110.0), history(110.9), UP)[0]
    assert "its sockets were closed" in found(lease(left=110.0), history(112.0), UP)[0][0]


def test_the_lease_of_a_killed_process_that_lives_on_is_found_if_the_journal_goes_on() -> None:
    killed = note(110.0, Fault.KILLED)

    assert "lives on" in found(lease(), history(), killed, horizon=112.0)[0][0]
    what, _, unchecked = found(lease(), history(), killed, horizon=111.1)
    assert not what
    assert unchecked["G7: ends of leases that the journal does not reach"] == 1


def test_a_broker_that_was_down_gives_each_lease_a_fresh_ttl() -> None:
    killed = note(110.0, Fault.KILLED)
    down, up = note(110.2, Fault.BROKER_DOWN, None), note(115.0, Fault.BROKER_UP, None)

    assert not found(lease(), history(117.4, EndReason.EXPIRED), killed, down, up)[0]
    assert found(lease(), history(118.0, EndReason.EXPIRED), killed, down, up)[0]


@pytest.mark.parametrize("fault", [Fault.STOPPED, Fault.CUT])
def test_who_is_silent_for_longer_than_its_ttl_loses_its_lease(fault: Fault) -> None:
    silent = note(110.0, fault)

    assert not found(lease(), history(112.4, EndReason.EXPIRED), silent)[0]
    assert "not within 2.5 s" in found(lease(), history(113.0, EndReason.EXPIRED), silent)[0][0]


def test_who_is_silent_for_a_moment_may_keep_its_lease() -> None:
    stopped, on = note(110.0, Fault.STOPPED), note(111.5, Fault.CONTINUED)

    assert not found(lease(), history(), stopped, on)[0]


def test_a_killed_process_whose_cable_is_out_is_only_silent() -> None:
    cut, killed = note(109.9, Fault.CUT), note(110.0, Fault.KILLED)

    assert not found(lease(), history(112.4, EndReason.EXPIRED), cut, killed)[0]


def test_a_lease_that_another_program_took_over_need_not_end() -> None:
    killed = note(110.0, Fault.KILLED)

    assert not found(lease(), history(taken_over=110.5), killed)[0]


@pytest.mark.parametrize(
    ("reason", "heard", "kept"),
    [
        (EndReason.EXPIRED, 108.0, True),
        (EndReason.EXPIRED, 108.2, False),
        (EndReason.LOST, 109.3, True),
        (EndReason.LOST, 109.5, False),
    ],
)
def test_a_lease_that_was_heard_in_time_is_not_ended(
    reason: EndReason, heard: float, kept: bool
) -> None:
    what, _, _ = found(lease(heard=[105.0, heard]), history(110.0, reason))

    assert (not what) is kept, what


def test_a_lease_whose_heartbeats_went_out_undisturbed_does_not_expire() -> None:
    seen = lease(renewed=[106.0, 107.0, 108.0, 109.0])
    ended = history(110.0, EndReason.EXPIRED)

    assert "after a heartbeat" in found(seen, ended, UP)[0][0]
    assert not found(seen, ended)[0]  # nobody says that nothing was done to it
    assert not found(seen, ended, note(109.5, Fault.CUT), note(109.6, Fault.HEALED))[0]
    assert not found(seen, ended, note(109.0, Fault.BROKER_DOWN, None))[0]


def test_without_notes_the_bounds_of_crashes_are_listed_as_not_checked() -> None:
    what, _, unchecked = found(lease(), history(110.0))

    assert not what
    assert any("no trace notes" in each for each in unchecked)


def test_clocks_that_lie_apart_are_no_violation_and_hide_none() -> None:
    offset = ClockOffset()
    offset.learn(asked=101.0, stored=121.010, answered=101.020)  # the broker is 20 s ahead
    offset.learn(asked=102.0, stored=122.001, answered=102.002)
    killed = note(110.0, Fault.KILLED)

    assert not found(lease(offset=offset), history(131.2), killed)[0]
    assert found(lease(offset=offset), history(131.6), killed)[0]


def test_a_clock_that_stepped_widens_what_is_allowed() -> None:
    offset = ClockOffset()
    offset.learn(asked=101.0, stored=101.001, answered=101.002)
    offset.learn(asked=102.0, stored=107.001, answered=102.002)

    assert offset.most == pytest.approx(4.999)
    assert offset.least == pytest.approx(0.001)
