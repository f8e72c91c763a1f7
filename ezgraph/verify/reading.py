"""From files to a report: reads a journal and traces, and hands them to the checker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ezgraph.backends import Backend
from ezgraph.errors import JournalError
from ezgraph.verify.checker import Checker
from ezgraph.verify.history import History, Start
from ezgraph.verify.recorder import digest, digest_of
from ezgraph.verify.trace_file import TraceFile
from ezgraph.wire import codec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ezgraph.backends import JournalReader
    from ezgraph.protocol.events import Event
    from ezgraph.verify.findings import Report
    from ezgraph.verify.one_trace import Tolerances

_CHUNK_EVENTS = 2_000
_CHUNK_BYTES = 1 << 24


def read_history(
    journal: str, *, on_progress: Callable[[str, int, int], None] = lambda *_: None
) -> History:
    """Return what the journal at a backend's URL holds now; a running broker is not disturbed.

    Raises:
        ConfigError: nobody knows the URL.
        JournalError: there is no such journal, or it is damaged; says where.
    """
    with Backend.from_url(journal).connect() as connection, connection.open_reader() as reader:
        return history_of(reader, on_progress=on_progress)


def history_of(
    reader: JournalReader, *, on_progress: Callable[[str, int, int], None] = lambda *_: None
) -> History:
    """Return what an open journal holds."""
    events: list[Event] = []
    digests: list[str] = []
    position = reader.floor - 1
    while position < reader.head:
        chunk = reader.read(position, max_rows=_CHUNK_EVENTS, max_bytes=_CHUNK_BYTES)
        for each in chunk.events:
            events.append(codec.decode_event(each))
            digests.append(digest(each))
        position = chunk.through
        on_progress("reading the journal", len(events), 0)
    return History(
        events,
        floor=reader.floor,
        head=reader.head,
        start=_start(reader),
        cluster_id=reader.cluster_id,
        digests=digests,
        digest_of=digest_of,
    )


def _start(reader: JournalReader) -> Start | None:
    """The oldest checkpoint that the history goes on from; None: it is all here."""
    if reader.floor <= 1:
        return None
    checkpoints = reader.each_checkpoint()
    if not checkpoints:
        raise JournalError(
            f"{reader.name} begins at {reader.floor} and has no checkpoint to begin from"
        )
    oldest = checkpoints[0]
    events = [codec.decode_live_event(each, oldest.blobs) for each in oldest.entries]
    return Start(_epoch_at(reader, oldest.seq), oldest.seq, tuple(events))


def _epoch_at(reader: JournalReader, seq: int) -> int:
    begun = [span.epoch for span in reader.epochs if span.base <= seq]
    return begun[-1] if begun else reader.epoch


def verify(
    traces: Iterable[str | Path],
    history: History,
    *,
    tolerances: Tolerances | None = None,
    on_progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Report:
    """Return what traces and a journal show about G1 to G10.

    ``on_progress`` is told what is done, how much of it, and of how much (0: not known).

    Raises:
        ConfigError: a file cannot be read, or is no trace.
    """
    checker = Checker(history, tolerances)
    files = [TraceFile(Path(each)) for each in traces]
    for number, file in enumerate(files):
        on_progress("comparing traces", number, len(files))
        _take(checker, file)
    total = len(history.events)
    return checker.finish(lambda done: on_progress("replaying the journal", done, total))


def _take(checker: Checker, file: TraceFile) -> None:
    trace = checker.begin(file.name)
    for record in file:
        trace.header = file.header
        trace.take(record)
    trace.finish(file.ending)
