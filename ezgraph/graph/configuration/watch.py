"""What happens to entries of the configuration, from what is there on."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ezgraph.client.watch import Compacted
from ezgraph.clock import Deadline
from ezgraph.errors import CompactedError, DeadlineError, DivergedError
from ezgraph.graph.configuration.reading import EntriesRead, read_entries
from ezgraph.protocol.commands import ReadConfig
from ezgraph.protocol.config import ConfigEntry, ConfigKey, bus_key, config_key_text
from ezgraph.protocol.events import ConfigValueDeleted, ConfigValueSet, Event
from ezgraph.state.config import config_entry

if TYPE_CHECKING:
    from ezgraph.graph.sessions import AnySession, AnySubscription

_READ_S = 60.0
_MOMENT_S = 0.01


class ConfigWatchKind(enum.StrEnum):
    """What a `ConfigWatchEvent` says; each is equal to its text."""

    INITIAL = "initial"
    END_OF_INITIAL = "end_of_initial"
    PUT = "put"
    DELETED = "deleted"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class ConfigWatchEvent:
    """One thing that a `ConfigWatch` says, and the seq since which it is so.

    ``initial``: ``entry`` is there. ``end_of_initial``: that was all, as of ``seq``. ``put``:
    ``entry`` is what was put. ``deleted``: the entry of ``key`` is gone. ``reset``: history that
    was still to be told is gone; of the entries told of before, those with the keys ``vanished``
    are there no more, and all that is there follows as ``initial``. ``previous`` is the entry that
    was there before a put or a delete, if the watch knows it.
    """

    kind: ConfigWatchKind
    seq: int
    type: str
    key: ConfigKey | None = None
    entry: ConfigEntry | None = None
    previous: ConfigEntry | None = None
    vanished: tuple[ConfigKey, ...] = ()

    @property
    def value(self) -> Any:  # noqa: ANN401
        """The value that is there now; None also where there is none."""
        return None if self.entry is None else self.entry.value

    @property
    def key_text(self) -> str:
        """The key as text; empty where the event is about no single key."""
        return "" if self.key is None else config_key_text(self.key)


class ConfigWatch:
    """An async iterator of `ConfigWatchEvent`, with ``aclose()``.

    It says first what is there when it is waited for: an ``initial`` for each entry, in order of
    their keys, all as of one seq, and one ``end_of_initial``, also when there is nothing. Then
    every ``put`` and ``deleted`` in order of seq, each once, a transaction never in part, across
    reconnects and restarts of the broker. Where history that it has not told yet was compacted (or
    an older backup was restored, or what may be read has changed), it begins anew, with a
    ``reset``.

    With ``after_seq`` it begins with the changes after that seq.

    It ends with an error when the broker is gone for good, or the session is.
    """

    def __init__(
        self, session: AnySession, kind: str, prefix: ConfigKey, after_seq: int | None
    ) -> None:
        self._session = session
        self._type, self._prefix = kind, prefix
        self._key = bus_key(kind, prefix)
        self._subscription: AnySubscription | None = None
        self._is_to_read = after_seq is None
        self._is_closed = self._has_begun = False
        if after_seq is not None:
            self._subscribe(after_seq)
        self._position = after_seq or 0
        self._known: dict[ConfigKey, ConfigEntry] = {}
        self._ready: deque[ConfigWatchEvent] = deque()

    def __repr__(self) -> str:
        under = config_key_text(self._prefix)
        return f"<ConfigWatch {self._type} {under!r} seq={self._position} known={len(self._known)}>"

    def __aiter__(self) -> ConfigWatch:
        return self

    async def __anext__(self) -> ConfigWatchEvent:
        """Return the next event; wait for it."""
        while not self._ready:
            if self._is_closed:
                raise StopAsyncIteration
            if self._is_to_read or self._subscription is None:
                self._begin(await self._read())
            else:
                self._take(await self._subscription.__anext__())
        return self._ready.popleft()

    def take_arrived(self) -> ConfigWatchEvent | None:
        """Return the next event if it is there already, else None; do not wait."""
        while not self._ready and not self._is_to_read and self._subscription is not None:
            if (item := self._subscription.take_arrived()) is None:
                return None
            self._take(item)
        return self._ready.popleft() if self._ready else None

    async def aclose(self) -> None:
        """End the watch; a waiting consumer ends with it."""
        self._is_closed = True
        if self._subscription is not None:
            await self._subscription.aclose()

    async def _read(self) -> EntriesRead:
        """Return what is there; wait for a broker that is away as long as the session does."""
        deadline = Deadline(self._session.patience_s)
        command = ReadConfig(self._type, self._prefix)
        while True:
            try:
                return await read_entries(self._session, command, _READ_S)
            except (DeadlineError, CompactedError, DivergedError):
                if deadline.left() <= _MOMENT_S:
                    raise

    def _subscribe(self, after_seq: int) -> None:
        """Follow what comes after a seq; what came since is read from history."""
        self._subscription = self._session.watch(self._key, after_seq, with_state=False)

    def _begin(self, read: EntriesRead) -> None:
        """Say what is there."""
        if self._has_begun:
            vanished = tuple(key for key in self._known if key not in read.entries)
            self._say(ConfigWatchKind.RESET, read.seq, vanished=vanished)
        for key, entry in read.entries.items():
            self._say(ConfigWatchKind.INITIAL, entry.seq, key=key, entry=entry)
        self._say(ConfigWatchKind.END_OF_INITIAL, read.seq)
        self._known, self._position = dict(read.entries), read.seq
        self._is_to_read, self._has_begun = False, True
        if self._subscription is None and not self._is_closed:
            self._subscribe(read.seq)

    def _take(self, item: object) -> None:
        if isinstance(item, Compacted):
            self._is_to_read = self._has_begun = True
        elif isinstance(item, Event) and item.seq > self._position:
            self._position = item.seq
            self._tell(item)

    def _tell(self, event: Event) -> None:
        body, seq = event.body, event.seq
        if isinstance(body, ConfigValueSet):
            previous = self._known.get(body.key)
            entry = config_entry(seq, event.wall_time, event.source, body)
            self._known[body.key] = entry
            self._say(ConfigWatchKind.PUT, seq, key=body.key, entry=entry, previous=previous)
        elif isinstance(body, ConfigValueDeleted):
            previous = self._known.pop(body.key, None)
            self._say(ConfigWatchKind.DELETED, seq, key=body.key, previous=previous)

    def _say(self, kind: ConfigWatchKind, seq: int, **about: Any) -> None:  # noqa: ANN401
        self._ready.append(ConfigWatchEvent(kind, seq, self._type, **about))
