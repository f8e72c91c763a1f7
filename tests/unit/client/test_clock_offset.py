"""The broker's clocks on this host's monotonic clock: right within the uncertainty it tells."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ezgraph.client.clock_offset import DRIFT, WINDOW, BrokerClock, ClockOffset, RoundTrip

ROUNDING_S = 1e-6
delays = st.floats(0.0, 0.5)
trips_made = st.lists(st.tuples(st.floats(0.0, 30.0), delays, delays), min_size=1, max_size=20)


def offset_of(made: list[RoundTrip]) -> ClockOffset:
    offset = ClockOffset(made[0])
    for trip in made[1:]:
        assert offset.agrees(trip), "one and the same clock was taken for another"
        offset.add(trip)
    return offset


@given(
    true_s=st.floats(-1e6, 1e6),
    rate=st.floats(-DRIFT, DRIFT),
    made=trips_made,
    later=st.floats(0, 60),
)
def test_the_true_offset_is_within_the_uncertainty_however_delays_are_shared(
    true_s: float, rate: float, made: list[tuple[float, float, float]], later: float
) -> None:
    now, trips = 1000.0, []

    def remote(local: float) -> float:
        return (local - true_s) - rate * (local - 1000.0)

    for pause, there, back in made:
        now += pause
        trips.append(RoundTrip(now, now + there + back, remote(now + there)))
        now += there + back
    offset = offset_of(trips)
    now += later

    error = abs(now - remote(now) - offset.offset_s)
    assert error <= offset.uncertainty_s(now) + ROUNDING_S


def test_the_quickest_of_the_last_round_trips_counts() -> None:
    slow, quick = RoundTrip(0.0, 1.0, 100.1), RoundTrip(2.0, 2.002, 101.601)
    offset = ClockOffset(slow)

    offset.add(quick)
    offset.add(RoundTrip(3.0, 4.0, 102.9))

    assert offset.offset_s == pytest.approx(2.001 - 101.601)
    assert offset.uncertainty_s(4.0) == pytest.approx(0.001 + DRIFT * 2.0)


def test_a_round_trip_of_long_ago_counts_no_more() -> None:
    offset = ClockOffset(RoundTrip(0.0, 0.0, 0.0))

    for second in range(1, WINDOW + 1):
        offset.add(RoundTrip(second, second + 0.5, second + 0.25))

    assert offset.uncertainty_s(WINDOW + 0.5) == pytest.approx(0.25 + DRIFT * 0.5)


def test_before_the_first_beat_nothing_is_certain() -> None:
    clock = BrokerClock()

    assert clock.uncertainty_s(5.0) == math.inf
    assert clock.must_hear(1, 0.0, 0.0)


class Broker:
    """A broker whose monotonic and wall clock are off by so much; its round trips take 2 ms."""

    def __init__(self, clock: BrokerClock, mono_off: float, wall_off: float) -> None:
        self._clock = clock
        self.mono_off, self.wall_off = mono_off, wall_off

    def stamps(self, local: float) -> tuple[float, float]:
        return local + self.wall_off, local + self.mono_off

    def beat(self, local: float, head: int) -> None:
        wall, mono = self.stamps(local)
        trip = RoundTrip(local - 0.001, local + 0.001, mono)
        self._clock.hears(trip, wall_time=wall, head=head)


@given(mono_off=st.floats(-1e5, 1e5), wall_off=st.floats(-1e9, 1e9), step=st.floats(-4000, 4000))
def test_a_step_of_the_wall_clock_moves_no_time(
    mono_off: float, wall_off: float, step: float
) -> None:
    clock = BrokerClock()
    broker = Broker(clock, mono_off, wall_off)
    broker.beat(10.0, head=5)
    before = (6, *broker.stamps(11.0))
    broker.wall_off += step
    after = (7, *broker.stamps(12.0))

    if clock.must_hear(*after):
        broker.beat(12.5, head=7)

    assert clock.local(*before) == pytest.approx(11.0, abs=1e-5)
    assert clock.local(*after) == pytest.approx(12.0, abs=1e-5)


def test_a_broker_that_goes_on_at_another_host_is_told_apart_by_its_stamps() -> None:
    clock = BrokerClock()
    first, second = Broker(clock, 100.0, 1e9), Broker(clock, -5000.0, 1e9 + 3600)
    first.beat(10.0, head=3)
    of_first = (4, *first.stamps(11.0))
    of_second = (5, *second.stamps(21.0))

    must_hear = clock.must_hear(*of_second)
    second.beat(22.0, head=5)
    newest = (6, *second.stamps(23.0))

    assert must_hear
    assert not clock.must_hear(*newest)
    times = [clock.local(*each) for each in (of_first, of_second, newest)]
    assert times == pytest.approx([11.0, 21.0, 23.0], abs=1e-5)


def test_what_is_older_than_any_run_heard_is_dated_by_the_wall_clock() -> None:
    clock = BrokerClock()
    never_heard, heard = Broker(clock, 777.0, 1e9), Broker(clock, 0.5, 1e9)

    heard.beat(100.0, head=9)

    assert clock.local(2, *never_heard.stamps(40.0)) == pytest.approx(40.0, abs=1e-5)


def test_what_was_stored_before_the_first_beat_of_its_run_is_dated_too() -> None:
    clock = BrokerClock()
    broker = Broker(clock, 777.0, 1e9)

    broker.beat(100.0, head=9)

    assert clock.local(9, *broker.stamps(40.0)) == pytest.approx(40.0, abs=1e-5)
    assert not clock.must_hear(9, *broker.stamps(40.0))
