"""The changes of settings during a recording, however long it takes.

They are followed while they happen, so that nothing has to be looked for later and compaction takes
none away. What has not arrived yet when it is to be known is read from the journal; where even that
is gone, of each component the last change is still to be seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ezgraph.client.watch import Compacted, Progress
from ezgraph.errors import CompactedError, MalformedMessageError
from ezgraph.protocol.commands import ReadEvents
from ezgraph.protocol.events import Event, SettingsChanged
from ezgraph.protocol.recordings import RecordedChange
from ezgraph.protocol.replies import EventRange
from ezgraph.provenance.notes import Noted
from ezgraph.wire import codec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ezgraph.clock import Deadline
    from ezgraph.names import Key
    from ezgraph.protocol.commands import Command
    from ezgraph.protocol.replies import Reply, Welcome
    from ezgraph.state.graph import GraphState

_SETTINGS = "settings"


class ChangesSubscription(Protocol):
    """What is needed of a subscription; both shells have it."""

    def take_arrived(self) -> object | None:
        """Return the next item if it is there already."""
        ...

    async def aclose(self) -> None:
        """End it."""
        ...


class RecordingSession(Protocol):
    """What one who records needs of a session; both shells have it."""

    @property
    def client_id(self) -> str | None:
        """The public id of the lease."""
        ...

    @property
    def welcome(self) -> Welcome | None:
        """What the broker said."""
        ...

    async def call(self, command: Command, *, timeout: float = ...) -> Reply:  # noqa: ASYNC109
        """Ask."""
        ...

    async def fetch_state(
        self, rooms: Sequence[str] = ..., *, timeout: float = ...  # noqa: ASYNC109
    ) -> tuple[GraphState, int]:
        """Fetch the state at one seq."""
        ...

    def watch(
        self, prefix: Key = ..., after: int | None = ..., *, with_state: bool = ...
    ) -> ChangesSubscription:
        """Subscribe."""
        ...


class SettingsChanges:
    """The changes of settings behind a seq, followed until `close`."""

    def __init__(self, session: RecordingSession, after: int) -> None:
        self._session = session
        self._subscription = session.watch((_SETTINGS,), after, with_state=False)
        self._heard_through = after

    def __repr__(self) -> str:
        return f"<SettingsChanges heard_through={self._heard_through}>"

    async def behind(self, after: int, through: int | None, deadline: Deadline) -> Noted:
        """Return the changes behind ``after``, complete up to ``through`` at least, or the head."""
        heard = self._heard(after)
        read = await self._rest(heard, after, through, deadline)
        welcome = self._session.welcome
        is_partial = welcome is not None and welcome.reads is not None
        return Noted(
            [*heard.changes, *read.changes],
            max(heard.through, read.through),
            is_all=read.is_all and not is_partial,
        )

    async def _rest(
        self, heard: Noted, after: int, through: int | None, deadline: Deadline
    ) -> Noted:
        """Return what was not heard."""
        if heard.is_all:
            try:
                return await self._read(max(after, heard.through), through, deadline)
            except CompactedError:
                pass
        return await self._last_of_each(after, deadline)

    def _heard(self, after: int) -> Noted:
        """Return what has arrived."""
        events: list[Event] = []
        is_all = True
        while (item := self._subscription.take_arrived()) is not None:
            match item:
                case Event():
                    events.append(item)
                    self._heard_through = item.seq
                case Progress(seq=seq):
                    self._heard_through = seq
                case Compacted(seq=seq):
                    self._heard_through, is_all = seq, False
                case _:
                    raise MalformedMessageError(f"a subscription gave {item!r:.60}")
        changes = [each for each in _changes(events) if each.seq > after]
        return Noted(changes, self._heard_through, is_all)

    async def _read(self, after: int, through: int | None, deadline: Deadline) -> Noted:
        found: list[RecordedChange] = []
        position, goal = after, through
        while goal is None or position < goal:
            asked = ReadEvents([_SETTINGS], position, through)
            part = await self._session.call(asked, timeout=deadline.left())
            if not isinstance(part, EventRange):
                raise MalformedMessageError(f"ReadEvents was answered with {type(part).__name__}")
            goal = part.head if goal is None else min(goal, part.head)
            found += _changes(map(codec.decode_event, part.events))
            position = part.through
        return Noted(found, position)

    async def _last_of_each(self, after: int, deadline: Deadline) -> Noted:
        """Return the last change of each component: of the others nobody knows any more."""
        state, _ = await self._session.fetch_state([_SETTINGS], timeout=deadline.left())
        found = [
            RecordedChange(entry.seq, address)
            for address, entry in state.settings.items()
            if entry.seq > after
        ]
        return Noted(sorted(found, key=lambda each: each.seq), state.seq, is_all=False)

    async def close(self) -> None:
        """Follow them no longer."""
        await self._subscription.aclose()


def _changes(events: Iterable[Event]) -> list[RecordedChange]:
    return [
        RecordedChange(event.seq, event.body.address)
        for event in events
        if isinstance(event.body, SettingsChanged)
    ]
