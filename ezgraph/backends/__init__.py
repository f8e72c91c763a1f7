"""Where the bus keeps what happened: backends, their connections, and the journal."""

from ezgraph.backends.base import (
    Backend,
    Checkpoint,
    CheckpointSink,
    CheckpointWriter,
    Chunk,
    Connection,
    Journal,
    JournalMeta,
    Record,
    masked,
)
from ezgraph.backends.memory import MemoryBackend
from ezgraph.backends.sqlite import SQLiteBackend

__all__ = [
    "Backend",
    "Checkpoint",
    "CheckpointSink",
    "CheckpointWriter",
    "Chunk",
    "Connection",
    "Journal",
    "JournalMeta",
    "MemoryBackend",
    "Record",
    "SQLiteBackend",
    "masked",
]
