"""G11 inside: a role's prefixes bound its commands, its reads and its subscriptions.

The table of commands has every command there is, or this fails: a new one is put into it, with the
verb that it needs. What is refused must change nothing, and no refusal, listing, snapshot, range of
events, note or publication may tell of what its reader may not read. (That none did is looked at
once more when a test is over, in all that raw peers have heard.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, get_args

import pytest
import zmq

from ezgraph.client.backend import BrokerBackend, BrokerConnection
from ezgraph.errors import ForbiddenError, TagExistsError
from ezgraph.names import note_topic, prefix_of_note, topic_of
from ezgraph.protocol.artifacts import Artifact, Partition
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
    Hello,
    ListClients,
    ListConfigTypes,
    OpenSnapshot,
    OpenWatch,
    ReadConfig,
    ReadConfigSchema,
    ReadEvents,
    ReadSnapshot,
    RegisterMetadata,
    ReportSettings,
    RequestProcess,
    Resume,
    Revert,
    ServeGraph,
    SetConfigSchema,
    SetPause,
    Shutdown,
    Sync,
    TakeOver,
    UpdateUnits,
    WithdrawGraph,
)
from ezgraph.protocol.config import ConfigPresent, ConfigPut, as_config_match
from ezgraph.protocol.events import AccessRefused
from ezgraph.protocol.fingerprints import content_hash
from ezgraph.protocol.graphs import Graph, Snapshot
from ezgraph.protocol.metadata import ComponentMetadata, DynamicSettingsMetadata, GraphMetadata
from ezgraph.protocol.recordings import RecordedPartition, RecordingInfo
from ezgraph.protocol.replies import (
    ClientList,
    ConfigChanged,
    ConfigPage,
    ConfigTypes,
    Done,
    EventRange,
    Refusal,
    SnapshotChunk,
    StatusReport,
)
from ezgraph.protocol.roles import VERBS
from ezgraph.protocol.served import NodeCard
from ezgraph.protocol.settings import SettingsSnapshotValue
from ezgraph.protocol.snapshot import Edge
from ezgraph.protocol.stored import GraphRow
from ezgraph.protocol.stored_commands import (
    Deletable,
    DeleteRecording,
    DeleteStored,
    FindSeq,
    Freeze,
    Listed,
    NewSnapshot,
    ReadCheckpoint,
    ReadStored,
    ReadStretch,
    RemoveTag,
    Restore,
    SetTag,
    SnapshotRef,
    StoreGraph,
    StorePieces,
    StoreSnapshot,
    WritePartitions,
    WriteRecording,
)
from ezgraph.wire import codec

if TYPE_CHECKING:
    from collections.abc import Callable

    from ezgraph import sync
    from tests.integration.uninvited.conftest import Peer, Rig

pytestmark = pytest.mark.integration

FINGERPRINT = Graph("empty").fingerprint
ROW = GraphRow(0.0, "", b"", b"", 0, 0, 0, 0, 0, 0)
NEEDS: dict[type, tuple[str, ...]] = {
    Hello: (),
    Resume: (),
    TakeOver: (),
    Heartbeat: (),
    Goodbye: (),
    Revert: (),
    Sync: (),
    GetStatus: (),
    ListClients: (),
    OpenSnapshot: (),
    ReadSnapshot: (),
    ReadEvents: ("read",),
    OpenWatch: ("read",),
    Connect: ("connect",),
    Disconnect: ("connect",),
    RegisterMetadata: ("register",),
    UpdateUnits: ("run",),
    ReportSettings: ("report",),
    ChangeSettings: ("set",),
    RequestProcess: ("request",),
    AnswerRequest: (),
    SetPause: ("pause",),
    ChangeConfig: ("config",),
    ReadConfig: ("read",),
    ListConfigTypes: (),
    ReadConfigSchema: ("read",),
    SetConfigSchema: ("config", "read"),
    Freeze: ("store",),
    StorePieces: ("store",),
    StoreGraph: ("store",),
    StoreSnapshot: ("store",),
    SetTag: ("store",),
    RemoveTag: ("store",),
    WritePartitions: ("store",),
    DeleteStored: ("store",),
    Restore: ("restore", "read"),
    ReadStored: (),
    WriteRecording: ("store",),
    DeleteRecording: ("store",),
    ReadCheckpoint: ("read",),
    ReadStretch: ("read",),
    FindSeq: ("read",),
    ServeGraph: ("serve",),
    AnnounceNodes: ("serve",),
    WithdrawGraph: ("serve",),
    FindGraph: ("read",),
    Shutdown: ("shutdown",),
}
"""The verbs that each command is refused without; of those without one, some tell less."""

OF_A_TYPE = (ReadConfigSchema, SetConfigSchema, ReadCheckpoint, ReadStretch, FindSeq, Restore)
PART_OF_A_TYPE = {"owner": "config", "part": "read", "blind": "read"}
"""Who has a verb on some keys of each type, and so not on the type as a whole (or on all)."""

ANYWHERE = frozenset(VERBS)
OWN = frozenset({"connect", "register", "run", "report", "set", "request", "config", "serve"})
GRANTED: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "admin": (ANYWHERE, ANYWHERE),
    "operator": (ANYWHERE - {"shutdown"}, ANYWHERE - {"shutdown"}),
    "observer": (frozenset({"read"}), frozenset({"read"})),
    "owner": (OWN | {"read"}, frozenset({"read"})),
    "part": (frozenset({"read"}), frozenset()),
    "nothing": (frozenset(), frozenset()),
    "blind": (ANYWHERE, ANYWHERE - {"read"}),
    **{f"only-{verb}": (frozenset({verb}), frozenset({verb})) for verb in VERBS},
}
"""What each key may do at RIG_A, and what at RIG_B."""


def value(text: str) -> SettingsSnapshotValue:
    return SettingsSnapshotValue(None, {"says": text}, {"says": text})


def metadata(address: str, text: str) -> GraphMetadata:
    dynamic = DynamicSettingsMetadata(enabled=False)
    part = ComponentMetadata(address, text, "m.Unit", "m.S", (None, {"says": text}), dynamic)
    return GraphMetadata(components={address: part})


class Asked(NamedTuple):
    """A command, and what lease its connection is to have."""

    command: Command
    kind: str = "session"


def every_command(place: str, peer: Peer, text: str) -> list[Asked]:
    """One of each command, in an order in which all could be granted."""
    address, token = f"{place}/X", peer.token
    hello = Hello(1, "session", f"another-nonce-{text}", peer.who, "here", 1, "me", ttl_s=60.0)
    return [
        Asked(Heartbeat(0.0)),
        Asked(Sync()),
        Asked(GetStatus()),
        Asked(ListClients()),
        Asked(OpenSnapshot([])),
        Asked(ReadSnapshot(1, [], 0)),
        Asked(ReadEvents(["settings", address], 0)),
        Asked(OpenWatch(["settings", address])),
        Asked(Connect(f"{text}", address, reason=text)),
        Asked(Disconnect(f"{text}", address, reason=text)),
        Asked(RegisterMetadata(metadata(address, text))),
        Asked(UpdateUnits([address], []), "process"),
        Asked(ReportSettings(address, value(text), reason=text), "process"),
        Asked(ChangeSettings(address, {"says": text}, timeout_s=0.05)),
        Asked(RequestProcess(address, "PING", timeout_s=0.05)),
        Asked(AnswerRequest("nobody:1", ok=True), "process"),
        Asked(SetPause(paused=True)),
        Asked(ChangeConfig([ConfigPut("flow", (address,), text)], reason=text)),
        Asked(ReadConfig("flow", (address,))),
        Asked(ListConfigTypes()),
        Asked(ReadConfigSchema("flow")),
        Asked(SetConfigSchema("flow", None)),
        Asked(Freeze(text, "tag", reason=text)),
        Asked(StorePieces({content_hash(text.encode()): text.encode()})),
        Asked(StoreGraph(text, FINGERPRINT, ROW)),
        Asked(StoreSnapshot(text, NewSnapshot(FINGERPRINT, 1, 1, 0.0))),
        Asked(SetTag(text, "other", SnapshotRef(FINGERPRINT))),
        Asked(RemoveTag(text, "tag")),
        Asked(WritePartitions(Artifact(text), [Partition({}, FINGERPRINT, location=text)])),
        Asked(
            WriteRecording(
                RecordingInfo(text, text, Artifact(text), start=FINGERPRINT),
                [RecordedPartition(Partition({}, FINGERPRINT, location=text), 1, (FINGERPRINT,))],
            )
        ),
        Asked(DeleteRecording(text, text, 1)),
        Asked(DeleteStored(Deletable.GRAPH, text, FINGERPRINT)),
        Asked(Restore(text, "other")),
        Asked(ReadStored(Listed("tag"))),
        Asked(ReadCheckpoint(0)),
        Asked(ReadStretch(0, 0)),
        Asked(FindSeq(1e9)),
        Asked(ServeGraph(address, f"root-of-{text}", "i", ["127.0.0.1:9"])),
        Asked(AnnounceNodes(address, [NodeCard(text, [text], 1, "m.Node", text)])),
        Asked(FindGraph(address)),
        Asked(WithdrawGraph(address)),
        Asked(Shutdown()),
        Asked(token),
        Asked(TakeOver(hello, token.client, token.token, token.cluster_id)),
        Asked(hello),
        Asked(Revert()),
        Asked(Goodbye()),
    ]


def fingerprint(ctx: sync.GraphContext) -> str:
    """What the state is, whatever number it has."""
    state = ctx.state()
    state.seq = 0
    return state.fingerprint()


def test_the_table_has_every_command_and_every_verb(rig: Rig) -> None:
    commands = [type(asked.command) for asked in every_command("A", rig.member("part"), "t")]

    assert NEEDS.keys() == set(get_args(Command))
    assert {verb for verbs in NEEDS.values() for verb in verbs} == set(VERBS)
    assert sorted(each.__name__ for each in commands) == sorted(each.__name__ for each in NEEDS)
    assert GRANTED.keys() == rig.keys.keys()


@pytest.mark.parametrize("place", ["RIG_A", "RIG_B"])
@pytest.mark.parametrize("name", GRANTED)
def test_a_role_allows_what_it_grants_and_what_it_forbids_changes_nothing(
    rig: Rig, name: str, place: str
) -> None:
    may = GRANTED[name][place == "RIG_B"]
    text = f"mine-of-{name}"
    with rig.context_of("observer") as witness:
        peers = {kind: rig.member(name, kind) for kind in ("session", "process")}
        joined = witness.sync()
        forbidden = set()
        for number, (command, kind) in enumerate(every_command(place, peers["session"], text), 1):
            verb, before = lacking(command, name, may), fingerprint(witness)
            is_join = isinstance(command, Hello | Resume | TakeOver)

            peers[kind].send(command, 0 if is_join else number)
            reply = peers[kind].reply(0 if is_join else number)

            if verb is None:
                assert allowed(reply, command, may), (command, reply)
            else:
                assert isinstance(reply, Refusal), (command, reply)
                assert reply.code == "forbidden"
                assert f"key {name!r}" in reply.message
                assert f"may not {verb}" in reply.message
                assert fingerprint(witness) == before
                forbidden.add(type(command).__name__)

        audited = witness.events(("audit", name))
        changes = witness.events(after_seq=joined)

    refused = [each.body for each in audited if isinstance(each.body, AccessRefused)]
    assert {each.what for each in refused if each.code == "forbidden"} == forbidden
    assert len(refused) == len(forbidden) <= sum(map(bool, NEEDS.values()))
    assert not {each.kind for each in changes} & kinds_without(may)
    for secret in secrets_of(rig, peers["session"]):
        assert secret not in str(audited)


def lacking(command: Command, name: str, may: frozenset[str]) -> str | None:
    """Return the first verb that a command needs and the key has not."""
    if isinstance(command, OF_A_TYPE):
        may -= {PART_OF_A_TYPE.get(name, "")}
    return next((verb for verb in NEEDS[type(command)] if verb not in may), None)


def allowed(reply: object, command: Command, may: frozenset[str]) -> bool:
    """Whether that is the answer to a command that is not forbidden."""
    match command, reply:
        case Shutdown(), Refusal(code="live_sessions"):
            return True
        case ReportSettings(), Refusal(code="not_owner"):
            return "run" not in may
        case ChangeSettings(), Refusal(code="unknown_component" | "no_owner" | "owner_silent"):
            return True  # nobody is there who would make it
        case ReadSnapshot(), Refusal(code="invalid_command"):
            return True  # it was so little that it was read at once
        case DeleteStored(), Refusal(code="still_referenced"):
            return True  # a snapshot is of it
        case SetTag(), Refusal(code="unknown_snapshot"):
            return "store" not in may
        case WriteRecording(), Refusal(code="unknown_snapshot"):
            return "store" not in may
        case Restore(), Refusal(code="unknown_tag"):
            return "store" not in may
        case _:
            return not isinstance(reply, Refusal)


def kinds_without(may: frozenset[str]) -> set[str]:
    """The events that nobody without these verbs can cause."""
    kinds = {
        "connect": {"EdgeConnected", "EdgeDisconnected"},
        "register": {"GraphRegistered", "ComponentRegistered"},
        "run": {"ProcessUnitsChanged"},
        "pause": {"PauseChanged"},
        "serve": {"GraphServed", "GraphWithdrawn", "NodeAnnounced", "NodeWithdrawn"},
        "config": {"ConfigValueSet", "ConfigValueDeleted", "ConfigSchemaSet"},
        "store": {
            "SnapshotFrozen", "TagSet", "TagRemoved", "PartitionsWritten", "StoredDeleted",
            "RecordingWritten", "RecordingDeleted",
        },
        "restore": {"StateRestored", "SettingsOwed", "SettingsSettled"},
    }
    return {kind for verb, of_verb in kinds.items() if verb not in may for kind in of_verb}


def secrets_of(rig: Rig, peer: Peer) -> list[str]:
    keys = rig.keys[peer.who]
    return [
        peer.hello.nonce,
        str(peer.token.token),
        peer.token.token.hex(),
        keys.secret.hex(),
        str(keys.secret),
        "'says'",
    ]


def test_the_one_who_may_stop_the_broker_stops_it(rig: Rig) -> None:
    for name in ("operator", "owner", "observer", "nothing", "only-pause"):
        assert rig.member(name).refused(Shutdown(force=True)).code == "forbidden"

    assert isinstance(rig.member("only-shutdown").ask(Shutdown(force=True)), Done)


def test_a_command_that_names_several_keys_needs_the_verb_on_each(rig: Rig) -> None:
    session, process = rig.member("owner"), rig.member("owner", "process")
    assert isinstance(process.ask(UpdateUnits(["RIG_A/X"], [])), Done)
    two = {**metadata("RIG_A/X", "t").components, **metadata("RIG_B/X", "t").components}

    refused = [
        session.refused(RegisterMetadata(GraphMetadata(components=two))),
        process.refused(UpdateUnits(["RIG_A/Y", "RIG_B/X"], [])),
        process.refused(UpdateUnits([], ["RIG_A/X", "RIG_B/X"])),
        session.refused(Connect("RIG_A/X", "RIG_B/X")),
        session.refused(Connect("x", "RIG_AB/X")),
    ]

    assert [each.code for each in refused] == ["forbidden"] * 5
    assert isinstance(session.ask(Connect("RIG_B/X", "RIG_A/X")), Done)
    assert rig.service_of("observer").snapshot().graph == {"RIG_A/X": [], "RIG_B/X": ["RIG_A/X"]}


def test_the_store_is_used_through_the_broker_as_the_role_of_its_key_allows(rig: Rig) -> None:
    taken = Snapshot(Graph("rig", settings={"RIG_A": {"says": rig.secret}}), seq=1)

    def store_of(name: str) -> BrokerConnection:
        return BrokerBackend(str(rig.address), name).connect()

    with store_of("operator") as operator, store_of("observer") as observer:
        operator.write_snapshot_tag(taken, "good")
        assert observer.read_snapshot_tag("rig", "good") == taken
        with pytest.raises(ForbiddenError, match="may not store tag/rig/bad"):
            observer.write_snapshot_tag(taken, "bad")
    for name in ("part", "nothing", "only-store"):
        with store_of(name) as partial:
            assert list(partial.list_tags()) == []
            reads: list[Callable[[BrokerConnection], object]] = [
                lambda conn: conn.read_snapshot_tag("rig", "good"),
                lambda conn: conn.read_graph("rig", taken.fingerprint),
                lambda conn: conn.list_graphs(),
                lambda conn: conn.read_artifact_partitions(Artifact("raw")),
            ]
            for read in reads:
                with pytest.raises(ForbiddenError, match="may not read graphs and partitions"):
                    read(partial)
    with store_of("only-store") as writer, pytest.raises(TagExistsError, match="withheld") as told:
        writer.write_snapshot_tag(taken, "good")
    assert told.value.fingerprint == ""


# --- what others hear ---

PARTIAL = ["part", "blind", "nothing", *(f"only-{verb}" for verb in VERBS if verb != "read")]
PUBLIC = "RIG_A/PUBLIC"


class Others(NamedTuple):
    """Somebody with much to hide, and a process whose settings some may read."""

    session: Peer
    process: Peer
    public: Peer


@pytest.fixture
def others(rig: Rig) -> Others:
    secret = rig.secret
    found = Others(
        rig.member("operator", program=secret),
        rig.member("operator", "process", program=secret),
        rig.member("owner", "process"),
    )
    found.public.ask(UpdateUnits([PUBLIC], []))
    busy(rig, found, 0)
    return found


def busy(rig: Rig, others: Others, round_: int) -> None:
    """Have everything that there is changed; the last change is one that ``part`` may see."""
    secret, address = rig.secret, f"RIG_B/{rig.secret}"
    hidden = ConfigPut("flow", ("RIG_B/X", secret), f"{secret}{round_}")
    changes: list[tuple[Peer, Command]] = [
        (others.session, Connect(secret, f"{secret}{round_}", reason=secret)),
        (others.session, RegisterMetadata(metadata(address, secret))),
        (others.session, SetPause(paused=round_ % 2 == 0)),
        (others.session, ChangeConfig([hidden])),
        (others.process, UpdateUnits([address, f"RIG_AB/{secret}", f"{address}{round_}"], [])),
        (others.process, ReportSettings(address, value(secret), reason=secret)),
        (others.process, ReportSettings(f"RIG_AB/{secret}", value(secret))),
        (others.public, ReportSettings(PUBLIC, value(f"open {round_}"))),
    ]
    for peer, command in changes:
        assert isinstance(peer.ask(command), Done | ConfigChanged)


ROOMS = [
    [],
    *([room] for room in ("session", "process", "graph", "component", "edge", "control", "audit")),
    ["config"],
    *([room] for room in ("settings", "settings.live", "settings.initial")),
    ["session", "edge", "settings"],
    *([room] for room in ("", "*", "\0", "settings/RIG_B", "x" * 5_000)),
]


@pytest.mark.parametrize("name", PARTIAL)
def test_a_snapshot_has_what_its_reader_may_read_whatever_rooms_are_asked_for(
    rig: Rig, others: Others, name: str
) -> None:
    peer = rig.member(name)
    everything = rig.member("observer").ask(OpenSnapshot([]))
    for rooms in ROOMS:
        for command in (
            OpenSnapshot(rooms),
            OpenSnapshot(rooms, at_least=0),
            ReadSnapshot(1, rooms, 0),
            ReadSnapshot(1, rooms, -(1 << 40)),
            ReadSnapshot(1, rooms, 1 << 40),
        ):
            reply = peer.ask(command)
            if isinstance(reply, SnapshotChunk):
                keys = {codec.decode_live_event(each, reply.blobs).key for each in reply.entries}
                assert keys <= ({("settings", PUBLIC)} if name in ("part", "blind") else set())
                assert reply.filtered

    assert isinstance(everything, SnapshotChunk)
    assert any(rig.secret.encode() in each for each in everything.entries)


def test_a_snapshot_that_another_key_has_opened_is_refused_or_filtered_for_who_reads_it(
    keyed_home: object, small_chunks: Rig
) -> None:
    rig = small_chunks
    operator, part = rig.member("operator"), rig.member("part")
    for number in range(6):
        operator.ask(Connect(rig.secret, f"{rig.secret}{number}"))
    opened = operator.ask(OpenSnapshot([]))
    assert isinstance(opened, SnapshotChunk)
    assert opened.next_start is not None

    for start in range(10):
        reply = part.ask(ReadSnapshot(opened.snapshot, [], start))
        if start == 0:
            assert isinstance(reply, SnapshotChunk)
            assert (reply.entries, reply.blobs, reply.filtered) == ([], {}, True)
        else:
            assert isinstance(reply, Refusal)
            assert reply.code == "invalid_command"

    more = operator.ask(ReadSnapshot(opened.snapshot, [], opened.next_start))
    assert isinstance(more, SnapshotChunk)
    assert more.entries


@pytest.mark.parametrize("name", PARTIAL)
def test_a_read_of_configuration_has_nothing_that_its_reader_may_not_read(
    rig: Rig, others: Others, name: str
) -> None:
    peer, hidden = rig.member(name), ("RIG_B/X",)

    for command in (
        ReadConfig("flow"),
        ReadConfig("flow", with_values=False),
        ReadConfig("flow", hidden),
        ReadConfig("flow", match=as_config_match(("*", "*"))),
        ReadConfig("flow", after=("A",), limit=1 << 60),
        ListConfigTypes(),
        ListConfigTypes("A"),
        ReadConfigSchema("flow"),
        ChangeConfig([], [], [ConfigPresent("flow", hidden)]),
    ):
        match reply := peer.ask(command):
            case ConfigPage():
                assert (reply.entries, reply.keys, reply.next_after) == ([], [], None)
            case ConfigTypes():
                assert (reply.types, reply.next_after) == ([], None)
            case _:
                assert isinstance(reply, Refusal), (command, reply)
                assert reply.code == "forbidden"
    there = rig.member("observer").ask(ReadConfig("flow"))
    assert isinstance(there, ConfigPage)
    assert [entry.key for entry in there.entries] == [(*hidden, rig.secret)]


PREFIXES: list[list[str]] = [
    [],
    *([room] for room in ("settings", "edge", "session", "process", "graph", "component")),
    *([room] for room in ("control", "audit", "settings/", "settings.live", "", "\0", "*")),
    ["config"],
    ["config", "RIG_A/X"],
    ["settings", PUBLIC],
    ["settings", "RIG_A"],
    ["settings", ""],
    ["settings", "*"],
    ["settings", f"{PUBLIC}\0"],
    ["settings", "RIG_A/../RIG_B/X"],
    ["settings", PUBLIC, "more"],
    ["settings", "RIG_A/" + "x" * 60_000],
    ["x" * 60_000],
    ["a"] * 33,
    ["settings", *["RIG_A/x"] * 40],
]
RANGES: list[tuple[int, int | None]] = [
    (0, None),
    (0, 1 << 62),
    (-1, None),
    (1 << 62, None),
    (5, 2),
]


@pytest.mark.parametrize("name", PARTIAL)
def test_a_range_of_history_has_what_its_reader_may_read_whatever_prefix_is_asked_for(
    rig: Rig, others: Others, name: str
) -> None:
    theirs = ["session", others.session.token.client]
    with rig.context_of("observer") as witness:
        mine = [each.seq for each in witness.events(("settings", PUBLIC))]
    peer = rig.member(name)

    for prefix in (*PREFIXES, theirs):
        for after, through in RANGES:
            reply = peer.ask(ReadEvents(prefix, after, through))
            if isinstance(reply, EventRange):
                events = [codec.decode_event(each) for each in reply.events]
                assert {each.key for each in events} <= {("settings", PUBLIC)}
                assert [each.seq for each in events] in ([], mine)
                assert name in ("part", "blind")
            else:
                assert isinstance(reply, Refusal), reply
                known = ("forbidden", "invalid_key", "invalid_command", "diverged")
                assert reply.code in known, reply
        watched = peer.ask(OpenWatch(prefix))
        assert isinstance(watched, Done | Refusal)
    if name in ("part", "blind"):
        whole = peer.ask(ReadEvents([], 0))
        assert isinstance(whole, EventRange)
        assert [codec.decode_event(each).seq for each in whole.events] == mine


def test_a_refusal_to_read_tells_nothing_of_what_is_there(rig: Rig, others: Others) -> None:
    part = rig.member("part")

    there = part.refused(ReadEvents(["session", str(others.session.token.client)], 0))
    not_there = part.refused(ReadEvents(["session", "0" * 16], 0))

    assert there.message.replace(others.session.token.client, "0" * 16) == not_there.message


@pytest.mark.parametrize("name", [*PARTIAL, "only-read"])
def test_status_and_listing_have_no_more_than_the_reader_may_know(
    rig: Rig, others: Others, name: str
) -> None:
    peer = rig.member(name, program="a-program-of-mine")

    status, listed = peer.ask(GetStatus()), peer.ask(ListClients())

    assert isinstance(status, StatusReport)
    assert isinstance(listed, ClientList)
    is_full = name == "only-read"
    assert (status.filtered, listed.filtered) == (not is_full, not is_full)
    assert bool(listed.clients) == is_full
    if not is_full:
        told = {status.sessions, status.processes, status.edges, status.components, status.keys}
        assert told == {0}
        assert (status.backend, status.journal_bytes, status.free_disk_bytes) == ("", 0, None)
        assert (status.pid, status.watched_prefixes, status.access_warning) == (0, 0, None)


@pytest.mark.parametrize("name", PARTIAL)
def test_a_subscription_to_everything_gets_what_its_key_may_read(
    rig: Rig, others: Others, name: str
) -> None:
    rooms = ["edge", "settings", "session", "process", "graph", "component", "control", "audit"]
    prefixes = [b"", *(topic_of((room,)) for room in rooms), topic_of(("settings", PUBLIC))]
    wanted = [
        *prefixes,
        *(note_topic(each) for each in prefixes),
        *(b"\0", b"\0edge", b"e", b"settings/RIG_B", note_topic(topic_of(("edge", rig.secret)))),
    ]
    ears = {port: rig.ear(name, rig.keys[name], port, tuple(wanted)) for port in rig.events_ports()}
    full = rig.ear("observer", rig.keys["observer"], rig.port_of("observer"))
    assert ears[rig.port_of(name)].handshake() == "welcome"
    mine = ears.pop(rig.port_of(name))
    if name in ("part", "blind"):
        mine.until(lambda message: message[0] == note_topic(topic_of(("settings", PUBLIC))))
    full.handshake()

    for round_ in range(1, 4):
        busy(rig, others, round_)
        full.until(lambda message: message[0] == topic_of(("settings", PUBLIC)))
        if name in ("part", "blind"):
            mine.until(lambda message: message[0] == topic_of(("settings", PUBLIC)))
    mine.listen(150)  # notes come a little later

    topics = {message[0] for message in mine.messages}
    events = {topic for topic in topics if prefix_of_note(topic) is None}
    noted = {prefix_of_note(topic) for topic in topics} - {None}
    is_reader = name in ("part", "blind")
    assert events == ({topic_of(("settings", PUBLIC))} if is_reader else set())
    assert noted == (
        {b"", topic_of(("settings",)), topic_of(("settings", PUBLIC))} if is_reader else set()
    )
    assert {ear.handshake() for ear in ears.values()} == {"refused"}
    assert [ear.listen() for ear in ears.values()] == [[]] * len(ears)
    assert any(rig.secret.encode() in frame for frame in full.heard)


# --- what refusals tell ---


def close_a_loop(rig: Rig, others: Others, blind: Peer) -> Refusal:
    blind.ask(Connect(f"{rig.secret}0", "mine"))
    return blind.refused(Connect("mine", rig.secret))


def take_an_edge(rig: Rig, others: Others, blind: Peer) -> Refusal:
    return blind.refused(Disconnect(rig.secret, f"{rig.secret}0"))


def guess_an_edge(rig: Rig, others: Others, blind: Peer) -> Refusal:
    return blind.refused(Disconnect("no", "edge"))


def take_an_address(rig: Rig, others: Others, blind: Peer) -> Refusal:
    return blind.refused(RegisterMetadata(metadata(f"RIG_B/{rig.secret}", "t")))


def take_a_unit(rig: Rig, others: Others, blind: Peer) -> Refusal:
    return rig.member("blind", "process").refused(UpdateUnits([f"RIG_AB/{rig.secret}"], []))


def let_a_unit_go(rig: Rig, others: Others, blind: Peer) -> Refusal:
    return rig.member("blind", "process").refused(UpdateUnits([], [f"RIG_AB/{rig.secret}"]))


def report_for_another(rig: Rig, others: Others, blind: Peer) -> Refusal:
    process = rig.member("blind", "process")
    return process.refused(ReportSettings(f"RIG_AB/{rig.secret}", value("t")))


def stop_the_broker(rig: Rig, others: Others, blind: Peer) -> Refusal:
    return blind.refused(Shutdown())


TELLING: dict[Callable[[Rig, Others, Peer], Refusal], str] = {
    close_a_loop: "cyclic",
    take_an_edge: "foreign_edge",
    guess_an_edge: "unknown_edge",
    take_an_address: "address_collision",
    take_a_unit: "address_collision",
    let_a_unit_go: "not_owner",
    report_for_another: "not_owner",
    stop_the_broker: "live_sessions",
}


@pytest.mark.parametrize("attempt", TELLING, ids=lambda each: each.__name__)
def test_a_refusal_says_why_and_nothing_of_others_to_who_may_read_only_a_part(
    rig: Rig, others: Others, attempt: Callable[[Rig, Others, Peer], Refusal]
) -> None:
    refusal = attempt(rig, others, rig.member("blind", "session"))

    assert refusal.code == TELLING[attempt]
    assert "details are withheld" in refusal.message
    for each in (others.session, others.process):
        assert each.token.client not in refusal.message
    assert rig.secret not in refusal.message
    assert (refusal.lost, refusal.floor) == (None, None)


def test_who_may_read_a_part_learns_what_it_lost_itself_and_no_more(
    rig: Rig, others: Others
) -> None:
    blind = rig.member("blind")
    blind.ask(Connect("mine", "theirs"))
    blind.ask(RegisterMetadata(metadata("RIG_B/MINE", "t")))
    blind.ask(Goodbye())

    blind.send(blind.token, 0)
    reply = blind.reply(0)

    assert isinstance(reply, Refusal)
    assert reply.code == "session_expired"
    assert reply.lost is not None
    assert reply.lost.edges == [Edge("mine", "theirs")]
    assert reply.lost.components == ["RIG_B/MINE"]


def test_readers_of_a_scope_get_the_same_bytes_whatever_one_of_them_subscribes_to(
    rig: Rig, others: Others
) -> None:
    mine = rig.port_of("part")
    ear = rig.ear("blind", rig.keys["blind"], mine)
    ear.handshake()
    attacker = rig.ear("part", rig.keys["part"], mine, kind=zmq.XSUB)
    attacker.handshake()
    attacker.socket.send(b"\x01" + note_topic(topic_of(("edge", rig.secret))))
    attacker.socket.send(b"\x01")

    busy(rig, others, 1)

    heard = attacker.until(lambda message: message[0] == topic_of(("settings", PUBLIC)))
    assert heard == ear.until(lambda message: message[0] == topic_of(("settings", PUBLIC)))
