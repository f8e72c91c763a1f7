"""One trace, record by record: what can be compared at once is, the rest waits. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from ezgraph.protocol.commands import Goodbye
from ezgraph.protocol.replies import ChangeReply, Done, Refusal
from ezgraph.verify.calls import (
    CallSeen,
    check_effect,
    check_ended,
    is_goodbye,
    transactions_of,
)
from ezgraph.verify.endings import (
    ClockOffset,
    FaultSeen,
    LeaseSeen,
)
from ezgraph.verify.findings import TRACE, Finding, Place, Report, TraceSummary
from ezgraph.verify.records import (
    Answered,
    Asked,
    Began,
    Body,
    Bound,
    Cancelled,
    Damage,
    Ending,
    Fingerprinted,
    Given,
    Header,
    Joining,
    Left,
    Noted,
    Progressed,
    Reached,
    Renewed,
    Returned,
    Skipped,
    TraceRecord,
    Unwatched,
    Watched,
)
from ezgraph.verify.watching import GivenEvent, WatchCheck

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ezgraph.verify.calls import Outcome
    from ezgraph.verify.history import History
    from ezgraph.verify.states import StateQuestions

@dataclass(frozen=True, slots=True)
class Tolerances:
    """What the machine may cost, in seconds.

    ``stall_s``: how long it may keep a program or the broker from running. It is allowed on top
    of each deadline (G9) and each bound of G7.
    """

    stall_s: float = 0.5


@dataclass(slots=True, eq=False)
class Evidence:
    """What all traces are compared with, and what they add up to.

    ``horizon`` is until when the broker surely ran, by the wall clock.
    """

    history: History
    tolerances: Tolerances
    report: Report
    questions: StateQuestions
    faults: list[FaultSeen] = field(default_factory=list)
    horizon: float = 0.0


@dataclass(slots=True, eq=False)
class _Session:
    """One session of a trace."""

    kind: str
    clients: set[str] = field(default_factory=set)
    lease: LeaseSeen | None = None
    id_offset: int = 0
    is_ours: bool = True
    has_replica: bool = False
    deadlines: dict[int, tuple[_OpenCall, float]] = field(default_factory=dict)
    returned: dict[int, list[_Waiting]] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _OpenCall:
    asked: Asked
    place: Place
    mono: float


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A call that has its answer and waits for the replica; it was asked and is due then."""

    returned: Returned
    place: Place
    asked: float
    deadline: float


@dataclass(frozen=True, slots=True)
class _Late:
    """A call that was late, unless its process was stopped since it was asked. Monotonic times."""

    asked_wall: float
    asked: float
    deadline: float
    until: float
    finding: Finding


@dataclass(slots=True, eq=False)
class _OpenWatch:
    check: WatchCheck
    session: int
    opened: int
    from_now_on: bool
    own_first: int | None = None


