"""What is known of a recording: which rig wrote which partitions of an artifact, and what changed.

A recording lasts from ``first_seq`` to ``last_seq``. Of what was written in it each partition names
the snapshots that were *in force* while it was written: the wiring and the settings behind it. A
snapshot is in force from its seq on until the next one of the recording; one is taken when the
recording begins, one when it ends, and one whenever a partition is added after settings have
changed. Between them every change of settings is noted by its seq, so that `ctx.at` shows the rig
right before and after it.

One that was never ended, because its process crashed, say, has no ``last_seq``. Then all that was
added is there with its snapshots, changes are noted up to ``noted_through``, and those behind that
are in the journal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from ezgraph.errors import InvalidKeyError, InvalidValueError
from ezgraph.names import topic_of
from ezgraph.protocol.artifacts import Artifact, Partition, check_fingerprint, check_name
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.json_form import JsonValue

_NUMBERS = ("number", "epoch", "first_seq", "noted_through")


@dataclass(frozen=True, slots=True)
class RecordingInfo(JsonValue):
    """One recording of an artifact, apart from what was written in it.

    ``number`` counts the recordings of this artifact in this graph, from 1; 0: it is none yet.
    ``start`` is the snapshot that was in force when it began, ``end`` that when it ended. Times
    (``began``, ``ended``) are seconds since 1970, by the broker's clock. ``failed``: an exception
    ended it. ``has_all_changes`` False: some changes were compacted before they could be noted; of
    each component the last one is there. ``wall_time`` and ``author`` are of the first write.
    """

    name: str
    artifact_key: str
    artifact: Artifact
    number: int = 0
    epoch: int = 0
    first_seq: int = 0
    start: Fingerprint = field(default_factory=Fingerprint.empty)
    began: float = 0.0
    noted_through: int = 0
    last_seq: int | None = None
    end: Fingerprint = field(default_factory=Fingerprint.empty)
    ended: float | None = None
    failed: bool = False
    has_all_changes: bool = True
    session_id: str = ""
    wall_time: float = 0.0
    author: str = ""

    def __post_init__(self) -> None:
        check_name(self.name, "a graph")
        check_name(self.artifact_key, "an artifact")
        if not isinstance(self.artifact, Artifact):
            raise InvalidValueError(f"a recording is of an Artifact, not of {self.artifact!r:.60}")
        for each in _NUMBERS:
            _check_number(each, getattr(self, each))
        if self.last_seq is not None:
            _check_number("last_seq", self.last_seq)
            if self.last_seq < self.first_seq:
                raise InvalidValueError(
                    f"a recording cannot end at seq {self.last_seq}: it began at {self.first_seq}"
                )
        if (self.last_seq is None) != (self.ended is None):
            raise InvalidValueError(
                f"a recording that has ended has both last_seq and ended, one that goes on has "
                f"neither; given are {self.last_seq!r} and {self.ended!r:.60}"
            )
        for each in ("start", "end"):
            found = check_fingerprint(getattr(self, each), f"{each} of a recording")
            object.__setattr__(self, each, found)
        for each in ("began", "ended"):
            _check_time(each, getattr(self, each))

    @property
    def has_ended(self) -> bool:
        """Whether it was ended; else it goes on, or nobody could end it any more."""
        return self.last_seq is not None

    def as_stored(self, number: int, wall_time: float, author: str) -> RecordingInfo:
        """Return it as it is stored: under that number, first written then and by that author."""
        return replace(self, number=number, wall_time=wall_time, author=author)

    def __repr__(self) -> str:
        end = self.last_seq if self.has_ended else "…"
        failed = " failed" if self.failed else ""
        return (
            f"<RecordingInfo {self.name!r} {self.artifact_key!r} #{self.number} "
            f"seq {self.first_seq}-{end}{failed}>"
        )


def _check_number(name: str, value: object) -> None:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise InvalidValueError(f"{name} of a recording is {value!r:.60}; give a whole number")


def _check_time(name: str, value: object) -> None:
    if value is not None and (type(value) not in (int, float) or not math.isfinite(value)):  # type: ignore[arg-type]
        raise InvalidValueError(f"{name} of a recording is {value!r:.60}; give seconds since 1970")


@dataclass(frozen=True, slots=True)
class RecordedPartition(JsonValue):
    """A partition that was added at ``seq``, and the snapshots in force while it was written."""

    partition: Partition
    seq: int
    snapshots: tuple[Fingerprint, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.partition, Partition):
            raise InvalidValueError(f"{self.partition!r:.60}, in a recording, is no Partition")
        _check_number("seq", self.seq)
        found = [check_fingerprint(each, "a snapshot in force") for each in self.snapshots]
        object.__setattr__(self, "snapshots", tuple(found))


@dataclass(frozen=True, slots=True)
class RecordedChange(JsonValue):
    """A change of the settings at ``address`` during a recording."""

    seq: int
    address: str

    def __post_init__(self) -> None:
        _check_number("seq", self.seq)
        try:  # any address there may be: a name would be less
            topic_of(("settings", self.address))
        except (InvalidKeyError, TypeError) as error:
            raise InvalidValueError(
                f"{self.address!r:.60} is no address of settings that changed: {error}"
            ) from error


@dataclass(frozen=True, slots=True)
class Recording(JsonValue):
    """A recording with the partitions that were written in it, and the changes during it.

    Partitions are in order of their keys, changes in order of seq.
    """

    info: RecordingInfo
    partitions: tuple[RecordedPartition, ...] = ()
    changes: tuple[RecordedChange, ...] = ()

    @property
    def first_seq(self) -> int:
        """Where it began."""
        return self.info.first_seq

    @property
    def last_seq(self) -> int | None:
        """Where it ended; None: it goes on, or nobody could end it any more."""
        return self.info.last_seq

    @property
    def has_ended(self) -> bool:
        """Whether it was ended."""
        return self.info.has_ended
