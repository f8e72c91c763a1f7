"""Hypothesis strategies for everything the bus speaks of. The only module that needs Hypothesis.

`messages` makes instances of any message type from its annotations, so a new message is tried
without a new strategy. NaN is left out throughout: it equals nothing, itself included.
"""

from __future__ import annotations

import datetime as dt
import enum
import pathlib
import sys
import types
import typing
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ezgraph.names import MAX_SEGMENTS, Key
from ezgraph.protocol.artifacts import Artifact, Partition, PartitionKey, Producer
from ezgraph.protocol.commands import (
    AnnounceNodes,
    ChangeConfig,
    Command,
    Connect,
    Disconnect,
    RegisterMetadata,
    ReportSettings,
    Revert,
    ServeGraph,
    SetPause,
    UpdateUnits,
    WithdrawGraph,
)
from ezgraph.protocol.config import (
    ConfigAbsent,
    ConfigAtSeq,
    ConfigCreatedAt,
    ConfigDelete,
    ConfigHasValue,
    ConfigKey,
    ConfigPresent,
    ConfigPut,
)
from ezgraph.protocol.events import Body, Event, Source, key_of
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.graphs import Graph
from ezgraph.protocol.metadata import (
    CollectionMetadata,
    ComponentMetadata,
    DynamicSettingsMetadata,
    GraphMetadata,
    UnitMetadata,
)
from ezgraph.protocol.recordings import RecordedChange, RecordedPartition, RecordingInfo
from ezgraph.protocol.replies import Reply
from ezgraph.protocol.served import NodeCard
from ezgraph.protocol.settings import EnumValue, SettingsSnapshotValue

TOPICS = ("a", "b", "a/b")
ADDRESSES = ("SYS", "SYS/A")
CONFIG_TYPES = ("flow", "flow2")
CONFIG_KEYS: tuple[ConfigKey, ...] = (
    ("a",), ("a", "b"), ("a", "b", "c"), ("ab",), ("a:b",), ("a/", "%"), ("\0", "ü"),
)
"""Each the beginning of another, or what a careless separator would take for one."""

segments = st.text(min_size=1, max_size=12) | st.text("%25F/\0a", min_size=1, max_size=6)
"""Segments of keys: any text, `/`, `%`, control characters and NUL among it."""

keys: st.SearchStrategy[Key] = st.lists(segments, max_size=MAX_SEGMENTS).map(tuple)
seqs = st.integers(0, 2**62)


# --- values: whatever a settings object may hold ---

_hashable = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.uuids()
    | st.complex_numbers(allow_nan=False)
    | st.datetimes()
    | st.datetimes(timezones=st.just(dt.UTC))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.sampled_from([pathlib.PurePosixPath("/data/a.nwb"), pathlib.PureWindowsPath("C:/x")])
    | st.builds(EnumValue, *[st.text(max_size=5)] * 3, st.integers())
)
_dtypes = (
    arrays.boolean_dtypes()
    | arrays.integer_dtypes()
    | arrays.unsigned_integer_dtypes()
    | arrays.floating_dtypes(sizes=(32, 64))
    | arrays.complex_number_dtypes(sizes=(64, 128))
    | arrays.datetime64_dtypes()
    | arrays.byte_string_dtypes(min_len=1, max_len=5)
    | arrays.unicode_string_dtypes(min_len=1, max_len=5)
)
_shapes = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
_arrays = arrays.arrays(_dtypes, _shapes)


def _containers(item: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(item, max_size=4)
        | st.lists(item, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=8) | st.integers(), item, max_size=4)
    )


values: st.SearchStrategy[Any] = st.recursive(
    _hashable | st.sets(_hashable, max_size=4) | st.frozensets(_hashable, max_size=4) | _arrays,
    _containers,
    max_leaves=12,
)
"""Anything the lossless encoding carries, arrays of every kind included."""

plain_values: st.SearchStrategy[Any] = st.recursive(_hashable, _containers, max_leaves=8)
"""Values that ``==`` can compare."""

structures = st.dictionaries(st.text(max_size=8), plain_values, max_size=4)


