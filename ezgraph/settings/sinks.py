"""Files that rows are appended to, and that a crash leaves readable.

A row goes to the file in one piece when it is appended, so a crash of the program loses nothing
that was appended before, and at most a part of the last line. `flush` waits for the disk. Opened
again, a sink cuts off such a part and goes on behind the last whole line.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from abc import ABC, abstractmethod
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from ezgraph.errors import ContextClosedError
from ezgraph.protocol.plain import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType


class Row(Protocol):
    """What a sink can write; a `PipelineSettingsEvent` is one. Times are in seconds."""

    @property
    def table_name(self) -> str:
        """The table the row belongs to."""

    @property
    def timestamp(self) -> float:
        """When it was true, on the clock of who made the row."""

    def flatten_for_table(self) -> Mapping[str, Any] | None:
        """Return the columns; None: nothing to write."""


class LineFile:
    """A file that whole lines are appended to; ``whole`` finds where the last whole one ends."""

    def __init__(self, path: str | os.PathLike[str], whole: Callable[[bytes], int]) -> None:
        self.path = Path(path)
        self.found = self.path.read_bytes() if self.path.exists() else b""
        end = whole(self.found)
        if end < len(self.found):
            os.truncate(self.path, end)
            self.found = self.found[:end]
        self._file: io.FileIO | None = self._open()

    def _open(self) -> io.FileIO:
        return open(self.path, "ab", buffering=0)

    def __repr__(self) -> str:
        return f"{self.path}{'' if self._file else ' closed'}"

    def append(self, line: str) -> None:
        """Write a line."""
        file = self._opened()
        left = memoryview(line.encode())
        while left:
            left = left[file.write(left) :]

    def replace(self, lines: Iterable[bytes]) -> None:
        """Put other lines in place of all there are: all of them, or (after a crash) none."""
        self._opened().close()
        beside = self.path.with_name(f"{self.path.name}.new")
        with open(beside, "wb") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.path)
        self._file = self._open()

    def flush(self) -> None:
        """Wait until the disk has it."""
        os.fsync(self._opened().fileno())

    def close(self) -> None:
        """Close the file; again does nothing."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _opened(self) -> io.FileIO:
        if self._file is None:
            raise ContextClosedError(f"{self.path} is closed; open it again to append to it")
        return self._file


class _FileSink(ABC):
    """A sink of one file; use it with ``with``."""

    def __init__(self, path: str | os.PathLike[str], whole: Callable[[bytes], int]) -> None:
        self._file = LineFile(path, whole)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._file!r}>"

    def append(self, row: Row) -> None:
        """Write a row; nothing for one without columns (a sentinel)."""
        columns = row.flatten_for_table()
        if columns is not None:
            content = {"timestamp": row.timestamp, "table_name": row.table_name}
            self._write(content | _beside(content, columns))

    @abstractmethod
    def _write(self, cells: dict[str, Any]) -> None:
        """Write the cells of a row, by their columns."""

    def flush(self) -> None:
        """Wait until the disk has all rows."""
        self._file.flush()

    def close(self) -> None:
        """Close the file; again does nothing."""
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


class JSONLinesSink(_FileSink):
    """Writes each row as a line of JSON: ``timestamp``, ``table_name`` and the row's columns.

    A column of one of these two names gets a ``_`` behind it. Use it with ``with``.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path, end_of_lines)

    def _write(self, cells: dict[str, Any]) -> None:
        self._file.append(json_line(cells))


class CSVSink(_FileSink):
    """Writes each row as a line of CSV: ``timestamp``, ``table_name`` and the row's columns.

    The first line names the columns. A row with a new one makes the file be written anew with it,
    empty in the rows before. Cells are text; other values are JSON, None is empty. Use it with
    ``with``.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path, lambda found: [0, *_csv_ends(found)][-1])
        head = _csv_lines(self._file.found)[:1]
        self._names: list[str] = next(csv.reader(line.decode() for line in head), [])

    def _write(self, cells: dict[str, Any]) -> None:
        if new := [name for name in cells if name not in self._names]:
            self._add_columns(new)
        self._file.append(csv_line([cells.get(name) for name in self._names]))

    def _add_columns(self, new: list[str]) -> None:
        lines = _csv_lines(self._file.path.read_bytes())[1:]
        self._names = [*self._names, *new]
        empty = b"," * len(new) + b"\n"
        longer = (line.removesuffix(b"\n") + empty for line in lines)
        self._file.replace([csv_line(self._names).encode(), *longer])


def _beside(content: Mapping[str, Any], columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return columns by names that are free."""
    beside: dict[str, Any] = {}
    for name, value in columns.items():
        free = name
        while free in content or (free != name and free in columns):
            free += "_"
        beside[free] = value
    return beside


def json_line(content: Mapping[str, Any]) -> str:
    """Return a mapping as one line of valid JSON."""
    return json.dumps(plain(content), allow_nan=False) + "\n"


def csv_line(cells: Sequence[Any]) -> str:
    """Return cells as one line of CSV."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(map(_cell, cells))
    return line.getvalue()


def _cell(value: object) -> str:
    shown = plain(value)
    if shown is None:
        return ""
    return shown if isinstance(shown, str) else json.dumps(shown, allow_nan=False)


def end_of_lines(found: bytes) -> int:
    """Return where the last whole line ends."""
    return found.rfind(b"\n") + 1


def _csv_lines(found: bytes) -> list[bytes]:
    ends = list(_csv_ends(found))
    return [found[start:end] for start, end in pairwise([0, *ends])]


def _csv_ends(found: bytes) -> Iterator[int]:
    """Return where lines end: at the newlines that stand in no quotes."""
    place = 0
    for index, part in enumerate(found.split(b'"')):
        if index % 2 == 0:
            yield from (place + each.end() for each in re.finditer(b"\n", part))
        place += len(part) + 1
