"""Where the bus keeps what happened and what it was: backends, their connections, the journal."""

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
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.listing import (
    GraphInfo,
    Page,
    PartitionInfo,
    SnapshotInfo,
    TagChange,
    TagInfo,
)

if TYPE_CHECKING:
    from ezgraph.backends.aio import AsyncConnection
    from ezgraph.backends.memory import MemoryBackend
    from ezgraph.backends.past import SeqAt, seq_at, state_at
    from ezgraph.backends.sqlite import SQLiteBackend
    from ezgraph.client.backend import BrokerBackend

__all__ = [
    "AsyncConnection",
    "Backend",
    "BrokerBackend",
    "Checkpoint",
    "CheckpointSink",
    "CheckpointWriter",
    "Chunk",
    "Connection",
    "EpochSpan",
    "Fingerprint",
    "GraphInfo",
    "Journal",
    "JournalMeta",
    "JournalReader",
    "MemoryBackend",
    "Page",
    "PartitionInfo",
    "Record",
    "SQLiteBackend",
    "SeqAt",
    "SnapshotInfo",
    "TagChange",
    "TagInfo",
    "masked",
    "seq_at",
    "state_at",
]

_HOME = {
    "AsyncConnection": "ezgraph.backends.aio",
    "BrokerBackend": "ezgraph.client.backend",
    "MemoryBackend": "ezgraph.backends.memory",
    "SQLiteBackend": "ezgraph.backends.sqlite",
    "SeqAt": "ezgraph.backends.past",
    "seq_at": "ezgraph.backends.past",
    "state_at": "ezgraph.backends.past",
}


def __getattr__(name: str) -> object:
    """Load a backend when it is first named: not every program needs SQLite."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
