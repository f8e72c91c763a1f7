"""What real engines say to each other, to be mutated: every command, reply, event, note and link.

A few clients of every kind live a short life on the simulated network, with settings of every
type the encoding knows, cuts, refusals, a take-over and a compaction. Everything that passes
between them and the broker is kept: as whole sessions, to be sent to a broker again, and as
samples of each kind, to be decoded.
"""

from __future__ import annotations

import datetime as dt
import enum
import pathlib
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np

from ezgraph.backends.stored_graphs import Written, cut
from ezgraph.config import BrokerConfig, Retention
from ezgraph.names import key_of, topic_of
from ezgraph.protocol.artifacts import Artifact, Partition, Producer
from ezgraph.protocol.commands import (
    AnnounceNodes,
    AnswerRequest,
    ChangeConfig,
    ChangeSettings,
    Command,
    Connect,
    Disconnect,
    FindGraph,
    GetStatus,
    Goodbye,
    Heartbeat,
    ListClients,
    ListConfigTypes,
    OpenSnapshot,
    ReadConfig,
    ReadConfigSchema,
    ReadEvents,
    ReadSnapshot,
    RegisterMetadata,
    ReportSettings,
    RequestProcess,
    Revert,
    ServeGraph,
    SetConfigSchema,
    SetPause,
    Shutdown,
    Sync,
    UpdateUnits,
    WithdrawGraph,
)
from ezgraph.protocol.config import (
    ConfigAbsent,
    ConfigAtSeq,
    ConfigCondition,
    ConfigDelete,
    ConfigHasValue,
    ConfigPresent,
    ConfigPut,
    as_config_match,
)
from ezgraph.protocol.events import (
    AccessRefused,
    Body,
    ConfigSchemaSet,
    RecordingWritten,
    SettingsOwed,
    SettingsSettled,
    Source,
    StateRestored,
)
from ezgraph.protocol.events import key_of as key_of_body
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.graphs import Graph
from ezgraph.protocol.metadata import (
    CollectionMetadata,
    DynamicSettingsMetadata,
    GraphMetadata,
    InputRelayMetadata,
    InputStreamMetadata,
    OutputStreamMetadata,
    SettingsFieldMetadata,
    SettingsSchemaMetadata,
    TaskMetadata,
    UnitMetadata,
)
from ezgraph.protocol.recordings import RecordedChange, RecordedPartition, RecordingInfo
from ezgraph.protocol.replies import (
    CheckpointChunk,
    ConfigSchemaShown,
    EventRange,
    Refusal,
    RestoreReport,
    SeqFound,
    SnapshotChunk,
    StretchChunk,
)
from ezgraph.protocol.routed import ProcessControlRequest, Routed, SettingsCheckRequest
from ezgraph.protocol.served import NodeCard
from ezgraph.protocol.settings import SettingsSnapshotValue
from ezgraph.protocol.snapshot import Edge
from ezgraph.protocol.stored_commands import (
    Deletable,
    DeleteRecording,
    DeleteStored,
    FindSeq,
    Freeze,
    GraphAt,
    Listed,
    NewSnapshot,
    PartitionsAt,
    PieceAt,
    ReadCheckpoint,
    ReadStored,
    ReadStretch,
    RecordingAt,
    RemoveTag,
    Restore,
    SetTag,
    SnapshotAt,
    SnapshotRef,
    SnapshotsWith,
    StoreGraph,
    StorePieces,
    StoreSnapshot,
    TagAt,
    WritePartitions,
    WriteRecording,
)
from ezgraph.testing import Network, SimulatedBroker, SimulatedClient
from ezgraph.wire import codec, frames, values
from tests.fuzz.mutation import Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

REQUEST_BYTES, REPLY_BYTES = 20, 12


class Colour(enum.Enum):
    RED = 1


RICH: dict[str, Any] = {
    "gain": 3,
    "rates": [1.5, 2.5],
    "pair": (1, ("a", b"b")),
    "set": {1, 2, "c"},
    "frozen": frozenset({1.5}),
    "z": 1 + 2j,
    "when": dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
    "day": dt.date(2024, 1, 2),
    "time": dt.time(1, 2, fold=1),
    "wait": dt.timedelta(days=1, seconds=2),
    "taps": np.arange(6, dtype="<f4").reshape(2, 3),
    "table": np.zeros(2, dtype=[("t", "<f8"), ("n", "S3", (2,))]),
    "one": np.float32(1.5),
    "colour": Colour.RED,
    "path": pathlib.PurePosixPath("/data/a.nwb"),
    "big": 2**80,
    "id": UUID(int=7),
    "none": None,
    "yes": True,
    "deep": {"a": [{"b": [1, {"c": {}}]}]},
}
SCHEMA = SettingsSchemaMetadata(
    "dataclass",
    "lab.Settings",
    [
        SettingsFieldMetadata("gain", "float", default=1.0, bounds=(0.0, None), unit="dB"),
        SettingsFieldMetadata("mode", "str", required=True, choices=["a", 1, None]),
    ],
)