# --- what a rig makes ---

fingerprints: st.SearchStrategy[Fingerprint] = st.one_of(
    st.just(Fingerprint.empty()),
    st.just(Fingerprint.identity()),
    st.integers(0, 2**128 - 2).map(lambda number: Fingerprint(number.to_bytes(16, "big"))),
)
_names = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8
)
_key_values = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"), max_size=8)
    | st.binary(max_size=8)
    | st.dates()
    | st.datetimes(timezones=st.just(dt.UTC))
    | st.timedeltas()
    | st.uuids()
)
partition_keys: st.SearchStrategy[PartitionKey] = st.dictionaries(
    _names, _key_values, max_size=3
).map(PartitionKey)
partitions: st.SearchStrategy[Partition] = st.builds(
    Partition,
    partition_keys,
    fingerprints,
    fingerprints,
    st.text(max_size=12),
    st.none() | st.integers(0, 2**60),
)
_told = st.text(max_size=8) | structures
artifacts: st.SearchStrategy[Artifact] = st.builds(
    Artifact, _names, _told, _told, _told, structures, structures
)
producers: st.SearchStrategy[Producer] = st.builds(
    Producer, st.lists(_names, max_size=2), st.just(()), st.text(max_size=5)
)
_whole = st.integers(0, 2**63 - 1)
_times = st.floats(allow_nan=False, allow_infinity=False)


def _recording(ends: tuple[int, float] | None, first_seq: int, **known: Any) -> RecordingInfo:  # noqa: ANN401
    if ends is None:
        return RecordingInfo(**known, first_seq=first_seq)
    last_seq, ended = max(first_seq, ends[0]), ends[1]
    return RecordingInfo(**known, first_seq=first_seq, last_seq=last_seq, ended=ended)


recordings: st.SearchStrategy[RecordingInfo] = st.builds(
    _recording,
    st.none() | st.tuples(_whole, _times),
    _whole,
    name=_names,
    artifact_key=_names,
    artifact=artifacts,
    number=_whole,
    epoch=_whole,
    start=fingerprints,
    began=_times,
    noted_through=_whole,
    end=fingerprints,
    failed=st.booleans(),
    has_all_changes=st.booleans(),
    session_id=st.text(max_size=5),
)
recorded_partitions: st.SearchStrategy[RecordedPartition] = st.builds(
    RecordedPartition, partitions, _whole, st.lists(fingerprints, max_size=2).map(tuple)
)
recorded_changes: st.SearchStrategy[RecordedChange] = st.builds(RecordedChange, _whole, _names)


# --- messages of every type, from their annotations ---


def messages(cls: type) -> st.SearchStrategy[Any]:
    """Return instances of a message type, or of any of its subclasses."""
    if cls is Event:
        return events
    hints = typing.get_type_hints(cls)
    own = st.builds(cls, **{each.name: _of(hints[each.name]) for each in fields(cls)})
    return st.one_of(own, *map(messages, _subclasses(cls)))


def _subclasses(cls: type) -> list[type]:
    """Return the subclasses, without those that ``@dataclass(slots=True)`` has replaced."""
    found: list[type] = cls.__subclasses__()
    return [each for each in found if getattr(sys.modules[each.__module__], each.__name__) is each]


def members(union: Any) -> list[type]:  # noqa: ANN401
    """Return the message types of a union such as `Command`."""
    return list(typing.get_args(union))


_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    int: seqs | st.integers(-(2**70), 2**70),
    str: st.text(max_size=20),
    bool: st.booleans(),
    bytes: st.binary(max_size=20),
    float: st.floats(allow_nan=False),
    UUID: st.uuids(),
    types.NoneType: st.none(),
    Any: plain_values,
    dict[str, Any]: structures,
    Fingerprint: fingerprints,
    PartitionKey: partition_keys,
    Partition: partitions,
    Artifact: artifacts,
    Producer: producers,
    RecordingInfo: recordings,
    RecordedPartition: recorded_partitions,
    RecordedChange: recorded_changes,
}


