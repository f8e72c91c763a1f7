"""The recorder's file: one event per line, as JSON, and on the disk before the next is taken.

A process killed in the middle of a line leaves a piece without a line end. Whoever opens the file
to go on writing cuts that piece off, and reads from the last whole line where to resume.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import os
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from ezgraph.errors import EzGraphError
from ezgraph.graph.streams import typed_settings, typed_topology

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from ezgraph.protocol.events import Event


def is_recorded(event: Event) -> bool:
    """Return whether this is a settings or a topology event: those are what is recorded."""
    return typed_settings(event) is not None or typed_topology(event) is not None


def plain(event: Event) -> dict[str, Any]:
    """Return the event as values that JSON gives back unchanged."""
    spelled = json.dumps(dataclasses.asdict(event), default=_spell)
    return {"seq": event.seq, "kind": event.kind, **json.loads(spelled)}


def line_of(event: Event) -> str:
    """Return the line that stands for the event, without its end."""
    return json.dumps(plain(event), ensure_ascii=False)


def _spell(value: object) -> object:
    match value:
        case enum.Enum():
            return value.value
        case UUID():
            return str(value)
        case bytes():
            return value.hex()
        case _:
            raise TypeError(f"{value!r} has no form in the record")


class RecordFile:
    """A record to go on writing. ``last_seq`` is the seq of its last event, 0 in a new one.

    ``cut_bytes`` is how much of a half-written last line was cut off when it was opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        written = path.read_bytes() if path.exists() else b""
        whole, _, rest = written.rpartition(b"\n")
        lines = whole.splitlines()
        self.last_seq = _seq_of(lines[-1], path) if lines else 0
        self.lines = len(lines)
        self.cut_bytes = len(rest)
        if rest:
            os.truncate(path, len(written) - len(rest))
        self._file = path.open("ab")

    def __repr__(self) -> str:
        return f"<RecordFile {self.path} lines={self.lines} last_seq={self.last_seq}>"

    def write(self, event: Event) -> None:
        """Append an event; it is on the disk when this returns."""
        self._file.write(line_of(event).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.lines += 1
        self.last_seq = event.seq

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _seq_of(line: bytes, path: Path) -> int:
    try:
        return int(json.loads(line)["seq"])
    except (ValueError, TypeError, KeyError) as error:
        raise EzGraphError(
            f"the last whole line of {path} is no recorded event ({line[:60]!r}); "
            f"move the file away, and the record begins anew"
        ) from error