class TraceCheck:
    """One trace, record by record."""

    def __init__(self, evidence: Evidence, name: str) -> None:
        self.name = name
        self.header: Header | None = None
        self.records = self.calls = self.items = 0
        self.offset = ClockOffset()
        self.leases: list[LeaseSeen] = []
        self.late: list[_Late] = []
        self.last_wall = 0.0
        self._evidence = evidence
        self._report = evidence.report
        self._sessions: dict[int, _Session] = {}
        self._open: dict[tuple[int, int], _OpenCall] = {}
        self._watches: dict[int, _OpenWatch] = {}
        self._damaged = False
        self._last = Place(name)
        self._last_mono = 0.0
        self._take: dict[type[Body], Callable[[Any, Place, float], None]] = {
            Joining: self._joining,
            Bound: self._bound,
            Left: self._left,
            Renewed: self._renewed,
            Asked: self._asked,
            Answered: self._answered,
            Cancelled: self._cancelled,
            Returned: self._returned,
            Reached: self._reached,
            Watched: self._watched,
            Began: self._began,
            Given: self._given,
            Progressed: self._progressed,
            Skipped: self._skipped,
            Unwatched: self._unwatched,
            Fingerprinted: self._fingerprinted,
            Noted: self._noted,
        }

    def __repr__(self) -> str:
        return f"<TraceCheck {self.name} {self.records} records>"

    def take(self, record: TraceRecord | Damage) -> None:
        """Take the next record."""
        if isinstance(record, Damage):
            self._take_damage(record)
            return
        self.records += 1
        self._last = Place(self.name, record.number, record.wall)
        self._last_mono, self.last_wall = record.mono, record.wall
        take = self._take.get(type(record.body))
        if take is not None:
            take(record.body, self._last, record.mono)

    def finish(self, ending: Ending) -> None:
        """Note that there is no more."""
        for call in self._open.values():
            if call.asked.by_program:
                self._check_deadline(self._seen(call, None, None), self._last_mono)
        for watch in self._watches.values():
            self._add(watch.check.ended(self._last))
        for session in self._sessions.values():
            for returned in session.returned.values():
                for each in returned:
                    if ending is Ending.CLOSED or self._last_mono > each.deadline + 1.0:
                        self._not_there_yet(each.returned, each.place, each.returned.replica)
        self._report.checked[TRACE] += 1
        program = f"{self.header.program} ({self.header.pid})" if self.header else "?"
        shown = (self.records, self.calls, self.items, ending.value)
        self._report.traces.append(TraceSummary(self.name, program, *shown))

    # --- damage ---

    def _take_damage(self, damage: Damage) -> None:
        self._report.add(Finding(TRACE, Place(self.name, damage.after), damage.what))
        self._damaged = True
        self._open.clear()
        for watch in self._watches.values():
            watch.check.lose_track()
        for session in self._sessions.values():
            session.returned.clear()
        for lease in self.leases:
            lease.is_whole = False
        self._unchecked("G1 to G10: what the damaged part of a trace would have shown")

    def _unchecked(self, what: str) -> None:
        self._report.unchecked[what] += 1

    def _add(self, findings: Iterator[Finding]) -> None:
        for each in findings:
            self._report.add(each)

    def _odd(self, place: Place, what: str) -> None:
        """A record that makes no sense after those before it."""
        if not self._damaged:
            self._report.add(Finding(TRACE, place, what))

    # --- its leases ---

    def _session(self, number: int) -> _Session:
        """Where damage has taken a session's beginning, nothing of it can be compared."""
        return self._sessions.setdefault(number, _Session("session", is_ours=False))

    def _joining(self, body: Joining, _place: Place, _mono: float) -> None:
        self._sessions[body.session] = _Session(body.kind)

    def _bound(self, body: Bound, place: Place, _mono: float) -> None:
        session, history = self._session(body.session), self._evidence.history
        if history.cluster_id not in (None, body.cluster_id):
            if session.is_ours:
                what = f"was recorded in cluster {body.cluster_id}, the journal is of another one"
                found = (history.cluster_id or "", body.cluster_id)
                self._report.add(Finding(TRACE, place, f"{self.name} {what}", *found))
            session.is_ours = False
            return
        session.id_offset = body.id_offset
        if body.client not in session.clients:
            session.clients.add(body.client)
            self._new_lease(session, body, place)

    def _new_lease(self, session: _Session, body: Bound, place: Place) -> None:
        history, pid = self._evidence.history, self.header.pid if self.header else None
        seen = LeaseSeen(place, body.client, session.kind, pid, body.ttl_s, self.offset)
        session.lease = seen
        self.leases.append(seen)
        is_known = body.client in history.lives or session.kind == "guest"
        if not is_known and body.head >= history.floor - 1 and not history.is_lost(body.head):
            what = f"{session.kind} {body.client} was welcomed, and is not in the journal"
            self._report.add(Finding("G4", place, what, seqs=(body.head,)))

    def _left(self, body: Left, place: Place, _mono: float) -> None:
        lease = self._session(body.session).lease
        if lease is not None:
            lease.left = place.wall

    def _renewed(self, body: Renewed, place: Place, _mono: float) -> None:
        lease = self._session(body.session).lease
        if lease is not None and place.wall is not None:
            lease.renewed.append(place.wall)

    # --- its calls ---

    def _asked(self, body: Asked, place: Place, mono: float) -> None:
        self._open[body.session, body.call] = _OpenCall(body, place, mono)
        lease = self._session(body.session).lease
        if body.name == Goodbye.__name__ and lease is not None and lease.leaving is None:
            lease.leaving = place.wall

    def _cancelled(self, body: Cancelled, _place: Place, _mono: float) -> None:
        self._open.pop((body.session, body.call), None)

    def _answered(self, body: Answered, place: Place, mono: float) -> None:
        opened = self._open.pop((body.session, body.call), None)
        if opened is None:
            self._odd(place, f"call {body.call} was answered, but never asked")
            return
        self.calls += 1
        session = self._session(body.session)
        call = self._seen(opened, _outcome(body), mono)
        if opened.asked.by_program:
            self._check_deadline(call, None)
            if session.has_replica:
                session.deadlines[body.call] = (opened, call.deadline)
        if not session.is_ours or not session.clients:
            return
        evidence = self._evidence
        self._add(check_effect(evidence.history, call, self._report.checked))
        evidence.questions.ask_answer(call)
        if body.code is None:
            self._learn(session, opened, call, place)

    def _learn(self, session: _Session, opened: _OpenCall, call: CallSeen, place: Place) -> None:
        """An answered call tells that the lease lived, and how the clocks lie."""
        asked, answered = opened.place.wall or 0.0, place.wall or 0.0
        self._evidence.horizon = max(self._evidence.horizon, answered)
        if session.lease is not None:
            session.lease.heard.append(asked)
        if is_goodbye(call):
            if session.lease is not None and isinstance(call.outcome, Done):
                session.lease.goodbye = answered
                session.lease.goodbye_seq = call.outcome.seq
            return
        for caused in transactions_of(self._evidence.history, call):
            event = self._evidence.history.get(caused.last)
            if event is not None:
                self.offset.learn(asked=asked, stored=event.wall_time, answered=answered)
                self._own_event(session, opened, caused.last)

    def _own_event(self, session: _Session, opened: _OpenCall, seq: int) -> None:
        """A watcher from now on, opened before a call was asked, gets what the call makes."""
        for watch in self._watches.values():
            asked_later = (opened.place.record or 0) > watch.opened
            is_first = watch.own_first is None and self._sessions.get(watch.session) is session
            if watch.from_now_on and asked_later and is_first:
                watch.own_first = seq

    def _seen(self, opened: _OpenCall, outcome: Outcome | None, ended: float | None) -> CallSeen:
        asked, session = opened.asked, self._session(opened.asked.session)
        return CallSeen(
            opened.place,
            session.clients,
            session.kind,
            asked.call + session.id_offset,
            asked.name,
            asked.command,
            opened.mono,
            opened.mono + asked.timeout_s,
            outcome,
            ended,
            self.header.pid if self.header else None,
        )

    def _check_deadline(self, call: CallSeen, now: float | None) -> None:
        """G9, unless the process was stopped meanwhile: that is decided at the end."""
        self._report.checked["G9"] += 1
        for found in check_ended(call, now, self._evidence.tolerances.stall_s):
            until = call.ended if call.ended is not None else now
            asked_wall = call.place.wall or 0.0
            self.late.append(_Late(asked_wall, call.asked, call.deadline, until or 0.0, found))

    def _returned(self, body: Returned, place: Place, mono: float) -> None:
        session = self._session(body.session)
        opened, deadline = session.deadlines.pop(body.call, (None, mono))
        self._report.checked["G6"] += 1
        if body.replica < body.seq:
            asked = opened.mono if opened is not None else mono
            waiting = _Waiting(body, place, asked, deadline)
            session.returned.setdefault(body.seq, []).append(waiting)

    def _reached(self, body: Reached, place: Place, mono: float) -> None:
        waiting = self._session(body.session).returned
        returned = waiting.pop(body.seq, [])
        if len(returned) > 1:
            waiting[body.seq] = returned[1:]
        for each in returned[:1]:
            if body.code is None and body.replica < body.seq:
                self._not_there_yet(each.returned, place, body.replica)
            self._check_reached(each, place, mono)

    def _check_reached(self, waiting: _Waiting, place: Place, mono: float) -> None:
        """G9: what a call takes until the replica is there too counts in its deadline."""
        late = mono - waiting.deadline
        if late > self._evidence.tolerances.stall_s:
            call = waiting.returned.call
            what = f"call {call} ended {late:.3f} s after its deadline, waiting for the replica"
            since = (place.wall or 0.0) - (mono - waiting.asked)
            found = Finding("G9", place, what, seqs=(waiting.returned.seq,))
            self.late.append(_Late(since, waiting.asked, waiting.deadline, mono, found))

    def _not_there_yet(self, returned: Returned, place: Place, replica: int) -> None:
        what = f"call {returned.call} returned while the replica was not there yet"
        found = Finding("G6", place, what, f"seq {returned.seq}", f"seq {replica}", (returned.seq,))
        self._report.add(found)

    # --- its watchers ---

    def _watched(self, body: Watched, place: Place, _mono: float) -> None:
        prefix = tuple(body.prefix)
        if body.is_replica:
            self._session(body.session).has_replica = True
        kind = "the replica" if body.is_replica else f"the watcher of {'/'.join(prefix)!r}"
        report = self._report
        check = WatchCheck(
            self._evidence.history, kind, prefix, body.after, report.checked, report.unchecked
        )
        from_now_on = body.after is None and not body.is_replica
        number = place.record or 0
        self._watches[body.watch] = _OpenWatch(check, body.session, number, from_now_on)

    def _watch(self, number: int, place: Place) -> WatchCheck | None:
        watch = self._watches.get(number)
        if watch is None:
            self._odd(place, f"an item for watcher {number}, which was never opened")
            return None
        self.items += 1
        session = self._sessions.get(watch.session)
        return watch.check if session is None or session.is_ours else None

    def _began(self, body: Began, place: Place, _mono: float) -> None:
        check = self._watch(body.watch, place)
        if check is not None and check.position is None:
            check.begin(body.after)

    def _given(self, body: Given, place: Place, _mono: float) -> None:
        check = self._watch(body.watch, place)
        if check is not None:
            self._add(check.event(GivenEvent(body.seq, body.digest), place))
            self._drained(check, body.left, place)

    def _progressed(self, body: Progressed, place: Place, _mono: float) -> None:
        check = self._watch(body.watch, place)
        if check is not None:
            self._drained(check, body.left, place)
            self._add(check.progress(body.seq, place))

    def _drained(self, check: WatchCheck, left: int, place: Place) -> None:
        if not left:
            self._add(check.drained(place))

    def _skipped(self, body: Skipped, place: Place, _mono: float) -> None:
        check = self._watch(body.watch, place)
        if check is not None:
            self._add(check.compacted(body.seq, place, diverged=body.diverged))
            if body.fingerprint:
                who = "the snapshot it was given"
                self._ask_fingerprint(body.seq, body.fingerprint, place, who)

    def _unwatched(self, body: Unwatched, place: Place, _mono: float) -> None:
        """What was at hand may still be taken after this."""
        watch = self._watches.get(body.watch)
        if watch is not None and watch.own_first is not None:
            self._add(watch.check.began_before(watch.own_first, place))

    def _fingerprinted(self, body: Fingerprinted, place: Place, _mono: float) -> None:
        if self._session(body.session).is_ours:
            self._ask_fingerprint(body.seq, body.fingerprint, place, f"the {body.of}")

    def _ask_fingerprint(self, seq: int, fingerprint: str, place: Place, who: str) -> None:
        self._report.checked["G10"] += 1
        self._evidence.questions.ask_fingerprint(seq, fingerprint, place, who)

    # --- an observer's ---

    def _noted(self, body: Noted, place: Place, _mono: float) -> None:
        self._evidence.faults.append(FaultSeen(place.wall or 0.0, body.fault, body.pid))


_DONE = frozenset(kind.__name__ for kind in get_args(ChangeReply))


def _outcome(body: Answered) -> Outcome:
    if body.code is not None:
        return Refusal(body.code, body.message or "")
    if body.reply in _DONE and body.seq is not None:
        return Done(body.seq)
    return body.reply or "nothing"


