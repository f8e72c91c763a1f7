"""A recording while it is made: a context in which partitions are linked to what made them.

Each step is told to the broker at once. So when the process crashes, what it had added is there,
with the snapshots that were in force; only the end is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, TypeVar

from ezgraph.clock import Deadline
from ezgraph.config import DEFAULT_TIMEOUT_S
from ezgraph.errors import (
    EzGraphError,
    InvalidValueError,
    MalformedMessageError,
    NoSessionError,
    RecordingEndedError,
)
from ezgraph.protocol.artifacts import Artifact, Partition, check_name
from ezgraph.protocol.replies import Frozen, RecordingStored
from ezgraph.protocol.stored_commands import Freeze, WriteRecording
from ezgraph.provenance.changes import SettingsChanges
from ezgraph.provenance.notes import RecordingNotes, Told

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from types import TracebackType

    from ezgraph.protocol.commands import Command
    from ezgraph.protocol.listing import SnapshotInfo
    from ezgraph.protocol.recordings import RecordingInfo
    from ezgraph.provenance.changes import RecordingSession

T = TypeVar("T")


class Recorder:
    """One recording of an artifact; use it with ``async with``, and `add` what was written in it.

    Entering freezes the rig: that snapshot is in force until settings change. Each partition is
    linked to every snapshot that was in force since the one before it was added, and stored at
    once. Leaving notes the last changes, freezes again, and ends the recording; if an exception
    leaves it, the recording is marked as failed, and keeps what was added.
    """

    def __init__(
        self,
        session: RecordingSession,
        artifact: Artifact,
        name: str,
        key: str | None,
        *,
        reason: str,
        with_content: Callable[[Partition], Awaitable[Partition]],
        reached: Callable[[int, float], Awaitable[None]],
        timeout: float,
    ) -> None:
        """``with_content`` gives a partition its content fingerprint, which may read a file.

        ``reached`` is told which seq each step has reached, and how many seconds are left for it.
        """
        if not isinstance(artifact, Artifact):
            raise InvalidValueError(f"a recording is of an Artifact, not of {artifact!r:.60}")
        check_name(name, "a graph")
        self._key = check_name(artifact.key if key is None else key, "an artifact")
        self._session = session
        self._artifact = artifact
        self._name = name
        self._reason = reason
        self._with_content = with_content
        self._reached = reached
        self._timeout = timeout
        self._known: RecordingNotes | None = None
        self._changes: SettingsChanges | None = None

    def __repr__(self) -> str:
        state = "not begun" if self._known is None else repr(self._known.info)
        return f"<Recorder {self._name!r} {self._key!r} {state}>"

    @property
    def recording(self) -> RecordingInfo:
        """What is known of the recording, apart from what was written in it.

        Raises:
            NoSessionError: it was not begun.
        """
        return self._notes.info

    @property
    def _notes(self) -> RecordingNotes:
        if self._known is None:
            raise NoSessionError(
                f"the recording of {self._key!r} was not begun: use `async with ctx.record(…) as "
                f"rec` (or `with` in ezgraph.sync) and add partitions inside"
            )
        return self._known

    async def __aenter__(self) -> Self:
        if self._known is not None:
            raise InvalidValueError(f"{self!r} was begun already; call ctx.record for another")
        deadline = Deadline(self._timeout)
        start = await self._freeze("began", deadline)
        self._changes = SettingsChanges(self._session, start.seq)
        self._known = RecordingNotes(
            self._artifact, self._key, start, session_id=self._session.client_id or ""
        )
        try:
            await self._look(deadline)  # who may not see changes is told before it has begun
            await self._tell_all([Told(self.recording, [], [])], deadline)
        except BaseException:
            self._known = None
            await self._follow_no_longer()
            raise
        return self

    async def add(
        self, *partitions: Partition, timeout: float = DEFAULT_TIMEOUT_S  # noqa: ASYNC109
    ) -> tuple[Partition, ...]:
        """Store partitions that were written in the recording; return them as they are stored.

        Each gets a content fingerprint if it has none: of the file's bytes, if its location is a
        file here (reading it takes its time, which is not in ``timeout``). Adding one again changes
        nothing. Without any, only changes of settings are noted, so that they are known whatever
        happens then.

        Raises:
            InvalidValueError: one is no Partition.
            RecordingEndedError: the recording has ended.
            LimitError, ForbiddenError: the broker does not take them; says why.
        """
        notes = self._notes
        if notes.info.has_ended:
            raise RecordingEndedError(
                f"{notes.info!r} has ended: add partitions within its block, or begin another"
            )
        for each in partitions:
            if not isinstance(each, Partition):
                raise InvalidValueError(f"{each!r:.60} is no Partition, so it cannot be added")
        kept = [await self._with_content(each) for each in partitions]
        deadline = Deadline(timeout)
        await self._look(deadline)
        if notes.must_freeze:
            await self._freeze_again("changed", deadline)
        await self._tell_all(notes.adding(kept), deadline)
        return tuple(kept)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._end(failed=error is not None)
        except EzGraphError as problem:
            if error is None:
                raise
            error.add_note(
                f"and the recording {self._key!r} #{self.recording.number} in graph "
                f"{self._name!r} could not be ended; what was added to it is stored: {problem}"
            )
        finally:
            await self._follow_no_longer()

    async def _follow_no_longer(self) -> None:
        changes, self._changes = self._changes, None
        if changes is not None:
            await changes.close()

    async def _end(self, *, failed: bool) -> None:
        deadline, notes = Deadline(self._timeout), self._notes
        end = await self._freeze_again("failed" if failed else "ended", deadline)
        await self._tell_all(notes.ending(end, failed=failed), deadline)

    # --- asking ---

    async def _freeze_again(self, what: str, deadline: Deadline) -> SnapshotInfo:
        """Freeze, and note what has changed up to there."""
        frozen = await self._freeze(what, deadline)
        self._notes.frozen(frozen)
        await self._look(deadline, through=frozen.seq)
        return frozen

    async def _freeze(self, what: str, deadline: Deadline) -> SnapshotInfo:
        reason = self._reason or f"recording of {self._key} {what}"
        frozen = await self._ask(Freeze(self._name, reason=reason), Frozen, deadline)
        return frozen.snapshot

    async def _look(self, deadline: Deadline, *, through: int | None = None) -> None:
        """Note the changes of settings that are not noted yet."""
        notes, changes = self._notes, self._changes
        if changes is not None:
            notes.note(await changes.behind(notes.info.noted_through, through, deadline))

    async def _tell_all(self, commands: Iterable[Told], deadline: Deadline) -> None:
        for told in commands:
            self._notes.begun(await self._tell(told, deadline))
            self._notes.added(told)

    async def _tell(self, told: Told, deadline: Deadline) -> RecordingInfo:
        command = WriteRecording(*told, reason=self._reason or None)
        stored = await self._ask(command, RecordingStored, deadline)
        await self._reached(stored.seq, deadline.left())
        return told.info.as_stored(stored.number, stored.wall_time, stored.author)

    async def _ask(self, command: Command, kind: type[T], deadline: Deadline) -> T:
        reply = await self._session.call(command, timeout=deadline.left())
        if not isinstance(reply, kind):
            raise MalformedMessageError(
                f"{type(command).__name__} was answered with {type(reply).__name__}, not "
                f"{kind.__name__}; is the broker of the same version?"
            )
        return reply
