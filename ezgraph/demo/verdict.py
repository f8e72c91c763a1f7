"""The verdict: is every settings and topology event of the journal in the record, once, equal?

The journal is read from its file after the broker has ended, so that nothing which the broker
says about itself enters the comparison.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ezgraph.backends.base import Backend
from ezgraph.backends.sqlite import SQLiteBackend
from ezgraph.demo.record import is_recorded, plain
from ezgraph.graph.streams import typed_settings
from ezgraph.wire import codec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ezgraph.protocol.events import Event


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the comparison found; ``differences`` say, one each, what is not as it must be."""

    journal_events: int
    first_seq: int
    last_seq: int
    settings: int
    topology: int
    recorded: int
    differences: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return not self.differences

    @property
    def expected(self) -> int:
        """How many lines the record must have."""
        return self.settings + self.topology


def journal_url(path: Path) -> str:
    """Return the backend URL of a journal file."""
    return SQLiteBackend(path.absolute()).url


def read_journal(path: Path) -> list[Event]:
    """Return everything in a journal whose broker has ended."""
    events: list[Event] = []
    with (
        Backend.from_url(journal_url(path)).connect() as connection,
        connection.open_journal() as journal,
    ):
        position = journal.floor - 1
        while position < journal.head:
            chunk = journal.read(position)
            events += [codec.decode_event(each) for each in chunk.events]
            position = chunk.through
    return events


def compare(journal: Sequence[Event], record: Sequence[str]) -> Verdict:
    """Return the verdict on the lines of a record against a whole journal."""
    expected = {event.seq: plain(event) for event in journal if is_recorded(event)}
    recorded = [_parsed(line) for line in record]
    settings = sum(typed_settings(event) is not None for event in journal)
    return Verdict(
        journal_events=len(journal),
        first_seq=journal[0].seq if journal else 0,
        last_seq=journal[-1].seq if journal else 0,
        settings=settings,
        topology=len(expected) - settings,
        recorded=len(record),
        differences=(*_holes(journal), *_differences(expected, recorded)),
    )


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("seq"), int) else None


def _holes(journal: Sequence[Event]) -> Iterator[str]:
    """The journal itself must be dense from 1."""
    for position, event in enumerate(journal, start=1):
        if event.seq != position:
            yield f"the journal has seq {event.seq} where {position} belongs"
            return


def _differences(
    expected: dict[int, dict[str, Any]], recorded: Sequence[dict[str, Any] | None]
) -> Iterator[str]:
    if not expected:
        yield "the journal has no settings or topology event at all"
    times = Counter(found["seq"] for found in recorded if found is not None)
    for seq, event in expected.items():
        if not times[seq]:
            yield f"seq {seq} ({event['kind']}) is in the journal and not in the record"
    last = 0
    for number, found in enumerate(recorded, start=1):
        if found is None:
            yield f"line {number} of the record is no event"
            continue
        seq = found["seq"]
        if seq not in expected:
            yield f"line {number} of the record has seq {seq}: no such event in the journal"
        elif found != expected[seq]:
            how = _fields(found, expected[seq])
            yield f"line {number} of the record differs from seq {seq}: {how}"
        if seq < last:
            yield f"line {number} of the record has seq {seq} after {last}: out of order"
        last = seq
    for seq, count in times.items():
        if count > 1:
            yield f"seq {seq} is in the record {count} times"


def _fields(found: dict[str, Any], expected: dict[str, Any]) -> str:
    names = [name for name in {**expected, **found} if found.get(name) != expected.get(name)]
    return ", ".join(
        f"{name} is {found.get(name)!r}, in the journal {expected.get(name)!r}" for name in names
    )