def _unit(address: str) -> UnitMetadata:
    return UnitMetadata(
        address,
        address,
        "lab.Unit",
        "lab.Settings",
        (b"opaque", RICH),
        DynamicSettingsMetadata(enabled=True, input_topic=f"{address}/SETTINGS"),
        settings_schema=SCHEMA,
        streams={
            "IN": InputStreamMetadata("IN", f"{address}/IN", "Array", max_queue=3),
            "OUT": OutputStreamMetadata("OUT", f"{address}/OUT", "Array", num_buffers=2),
        },
        tasks=[TaskMetadata("run", "IN", ["OUT"])],
    )


def _metadata() -> GraphMetadata:
    collection = CollectionMetadata(
        "SYS",
        "SYS",
        "lab.System",
        "lab.Settings",
        (None, "Settings()"),
        DynamicSettingsMetadata(enabled=False),
        topics={"IN": InputRelayMetadata("IN", "SYS/IN", "Array", leaky=True)},
        children=["SYS/A"],
    )
    return GraphMetadata(root_name="SYS", components={"SYS": collection, "SYS/A": _unit("SYS/A")})


def _value(gain: int) -> SettingsSnapshotValue:
    shown = {**RICH, "gain": gain}
    return SettingsSnapshotValue(b"opaque", shown, shown, SCHEMA)


@dataclass
class Recording:
    """Sessions as messages of request frames, and samples of every kind."""

    sessions: dict[str, list[list[bytes]]] = field(default_factory=dict)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    subscriptions: list[bytes] = field(default_factory=list)
    blobs: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def everything(self) -> list[Sample]:
        """All samples, those of rare kinds as often as others."""
        return [sample for samples in self.samples.values() for sample in samples]

    def add(self, kind: str, head: bytes, body: bytes, table: bytes | None = None) -> None:
        sample, known = Sample(kind, head, body, table), self.samples.setdefault(kind, [])
        if sample not in known:
            known.append(sample)

    def add_event(self, packed: bytes) -> None:
        start = 4 + int.from_bytes(packed[:4], "big")
        self.add("event", b"", packed[start:], packed[4:start])

    def add_reply(self, frame: bytes) -> None:
        self.add("reply", frame[:REPLY_BYTES], frame[REPLY_BYTES:])
        match frames.read_reply(frame)[1]:
            case EventRange(events=events):
                for each in events:
                    self.add_event(each)
            case SnapshotChunk(entries=entries, blobs=blobs):
                self.blobs |= blobs
                for each in entries:
                    self.add("live", b"", each)
            case _:
                """The others hold nothing that is encoded by itself."""


class _Recorded(SimulatedClient):
    """A client whose every frame is kept."""

    recording: Recording

    def send(self, message: Sequence[bytes]) -> None:
        self.recording.sessions.setdefault(self.name, []).append(list(message))
        for frame in message:
            self.recording.add("command", frame[:REQUEST_BYTES], frame[REQUEST_BYTES:])
        super().send(message)

    def subscribe(self, topic: bytes) -> None:
        self.recording.subscriptions.append(b"\1" + topic)
        super().subscribe(topic)

    def unsubscribe(self, topic: bytes) -> None:
        self.recording.subscriptions.append(b"\0" + topic)
        super().unsubscribe(topic)

    def _take_replies(self, message: Sequence[bytes]) -> None:
        for frame in message:
            self.recording.add_reply(frame)
        super()._take_replies(message)

    def _take_publication(self, message: Sequence[bytes]) -> None:
        recording = self.recording
        match list(message):
            case [_, note]:
                recording.add("note", note, b"")
            case [topic, link, event]:
                recording.add("topic", topic, b"")
                recording.add("link", link, b"")
                recording.add_event(event)
            case _:
                raise AssertionError(f"a publication of {len(message)} frames")
        super()._take_publication(message)


