"""Reads of the configuration, a bounded look at a time. Pure.

A look examines so many entries at most. A read that has not filled its page by then, and not come
to the end, goes on at its next turn behind the entry it examined last: so who reads a rare pattern,
or may read little, holds nobody up; and as only full pages end early, nobody learns from a page how
much there is that they may not read.

What changes between the looks of one read may be on the page or not; the page says since which seq
that is so (`ConfigPage.began_seq`), and clients bring it up to date with the events.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, assert_never

from ezgraph.errors import InvalidCommandError, InvalidKeyError
from ezgraph.names import check_key
from ezgraph.protocol.commands import ListConfigTypes, ReadConfig, ReadConfigSchema
from ezgraph.protocol.config import ROOM, ConfigEntry, bus_key, is_match
from ezgraph.protocol.replies import ConfigPage, ConfigSchemaShown, ConfigTypes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ezgraph.config import Limits
    from ezgraph.names import Key
    from ezgraph.protocol.patterns import NamePattern
    from ezgraph.protocol.roles import ReadScope
    from ezgraph.state.config import ConfigState

ConfigReadCommand = ReadConfig | ListConfigTypes | ReadConfigSchema
ConfigReply = ConfigPage | ConfigTypes | ConfigSchemaShown
EXAMINED = 2_000
_NAMES_PER_ENTRY = 8
"""So many keys or types, without values, for each entry that a page may have."""


def wanted_under(command: ConfigReadCommand) -> Key:
    """Return the key on the bus under which everything lies that a read asks for.

    Raises:
        InvalidCommandError: a name lies outside the grammar.
    """
    try:
        match command:
            case ReadConfig():
                if command.after:
                    check_key(command.after)
                return bus_key(command.type, command.prefix)
            case ReadConfigSchema():
                return bus_key(command.type)
            case ListConfigTypes():
                return (ROOM,)
    except InvalidKeyError as error:
        raise InvalidCommandError(f"a read of configuration: {error}") from error
    assert_never(command)


class ConfigRead:
    """One read, until it is answered."""

    def __init__(self, command: ConfigReadCommand, scope: ReadScope, began_seq: int) -> None:
        self.command = command
        self.scope = scope
        self._began_seq = began_seq
        self._after: Key = ()
        self._keys: list[Key] = []
        self._entries: list[ConfigEntry] = []
        self._types: list[str] = []
        self._bytes = 0

    def __repr__(self) -> str:
        return f"<ConfigRead {type(self.command).__name__} behind {self._after}>"

    def look(
        self, config: ConfigState, *, seq: int, limits: Limits
    ) -> tuple[ConfigReply | None, int]:
        """Return the answer, or None if it takes another look; and how many entries were examined.

        Raises:
            InvalidCommandError: a name lies outside the grammar.
        """
        match self.command:
            case ReadConfig():
                return self._look_for_entries(config, self.command, seq, limits)
            case ListConfigTypes():
                return self._look_for_types(config, self.command, seq, limits)
            case ReadConfigSchema(type=kind):
                shown = config.schemas.get(kind) if self._may_read((kind,)) else None
                return ConfigSchemaShown(seq, kind, shown), 1
        assert_never(self.command)

    def _may_read(self, key: Key) -> bool:
        return self.scope.is_full or self.scope.has((ROOM, *key))

    # --- entries ---

    def _look_for_entries(
        self, config: ConfigState, command: ReadConfig, seq: int, limits: Limits
    ) -> tuple[ConfigPage | None, int]:
        prefix, match = _range_of(command)
        if not self._after and command.after:
            self._after = (command.type, *command.after)
        most = _most(command, limits)
        examined = 0
        for key in islice(config.keys_under(prefix, self._after), EXAMINED):
            examined, self._after = examined + 1, key
            is_meant = match is None or is_match(match, key[1:])
            if is_meant and self._may_read(key):
                self._add(config, key, command)
                if len(self._keys) >= most or self._bytes >= limits.chunk_bytes:
                    return self._page(seq, key[1:]), examined
            if match is not None and len(match) == len(prefix) - 1:
                break  # the one key that can match comes before all below it
        else:
            if examined == EXAMINED:
                return None, examined
        return self._page(seq, None), max(examined, 1)

    def _add(self, config: ConfigState, key: Key, command: ReadConfig) -> None:
        self._keys.append(key[1:])
        self._bytes += sum(map(len, key))
        if command.with_values:
            held = config.entries[key]
            self._bytes += held.change.value_bytes
            self._entries.append(held.shown())

    def _page(self, seq: int, next_after: Key | None) -> ConfigPage:
        keys = [] if self._entries else self._keys
        return ConfigPage(seq, self._began_seq, self._entries, keys, next_after)

    # --- types ---

    def _look_for_types(
        self, config: ConfigState, command: ListConfigTypes, seq: int, limits: Limits
    ) -> tuple[ConfigTypes | None, int]:
        """Go from the first entry of a type that may be read to the next type."""
        if not self._after and command.after:
            self._after = _end_of(command.after)
        with_schema = sorted(
            kind
            for kind in config.schemas
            if kind > command.after and self._may_read((kind,))
        )
        for examined in range(1, EXAMINED + 1):
            key = config.first_after(self._after)
            if key is None:
                types = sorted({*self._types, *with_schema})
                return ConfigTypes(seq, types), examined
            self._after = key
            if self._may_read(key):
                self._types.append(key[0])
                self._after = _end_of(key[0])
            if len(self._types) >= limits.chunk_events * _NAMES_PER_ENTRY:
                last = self._types[-1]
                types = sorted({*self._types, *(kind for kind in with_schema if kind <= last)})
                return ConfigTypes(seq, types, last), examined
        return None, EXAMINED


def _end_of(kind: str) -> Key:
    """Return what comes behind every key of a type, and before every other type."""
    return (f"{kind}\0",)


def _most(command: ReadConfig, limits: Limits) -> int:
    own = limits.chunk_events * (1 if command.with_values else _NAMES_PER_ENTRY)
    return min(command.limit, own) if command.limit > 0 else own


def _range_of(command: ReadConfig) -> tuple[Key, Sequence[NamePattern] | None]:
    """Return what to walk through: what begins with the prefix, or the pattern's fixed names."""
    prefix = (command.type, *command.prefix)
    if command.match is None:
        return prefix, None
    fixed = [command.type]
    for name in command.match:
        if name.is_open:
            break
        fixed.append(name.text)
    longer = tuple(fixed)
    return (longer if longer[: len(prefix)] == prefix else prefix), command.match
