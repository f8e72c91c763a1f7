"""How a broker takes up where its journal ends: the newest checkpoint, and the tail after it.

The state is their fold, the live set what of them still counts. All of the tail, and the latest
events before it, also tell what leases that have ended lost, and which requests were answered.
What was answered before the checkpoint stands in the checkpoint itself, in blobs that are named
after the client; and where the wall clock went back, in one of its own (all other blobs are named
by their content's hash).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from ezgraph.backends.clock_steps import BLOB, ClockSteps
from ezgraph.broker.live import LiveSet
from ezgraph.protocol.replies import Answered
from ezgraph.state.graph import GraphState
from ezgraph.wire import codec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ezgraph.backends.base import Checkpoint, Journal
    from ezgraph.protocol.events import Event

_REMEMBERED_EVENTS = 20_000
_ANSWERED = b"answered "


class Restart(NamedTuple):
    """What a journal comes to. ``checkpoint_seq`` is 0 if it has none."""

    state: GraphState
    live: LiveSet
    history: list[Event]
    answered: list[Answered]
    checkpoint_seq: int
    clock_steps: ClockSteps


def restart(journal: Journal) -> Restart:
    """Return what ``journal`` comes to at its head.

    Raises:
        JournalCorruptError: a record or every checkpoint that it needs is damaged.
    """
    checkpoint = journal.load_checkpoint()
    counting: list[Event] = []
    answered: list[Answered] = []
    seq, steps = 0, ClockSteps()
    if checkpoint is not None:
        seq, steps = checkpoint.seq, _clock_steps(checkpoint)
        counting += (codec.decode_live_event(e, checkpoint.blobs) for e in checkpoint.entries)
        answered += _answered_in(checkpoint)
    before: deque[Event] = deque(maxlen=_REMEMBERED_EVENTS)
    tail: list[Event] = []
    for event in _latest(journal, seq):
        (tail if event.seq > seq else before).append(event)
    for event in tail:
        steps.take(event.seq, event.wall_time)
    counting += tail
    state = GraphState.fold(counting, epoch=journal.epoch, seq=journal.head)
    return Restart(state, LiveSet.of(counting), [*before, *tail], answered, seq, steps)


def _clock_steps(checkpoint: Checkpoint) -> ClockSteps:
    """Return the steps before a checkpoint; one of an older ezgraph tells of none."""
    blob = checkpoint.blobs.get(BLOB)
    return ClockSteps(checkpoint.seq + 1) if blob is None else ClockSteps.of_blob(blob)


def _latest(journal: Journal, seq: int) -> Iterator[Event]:
    """Yield what came after ``seq``, and before that as much as is to be remembered."""
    after = min(seq, journal.before(journal.head, _REMEMBERED_EVENTS))
    after = max(after, journal.floor - 1)
    while after < journal.head:
        chunk = journal.read(after)
        yield from map(codec.decode_event, chunk.events)
        after = chunk.through


def answered_blobs(answered: Iterable[Answered]) -> dict[bytes, bytes]:
    """Return, as blobs of a checkpoint, which requests may still be repeated."""
    return {_ANSWERED + each.client.encode(): codec.encode(each) for each in answered}


def is_for_clients(name: bytes) -> bool:
    """Say whether a checkpoint's blob is one that its entries refer to; the others are ours."""
    return not name.startswith(_ANSWERED) and name != BLOB


def _answered_in(checkpoint: Checkpoint) -> Iterator[Answered]:
    for name, packed in checkpoint.blobs.items():
        if name.startswith(_ANSWERED):
            yield codec.decode(packed, Answered)