@cache
def recorded() -> Recording:
    """Return what was recorded; the same each time."""
    recording = Recording()
    network = Network(1)
    config = BrokerConfig(checkpoint_events=10, retention=Retention(events=20, max_pinned_events=5))
    broker = SimulatedBroker(network, config)

    def join(name: str, kind: str, resume: Any = None) -> _Recorded:
        client = _Recorded(network, name, kind=kind, ttl_s=3.0, resume=resume)
        client.recording = recording
        client.start()
        network.run(0.3)
        return client

    def say(client: _Recorded, *commands: Command) -> None:
        for command in commands:
            client.call(command)
            network.run(0.2)

    session = join("session", "session")
    watch = session.watch(())
    session.follow()
    say(session, Connect("SYS/A/OUT", "b", reason="why"), Connect("b", "c"), Connect("b", "c"))
    say(session, Connect("c", "b"), Connect("", "b"), Disconnect("x", "y"), Disconnect("b", "c"))
    say(session, RegisterMetadata(_metadata()), RegisterMetadata(_metadata()))
    say(session, GetStatus(), ListClients(), Sync(), Heartbeat(0.25), Shutdown())
    say(session, OpenSnapshot([]), ReadSnapshot(1, ["edge", "settings.live"], 0))
    say(session, ReadEvents(["settings", "SYS/A"], 0, 99), ReadEvents([], 0))
    process = join("process", "process")
    process.watch(("settings", "SYS/A"), 0)
    say(process, UpdateUnits(["SYS/A", "SYS/B"], []), ReportSettings("SYS/A", _value(4), 1e9))
    say(process, ReportSettings("SYS/A", _value(5), 1e9, "tuned"), UpdateUnits([], ["SYS/B"]))
    _ask_and_answer(network, session, process)
    guest = join("guest", "guest")
    say(guest, Connect("p", "q"), SetPause(paused=True), SetPause(paused=False))
    _configure(recording, session, guest, say)
    _store(recording, session, guest, say)
    _serve(session, guest, say)
    for client in (session, process):
        client.commands.cut()
    network.run(1.0)
    say(session, Connect("d", "e"), ReadEvents([], 0))
    for client in (session, process):
        client.crash()
        heir = join(f"{client.name}'s heir", client.kind, client.resume_token)
        heir.watch((), 0)
        say(heir, Sync(), ListClients(), OpenSnapshot(["edge"], at_least=1))
        say(heir, *([Revert()] if heir.kind == "session" else []), Goodbye())
    guest.watch((), watch.watch.position)
    network.run(8.0)
    _read_all(recording, broker)
    _add_values_and_keys(recording)
    return recording


def _ask_and_answer(network: Network, asker: _Recorded, owner: _Recorded) -> None:
    """A request to a unit and its answer; a change of settings that is made, one that is not."""

    def answer(request: Routed) -> None:
        if isinstance(request, ProcessControlRequest):
            owner.call(AnswerRequest(request.request_id, ok=True, payload=b"pong"))
        elif isinstance(request, SettingsCheckRequest):
            owner.call(AnswerRequest(request.request_id, ok=request.changes.get("gain") == 2.0))
        elif request.changes.get("gain") == 2.0:
            owner.call(ReportSettings("SYS/A", _value(2), answers=request.request_id))
        else:
            owner.call(AnswerRequest(request.request_id, ok=False, error="not now"))

    owner.engine.on_handed = answer
    for command in (
        RequestProcess("SYS/A", "PING", b"ping"),
        RequestProcess("SYS/NOBODY", "PING"),
        ChangeSettings("SYS/A", {"gain": 2.0}, expected_seq=None, reason="louder"),
        ChangeSettings("SYS/A", {"gain": 3.0}),
        ChangeSettings("SYS/A", {"gain": -1.0}),
    ):
        asker.call(command)
        network.run(0.3)


