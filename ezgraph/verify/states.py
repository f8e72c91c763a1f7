"""Questions to the states of a history, all answered on one way through it. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ezgraph.errors import EzGraphError
from ezgraph.protocol.replies import Done
from ezgraph.verify.calls import CallSeen, check_answer, is_goodbye
from ezgraph.verify.findings import IN_JOURNAL, JOURNAL, Finding, Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ezgraph.state.graph import GraphState
    from ezgraph.verify.history import History
    from ezgraph.verify.ownership import OwnershipCheck

EVENTS_PER_REPORT = 2_000


@dataclass(frozen=True, slots=True)
class _Fingerprint:
    """What somebody's state was at a seq."""

    fingerprint: str
    place: Place
    who: str


class StateQuestions:
    """What is to be asked of the state at which seq."""

    def __init__(self, history: History, unchecked: Counter[str] | None = None) -> None:
        self._history = history
        self._unchecked: Counter[str] = Counter() if unchecked is None else unchecked
        self._calls: dict[int, list[CallSeen]] = {}
        self._fingerprints: dict[int, list[_Fingerprint]] = {}

    def __repr__(self) -> str:
        return f"<StateQuestions at {len(self._calls) + len(self._fingerprints)} seqs>"

    def ask_answer(self, call: CallSeen) -> None:
        """Ask whether an answered call was answered truly (G4)."""
        if isinstance(call.outcome, Done) and not is_goodbye(call):
            self._calls.setdefault(call.outcome.seq, []).append(call)

    def ask_fingerprint(self, seq: int, fingerprint: str, place: Place, who: str) -> None:
        """Ask whether the state has this fingerprint at ``seq`` (G10)."""
        asked = _Fingerprint(fingerprint, place, who)
        self._fingerprints.setdefault(seq, []).append(asked)

    def at(self, state: GraphState) -> Iterator[Finding]:
        """Answer what is asked of this state."""
        seq = state.seq
        for call in self._calls.pop(seq, ()):
            yield from check_answer(call, state)
        if asked := self._fingerprints.pop(seq, ()):
            true = state.fingerprint()
            for each in asked:
                if each.fingerprint != true:
                    what = f"{each.who} differs from the fold of the journal at {seq}"
                    yield Finding("G10", each.place, what, true, each.fingerprint, (seq,))

    def answers(self) -> Iterator[Finding]:
        """Go through the history and answer everything."""
        yield from walk(self._history, self, None)

    def left(self, *, through: int | None) -> Iterator[Finding]:
        """Say what could not be answered, the states being known up to ``through``."""
        if self._history.is_absent:
            return
        for seq, calls in self._calls.items():
            if (why := self._unknown(seq, through)) is not None:
                self._unchecked[f"G4: answers {why}"] += len(calls)
            elif seq <= self._history.head:
                missing = self._history.get(seq) is None
                why = "which is not in the journal" if missing else "in mid-transaction"
                for call in calls:
                    what = f"{call} was answered with {seq}, {why}"
                    yield Finding("G4" if missing else "G3", call.place, what, seqs=(seq,))
        for seq, asked in self._fingerprints.items():
            if (why := self._unknown(seq, through)) is not None:
                self._unchecked[f"G10: fingerprints {why}"] += len(asked)
                continue
            missing = self._history.get(seq) is None
            why = "which is not in the journal" if missing else "where no transaction ends"
            for each in asked:
                what = f"{each.who} stood at {seq}, {why}"
                yield Finding("G4" if missing else "G10", each.place, what, seqs=(seq,))

    def _unknown(self, seq: int, through: int | None) -> str | None:
        if seq < self._history.known_from:
            return f"below {self._history.known_from}, where the journal knows no state"
        if self._history.is_lost(seq):
            return "of a history that a restored backup has replaced"
        if through is not None and seq > through:
            return f"above {through}, where the journal cannot be replayed"
        return None


def walk(
    history: History,
    questions: StateQuestions,
    ownership: OwnershipCheck | None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Iterator[Finding]:
    """Fold the history once: answer the questions, and look at what owns what."""
    state = history.first_state()
    through: int | None = None
    yield from questions.at(state)
    bases = dict(history.gaps)
    done = 0
    for events in history.transactions():
        done += len(events)
        if done % EVENTS_PER_REPORT < len(events):
            on_progress(done)
        if events[-1].seq <= history.known_from:
            continue
        try:
            if ownership is not None:
                yield from ownership.before(state, events)
            for event in events:
                state.apply(event)
        except (EzGraphError, LookupError, ValueError, TypeError, AttributeError) as error:
            seq, through = events[0].seq, state.seq
            what = f"it cannot be replayed from seq {seq} on: {error!r}"
            yield Finding(JOURNAL, IN_JOURNAL, what, seqs=(seq,))
            break
        if ownership is not None:
            yield from ownership.after(state)
        yield from questions.at(state)
        if (base := bases.get(state.seq)) is not None:
            state.epoch, state.seq = state.epoch + 1, base
            yield from questions.at(state)
    if ownership is not None and through is None:
        yield from ownership.whole(state)
    yield from questions.left(through=through)
