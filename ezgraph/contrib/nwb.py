"""Settings in files of Neurodata Without Borders (NWB), for which the extra ``nwb`` is needed.

Two forms stand side by side: an `AnnotationSeries` with one row of JSON for each event, which
loses nothing, and a table of intervals with a typed column for each setting, which reads easily.

`NWBSettingsSink` writes both to a file of its own. Events go to a file of lines beside it first,
which a crash leaves readable (see `ezgraph.settings.sinks`); the NWB file itself is written as a
whole and put in place at once, so it is never half there. Who has an ``NWBFile`` to write anyway
uses `add_annotations` and `add_intervals`.
"""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ezgraph.clock import Clock, SystemClock
from ezgraph.errors import ConfigError, ContextClosedError
from ezgraph.extras import extra
from ezgraph.protocol.plain import plain
from ezgraph.settings.flatten import sanitize_settings_value
from ezgraph.settings.intervals import Interval, settings_intervals
from ezgraph.settings.pipeline import PipelineSettingsEvent
from ezgraph.settings.sinks import LineFile, Row, end_of_lines, json_line
from ezgraph.settings.table import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

INTERVALS_NAME = "settings"
_HEAD = (
    ("seq", "number of the change in the broker's history"),
    ("component", "address of the component that changed"),
    ("event_type", "what happened to it: INITIAL, UPDATED or REMOVED"),
)
_OF_THE_TABLE = ("id", "start_time", "stop_time", "tags", "timeseries", "colnames", "columns")
_OF_ITS_CLASS = ("name", "description", "parent", "object_id", "fields")
_RESERVED = frozenset([name for name, _ in _HEAD] + [*_OF_THE_TABLE, *_OF_ITS_CLASS])
_Cells = tuple[str, str, Any]
"""Name, description and data of a column."""
_EXACT_IN_FLOAT = 2**53


def add_annotations(nwbfile: Any, rows: Iterable[Row], *, zero_s: float = 0.0) -> None:  # noqa: ANN401
    """Add an `AnnotationSeries` of each table that rows belong to, with a text for each row.

    ``zero_s`` is the time, on the clock of the rows, that is zero in the file. A row without
    columns (a sentinel) is left out.

    Raises:
        MissingExtraError: pynwb is not installed.
    """
    misc = extra("pynwb.misc", "nwb", "writing NWB files")
    series: dict[str, list[tuple[float, str]]] = {}
    for row in rows:
        columns = row.flatten_for_table()
        if columns is not None:
            told = (row.timestamp - zero_s, _annotation(dict(columns)))
            series.setdefault(row.table_name, []).append(told)
    for name, told_of in series.items():
        times, texts = zip(*told_of, strict=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "AnnotationSeries is deprecated", UserWarning)
            annotations = misc.AnnotationSeries(
                name=name,
                description="changes of settings, each as JSON",
                data=list(texts),
                timestamps=list(times),
            )
        nwbfile.add_acquisition(annotations)


def _annotation(columns: dict[str, Any]) -> str:
    text = columns.get("data")
    if len(columns) == 1 and isinstance(text, str):
        return text
    return json.dumps(plain(columns), allow_nan=False)


def add_intervals(
    nwbfile: Any,  # noqa: ANN401
    events: Iterable[PipelineSettingsEvent],
    *,
    closed_at: float,
    zero_s: float = 0.0,
    name: str = INTERVALS_NAME,
) -> None:
    """Add a table of intervals (`settings_intervals`) with a column for each setting.

    A column of numbers has NaN where the setting does not exist or is None, one of truth values is
    then -1, 0 and 1, one of texts is empty there; arrays of one shape stay arrays. Whatever else is
    JSON. ``closed_at`` and ``zero_s`` are times on the clock of the events.

    Raises:
        MissingExtraError: pynwb is not installed.
    """
    epoch = extra("pynwb.epoch", "nwb", "writing NWB files")
    common = extra("hdmf.common", "nwb", "writing NWB files")
    intervals = settings_intervals(events, closed_at=closed_at)
    heads = _HEAD if intervals else ()  # an empty column would have no type
    columns: list[_Cells] = [
        ("start_time", "start, in seconds", [each.start_s - zero_s for each in intervals]),
        ("stop_time", "end, in seconds", [each.stop_s - zero_s for each in intervals]),
        *((name, about, [getattr(each, name) for each in intervals]) for name, about in heads),
        *_settings_columns(intervals),
    ]
    made = [common.VectorData(name=name, description=about, data=d) for name, about, d in columns]
    about = "settings of all components; each row holds from start_time to stop_time"
    nwbfile.add_time_intervals(epoch.TimeIntervals(name=name, description=about, columns=made))


# --- columns ---


def _settings_columns(intervals: Sequence[Interval]) -> list[_Cells]:
    names = list(dict.fromkeys(name for each in intervals for name in each.values))
    taken = set(_RESERVED)
    columns = []
    for name in names:
        free = f"setting{name}" if name.startswith(".") else name  # HDF5 has no such names
        while free in taken:
            free += "_"
        taken.add(free)
        cells = [sanitize_settings_value(each.values.get(name)) for each in intervals]
        is_there = [each.values.get(name) is not None for each in intervals]
        about, data = _typed(cells, is_there)
        columns.append((free, about, data))
    return columns


