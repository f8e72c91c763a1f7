"""Where the bus keeps what happened: backends, their connections, and the journal."""

from importlib import import_module
from typing import TYPE_CHECKING

from ezgraph.backends.base import (
    Backend,
    Checkpoint,
    CheckpointSink,
    CheckpointWriter,
    Chunk,
    Connection,
    EpochSpan,
    Journal,
    JournalMeta,
    JournalReader,
    Record,
    masked,
)
from ezgraph.protocol.listing import Page

if TYPE_CHECKING:
    from ezgraph.backends.aio import AsyncConnection
    from ezgraph.backends.memory import MemoryBackend
    from ezgraph.backends.sqlite import SQLiteBackend

__all__ = [
    "AsyncConnection",
    "Backend",
    "Checkpoint",
    "CheckpointSink",
    "CheckpointWriter",
    "Chunk",
    "Connection",
    "EpochSpan",
    "Journal",
    "JournalMeta",
    "JournalReader",
    "MemoryBackend",
    "Page",
    "Record",
    "SQLiteBackend",
    "masked",
]

_HOME = {
    "AsyncConnection": "ezgraph.backends.aio",
    "MemoryBackend": "ezgraph.backends.memory",
    "SQLiteBackend": "ezgraph.backends.sqlite",
}


def __getattr__(name: str) -> object:
    """Load a backend when it is first named: not every program needs SQLite."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
