"""What the broker's clocks show, in terms of this host's monotonic clock. Pure.

A beat is asked for at ``sent`` and answered by ``received`` (both on the local monotonic clock);
somewhere between, the broker read its own. So the offset, local less remote, is known up to half
the round trip, however the delay is shared between the two ways (F. Cristian, "Probabilistic clock
synchronization", Distributed Computing 3, 1989). Of the last few round trips the one with the
smallest uncertainty counts, as in NTP's clock filter (RFC 5905, section 10); it grows with age, as
two clocks may drift apart.

The broker's *monotonic* clock is what is followed: nobody sets it. It is comparable within one run
of the broker only, and events do not name their run. Within one run the wall clock is ahead of it
by a number that changes only when somebody steps the wall clock. So:

* An event newer than the first beat of what is followed now is of it: its monotonic time counts,
  whatever the wall clock did.
* An older one is of whichever followed run (now or before) its two stamps agree with.
* If they agree with none, it is of a run that was never heard, or from before a step: its wall time
  is taken, on the broker's wall clock as it is now.

`BrokerClock.must_hear` says that an event's stamps agree with nothing heard so far, though it is
newer: the broker was restarted, or its wall clock stepped. A beat tells which.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

DRIFT = 1e-4
"""How fast two quartz clocks may drift apart: 50 ppm each, more than RFC 5905 expects (15)."""
WINDOW = 8
_LINES = 8
_AGREES_S = 0.01
_ROUNDING_S = 1e-6


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """One question for the time; ``remote`` was read between ``sent`` and ``received``."""

    sent: float
    received: float
    remote: float

    @property
    def offset_s(self) -> float:
        """Local less remote, in the middle of what is possible."""
        return (self.sent + self.received) / 2 - self.remote

    def uncertainty_s(self, now: float) -> float:
        """Return how far from `offset_s` the true offset may be at ``now`` (local)."""
        age_s = max(0.0, now - self.sent)  # it may have been read at once
        return (self.received - self.sent) / 2 + DRIFT * age_s


class ClockOffset:
    """Where a remote clock stands, by the best of the last `WINDOW` round trips."""

    def __init__(self, first: RoundTrip) -> None:
        self._trips = deque([first], maxlen=WINDOW)

    def __repr__(self) -> str:
        trip = self._trips[-1]
        shown = f"{self.offset_s:+.6f} s ± {self.uncertainty_s(trip.received):.6f} s"
        return f"<ClockOffset {shown} of {len(self._trips)}>"

    def agrees(self, trip: RoundTrip) -> bool:
        """Return whether ``trip`` can be of the same clock, which ran on undisturbed."""
        best = self._best(trip.received)
        apart = abs(trip.offset_s - best.offset_s)
        known_s = trip.uncertainty_s(trip.received) + best.uncertainty_s(trip.received)
        return apart <= known_s + _ROUNDING_S

    def add(self, trip: RoundTrip) -> None:
        """Take one more round trip."""
        self._trips.append(trip)

    @property
    def offset_s(self) -> float:
        """Local less remote."""
        return self._best(self._trips[-1].received).offset_s

    def uncertainty_s(self, now: float) -> float:
        """Return how far the true offset may be from `offset_s` at ``now`` (local)."""
        return self._best(self._trips[-1].received).uncertainty_s(now)

    def _best(self, now: float) -> RoundTrip:
        return min(self._trips, key=lambda each: each.uncertainty_s(now))


@dataclass(slots=True)
class _Line:
    """A stretch in which the broker's monotonic clock ran on undisturbed, as far as heard."""

    offset: ClockOffset
    after_seq: int
    wall_ahead_s: float

    def agrees(self, wall_time: float, mono_time: float) -> bool:
        return abs(wall_time - mono_time - self.wall_ahead_s) <= _AGREES_S


class BrokerClock:
    """The time of the broker's events on the local monotonic clock."""

    def __init__(self) -> None:
        self._lines: deque[_Line] = deque(maxlen=_LINES)  # the newest first
        self._heard_seq = -1

    def __repr__(self) -> str:
        return f"<BrokerClock {self._lines[0].offset if self._lines else 'unheard'!r}>"

    def hears(self, trip: RoundTrip, *, wall_time: float, head: int) -> None:
        """Take a beat: ``trip.remote`` and ``wall_time`` were read together, at seq ``head``."""
        wall_ahead_s = wall_time - trip.remote
        self._heard_seq = head
        if self._lines and self._lines[0].offset.agrees(trip):
            self._lines[0].offset.add(trip)
            self._lines[0].wall_ahead_s = wall_ahead_s
        else:
            self._lines.appendleft(_Line(ClockOffset(trip), head, wall_ahead_s))

    def must_hear(self, seq: int, wall_time: float, mono_time: float) -> bool:
        """Return whether a beat is needed before this event's time can be told."""
        if not self._lines:
            return True
        return seq > self._heard_seq and not self._lines[0].agrees(wall_time, mono_time)

    def uncertainty_s(self, now: float) -> float:
        """Return how far a time told at ``now`` may be from the true one; infinite before a beat.

        It does not hold for events that only their wall time could be told of.
        """
        return self._lines[0].offset.uncertainty_s(now) if self._lines else math.inf

    def local(self, seq: int, wall_time: float, mono_time: float) -> float:
        """Return when this was, on the local monotonic clock.

        Raises:
            IndexError: no beat was heard so far.
        """
        newest = self._lines[0]
        if seq > newest.after_seq:
            return mono_time + newest.offset.offset_s
        for line in self._lines:
            if line.agrees(wall_time, mono_time):
                return mono_time + line.offset.offset_s
        return wall_time - newest.wall_ahead_s + newest.offset.offset_s
