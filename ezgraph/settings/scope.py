"""Which settings a producer tells of, and what a change means for who sees only these. Pure.

The scope is all addresses, some, or those of the components of one session: the one that holds the
address ``session_of``. The last follows: it is judged at the end of each transaction who holds what
then. What enters the scope so is told as it was changed last, as INITIAL; what leaves it without
being removed is told as removed, by the transaction that took it out.

`Scope.compare` puts a snapshot in place of history: what differs is told, as if each component had
changed once, by its last change. A component that is gone is told as removed at the snapshot's seq.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ezgraph.errors import ForbiddenError
from ezgraph.protocol.events import (
    ComponentRegistered,
    ComponentRemoved,
    Event,
    SettingsChanged,
)
from ezgraph.protocol.patterns import matcher, parse_pattern
from ezgraph.protocol.settings import SettingsEventType

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from ezgraph.protocol.settings import SettingsSnapshotValue

_INITIAL = SettingsEventType.INITIAL_SETTINGS
_REMOVED = SettingsEventType.SETTINGS_REMOVED


@dataclass(frozen=True, slots=True)
class Stamp:
    """When an event was stored, by the broker's two clocks, in seconds."""

    wall_time: float
    mono_time: float


@dataclass(frozen=True, slots=True)
class Told:
    """What is told of one component. ``stamp`` None: when it happened is not known any more."""

    seq: int
    stamp: Stamp | None
    address: str
    event_type: SettingsEventType
    value: SettingsSnapshotValue
    session_id: str | None


class Scope:
    """What is in scope, and what of it has been told.

    ``addresses``: no others; None: any. ``session_of``: only those of the session that holds this
    address; None: of any session, and of none.
    """

    def __init__(
        self, addresses: Collection[str] | None = None, session_of: str | None = None
    ) -> None:
        self._addresses = None if addresses is None else frozenset(addresses)
        self._session_of = session_of
        self._last: dict[str, Told] = {}
        self._holder: dict[str, str] = {}
        self._shown: dict[str, Told] = {}

    def __repr__(self) -> str:
        if self._session_of is not None:
            what = f"the session of {self._session_of!r}"
        else:
            what = "all" if self._addresses is None else f"{len(self._addresses)} addresses"
        return f"<Scope {what}, {len(self._shown)} present>"

    def __len__(self) -> int:
        """Return how many components in scope have settings now."""
        return len(self._shown)

    @property
    def follows_session(self) -> bool:
        """Whether it depends on who holds what."""
        return self._session_of is not None

    def check_readable(self, reads: Iterable[str]) -> list[str]:
        """Return which of the addresses asked for are not among what may be read.

        ``reads`` are the patterns of a role, where it may not read everything.

        Raises:
            ForbiddenError: nothing in scope could ever be told, or who holds it not be seen.
        """
        patterns = [parse_pattern(each) for each in reads]
        may_read = matcher(patterns)
        shown = ", ".join(map(str, patterns)) or "nothing"
        if not any(each.touches(("settings",)) for each in patterns):
            raise ForbiddenError(
                f"this key may not read settings: its role reads {shown}; ask whoever keeps the "
                f"broker's allow-list for a role that does"
            )
        held = self._session_of
        if held is not None and not may_read(("component", held)):
            raise ForbiddenError(
                f"which session holds {held!r} cannot be seen with this key: its role reads "
                f"{shown}, and not component/{held}; ask for a role that does, or follow addresses"
            )
        asked = sorted(self._addresses or ())
        unreadable = [each for each in asked if not may_read(("settings", each))]
        if asked and len(unreadable) == len(asked):
            raise ForbiddenError(
                f"the settings of {', '.join(map(repr, asked[:5]))} cannot be read with this key: "
                f"its role reads {shown}; ask for a role that reads settings/…"
            )
        return unreadable

    def _has(self, address: str) -> bool:
        if self._addresses is not None and address not in self._addresses:
            return False
        if self._session_of is None:
            return True
        session = self._holder.get(self._session_of)
        return session is not None and self._holder.get(address) == session

    def _present(self) -> dict[str, Told]:
        return {each: told for each, told in self._last.items() if self._has(each)}

    # --- a snapshot ---

    def start(self, live: Iterable[Event]) -> list[Told]:
        """Return what is present in a snapshot, each as INITIAL, sorted by address."""
        self._take_live(live)
        self._shown = self._present()
        return [replace(told, event_type=_INITIAL) for _, told in sorted(self._shown.items())]

    def compare(self, live: Iterable[Event], seq: int) -> list[Told]:
        """Return how a snapshot at ``seq`` differs from what has been told, in order of seq."""
        before = self._shown
        self._take_live(live)
        self._shown = self._present()
        changes = [
            told if address in before else replace(told, event_type=_INITIAL)
            for address, told in self._shown.items()
            if address not in before or _mark(before[address]) != _mark(told)
        ]
        gone = [
            replace(told, seq=seq, stamp=None, event_type=_REMOVED, session_id=None)
            for address, told in sorted(before.items())
            if address not in self._shown
        ]
        return sorted(changes, key=lambda told: told.seq) + gone

    def _take_live(self, live: Iterable[Event]) -> None:
        self._last, self._holder = {}, {}
        for event in live:
            self._note(event)

    # --- changes ---

    def take(self, transaction: Sequence[Event]) -> list[Told]:
        """Return what the events of a transaction change, in order of seq.

        Where the scope does not follow a session, they may come one by one.
        """
        noted = [told for event in transaction if (told := self._note(event)) is not None]
        changes = [told for told in noted if self._has(told.address) or self._ends(told)]
        for told in changes:
            self._show(told)
        if self.follows_session and any(_is_about_holders(event) for event in transaction):
            changes += self._moved(transaction[-1])
        return sorted(changes, key=lambda told: told.seq)

    def _moved(self, by: Event) -> list[Told]:
        """Return what has entered or left the scope without a change of its own."""
        present = self._present()
        stamp, session_id = Stamp(by.wall_time, by.mono_time), by.source.session_id
        left = [
            Told(by.seq, stamp, address, _REMOVED, self._last.get(address, told).value, session_id)
            for address, told in sorted(self._shown.items())
            if address not in present
        ]
        entered = [
            replace(told, event_type=_INITIAL)
            for address, told in present.items()
            if address not in self._shown
        ]
        self._shown = present
        return left + entered

    def _ends(self, told: Told) -> bool:
        return told.event_type is _REMOVED and told.address in self._shown

    def _show(self, told: Told) -> None:
        if told.event_type is _REMOVED:
            self._shown.pop(told.address, None)
        else:
            self._shown[told.address] = told

    def _note(self, event: Event) -> Told | None:
        """Take note of an event; return the change of settings that it is."""
        match event.body:
            case SettingsChanged() as change:
                stamp = Stamp(event.wall_time, event.mono_time)
                told = Told(
                    event.seq,
                    stamp,
                    change.address,
                    change.event_type,
                    change.value,
                    event.source.session_id,
                )
                if change.event_type is _REMOVED:
                    self._last.pop(change.address, None)
                else:
                    self._last[change.address] = told
                return told
            case ComponentRegistered() as registered:
                self._holder[registered.component.address] = registered.session_id
            case ComponentRemoved() as removed:
                self._holder.pop(removed.address, None)
            case _:
                pass
        return None


def _mark(told: Told) -> tuple[int, Stamp | None]:
    """What is the same for the same event only, also where numbers were given anew."""
    return told.seq, told.stamp


def _is_about_holders(event: Event) -> bool:
    return isinstance(event.body, ComponentRegistered | ComponentRemoved)
