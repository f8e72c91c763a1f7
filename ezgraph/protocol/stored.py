"""What the rows of a store hold: a graph in parts, and the records that refer to it.

``version`` is higher where a reader of an older one would be misled; a field that can be left out
of what one understands needs no new version, only a default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ezgraph.protocol.artifacts import Artifact, Partition, Producer
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.listing import SnapshotInfo
from ezgraph.protocol.metadata import ComponentMetadata
from ezgraph.protocol.settings import SettingsSnapshotValue

VERSION = 1


@dataclass(frozen=True, slots=True)
class EdgePart:
    """An edge of a stored graph."""

    from_topic: str
    to_topic: str


@dataclass(frozen=True, slots=True)
class ComponentPart:
    """A component of a stored graph."""

    component: ComponentMetadata


@dataclass(frozen=True, slots=True)
class SettingsPart:
    """The settings at an address of a stored graph."""

    address: str
    value: SettingsSnapshotValue


@dataclass(frozen=True, slots=True)
class ConfigPart:
    """An entry of a stored graph's configuration."""

    type: str
    key: str
    value: Any


@dataclass(frozen=True, slots=True)
class ArtifactPart:
    """An artifact of a stored graph, under the key it has there."""

    key: str
    artifact: Artifact


@dataclass(frozen=True, slots=True)
class ProducerPart:
    """A producer of a stored graph."""

    producer: Producer


Part = EdgePart | ComponentPart | SettingsPart | ConfigPart | ArtifactPart | ProducerPart


@dataclass(frozen=True, slots=True)
class GraphRow:
    """A stored graph: the names of its pieces, 16 bytes each, one after the other.

    ``pages`` hold its parts, ``blobs`` what they refer to. The counts are for listings.
    """

    wall_time: float
    author: str
    pages: bytes
    blobs: bytes
    edges: int
    components: int
    settings: int
    config: int
    artifacts: int
    producers: int
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """A stored snapshot of the graph with its fingerprint."""

    fingerprint: Fingerprint
    epoch: int
    seq: int
    time: float
    reason: str
    wall_time: float
    author: str
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class TagRow:
    """What a tag points to, and the key of that snapshot's row; None: the tag was removed."""

    key: bytes | None
    snapshot: SnapshotInfo | None
    wall_time: float
    author: str
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class RecordingRow:
    """A stored recording: what was written while a graph was so, and what changed meanwhile.

    It went from ``first_seq`` to ``last_seq``, from the snapshot with ``start_fingerprint`` to that
    with ``end_fingerprint``. ``change_seqs`` are the changes of settings in between, ``partitions``
    the fingerprints of what was written. ``failed``: an error ended it.
    """

    first_seq: int
    last_seq: int
    start_fingerprint: Fingerprint
    end_fingerprint: Fingerprint
    change_seqs: list[int]
    partitions: list[Fingerprint]
    failed: bool = False
    wall_time: float = 0.0
    author: str = ""
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class PartitionRow:
    """A stored partition."""

    partition: Partition
    wall_time: float
    author: str
    version: int = VERSION
