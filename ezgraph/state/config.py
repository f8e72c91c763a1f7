"""The configuration at one seq: entries by type and key, their order, who owns what. Pure.

An entry stands at ``(type, name, name, …)``, and has one owner, that of its last put: a session,
with which it ends (*ephemeral*), or nobody (*persistent*). Who puts it last has it, whoever had it
before. Its version is the seq of the event that put it; there is no other number.

Three indexes are kept with each event, and each costs what the event concerns, not what there is:

* the entries by key, for looking one up;
* their keys in order (`ezgraph.state.ordered`), for walking through what begins with a prefix, and
  for going on behind any key, there or not: that is what pages are;
* the keys of each session, for its end.

So are the numbers that limits ask for: how many entries, and how many bytes their values take up.

Schemas stand beside the entries, by type. A type is there as long as it has either.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from ezgraph.protocol.config import ConfigEntry
from ezgraph.protocol.events import ConfigValueSet, Source, in_words
from ezgraph.state.ordered import OrderedKeys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.names import Key
    from ezgraph.protocol.events import ConfigSchemaSet, ConfigValueDeleted, Event


@dataclass(frozen=True, slots=True)
class HeldEntry:
    """An entry, by the event that put it."""

    seq: int
    wall_time: float
    source: Source
    change: ConfigValueSet

    @property
    def created_seq(self) -> int:
        """Since when there is such an entry."""
        return self.change.created_seq or self.seq

    @property
    def value(self) -> Any:  # noqa: ANN401
        """The value."""
        return self.change.value

    @property
    def owner(self) -> str | None:
        """The session that it ends with; None: it is persistent."""
        return self.change.owner

    def shown(self) -> ConfigEntry:
        """Return its public form."""
        return config_entry(self.seq, self.wall_time, self.source, self.change)


def config_entry(
    seq: int, wall_time: float, source: Source, change: ConfigValueSet
) -> ConfigEntry:
    """Return the public form of what an event put."""
    return ConfigEntry(
        change.type,
        change.key,
        change.value,
        seq,
        change.owner,
        in_words(source),
        wall_time,
        change.created_seq or seq,
    )


class ConfigState:
    """The entries and schemas. Only `put`, `delete` and `set_schema` change it."""

    def __init__(self) -> None:
        self.entries: dict[Key, HeldEntry] = {}
        self.schemas: dict[str, dict[str, Any]] = {}
        self.size_bytes = 0
        self._order = OrderedKeys()
        self._of_session: dict[str, set[Key]] = {}

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        return f"<ConfigState entries={len(self)} schemas={len(self.schemas)}>"

    # --- what events do ---

    def put(self, event: Event, change: ConfigValueSet) -> None:
        """Make an entry have a value."""
        key = (change.type, *change.key)
        before = self.entries.get(key)
        if before is None:
            self._order.add(key)
        else:
            self._let_go(key, before)
        self.entries[key] = HeldEntry(event.seq, event.wall_time, event.source, change)
        self.size_bytes += change.value_bytes
        if change.owner is not None:
            self._of_session.setdefault(change.owner, set()).add(key)

    def delete(self, change: ConfigValueDeleted) -> None:
        """Make an entry be gone."""
        key = (change.type, *change.key)
        before = self.entries.pop(key, None)
        if before is not None:
            self._order.remove(key)
            self._let_go(key, before)

    def set_schema(self, change: ConfigSchemaSet) -> None:
        """Make a type have a schema, or none."""
        if change.schema is None:
            self.schemas.pop(change.type, None)
        else:
            self.schemas[change.type] = change.schema

    def _let_go(self, key: Key, entry: HeldEntry) -> None:
        self.size_bytes -= entry.change.value_bytes
        if entry.owner is not None:
            keys = self._of_session[entry.owner]
            keys.discard(key)
            if not keys:
                del self._of_session[entry.owner]

    # --- looking ---

    def get(self, kind: str, key: Key) -> HeldEntry | None:
        """Return an entry, or None."""
        return self.entries.get((kind, *key))

    @property
    def owners(self) -> set[str]:
        """The sessions that own entries."""
        return set(self._of_session)

    def of_session(self, session_id: str) -> list[Key]:
        """Return ``(type, *key)`` of what a session owns, in order."""
        return sorted(self._of_session.get(session_id, ()))

    def count_of(self, session_id: str) -> int:
        """Return how many entries a session owns."""
        return len(self._of_session.get(session_id, ()))

    def keys_under(self, prefix: Key, after: Key = ()) -> Iterator[Key]:
        """Yield ``(type, *key)`` of what begins with ``prefix``, behind ``after``, in order."""
        depth = len(prefix)
        keys = self._order.after(after) if after >= prefix else self._order.since(prefix)
        return takewhile(lambda key: key[:depth] == prefix, keys)

    def first_after(self, key: Key) -> Key | None:
        """Return the first ``(type, *key)`` behind ``key``."""
        return next(self._order.after(key), None)

    def by_type(self) -> dict[str, dict[Key, ConfigEntry]]:
        """Return the public form of every entry, by type and key, in order."""
        found: dict[str, dict[Key, ConfigEntry]] = {}
        for key in self._order.since(()):
            found.setdefault(key[0], {})[key[1:]] = self.entries[key].shown()
        return found
