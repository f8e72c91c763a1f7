"""What one watcher was given, compared with the journal: G1, G2, G3. Pure."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ezgraph.protocol.events import Event
from ezgraph.verify.findings import Finding, Place, shown_seqs

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from ezgraph.names import Key
    from ezgraph.verify.history import History


_BELOW = (
    "G2: events below the floor of the journal, or of a history that a restored backup has replaced"
)


@dataclass(frozen=True, slots=True)
class GivenEvent:
    """An event as a watcher's consumer got it: itself, or a digest of its encoding."""

    seq: int
    what: Event | str


class WatchCheck:
    """One watcher, item by item.

    ``position`` is the seq after which it begins, and later the last word of progress; None: not
    known yet. Below the journal's floor, and in a history that a restored backup has replaced,
    there is nothing to compare with: ``unchecked`` counts that.
    """

    def __init__(
        self,
        history: History,
        name: str,
        prefix: Key,
        position: int | None,
        checked: Counter[str],
        unchecked: Counter[str],
    ) -> None:
        self.prefix = prefix
        self.position = position
        self._history = history
        self._name = name
        self._checked = checked
        self._unchecked = unchecked
        self.began: int | None = position
        self._given: list[int] = []
        self._is_blind = False

    def __repr__(self) -> str:
        return f"<WatchCheck {self._name} position={self.position}>"

    @property
    def _latest(self) -> int:
        return self._given[-1] if self._given else self.position or 0

    def begin(self, after: int | None) -> None:
        """Note after which seq it begins, as found when it was opened."""
        self.position = self.began = after

    def event(self, given: GivenEvent, place: Place) -> Iterator[Finding]:
        """Take an event."""
        seq = given.seq
        self._checked["G1"] += 1
        if self._is_blind:
            return
        if self.position is None:
            yield self._found("G2", place, "events before any word of progress", seq)
            self.position = seq - 1
        if seq <= self._latest:
            again = "again" if seq in self._given else f"after {self._latest}"
            yield self._found("G1", place, f"{seq} came {again}", seq)
            if seq in self._given or seq <= (self.position or 0):
                return
        insort(self._given, seq)
        yield from self._compare(given, place)

    def _compare(self, given: GivenEvent, place: Place) -> Iterator[Finding]:
        seq, history = given.seq, self._history
        stored = history.get(seq)
        if stored is None:
            if self._is_known(seq):
                yield self._found("G4", place, f"was given {seq}, which is not in the journal", seq)
        elif isinstance(given.what, Event):
            if given.what != stored:
                yield self._found("G2", place, f"{seq} is not as stored", seq)
        elif not history.is_stored(seq, given.what):
            yield self._found("G2", place, f"{seq} is not as stored", seq)

    def progress(self, seq: int, place: Place) -> Iterator[Finding]:
        """Take the word that everything up to ``seq`` was given."""
        history, self._is_blind = self._history, False
        if self.position is None:
            self.position = seq
        if seq < self.position or (self._given and seq < self._given[-1]):
            was = max(self.position, self._latest)
            yield self._found("G1", place, f"the word of progress went back from {was}", seq)
            return
        if history.is_lost(self.position) and not history.is_lost(seq):
            yield self._found(
                "G2", place, f"went on from {self.position} to {seq} although the journal was "
                f"restored in between, and was not told so", seq,
            )
        yield from self._complete(seq, place)
        self.position, self._given = seq, []

    def compacted(self, seq: int, place: Place, *, diverged: bool = False) -> Iterator[Finding]:
        """Take the word that history is gone, and a snapshot at ``seq`` in its place."""
        if self.position is not None and seq < self._latest and not diverged:
            yield self._found("G1", place, f"a snapshot at {seq} came after {self._latest}", seq)
        self.position, self._given, self._is_blind = seq, [], False

    def drained(self, place: Place) -> Iterator[Finding]:
        """Note that nothing more is at hand: all of the last transaction must have been given."""
        last = self._history.get(self._given[-1]) if self._given else None
        if last is not None:
            yield from self.in_part(last, place)

    def in_part(self, last: Event, place: Place) -> Iterator[Finding]:
        """G3: after ``last`` no event of its transaction that matches may be outstanding."""
        self._checked["G3"] += 1
        if last.seq == last.txn_last:
            return
        rest = self._history.under(self.prefix, last.seq, last.txn_last)
        if rest:
            what = f"was given {last.seq} but not yet {shown_seqs(rest)} of the same transaction"
            yield self._found("G3", place, what, last.seq)

    def ended(self, place: Place) -> Iterator[Finding]:
        """Note that there is no more."""
        if self._given:
            yield from self._complete(self._given[-1], place)

    # --- inside ---

    def _complete(self, through: int, place: Place) -> Iterator[Finding]:
        after = self.position or 0
        self._checked["G2"] += 1
        expected = self._history.under(self.prefix, after, through)
        given = self._given
        if given and not self._is_known(given[0]):
            if not self._history.is_absent:
                self._unchecked[_BELOW] += 1
            given = [seq for seq in given if self._is_known(seq)]
        if expected == given:
            return
        lost, extra = sorted(set(expected) - set(given)), sorted(set(given) - set(expected))
        extra = [seq for seq in extra if self._history.get(seq) is not None]
        span = f"in ({after}, {through}]"
        if lost:
            yield self._found("G2", place, f"lost {shown_seqs(lost)} {span}", *lost)
        if extra:
            what = f"was given {shown_seqs(extra)} {span}, which are not under its prefix"
            yield self._found("G2", place, what, *extra)

    def _is_known(self, seq: int) -> bool:
        return seq >= self._history.floor and not self._history.is_lost(seq)

    def began_before(self, seq: int, place: Place) -> Iterator[Finding]:
        """G2: who watches from now on gets what was asked for later, which ``seq`` was."""
        if self.began is not None and self.began >= seq:
            what = f"began after {self.began}, although {seq} was asked for later"
            yield self._found("G2", place, what, seq)

    def lose_track(self) -> None:
        """Note that some of its items are not known: go on from the next word of progress."""
        self.position, self._given, self._is_blind = None, [], True

    def _found(self, guarantee: str, place: Place, what: str, *seqs: int) -> Finding:
        return Finding(guarantee, place, f"{self._name} {what}", seqs=seqs[:100])
