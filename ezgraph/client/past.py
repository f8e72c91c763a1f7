"""The state as it was at a seq, pulled from a broker part by part. Pure.

First the newest checkpoint at or before the seq, its blobs before its entries, then what counts of
the events behind it (`ezgraph.state.past`); the state is their fold. A checkpoint can go while it
is read, and history can be compacted: then it begins anew, a few times. Where a checkpoint is
damaged the one before it serves, as when the journal's file itself is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from ezgraph.errors import (
    CompactedError,
    EzGraphError,
    JournalCorruptError,
    MalformedMessageError,
)
from ezgraph.protocol.replies import CheckpointChunk, StretchChunk
from ezgraph.protocol.stored_commands import ReadCheckpoint, ReadStretch
from ezgraph.state.past import Stretch, state_after
from ezgraph.wire import codec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.protocol.events import Event
    from ezgraph.state.graph import GraphState

_TRIES = 5
_MISFITS = (EzGraphError, LookupError, TypeError, ValueError, AttributeError)
PastChunk = CheckpointChunk | StretchChunk


class PastPull:
    """What was fetched so far of the state at ``seq``, and what is to be asked next."""

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self._not_above = seq  # a checkpoint above this one is damaged
        self._tries = 0
        self._damage: JournalCorruptError | None = None
        self._epoch: int | None = None
        self._begin()

    def _begin(self) -> None:
        self._tries += 1
        self._checkpoint: int | None = None
        self._start: int | None = 0
        self._after = 0
        self._entries: list[bytes] = []
        self._blobs: dict[bytes, bytes] = {}
        self._stretch = Stretch()

    def __repr__(self) -> str:
        return (
            f"<PastPull seq={self.seq} checkpoint={self._checkpoint} entries={len(self._entries)} "
            f"{self._stretch!r} through={self._after}>"
        )

    def wants(self) -> ReadCheckpoint | ReadStretch | None:
        """Return what to ask next; None: it is complete."""
        if self._start is not None:
            at = self._not_above if self._checkpoint is None else self._checkpoint
            return ReadCheckpoint(at, self._start)
        return ReadStretch(self._after, self.seq) if self._after < self.seq else None

    def take(self, chunk: PastChunk) -> None:
        """Take the answer to what was asked.

        Raises:
            MalformedMessageError: it is none.
            CompactedError: checkpoints went faster than they could be read.
        """
        match chunk:
            case CheckpointChunk():
                self._take_checkpoint(chunk)
            case StretchChunk():
                self._take_stretch(chunk)
            case _:
                assert_never(chunk)

    def _take_checkpoint(self, chunk: CheckpointChunk) -> None:
        if self._start is None or (self._start > 0 and self._checkpoint != chunk.at):
            self._begin_anew()  # the one that was being read is gone
            return
        if self._epoch is None:
            self._epoch = chunk.epoch
        self._checkpoint = chunk.at
        self._entries += chunk.entries
        self._blobs.update(chunk.blobs)
        if chunk.next_start is not None and chunk.next_start <= self._start:
            raise MalformedMessageError(f"a checkpoint does not go on from {self._start}")
        self._start, self._after = chunk.next_start, chunk.after

    def _take_stretch(self, chunk: StretchChunk) -> None:
        if not self._after < chunk.through <= self.seq:
            raise MalformedMessageError(
                f"the events behind {self._after} are said to be complete up to {chunk.through}"
            )
        try:
            for record in zip(chunk.seqs, chunk.topics, chunk.events, strict=True):
                self._stretch.add(*record)
        except ValueError as error:
            raise MalformedMessageError(f"events and topics do not match: {error}") from error
        self._after = chunk.through

    def take_error(self, error: EzGraphError) -> None:
        """Take a refusal of what was asked: go another way, if there is one, or raise it."""
        if isinstance(error, CompactedError) and self._start is None and self._tries < _TRIES:
            self._begin()
        elif isinstance(error, JournalCorruptError) and self._is_in_checkpoint:
            self._damage = error
            self._not_above = (self._checkpoint or 1) - 1
            self._begin()
        elif self._damage is not None:
            raise self._damage from error  # there is no other way, and this is why
        else:
            raise error

    @property
    def _is_in_checkpoint(self) -> bool:
        return bool(self._start) and bool(self._checkpoint) and self._tries < _TRIES

    def _begin_anew(self) -> None:
        if self._tries >= _TRIES:
            raise CompactedError(
                f"the state at seq {self.seq} could not be read: the checkpoint before it went "
                f"{_TRIES} times while it was read; ask again when the broker has less to do"
            )
        self._begin()

    def state(self) -> GraphState:
        """Return the state, when it is complete.

        Raises:
            JournalCorruptError: what was fetched does not add up to a state.
        """
        live, epoch = self._live(), self._epoch or 0
        try:
            return state_after(
                live, self._stretch, codec.decode_event, epoch=epoch, seq=self.seq
            )
        except _MISFITS as error:
            raise JournalCorruptError(
                f"the history up to seq {self.seq} does not add up to a state: {error!r}; see "
                f"'ezgraph journal check' on the broker's host"
            ) from error

    def _live(self) -> Iterator[Event]:
        for entry in self._entries:
            yield codec.decode_live_event(entry, self._blobs)
