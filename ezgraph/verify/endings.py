"""Did each lease end when it had to, and not before? The time bounds of G7. Pure.

Programs and broker read their own wall clocks. How far these lie apart is bounded by every call
that made an event: it was stored after the call was asked and before it was answered. A finding
is one even under the offset that suits the broker best.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ezgraph.protocol.events import EndReason, ProcessClosed, SessionClosed
from ezgraph.verify.findings import Finding, Place
from ezgraph.verify.records import Fault

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Sequence

    from ezgraph.protocol.events import Event
    from ezgraph.verify.history import History, Life

GOODBYE_S = 0.05
CRASH_S = 1.0
GRACE_S = 0.7
SILENCE_S = 0.5
CLOCK_S = 0.05
"""What reading clocks and rounding may cost."""


@dataclass(slots=True)
class ClockOffset:
    """The broker's wall clock minus a program's lies between ``least`` and ``most`` seconds."""

    low: float | None = None
    high: float | None = None

    def learn(self, *, asked: float, stored: float, answered: float) -> None:
        """Take note of an event that was stored between two moments of the program."""
        low, high = stored - answered, stored - asked
        self.low = low if self.low is None else max(self.low, low)
        self.high = high if self.high is None else min(self.high, high)

    @property
    def least(self) -> float:
        """The least it can be. Where a clock stepped, both bounds hold at some time."""
        return min(self.low or 0.0, self.high or 0.0)

    @property
    def most(self) -> float:
        """The most it can be."""
        return max(self.low or 0.0, self.high or 0.0)


@dataclass(slots=True, eq=False)
class LeaseSeen:
    """One lease as its program saw it. Times are the program's wall clock.

    ``heard`` is when answered calls were asked; ``renewed`` when heartbeats were sent; ``leaving``
    when it first said goodbye, ``goodbye`` when that was answered, with ``goodbye_seq``.
    ``is_whole`` False: some of what it saw is not known, as the trace is damaged; a goodbye may be
    among it.
    """

    place: Place
    client: str
    kind: str
    pid: int | None
    ttl_s: float
    offset: ClockOffset
    heard: array[float] = field(default_factory=lambda: array("d"))
    renewed: array[float] = field(default_factory=lambda: array("d"))
    goodbye: float | None = None
    goodbye_seq: int = 0
    left: float | None = None
    leaving: float | None = None
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class FaultSeen:
    """What an observer noted, and when by its wall clock."""

    wall: float
    fault: Fault
    pid: int | None


@dataclass(frozen=True, slots=True)
class _Span:
    began: float
    ended: float

    def touches(self, start: float, end: float) -> bool:
        return self.began <= end and start <= self.ended


_FOREVER = float("inf")
_PAIRS = {
    Fault.STOPPED: Fault.CONTINUED,
    Fault.CUT: Fault.HEALED,
    Fault.BROKER_DOWN: Fault.BROKER_UP,
}


class Faults:
    """All that was noted."""

    def __init__(self, seen: Sequence[FaultSeen]) -> None:
        self._seen = sorted(seen, key=lambda each: each.wall)

    def __repr__(self) -> str:
        return f"<Faults {len(self._seen)} notes>"

    def __bool__(self) -> bool:
        return bool(self._seen)

    def killed(self, pid: int | None) -> float | None:
        """When a process was killed."""
        kills = (e.wall for e in self._seen if e.fault is Fault.KILLED and e.pid == pid)
        return next(kills, None)

    def spans(self, fault: Fault, pid: int | None = None) -> list[_Span]:
        """From when to when it was so, for a process (or for everybody)."""
        spans: list[_Span] = []
        began: float | None = None
        for each in self._seen:
            if each.pid not in (None, pid):
                continue
            if each.fault is fault and began is None:
                began = each.wall
            elif each.fault is _PAIRS[fault] and began is not None:
                spans.append(_Span(began, each.wall))
                began = None
        return spans if began is None else [*spans, _Span(began, _FOREVER)]

    def touch(self, pid: int | None, start: float, end: float) -> bool:
        """Whether anything was done to a process, its network or the broker in that time."""
        kinds = (Fault.STOPPED, Fault.CUT)
        spans = [span for kind in kinds for span in self.spans(kind, pid)]
        spans += self.spans(Fault.BROKER_DOWN)
        killed = self.killed(pid)
        return any(span.touches(start, end) for span in spans) or (
            killed is not None and start <= killed <= end
        )

    def touch_network(self, pid: int | None, start: float, end: float) -> bool:
        """Whether a process's network was cut in that time, so that its end could not be seen."""
        return any(span.touches(start, end) for span in self.spans(Fault.CUT, pid))

    def stopped_s(self, pid: int | None, start: float, end: float) -> float:
        """How long a process was stopped in that time, altogether."""
        spans = self.spans(Fault.STOPPED, pid)
        return sum(max(0.0, min(end, s.ended) - max(start, s.began)) for s in spans)