def _of(hint: Any) -> st.SearchStrategy[Any]:  # noqa: ANN401
    if hint in _PLAIN:
        return _PLAIN[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*map(_of, arguments))
    if origin is list:
        return st.lists(_of(arguments[0]), max_size=3)
    if origin is tuple and arguments[1:] == (Ellipsis,):
        return st.lists(_of(arguments[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(_of, arguments))
    if origin is dict:
        return st.dictionaries(_of(arguments[0]), _of(arguments[1]), max_size=3)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return st.sampled_from(hint)
    if isinstance(hint, type) and issubclass(hint, tuple):
        own = typing.get_type_hints(hint)
        return st.builds(hint, *[_of(own[name]) for name in hint._fields])  # type: ignore[attr-defined]
    if is_dataclass(hint):
        return st.deferred(lambda: messages(typing.cast("type", hint)))
    raise TypeError(f"no strategy for {hint!r}")


def _event(body: Any, source: Source, seq: int, span: tuple[int, int], times: Any) -> Event:  # noqa: ANN401
    before, behind = span
    return Event(
        epoch=1,
        seq=seq,
        prev=seq - 1,
        txn_first=seq - before,
        txn_last=seq + behind,
        wall_time=times[0],
        mono_time=times[1],
        key=key_of(body),
        source=source,
        request_id=times[2],
        body=body,
    )


events: st.SearchStrategy[Event] = st.builds(
    _event,
    st.deferred(lambda: st.one_of(*map(messages, members(Body)))),
    st.deferred(lambda: messages(Source)),
    st.integers(1, 2**60),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.tuples(st.floats(0, 2e9), st.floats(0, 1e6), st.none() | seqs),
)
any_command: st.SearchStrategy[Command] = st.one_of(*map(messages, members(Command)))
any_reply: st.SearchStrategy[Reply] = st.one_of(*map(messages, members(Reply)))


# --- programs: commands that meet each other ---

settings_values = st.builds(
    SettingsSnapshotValue,
    serialized=st.none() | st.binary(max_size=3),
    repr_value=structures | st.text(max_size=5),
    structured_value=st.none() | structures,
)


def _component(cls: type[ComponentMetadata], gain: int, address: str) -> ComponentMetadata:
    return cls(
        address=address,
        name=address,
        component_type=f"lab.{cls.__name__}",
        settings_type="lab.Settings",
        initial_settings=(None, {"gain": gain}),
        dynamic_settings=DynamicSettingsMetadata(enabled=False),
    )


_kinds: st.SearchStrategy[type[ComponentMetadata]] = st.sampled_from(
    [UnitMetadata, CollectionMetadata]
)
metadata = st.dictionaries(
    st.sampled_from(ADDRESSES), st.tuples(_kinds, st.integers(0, 3)), max_size=3
).map(
    lambda parts: GraphMetadata(
        components={address: _component(*part, address) for address, part in parts.items()}
    )
)

graphs: st.SearchStrategy[Graph] = st.builds(
    Graph,
    _names,
    st.dictionaries(_names, artifacts, max_size=2),
    st.lists(producers, max_size=2),
    st.lists(st.tuples(_names, _names), max_size=3),
    metadata.map(lambda each: each.components),
    st.dictionaries(_names, structures | settings_values, max_size=3),
    st.dictionaries(_names, st.dictionaries(_names, plain_values, max_size=2), max_size=2),
)


_topics = st.sampled_from(TOPICS)
_address = st.sampled_from(ADDRESSES)
_addresses = st.lists(_address, max_size=2)


class Step(NamedTuple):
    """Something a client does, or the end of its lease (``command`` None: nobody hears of it)."""

    client: int
    command: Command | None


_kind, _key = st.sampled_from(CONFIG_TYPES), st.sampled_from(CONFIG_KEYS)
config_values = st.sampled_from([None, 0, 1, 1.0, True, "", "text", [1], {"a": [1, {"b": None}]}])
"""Few, so that what is put is often there already; some are equal, and yet not the same."""

config_conditions = st.one_of(
    st.builds(ConfigAbsent, _kind, _key),
    st.builds(ConfigPresent, _kind, _key),
    st.builds(ConfigAtSeq, _kind, _key, st.integers(0, 30)),
    st.builds(ConfigCreatedAt, _kind, _key, st.integers(0, 30)),
    st.builds(ConfigHasValue, _kind, _key, config_values),
)


def config_changes(*, ephemeral: bool) -> st.SearchStrategy[Command]:
    """Return transactions on few entries, so that they meet; ``ephemeral``: some puts are."""
    kept = st.booleans() if ephemeral else st.just(value=False)
    own = st.builds(ConfigPut, _kind, _key, config_values, kept)
    return st.builds(
        ChangeConfig,
        puts=st.lists(own, max_size=3),
        deletes=st.lists(st.builds(ConfigDelete, _kind, _key), max_size=2),
        conditions=st.just([]) | st.lists(config_conditions, max_size=1),
    )


SERVED_NAMES, NODE_UIDS = ("run", "run2"), ("root", "n1", "n/2")
_served = st.sampled_from(SERVED_NAMES)
_uids = st.sampled_from(NODE_UIDS)
_cards = st.builds(
    NodeCard,
    _uids,
    st.lists(st.sampled_from(["a", 1]), max_size=2),
    st.integers(2, 3),
    st.just("lab.Node"),
    st.sampled_from(["", "f4 (2,)"]),
)
_of_hosts: st.SearchStrategy[Command] = st.one_of(
    st.builds(
        ServeGraph,
        _served,
        st.sampled_from(["root", "root", "root", "n1"]),
        st.sampled_from(["i1", "i2"]),
        st.sampled_from([["127.0.0.1:4000"], []]),
        st.none(),
        st.sampled_from([True, True, True, False]),
    ),
    st.builds(AnnounceNodes, _served, st.lists(_cards, max_size=2), st.lists(_uids, max_size=1)),
    st.builds(AnnounceNodes, _served, st.lists(_cards, max_size=2), st.just([])),
    st.builds(WithdrawGraph, _served),
)
"""Few names, roots and incarnations, so that replicas, collisions and new hosts happen."""

_of_edges: st.SearchStrategy[Command] = st.one_of(
    st.builds(Connect, _topics, _topics),
    st.builds(Connect, _topics, _topics, reason=st.none() | st.text(max_size=3)),
    st.builds(Disconnect, _topics, _topics),
)
_of_sessions: st.SearchStrategy[Command] = st.one_of(
    _of_edges,
    st.builds(RegisterMetadata, metadata),
    config_changes(ephemeral=True),
    _of_hosts,
    st.builds(Revert),
)
_reports = st.builds(ReportSettings, _address, settings_values, st.none() | st.floats(0, 1e9))
_of_processes: st.SearchStrategy[Command] = st.one_of(
    st.builds(UpdateUnits, _addresses, st.just([])),
    st.builds(UpdateUnits, _addresses, _addresses),
    _reports,
    _reports,
    _reports,
    _of_hosts,
)
_of_guests: st.SearchStrategy[Command] = st.one_of(
    _of_edges, st.builds(SetPause, st.booleans()), config_changes(ephemeral=False)
)

changes: st.SearchStrategy[Command] = st.one_of(_of_sessions, _of_processes, _of_guests)
"""Commands on a few topics and addresses, so that cycles, collisions and refusals happen."""


def _steps_of(client: int) -> st.SearchStrategy[Step]:
    """Mostly what its kind of client may do, sometimes what it may not, or the end."""
    own = (_of_sessions, _of_processes, _of_guests)[client % 3]
    what = st.sampled_from([own] * 8 + [changes, st.none()]).flatmap(lambda which: which)
    return st.builds(Step, st.just(client), what)


_step = st.sampled_from([0, 0, 1, 1, 1, 2, 3, 4]).flatmap(_steps_of)
programs: st.SearchStrategy[list[Step]] = st.lists(_step, max_size=10) | st.lists(
    _step, min_size=20, max_size=50
)
"""What five clients do: by number modulo three a session, a process, a guest."""