def _configure(
    recording: Recording, session: _Recorded, guest: _Recorded, say: Callable[..., None]
) -> None:
    """Transactions that are done, change nothing, or are refused; reads of every kind."""
    session.watch(("config", "flow"), with_state=False)
    put, key = ConfigPut("flow", ("a:b", "c"), RICH, ephemeral=True), ("d",)
    held: list[ConfigCondition] = [ConfigAbsent("flow", key), ConfigAtSeq("flow", key, 0)]
    say(session, ChangeConfig([put, ConfigPut("flow", key, None)], [], held, "because"))
    say(session, ChangeConfig([put]), ChangeConfig([ConfigPut("flow", ("",), 1)]))
    say(guest, ChangeConfig([], [ConfigDelete("flow", key)], [ConfigPresent("flow", key)]))
    say(guest, ChangeConfig([put]), ChangeConfig([], [], [ConfigHasValue("flow", key, RICH)]))
    say(session, ReadConfig("flow"), ReadConfig("flow", ("a:b",), with_values=False))
    say(session, ReadConfig("flow", match=as_config_match("a*:c"), after=("a",), limit=1))
    say(session, ListConfigTypes(), ReadConfigSchema("flow"), SetConfigSchema("flow", {"a": [1]}))
    shown = ConfigSchemaShown(9, "flow", {"type": ["object", "null"]})
    recording.add_reply(frames.reply_frame(7, shown))


def _store(
    recording: Recording, session: _Recorded, guest: _Recorded, say: Callable[..., None]
) -> None:
    """Everything that is done with the store, and refused there; reads of every kind."""
    raw = Artifact("raw", {"kind": "array"}, "hdf5", "file:///{n}", {"a": RICH}, {"mean": 0.5})
    graph = Graph("rig", [raw], [Producer([], ["raw"], "1")], [("a", "b")], config={"t": {"k": 1}})
    row, pieces = cut(graph, Written(0.0, ""))
    print_, part = graph.fingerprint, Partition({"n": 1, "day": "mon"}, graph.fingerprint)
    new = NewSnapshot(print_, 1, 2, 3.0, "why", row, pieces)
    say(session, Freeze("rig", "first", reason="why"), Freeze("rig", "first"), Freeze("rig"))
    say(session, StorePieces(pieces), StorePieces({b"not its hash": b"x"}))
    say(session, StoreGraph("rig", print_, row), StoreGraph("rig", graph.fingerprint, row, pieces))
    say(session, StoreSnapshot("rig", NewSnapshot(print_, 1, 1, 3.0)), StoreSnapshot("rig", new))
    say(session, SetTag("rig", "best", new, reason="x"), SetTag("rig", "best", SnapshotRef(print_)))
    say(guest, SetTag("rig", "best", SnapshotRef(print_, 1, 2), overwrite=True))
    say(guest, WritePartitions(raw, [part]), WritePartitions(raw, [part], True, "rig", new, "raw"))
    for asked in (
        PieceAt(list(pieces)), PieceAt([b"none"], with_bytes=False), GraphAt("rig", print_),
        SnapshotAt("rig", print_), TagAt("rig", "best"), TagAt("rig", "none"),
        PartitionsAt(raw.storage_fingerprint, wanted=[(part.key.text, part.input_fingerprint)]),
        PartitionsAt(raw.storage_fingerprint, "rig", print_, "raw", after=b"partition/"),
        Listed("tag"), Listed("tagged", ("rig", "best"), limit=1), Listed("none", ("a",) * 9),
        SnapshotsWith(
            raw.storage_fingerprint, part.key.text, part.input_fingerprint, part.fingerprint
        ),
    ):
        say(guest, ReadStored(asked))
    say(guest, RemoveTag("rig", "best"), RemoveTag("rig", "best", "again"))
    _store_recordings(session, guest, say, raw, print_, part)
    say(session, DeleteStored(Deletable.SNAPSHOT, "rig", print_))
    say(session, DeleteStored(Deletable.GRAPH, "rig", print_, reason="over"))
    say(session, DeleteStored(Deletable.PARTITIONS, artifact=raw, partitions=[part]))
    say(session, Restore("rig", "first", dry_run=False, reason="back"))
    say(guest, ReadCheckpoint(9), ReadCheckpoint(9, 1), ReadStretch(2, 9), ReadStretch(9, 2))
    say(guest, FindSeq(0.0), FindSeq(5.5))
    report = RestoreReport(
        9, "rig", print_, dry_run=True, edges_added=[Edge("a", "b")],
        settings=[("SYS/A", {"gain": 2}, None)], config_set=[("flow", "a:b")],
        not_restored=[("SYS/B", "its program is gone")], cannot=[("a -> b", "held", "s1")],
        vetoed=[("SYS/A", "p1", "no")], owed=["SYS/A"], tag="best",
    )
    chunk = CheckpointChunk(7, 1, 1, [b"entry"], {b"name": b"blob"}, 1)
    refused = Refusal("restore_refused", "not now", report=report)
    stretch = StretchChunk(7, [6], [b"settings/a/"], [b"event"])
    for reply in (report, chunk, refused, stretch, SeqFound(7, [(6, 2.0, 1.0)])):
        recording.add_reply(frames.reply_frame(7, reply))