class EndingCheck:
    """Compares leases with their ends in the journal. ``horizon``: until when the broker ran."""

    def __init__(
        self,
        history: History,
        faults: Faults,
        horizon: float,
        stall_s: float,
        checked: Counter[str],
        unchecked: Counter[str],
    ) -> None:
        self._history = history
        self._faults = faults
        self._horizon = horizon
        self._stall_s = stall_s
        self._checked = checked
        self._unchecked = unchecked

    def __repr__(self) -> str:
        return f"<EndingCheck {self._faults!r}>"

    def check(self, lease: LeaseSeen) -> Iterator[Finding]:
        """Look at one lease."""
        life = self._history.lives.get(lease.client)
        if life is None or lease.kind == "guest":
            return
        if lease.goodbye is not None and lease.goodbye_seq > self._history.head:
            return  # the journal has lost its tail, which is G4's to say
        if lease.goodbye is not None:
            yield from self._after_goodbye(lease, life)
            return
        if not lease.is_whole:
            return
        yield from self._not_early(lease, life)
        if not self._faults:
            self._unchecked["G7: how soon leases end after a crash or in silence: no trace notes "
                            "what was done to processes and to the broker"] += 1
            return
        for since, allowed_s, why in self._reasons_to_end(lease):
            yield from self._in_time(lease, life, since, allowed_s, why)

    def _after_goodbye(self, lease: LeaseSeen, life: Life) -> Iterator[Finding]:
        self._checked["G7"] += 1
        said = lease.goodbye or 0.0
        if life.closed is None and self._history.is_lost(lease.goodbye_seq):
            self._unchecked["G7: goodbyes of a history that a restored backup has replaced"] += 1
        elif life.closed is None:
            yield self._found(lease, "said goodbye, was answered, and never ended")
        else:
            yield from self._soon_after(lease, life.closed, said)

    def _soon_after(self, lease: LeaseSeen, closed: Event, said: float) -> Iterator[Finding]:
        late = closed.wall_time - lease.offset.most - said
        if late > GOODBYE_S + CLOCK_S + self._stall_s:
            what = f"ended {late:.3f} s after its goodbye was answered, not within {GOODBYE_S} s"
            yield self._found(lease, what, closed.seq)

    def _not_early(self, lease: LeaseSeen, life: Life) -> Iterator[Finding]:
        """A lease that was heard in time is not ended."""
        if life.closed is None or life.taken_over is not None:
            return
        body, ended = life.closed.body, life.closed.wall_time
        reason = body.reason if isinstance(body, SessionClosed | ProcessClosed) else None
        allowed_s = lease.ttl_s if reason is EndReason.EXPIRED else GRACE_S
        self._checked["G7"] += 1
        if reason is EndReason.CLOSED and _may_have_left(lease, ended):
            return  # its goodbye was heard, and its answer lost
        heard = [at for at in lease.heard if at + lease.offset.least <= ended]
        if heard and ended - heard[-1] - lease.offset.least < allowed_s - CLOCK_S:
            what = (f"was ended ({reason.value if reason else 'no reason'}) "
                    f"{ended - heard[-1]:.3f} s after a call that was answered, before "
                    f"{allowed_s:g} s were over")
            yield self._found(lease, what, life.closed.seq)
        elif reason is EndReason.EXPIRED:
            yield from self._not_though_renewed(lease, ended, life.closed.seq)

    def _not_though_renewed(self, lease: LeaseSeen, ended: float, seq: int) -> Iterator[Finding]:
        arrived = [at for at in lease.renewed if at + lease.offset.most + self._stall_s < ended]
        if not arrived or not self._faults:
            return
        last, margin = arrived[-1], self._stall_s
        if self._faults.touch(lease.pid, last - margin, ended + margin):
            return
        if ended - last - lease.offset.least < lease.ttl_s - self._stall_s:
            after = f"{ended - last:.3f} s after a heartbeat"
            what = f"expired {after}, with a TTL of {lease.ttl_s:g} s"
            yield self._found(lease, what, seq)

    def _reasons_to_end(self, lease: LeaseSeen) -> Iterator[tuple[float, float, str]]:
        """Since when, within what, and why a lease had to end."""
        faults, ttl_s = self._faults, lease.ttl_s
        killed = faults.killed(lease.pid)
        ends = [(killed, "its process was killed"), (lease.left, "its sockets were closed")]
        known = [(when, why) for when, why in ends if when is not None]
        if known:
            when, why = min(known)
            silent = faults.touch_network(lease.pid, when, when + CRASH_S)
            yield when, ttl_s + SILENCE_S if silent else CRASH_S, why
            return
        silences = ((Fault.STOPPED, "its process was stopped"), (Fault.CUT, "it was cut off"))
        for fault, why in silences:
            for span in faults.spans(fault, lease.pid):
                if span.ended - span.began > ttl_s + SILENCE_S + self._stall_s:
                    yield span.began, ttl_s + SILENCE_S, why
                    return

    def _in_time(
        self, lease: LeaseSeen, life: Life, since: float, allowed_s: float, why: str
    ) -> Iterator[Finding]:
        taken = life.taken_over
        if taken is not None and taken.wall_time - lease.offset.least > since - self._stall_s:
            return
        latest = self._latest_end(since + allowed_s, since, lease.ttl_s) + self._stall_s
        self._checked["G7"] += 1
        if life.closed is not None:
            ended = life.closed.wall_time - lease.offset.most
            if ended > latest:
                what = f"ended {ended - since:.3f} s after {why}, not within {allowed_s:g} s"
                yield self._found(lease, what, life.closed.seq)
        elif self._horizon - lease.offset.most > latest:
            yield self._found(lease, f"lives on, {self._horizon - since:.3f} s after {why}")
        else:
            self._checked["G7"] -= 1
            self._unchecked["G7: ends of leases that the journal does not reach"] += 1

    def _latest_end(self, latest: float, since: float, ttl_s: float) -> float:
        """A broker that was down gives each lease it knows one fresh TTL."""
        for span in self._faults.spans(Fault.BROKER_DOWN):
            if span.touches(since - self._stall_s, latest + self._stall_s):
                latest = max(latest, span.ended + ttl_s + SILENCE_S)
        return latest

    def _found(self, lease: LeaseSeen, what: str, *seqs: int) -> Finding:
        return Finding("G7", lease.place, f"{lease.kind} {lease.client} {what}", seqs=seqs)


def _may_have_left(lease: LeaseSeen, ended: float) -> bool:
    return lease.leaving is not None and lease.leaving + lease.offset.least - CLOCK_S <= ended