def _typed(cells: list[Any], is_there: list[bool]) -> tuple[str, Any]:
    """Return what a column holds, and its data; where ``is_there`` is false there is nothing."""
    found = [cell for cell, there in zip(cells, is_there, strict=True) if there]
    kind, is_whole = kind_of(found), all(is_there)
    if kind == "int" and not is_whole and max(map(abs, found)) > _EXACT_IN_FLOAT:
        kind = "object"
    match kind:
        case "bool" if is_whole:
            return "true or false", np.array(found)
        case "bool":
            return "1 true, 0 false, -1 none", np.array(_filled(cells, is_there, -1), np.int8)
        case "int" if is_whole:
            return "integers", np.array(found, np.int64)
        case "int" | "float":
            return "numbers, NaN where there is none", np.array(
                _filled(cells, is_there, np.nan), np.float64
            )
        case "text":
            return "text, empty where there is none", _filled(cells, is_there, "")
        case _ if _are_alike(found):
            filler = np.full_like(found[0], np.nan) if not is_whole else None
            return "arrays, NaN where there is none", np.stack(_filled(cells, is_there, filler))
        case _:
            shown = [json.dumps(plain(cell), allow_nan=False) for cell in cells]
            return "JSON, empty where there is none", _filled(shown, is_there, "")


def _filled(cells: Sequence[Any], is_there: Sequence[bool], filler: Any) -> list[Any]:  # noqa: ANN401
    return [cell if there else filler for cell, there in zip(cells, is_there, strict=True)]


def _are_alike(found: Sequence[Any]) -> bool:
    """Return whether all are arrays of numbers of one shape (with gaps: of floats)."""
    if not all(isinstance(each, np.ndarray) and each.dtype.kind == "f" for each in found):
        return False
    return len({each.shape for each in found}) == 1 and found[0].size > 0


# --- a file of its own ---


class NWBSettingsSink:
    """Records settings events to an NWB file of its own, in both forms.

    Args:
        path: the file; it appears when the sink is closed or `write` is called.
        new_file: makes the ``NWBFile`` that the settings are added to, each time it is written.
        zero_s: the time on the clock of the events at which the file's session starts.
        clock: the clock of the events, with which the last interval is closed.

    An event is safe when `append` returns: it stands in ``<path>.events.jsonl``. After a crash
    `recover` makes the NWB file of that; or a new sink of the same path goes on with it.

    Raises:
        ConfigError: there is such a file already, and no events of a crash.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        new_file: Callable[[], Any],
        *,
        zero_s: float = 0.0,
        clock: Clock | None = None,
    ) -> None:
        self.path = Path(path)
        self._new_file = new_file
        self._zero_s = zero_s
        self._clock = clock or SystemClock()
        lines = events_path(self.path)
        if self.path.exists() and not lines.exists():
            raise ConfigError(f"{self.path} exists already; give the recording another name")
        extra("pynwb", "nwb", "writing NWB files")  # better now than at the end of a recording
        self._lines: LineFile | None = LineFile(lines, end_of_lines)
        found = self._lines.found.decode().splitlines()
        self.events = [PipelineSettingsEvent(**json.loads(line)) for line in found]

    def __repr__(self) -> str:
        state = "" if self._lines else " closed"
        return f"<NWBSettingsSink {self.path} events={len(self.events)}{state}>"

    def append(self, event: PipelineSettingsEvent) -> None:
        """Take an event; it survives a crash of the program from now on."""
        self._opened().append(json_line(asdict(event)))
        self.events.append(event)

    def flush(self) -> None:
        """Wait until the disk has all events."""
        self._opened().flush()

    def write(self, *, closed_at: float | None = None) -> None:
        """Write the NWB file as of ``closed_at`` (now), in place of the one before."""
        moment = self._clock.monotonic() if closed_at is None else closed_at
        pynwb = extra("pynwb", "nwb", "writing NWB files")
        nwbfile = self._new_file()
        add_annotations(nwbfile, self.events, zero_s=self._zero_s)
        add_intervals(nwbfile, self.events, closed_at=moment, zero_s=self._zero_s)
        beside = self.path.with_name(f"{self.path.name}.new.nwb")
        try:
            with pynwb.NWBHDF5IO(str(beside), "w") as file:
                file.write(nwbfile)
            beside.replace(self.path)
        finally:
            beside.unlink(missing_ok=True)

    def close(self, *, closed_at: float | None = None) -> None:
        """End the last interval at ``closed_at`` (now) and write the file; again does nothing.

        If the file cannot be written the sink stays open: close it again, or `abandon` it.
        """
        if self._lines is not None:
            self.write(closed_at=closed_at)
            self.abandon()
            events_path(self.path).unlink()

    def abandon(self) -> None:
        """Write no file; the events stay for `recover`."""
        lines, self._lines = self._lines, None
        if lines is not None:
            lines.close()

    def _opened(self) -> LineFile:
        if self._lines is None:
            raise ContextClosedError(f"{self.path} is written and closed; make another sink")
        return self._lines

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        finally:
            self.abandon()


def events_path(path: str | os.PathLike[str]) -> Path:
    """Return where the events of a recording stand until its NWB file is written."""
    return Path(f"{os.fspath(path)}.events.jsonl")


def recover(
    path: str | os.PathLike[str], new_file: Callable[[], Any], *, zero_s: float = 0.0
) -> int:
    """Write the NWB file of a recording that crashed; return how many events it has.

    When its last interval ended is not known: it ends where it began.

    Raises:
        ConfigError: there are no events of a crash.
    """
    if not events_path(path).exists():
        raise ConfigError(f"there is no {events_path(path)}, so nothing to recover")
    with NWBSettingsSink(path, new_file, zero_s=zero_s) as sink:
        sink.close(closed_at=max((each.timestamp for each in sink.events), default=zero_s))
    return len(sink.events)
