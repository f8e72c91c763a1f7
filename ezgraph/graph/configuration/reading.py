"""Entries of the configuration as they are at one seq, however many pages that takes.

Each page is as of its own seq. Where they differ, what happened between the first and the last is
read from history and done to what the pages had, so that all of it is as of the last.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ezgraph.clock import Deadline
from ezgraph.errors import CompactedError, DivergedError, MalformedMessageError
from ezgraph.protocol.commands import ReadEvents
from ezgraph.protocol.config import ConfigEntry, ConfigKey, bus_key, is_match
from ezgraph.protocol.events import ConfigValueDeleted, ConfigValueSet
from ezgraph.protocol.replies import ConfigPage, EventRange
from ezgraph.state.config import config_entry
from ezgraph.wire import codec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.graph.sessions import AnySession
    from ezgraph.protocol.commands import ReadConfig
    from ezgraph.protocol.events import Event

_TRIES = 5


@dataclass(frozen=True, slots=True)
class EntriesRead:
    """Keys in order, and, if they were asked for, their entries, as they are at ``seq``."""

    seq: int
    keys: list[ConfigKey]
    entries: dict[ConfigKey, ConfigEntry]


async def read_entries(
    session: AnySession,
    command: ReadConfig,
    timeout: float,  # noqa: ASYNC109
) -> EntriesRead:
    """Return all that ``command`` asks for, as of one seq.

    Raises:
        CompactedError: history was compacted while it was read, again and again.
    """
    deadline = Deadline(timeout)
    for attempt in range(_TRIES):
        pages = await _pages(session, command, deadline)
        try:
            return await _at_one_seq(session, command, pages, deadline)
        except (CompactedError, DivergedError):
            if attempt == _TRIES - 1:
                raise
    raise AssertionError("the last attempt returns or raises")


async def _pages(
    session: AnySession, command: ReadConfig, deadline: Deadline
) -> list[ConfigPage]:
    pages: list[ConfigPage] = []
    after: ConfigKey | None = command.after
    while after is not None:
        reply = await session.call(replace(command, after=after), timeout=deadline.left())
        if not isinstance(reply, ConfigPage):
            raise MalformedMessageError(f"a read was answered with {type(reply).__name__}")
        pages.append(reply)
        after = reply.next_after
    return pages


async def _at_one_seq(
    session: AnySession, command: ReadConfig, pages: list[ConfigPage], deadline: Deadline
) -> EntriesRead:
    began, seq = pages[0].began_seq, pages[-1].seq
    entries: dict[ConfigKey, ConfigEntry | None] = {
        entry.key: entry for page in pages for entry in page.entries
    }
    entries |= {key: None for page in pages for key in page.keys}
    if began < seq:
        events = await _events(session, command, began, seq, deadline)
        for event in events:
            _do(event, command, entries)
    keys = sorted(entries)
    known = {key: entry for key in keys if (entry := entries[key]) is not None}
    return EntriesRead(seq, keys, known)


async def _events(
    session: AnySession, command: ReadConfig, after: int, through: int, deadline: Deadline
) -> Iterator[Event]:
    """Return what happened under the prefix after one seq, through another."""
    prefix = list(bus_key(command.type, command.prefix))
    found: list[bytes] = []
    while after < through:
        asked = ReadEvents(prefix, after, through)
        reply = await session.call(asked, timeout=deadline.left())
        if not isinstance(reply, EventRange):
            raise MalformedMessageError(f"a read was answered with {type(reply).__name__}")
        found += reply.events
        after = reply.through
    return map(codec.decode_event, found)


def _do(
    event: Event, command: ReadConfig, entries: dict[ConfigKey, ConfigEntry | None]
) -> None:
    body = event.body
    if not isinstance(body, ConfigValueSet | ConfigValueDeleted):
        return
    if command.match is not None and not is_match(command.match, body.key):
        return
    if isinstance(body, ConfigValueDeleted):
        entries.pop(body.key, None)
    else:
        shown = config_entry(event.seq, event.wall_time, event.source, body)
        entries[body.key] = shown if command.with_values else None
