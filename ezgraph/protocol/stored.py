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
from ezgraph.protocol.recordings import RecordedChange, RecordedPartition, RecordingInfo
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
class PartitionRow:
    """A stored partition."""

    partition: Partition
    wall_time: float
    author: str
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class RecordingRow:
    """A stored recording, apart from what was written in it."""

    recording: RecordingInfo
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class RecordedPartitionRow:
    """A partition that was written in a recording."""

    recorded: RecordedPartition
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class RecordedChangeRow:
    """A change of settings during a recording."""

    change: RecordedChange
    version: int = VERSION