def _store_recordings(
    session: _Recorded,
    guest: _Recorded,
    say: Callable[..., None],
    raw: Artifact,
    print_: Fingerprint,
    part: Partition,
) -> None:
    """A recording that grows and ends, one that names what is not there; what is read of them."""
    info = RecordingInfo("rig", "raw", raw, epoch=1, first_seq=2, start=print_, began=3.0)
    added = RecordedPartition(replace(part, content_fingerprint=print_), 3, (print_,))
    say(session, WriteRecording(info, [added], [RecordedChange(3, "SYS/A")], "why"))
    say(session, WriteRecording(replace(info, number=1, last_seq=5, ended=4.0, end=print_)))
    say(session, WriteRecording(replace(info, number=9)), WriteRecording(info, [added] * 2))
    say(guest, ReadStored(RecordingAt("rig", "raw", 1)), ReadStored(RecordingAt("rig", "b", 2)))
    say(guest, ReadStored(Listed("recording", ("rig", "raw"))))
    say(session, *(DeleteRecording("rig", "raw", number, "over") for number in (1, 2, 1)))


RARE: list[Body] = [
    RecordingWritten("rig", "raw", 2, 3, None, False, 4, 5.0, "me"),
    AccessRefused("unknown key at 10.0.0.1", "connect", "not_admitted", "no such key", 3),
    ConfigSchemaSet("flow", {"type": ["object", "null"]}),
    StateRestored("rig", Fingerprint.from_string("a"), 1, 2, 3, 4, "best"),
    SettingsOwed("SYS/A", SettingsSnapshotValue(b"x", {"gain": 1}, {"gain": 1}), Source("s"), 7),
    SettingsSettled("SYS/A", "vetoed"),
]
"""What only brokers with keys, a validator or owners that can restore come to say."""


def _serve(session: _Recorded, guest: _Recorded, say: Callable[..., None]) -> None:
    """Graphs that are served, found and withdrawn, also by who may not; nodes that come and go."""
    session.watch(("node",), with_state=False)
    serve = ServeGraph("run 4/2", "r", "i1", ["10.0.0.1:4000", "[::1]:4000"], bytes(range(32)))
    cards = [NodeCard("r", [], 0, "m.Root"), NodeCard("é%", ["a/b", -3], 5, "m.Node", "f4 (2,)")]
    say(guest, serve, FindGraph())
    say(session, serve, replace(serve, root_uid="other"), replace(serve, endpoints=["nowhere"]))
    say(session, AnnounceNodes("run 4/2", cards), AnnounceNodes("run 4/2", cards[:1], ["r"]))
    say(session, replace(serve, root_uid="r"), AnnounceNodes("run 4/2", cards))
    say(guest, FindGraph("run 4/2"), FindGraph("none"), FindGraph(after="a"), WithdrawGraph("x"))
    say(session, AnnounceNodes("run 4/2", [], ["r"]), WithdrawGraph("run 4/2"), serve)


def _read_all(recording: Recording, broker: SimulatedBroker) -> None:
    """Keep the whole history, and rare events."""
    events = broker.history().events
    rare = [replace(events[-1], key=key_of_body(body), body=body) for body in RARE]
    for event in (*events, *rare):
        recording.add("topic", topic_of(event.key), b"")
        recording.add_event(codec.encode_event(event).event)


def _add_values_and_keys(recording: Recording) -> None:
    for value in (RICH, *RICH.values()):
        recording.add("value", b"", values.pack(value))
    for topic in (b"settings/SYS%2FUNIT_A/", b"edge/a%25b/%00/", "é/\u2028/".encode(), b"a/" * 32):
        recording.add("topic", topic, b"")
        recording.add("key", b"", values.pack(list(key_of(topic))))


def message_types(recording: Recording) -> set[str]:
    """Return the names of all commands, replies and event bodies that were recorded."""
    commands = {type(frames.read_command(each.written)) for each in recording.samples["command"]}
    replies = {type(frames.read_reply(each.written)[1]) for each in recording.samples["reply"]}
    events = [codec.decode_event(each.written) for each in recording.samples["event"]]
    return {kind.__name__ for kind in (*commands, *replies)} | {event.kind for event in events}
