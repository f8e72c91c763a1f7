"""Was every promise kept? The checks of `ezgraph.verify`, for what simulated clients saw.

`History` is the truth: every event ever stored. What watchers were given, what callers were told
and what replicas hold is compared with it. A check raises `BrokenPromiseError`, which begins with
the guarantee's name.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ezgraph.client.watch import Compacted, Progress
from ezgraph.errors import EzGraphError
from ezgraph.protocol.events import Event
from ezgraph.protocol.replies import ChangeReply, Done, Refusal
from ezgraph.verify.calls import CallSeen, check_effect, check_ended
from ezgraph.verify.effects import is_true
from ezgraph.verify.findings import BrokenPromiseError, Place, demand_none
from ezgraph.verify.history import History
from ezgraph.verify.ownership import state_lacks
from ezgraph.verify.states import StateQuestions
from ezgraph.verify.structure import check_structure
from ezgraph.verify.watching import GivenEvent, WatchCheck

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ezgraph.state.graph import GraphState
    from ezgraph.testing.client import Call, SimulatedClient, WatchRecord
    from ezgraph.verify.calls import Outcome

__all__ = [
    "BrokenPromiseError",
    "History",
    "check_calls",
    "check_history",
    "check_replica",
    "check_state",
    "check_watch",
    "is_true",
]

_LATE_S = 0.05


def check_history(history: History) -> None:
    """G1, G3, G5, G7: dense, in whole transactions, each request once, nothing orphaned."""
    demand_none(check_structure(history))


def check_state(state: GraphState) -> None:
    """G7: everything has an owner that is there; the edges are free of loops."""
    for what in state_lacks(state):
        raise BrokenPromiseError(f"G7: {what}")


def check_watch(history: History, record: WatchRecord) -> None:
    """G1, G2, G3: in order, once, complete at every word of progress, whole transactions."""
    place = Place(repr(record))
    name = f"the watcher of {'/'.join(record.prefix)!r}"
    check = WatchCheck(history, name, record.prefix, record.start, Counter(), Counter())
    for item in record.items:
        demand_none(_take(check, item, place))
    demand_none(check.ended(place))
    for batch in record.batches:
        if events := [item for item in batch if isinstance(item, Event)]:
            demand_none(check.in_part(events[-1], place))


def _take(check: WatchCheck, item: Any, place: Place) -> Any:  # noqa: ANN401
    match item:
        case Event():
            return check.event(GivenEvent(item.seq, item), place)
        case Progress():
            return check.progress(item.seq, place)
        case Compacted():
            return check.compacted(item.seq, place, diverged=item.diverged)
        case _:
            raise AssertionError(f"a watcher was given {item!r}")


def check_calls(history: History, client: SimulatedClient) -> None:
    """G4, G5, G8, G9: what a caller was told is so, a refusal changed nothing, each call ended."""
    questions = StateQuestions(history)
    for call in client.calls:
        seen = _seen(client, call)
        demand_none(check_effect(history, seen, Counter()))
        if not client.gone:
            now = client.network.now
            stalled_s = max(0.0, client.busy_until - call.deadline)
            demand_none(check_ended(seen, now, stalled_s + _LATE_S))
        questions.ask_answer(seen)
    demand_none(questions.answers())


def _seen(client: SimulatedClient, call: Call) -> CallSeen:
    return CallSeen(
        Place(client.name),
        client.lease_ids,
        client.kind,
        call.request_id,
        type(call.command).__name__,
        call.command,
        call.started,
        call.deadline,
        _outcome(call.result),
        call.ended,
        client.pid,
    )


def _outcome(result: object) -> Outcome | None:
    match result:
        case Done():
            return result
        case _ if isinstance(result, ChangeReply):
            return Done(result.seq)
        case EzGraphError():
            return Refusal(result.code, str(result))
        case None:
            return None
        case _:
            return type(result).__name__


def check_replica(history: History, taken: Iterable[tuple[int, str]]) -> None:
    """G10: a replica's fingerprints are those of the broker's history at the same seqs."""
    questions = StateQuestions(history)
    for seq, fingerprint in taken:
        if seq:
            questions.ask_fingerprint(seq, fingerprint, Place("a replica"), "the replica")
    demand_none(questions.answers())
