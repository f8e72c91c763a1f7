"""Recordings in the rows of a store.

===============================================================  =================================
``recording/NAME/ARTIFACT/NUMBER/``                              `RecordingRow`
``recorded/NAME/ARTIFACT/NUMBER/partition/KEY/INPUT/CONTENT/``   `RecordedPartitionRow`
``recorded/NAME/ARTIFACT/NUMBER/change/SEQ/``                    `RecordedChangeRow`
``inforce/NAME/FINGERPRINT/ARTIFACT/NUMBER/``                    empty: this recording names that
                                                                 snapshot
===============================================================  =================================

NUMBER and SEQ are 16 hexadecimal digits; KEY, INPUT and CONTENT are those of `stored_partitions`. A
recording grows: its row is written anew, and what was written in it is added, so that each step of
it costs what is new. Whatever a process had told before it crashed is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezgraph.backends.stored_graphs import check_snapshot, page_of, row_of, some
from ezgraph.backends.stored_partitions import (
    note_key,
    of_artifact,
    of_snapshot,
    place_of,
    write_partitions,
)
from ezgraph.errors import InvalidValueError, RecordingEndedError, UnknownRecordingError
from ezgraph.names import key_of, topic_of
from ezgraph.protocol.recordings import Recording
from ezgraph.protocol.stored import RecordedChangeRow, RecordedPartitionRow, RecordingRow
from ezgraph.wire import codec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ezgraph.backends.store import Store
    from ezgraph.backends.stored_graphs import Written
    from ezgraph.protocol.artifacts import Partition
    from ezgraph.protocol.fingerprints import Fingerprint
    from ezgraph.protocol.listing import Page
    from ezgraph.protocol.recordings import RecordedChange, RecordedPartition, RecordingInfo

_SHOWN = 4


def write_recording(
    store: Store,
    info: RecordingInfo,
    partitions: Sequence[RecordedPartition],
    changes: Sequence[RecordedChange],
    written: Written,
) -> RecordingInfo:
    """Store what is known of a recording; one without a number is begun. Return it as it is stored.

    Partitions are added to the artifact's storage and to each snapshot that they name.

    Raises:
        UnknownSnapshotError: a snapshot that it names is not stored.
        UnknownRecordingError: it has a number, and there is none of that.
        RecordingEndedError: it has ended, and something else is said of it now.
        InvalidValueError: it is of another artifact, or has no snapshot to begin with.
    """
    marks = _snapshots(info, partitions)
    for mark in marks:
        check_snapshot(store, info.name, mark)
    if info.number == 0:
        number = _next(store, info.name, info.artifact_key)
        kept = info.as_stored(number, written.wall_time, written.author)
    else:
        kept = _continued(store, info)
    place = place_of_recording(kept.name, kept.artifact_key, kept.number)
    rows = _recorded(topic_of(("recorded", *place)), partitions, changes)
    key = topic_of(("recording", *place))
    _refuse_ended(store, key, kept, rows)
    store.put({key: _spelled(kept)})
    store.add(rows)
    store.add({_in_force(kept, mark): b"" for mark in marks})
    _add_partitions(store, kept, partitions, written)
    return kept


def _snapshots(
    info: RecordingInfo, partitions: Iterable[RecordedPartition]
) -> list[Fingerprint]:
    if info.start.is_empty:
        raise InvalidValueError(
            f"the recording of {info.artifact_key!r} names no snapshot that was in force when it "
            f"began (start); write that first"
        )
    named = [info.start, *([] if info.end.is_empty else [info.end])]
    named += [mark for each in partitions for mark in each.snapshots]
    return list(dict.fromkeys(named))


def _continued(store: Store, info: RecordingInfo) -> RecordingInfo:
    """Return what is to be kept of a recording that is there already."""
    before = read_info(store, info.name, info.artifact_key, info.number)
    kept = info.as_stored(info.number, before.wall_time, before.author)
    if before.artifact.fingerprint != info.artifact.fingerprint:
        raise InvalidValueError(
            f"recording {info.number} of {info.artifact_key!r} in graph {info.name!r} is of "
            f"another artifact (stored at {before.artifact.storage!r:.60}); begin one of its own"
        )
    return kept


def _refuse_ended(
    store: Store, key: bytes, kept: RecordingInfo, rows: Mapping[bytes, bytes]
) -> None:
    """Refuse to say something new of a recording that has ended; to say the same again is none."""
    packed = store.get(key)
    before = None if packed is None else row_of(key, packed, RecordingRow).recording
    if before is None or not before.has_ended:
        return
    if _spelled(before) != _spelled(kept) or any(store.get(each) is None for each in rows):
        raise RecordingEndedError(
            f"recording {kept.number} of {kept.artifact_key!r} in graph {kept.name!r} has ended "
            f"at seq {before.last_seq}: what is known of it stays; begin another"
        )


def _spelled(info: RecordingInfo) -> bytes:
    """Return its row; unlike values, which may hold arrays, these can always be compared."""
    return codec.encode(RecordingRow(info))


def _recorded(
    prefix: bytes,
    partitions: Iterable[RecordedPartition],
    changes: Iterable[RecordedChange],
) -> dict[bytes, bytes]:
    """Return the rows of what was written in a recording."""
    rows = {
        prefix + topic_of(("partition",)) + _place_of(each.partition): codec.encode(
            RecordedPartitionRow(each)
        )
        for each in partitions
    }
    rows |= {
        prefix + topic_of(("change", f"{each.seq:016x}")): codec.encode(RecordedChangeRow(each))
        for each in changes
    }
    return rows


def _add_partitions(
    store: Store,
    info: RecordingInfo,
    partitions: Iterable[RecordedPartition],
    written: Written,
) -> None:
    by_snapshot: dict[Fingerprint, list[RecordedPartition]] = {}
    for each in partitions:
        for mark in each.snapshots:
            by_snapshot.setdefault(mark, []).append(each)
    scope = of_artifact(info.artifact)
    if partitions:
        note_key(store, info.artifact)
    write_partitions(store, scope, [each.partition for each in partitions], written)
    for mark, those in by_snapshot.items():
        scope = of_snapshot(info.name, mark, info.artifact_key, info.artifact)
        write_partitions(store, scope, [each.partition for each in those], written)


def read_info(store: Store, name: str, artifact_key: str, number: int) -> RecordingInfo:
    """Return a recording without what was written in it.

    Raises:
        UnknownRecordingError: there is none.
    """
    key = topic_of(("recording", *place_of_recording(name, artifact_key, number)))
    packed = store.get(key)
    if packed is None:
        raise _unknown(store, name, artifact_key, number)
    return row_of(key, packed, RecordingRow).recording


def read_recording(store: Store, name: str, artifact_key: str, number: int) -> Recording:
    """Return a recording with what was written in it, or raise as `read_info`."""
    info = read_info(store, name, artifact_key, number)
    prefix = topic_of(("recorded", *place_of_recording(name, artifact_key, number)))
    return Recording(
        info,
        tuple(
            row_of(key, packed, RecordedPartitionRow).recorded
            for key, packed in store.each(prefix + topic_of(("partition",)))
        ),
        tuple(
            row_of(key, packed, RecordedChangeRow).change
            for key, packed in store.each(prefix + topic_of(("change",)))
        ),
    )


def list_recordings(
    store: Store, name: str | None, artifact_key: str | None, after: str | None, limit: int
) -> Page[RecordingInfo]:
    """Return recordings, those of one graph and artifact or all, by name, artifact and number."""
    prefix: tuple[str, ...] = ("recording",)
    if name is not None:
        prefix = ("recording", name) if artifact_key is None else ("recording", name, artifact_key)
    elif artifact_key is not None:
        raise InvalidValueError(
            f"recordings of artifact {artifact_key!r} are listed per graph: name the graph too"
        )
    return page_of(
        store,
        prefix,
        after,
        limit,
        lambda key, packed: row_of(key, packed, RecordingRow).recording,
    )


def delete_recording(store: Store, name: str, artifact_key: str, number: int) -> None:
    """Forget a recording; the partitions that were written in it stay, and the snapshots.

    Raises:
        UnknownRecordingError: there is none.
    """
    recording = read_recording(store, name, artifact_key, number)
    place = place_of_recording(name, artifact_key, number)
    marks = _snapshots(recording.info, recording.partitions)
    store.remove([key for key, _ in store.each(topic_of(("recorded", *place)))])
    store.remove(_in_force(recording.info, mark) for mark in marks)
    store.remove([topic_of(("recording", *place))])


def recordings_of(store: Store, name: str, fingerprint: Fingerprint) -> list[tuple[str, int]]:
    """Return which recordings name a snapshot: (artifact key, number)."""
    rows = store.each(topic_of(("inforce", name, str(fingerprint))))
    keys = [key_of(key) for key, _ in rows]
    return [(artifact_key, int(number, 16)) for _, _, _, artifact_key, number in keys]


def _in_force(info: RecordingInfo, mark: Fingerprint) -> bytes:
    _, artifact_key, number = place_of_recording(info.name, info.artifact_key, info.number)
    return topic_of(("inforce", info.name, str(mark), artifact_key, number))


def place_of_recording(name: str, artifact_key: str, number: int) -> tuple[str, str, str]:
    """Return the part of its rows' keys that names a recording."""
    return name, artifact_key, f"{number:016x}"


def _place_of(partition: Partition) -> bytes:
    return place_of(partition.key.text, partition.input_fingerprint, partition.fingerprint)


def _next(store: Store, name: str, artifact_key: str) -> int:
    last = store.last(topic_of(("recording", name, artifact_key)))
    return 1 if last is None else int(key_of(last[0])[3], 16) + 1


def _unknown(store: Store, name: str, artifact_key: str, number: int) -> UnknownRecordingError:
    known = store.scan(topic_of(("recording", name, artifact_key)), limit=_SHOWN)
    numbers = some([str(int(key_of(key)[3], 16)) for key, _ in known])
    return UnknownRecordingError(
        f"there is no recording {number} of {artifact_key!r} in graph {name!r} here; "
        + (f"there are {numbers}" if known else "there is none of that")
    )
