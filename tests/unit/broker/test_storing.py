"""The store behind a broker: changes with the events that tell, long commands by turns, reads."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ezgraph.backends import stored_graphs
from ezgraph.backends.memory import MemoryBackend
from ezgraph.backends.stored_graphs import Written, cut
from ezgraph.broker.access import refuse_forbidden, refuse_stored
from ezgraph.broker.engine import BrokerEngine
from ezgraph.broker.store import changes as stored_changes
from ezgraph.broker.store import freezing
from ezgraph.broker.store import reads as reads_stored
from ezgraph.broker.store.asked import Decided, StoreAsked
from ezgraph.broker.store.pieces import LIFE_S
from ezgraph.config import BrokerConfig, Limits
from ezgraph.errors import ForbiddenError, JournalFailedError, LimitError
from ezgraph.protocol.artifacts import Artifact, Partition, Producer
from ezgraph.protocol.commands import (
    ChangeConfig,
    Command,
    Connect,
    Goodbye,
    Hello,
    RegisterMetadata,
)
from ezgraph.protocol.config import ConfigPut
from ezgraph.protocol.fingerprints import Fingerprint, content_hash
from ezgraph.protocol.graphs import Graph
from ezgraph.protocol.metadata import ComponentMetadata, DynamicSettingsMetadata, GraphMetadata
from ezgraph.protocol.patterns import parse_pattern
from ezgraph.protocol.replies import (
    Done,
    Frozen,
    PartitionsStored,
    Refusal,
    Reply,
    StoredPage,
    Welcome,
)
from ezgraph.protocol.roles import FULL_SCOPE, Identity, ReadScope, Role
from ezgraph.protocol.stored import VERSION, ProducerPart
from ezgraph.protocol.stored_commands import (
    Deletable,
    DeleteStored,
    Freeze,
    GraphAt,
    Listed,
    NewSnapshot,
    PartitionsAt,
    PieceAt,
    ReadStored,
    RemoveTag,
    SetTag,
    SnapshotRef,
    SnapshotsWith,
    StoreGraph,
    StorePieces,
    StoreSnapshot,
    TagAt,
    WritePartitions,
)
from ezgraph.state.content import graph_of
from ezgraph.testing import FlakyMemory, SequentialIds
from ezgraph.wire import codec, frames, values

if TYPE_CHECKING:
    from ezgraph.backends.base import Connection, Journal
    from ezgraph.protocol.events import Event

A, B = b"peer-a", b"peer-b"
NOBODY = Written(0.0, "")
RAW = Artifact("raw", storage="file:///data/{n}.h5")
LIMITS = Limits(max_partitions_per_command=5, max_pieces_waiting_bytes=5_000, max_piece_bytes=4_000)


class Bench:
    """An engine on a journal; asks in passes, and can be started again."""

    def __init__(
        self, config: BrokerConfig | None = None, connection: Connection | None = None
    ) -> None:
        self.connection = connection or MemoryBackend().connect()
        self.config = config or BrokerConfig()
        self.now, self.wall, self._last_id = 10.0, 1e9, 0
        self.start()

    def start(self) -> None:
        self.journal: Journal = self.connection.open_journal()
        self.engine = BrokerEngine(
            self.config, self.journal, SequentialIds(), events_port=1, now=self.now
        )

    def restart(self) -> None:
        self.journal.close()
        self.start()

    def take(self, peer: bytes, command: Command, request_id: int | None = None) -> int:
        self._last_id += 1
        number = self._last_id if request_id is None else request_id
        frame = frames.request_frame(number, 0, codec.encode(command))
        self.engine.take_command(peer, frame, now=self.now, wall=self.wall)
        return number

    def finish(self) -> dict[tuple[bytes, int], Reply]:
        """End the pass; return what was answered to which request of whom."""
        self.wall += 0.001
        self.engine.finish_pass(now=self.now, wall=self.wall)
        messages = self.engine.replies()
        self.engine.publications()
        messages += self.engine.replies()
        self.engine.tidy()
        replies = [(m[0], frames.read_reply(frame)) for m in messages for frame in m[1:]]
        return {(peer, number): reply for peer, (number, reply) in replies}

    def ask(self, peer: bytes, command: Command, request_id: int | None = None) -> Reply:
        asked = peer, self.take(peer, command, request_id)
        for _ in range(2_000):
            if asked in (answered := self.finish()):
                return answered[asked]
        raise AssertionError(f"{command} was not answered")

    def refused(self, command: Command, peer: bytes = A) -> Refusal:
        """Ask for what must be refused; no row may have changed, and no event been made."""
        rows, head = self.rows(), self.journal.head
        reply = self.ask(peer, command)
        assert isinstance(reply, Refusal), reply
        assert self.rows() == rows
        assert self.journal.head == head
        return reply

    def join(self, peer: bytes, kind: str = "session", nonce: str = "") -> Welcome:
        hello = Hello(1, kind, nonce or f"{peer!r}{kind}", "p", "h", 1, "l")
        welcome = self.ask(peer, hello, 0)
        assert isinstance(welcome, Welcome)
        return welcome

    @property
    def is_cutting(self) -> bool:
        """Whether a long command is at the pieces of its graph."""
        return any(long.pieces for long in self.engine._storing._long.values())

    def rows(self) -> dict[bytes, bytes]:
        """Return all that is stored, but for the count of changes."""
        found = self.journal.ask(lambda store: store.scan(b""))
        return {key: value for key, value in found if key != b"revision/"}

    def events(self) -> list[Event]:
        return [codec.decode_event(each) for each in self.journal.read(0, max_rows=99_999).events]

    def read(self, question: Any) -> StoredPage:
        reply = self.ask(A, ReadStored(question))
        assert isinstance(reply, StoredPage), reply
        return reply

    def graph(self, name: str, fingerprint: Fingerprint) -> Graph:
        return self.journal.ask(lambda s: stored_graphs.read_graph(s, name, fingerprint))


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.join(A)
    made.join(B)
    return made


@pytest.fixture
def small() -> Bench:
    """One whose limits are low."""
    made = Bench(BrokerConfig(limits=LIMITS))
    made.join(A)
    return made


def rig(count: int, gain: float = 1.0) -> RegisterMetadata:
    dynamic = DynamicSettingsMetadata(enabled=False)
    parts = {
        address: ComponentMetadata(address, address, "m.C", "m.S", (None, {"g": gain}), dynamic)
        for address in (f"SYS/U{n:04}" for n in range(count))
    }
    return RegisterMetadata(GraphMetadata(components=parts))


def frozen(reply: Reply) -> Frozen:
    assert isinstance(reply, Frozen), reply
    return reply


def partition(number: int) -> Partition:
    return Partition({"n": number}, Fingerprint.from_string("x"), location=f"/{number}")


def graph(size: int = 3, name: str = "rig") -> Graph:
    edges = [(f"a{n:04}", f"b{n:04}" + "x" * 50) for n in range(size)]
    return Graph(name, [RAW], [Producer([], ["raw"], "1")], edges, config={"t": {"k": size}})


def new(of: Graph, seq: int = 1, **more: Any) -> NewSnapshot:
    row, pieces = cut(of, NOBODY)
    return NewSnapshot(of.fingerprint, 1, seq, 5.0, graph=row, pieces=pieces, **more)


# --- freezing ---


def test_a_freeze_stores_what_is_live_under_its_fingerprint(bench: Bench) -> None:
    bench.ask(A, rig(40))
    bench.ask(A, Connect("a", "b"))
    bench.ask(A, ChangeConfig([ConfigPut("flow", ("a:b", "c"), {"x": 1})]))
    live = graph_of(bench.engine.state, "rig")
    head = bench.journal.head

    reply = frozen(bench.ask(B, Freeze("rig", "before", reason="line noise")))

    info = reply.snapshot
    assert (info.name, info.seq, info.epoch, info.reason) == ("rig", head, 1, "line noise")
    assert reply.tag == "before"
    assert info.fingerprint == live.fingerprint == bench.engine.state.content_fingerprint()
    assert bench.graph("rig", info.fingerprint) == live
    assert replace(bench.graph("rig", info.fingerprint)).fingerprint == live.fingerprint
    stored = bench.journal.ask(lambda s: stored_graphs.read_graph(s, "rig", info.fingerprint))
    assert stored_graphs.cut(stored, NOBODY)[0].pages == cut(live, NOBODY)[0].pages
    taken, tagged = bench.events()[-2:]
    assert (taken.kind, tagged.kind) == ("SnapshotFrozen", "TagSet")
    assert taken.txn_last == tagged.seq == reply.seq
    assert taken.source.reason == "line noise"
    assert bench.engine.state.content_fingerprint() == live.fingerprint


def test_a_freeze_is_done_in_steps_and_others_are_answered_in_between(bench: Bench) -> None:
    bench.ask(A, rig(1_000))
    asked = A, bench.take(A, Freeze("rig"))
    answered: dict[tuple[bytes, int], Reply] = {}
    passes = 0

    while asked not in answered:
        number = bench.take(B, Connect("a", f"b{passes}"))
        if bench.is_cutting and len(bench.engine.state.components) > 900:
            bench.take(A, rig(900, gain=2.0))
            bench.take(A, ChangeConfig([ConfigPut("flow", ("a",), passes)]))
        assert bench.engine.next_due(bench.now) == bench.now
        answered = bench.finish()
        assert isinstance(answered[B, number], Done)
        passes += 1

    assert passes > 10
    assert len(bench.engine.state.components) == 900
    info = frozen(answered[asked]).snapshot
    kept = bench.graph("rig", info.fingerprint)
    assert len(kept.components) == 1_000
    as_it_was = [each for each in bench.events() if each.seq <= info.seq]
    assert len(kept.topology) == sum(each.kind == "EdgeConnected" for each in as_it_was)
    assert info.seq < bench.journal.head - 1  # it went on while pages were cut
    assert replace(kept).fingerprint == info.fingerprint


def test_the_same_content_is_stored_once_and_frozen_in_one_pass(bench: Bench) -> None:
    bench.ask(A, rig(300))
    first = frozen(bench.ask(A, Freeze("rig", "one")))
    pieces = {key for key in bench.rows() if key.startswith(b"piece/")}
    bench.ask(B, Connect("x", "y"))
    bench.ask(B, Goodbye())  # whoever held it is gone, so that all is as it was
    bench.take(A, Freeze("rig", "two"))

    (reply,) = bench.finish().values()

    second = frozen(reply)
    assert second.snapshot.fingerprint == first.snapshot.fingerprint
    assert second.snapshot.seq > first.snapshot.seq
    assert {key for key in bench.rows() if key.startswith(b"piece/")} == pieces


def test_a_tag_that_exists_is_not_moved_by_a_freeze_unless_it_says_so(bench: Bench) -> None:
    first = frozen(bench.ask(A, Freeze("rig", "good")))
    bench.ask(A, Connect("a", "b"))

    refusal = bench.refused(Freeze("rig", "good"))
    moved = frozen(bench.ask(A, Freeze("rig", "good", overwrite=True)))

    assert (refusal.code, refusal.fingerprint) == ("tag_exists", str(first.snapshot.fingerprint))
    assert moved.snapshot.fingerprint != first.snapshot.fingerprint


def test_a_tag_that_is_set_while_one_freezes_is_not_moved_either(bench: Bench) -> None:
    bench.ask(A, rig(300))
    asked = A, bench.take(A, Freeze("rig", "good"))
    while not bench.is_cutting:
        bench.finish()
    bench.take(B, SetTag("rig", "good", new(graph())))
    answered = bench.finish()

    while asked not in answered:
        answered = bench.finish()

    reply = answered[asked]
    assert isinstance(reply, Refusal)
    assert (reply.code, reply.fingerprint) == ("tag_exists", str(graph().fingerprint))
    assert [key for key in bench.rows() if key.startswith(b"graph/")] == [
        stored_graphs.graph_key("rig", graph().fingerprint)
    ]
    assert not [each for each in bench.events() if each.kind == "SnapshotFrozen"]


def test_many_are_frozen_one_after_the_other_and_clients_take_turns(bench: Bench) -> None:
    bench.ask(A, rig(300))
    asked = [(A, bench.take(A, Freeze(f"rig{n}"))) for n in range(20)]
    other = B, bench.take(B, Freeze("theirs"))
    answered: dict[tuple[bytes, int], Reply] = {}

    while not {*asked, other} <= answered.keys():
        answered |= bench.finish()

    prints = {frozen(each).snapshot.fingerprint for each in map(answered.__getitem__, asked)}
    assert len(prints) == 1
    order = list(answered)
    assert [each for each in order if each != other] == asked
    assert order.index(other) < 4


def test_no_more_wait_to_be_stored_than_may(small: Bench) -> None:
    small.engine._storing._limits = replace(LIMITS, max_long_commands_per_client=2)
    small.ask(A, rig(300))
    freezes = [(A, small.take(A, Freeze(f"rig{n}"))) for n in range(3)]
    answered: dict[tuple[bytes, int], Reply] = {}
    while not set(freezes) <= answered.keys():
        answered |= small.finish()
    small.engine._storing._limits = replace(LIMITS, max_pieces_waiting_bytes=3_000)
    graphs = [graph(size, name=f"g{size}") for size in (20, 21)]
    small.take(A, Freeze("before"))
    stores = [
        (A, small.take(A, StoreGraph(each.name, each.fingerprint, *cut(each, NOBODY))))
        for each in graphs
    ]
    while not set(stores) <= answered.keys():
        answered |= small.finish()

    assert [type(answered[each]) for each in freezes] == [Frozen, Frozen, Refusal]
    assert [type(answered[each]) for each in stores] == [Done, Refusal]
    for refused, named in ((freezes[2], "freezes and graphs"), (stores[1], "bytes of graphs")):
        reply = answered[refused]
        assert isinstance(reply, Refusal)
        assert named in reply.message


def test_what_a_graph_needs_that_is_being_frozen_is_not_deleted_with_another(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freezing, "_STORED_BYTES", 1)
    bench.ask(A, rig(300))
    first = frozen(bench.ask(A, Freeze("old"))).snapshot
    bench.ask(A, DeleteStored(Deletable.SNAPSHOT, "old", first.fingerprint))
    bench.ask(A, Connect("a", "b"))
    asked = A, bench.take(A, Freeze("new"))
    answered: dict[tuple[bytes, int], Reply] = {}
    while not bench.is_cutting:
        answered |= bench.finish()
    assert asked not in answered
    bench.take(B, DeleteStored(Deletable.GRAPH, "old", first.fingerprint))

    while asked not in answered:
        answered |= bench.finish()

    info = frozen(answered[asked]).snapshot
    assert replace(bench.graph("new", info.fingerprint)).fingerprint == info.fingerprint
    assert not [key for key in bench.rows() if key.startswith(b"graph/old")]


def test_whoever_goes_while_it_is_frozen_has_frozen_it(bench: Bench) -> None:
    bench.ask(A, rig(200))
    bench.take(B, Freeze("rig", "last"))
    bench.ask(B, Goodbye())

    while bench.engine._storing.is_under_way:
        bench.finish()

    assert isinstance(bench.ask(A, ReadStored(TagAt("rig", "last"))), StoredPage)


# --- once ---


def changes_of(taken: Graph) -> list[Command]:
    return [
        Freeze("rig", "frozen", reason="why"),
        SetTag("rig", "best", new(taken)),
        WritePartitions(RAW, [partition(1), partition(2)]),
        WritePartitions(RAW, [partition(1), partition(3)], True, "rig", new(taken), "raw"),
        RemoveTag("rig", "best"),
        DeleteStored(Deletable.PARTITIONS, artifact=RAW, partitions=[partition(2)]),
        DeleteStored(Deletable.SNAPSHOT, "rig", taken.fingerprint),
        DeleteStored(Deletable.GRAPH, "rig", taken.fingerprint),
    ]


@pytest.mark.parametrize("how", ["at once", "after a restart", "after one on a checkpoint"])
def test_a_change_that_is_repeated_is_answered_alike_and_done_once(how: str) -> None:
    bench = Bench()
    welcome = bench.join(A, "guest")
    numbers = [bench.take(A, command) for command in changes_of(graph())]
    before: dict[tuple[bytes, int], Reply] = {}
    while len(before) < len(numbers):
        before |= bench.finish()
    assert not [each for each in before.values() if isinstance(each, Refusal)], before
    rows, head = bench.rows(), bench.journal.head
    if how == "after one on a checkpoint":
        bench.engine.write_checkpoint()
        bench.journal.drop_below(head + 1)
    if how != "at once":
        bench.restart()
        assert bench.join(A, "guest").client == welcome.client

    again = {
        (A, number): bench.ask(A, command, number)
        for number, command in zip(numbers, changes_of(graph()), strict=True)
    }

    assert again == before
    assert bench.rows() == rows
    assert bench.journal.head == head


def test_a_freeze_that_is_repeated_while_it_is_under_way_is_one(bench: Bench) -> None:
    bench.ask(A, rig(200))
    number = bench.take(A, Freeze("rig", "good"))
    bench.finish()
    (under_way,) = bench.engine._storing._long.values()
    bench.take(A, Freeze("rig", "good"), number)
    assert list(bench.engine._storing._long.values()) == [under_way]
    answered: dict[tuple[bytes, int], Reply] = {}

    while (A, number) not in answered:
        answered = bench.finish()

    assert isinstance(answered[A, number], Frozen)
    assert [each.kind for each in bench.events()].count("SnapshotFrozen") == 1
    assert not bench.engine._storing.is_under_way


def test_what_is_known_already_makes_no_event(bench: Bench) -> None:
    bench.ask(A, WritePartitions(RAW, [partition(1)], True, "rig", new(graph()), "raw"))
    rows, head = bench.rows(), bench.journal.head

    again = bench.ask(A, WritePartitions(RAW, [partition(1)], True, "rig", new(graph()), "raw"))
    some = bench.ask(A, WritePartitions(RAW, [partition(1), partition(2)]))

    assert again == PartitionsStored(head, 0)
    assert some == PartitionsStored(head + 1, 1)
    assert rows.items() <= bench.rows().items()


# --- what is stored, comes with its events or not at all ---


def test_a_command_sees_what_the_ones_before_it_in_its_pass_did(bench: Bench) -> None:
    first = A, bench.take(A, SetTag("rig", "good", new(graph())))
    second = B, bench.take(B, SetTag("rig", "good", new(graph(4))))
    third = B, bench.take(B, SetTag("rig", "good", SnapshotRef(graph().fingerprint, 1, 1), True))

    answered = bench.finish()

    refused = answered[second]
    assert isinstance(refused, Refusal)
    assert (refused.code, refused.fingerprint) == ("tag_exists", str(graph().fingerprint))
    assert isinstance(answered[first], Done)
    assert isinstance(answered[third], Done)
    assert [each.kind for each in bench.events()].count("TagSet") == 2


def test_an_append_that_fails_takes_the_rows_with_it() -> None:
    connection = FlakyMemory()
    bench = Bench(connection=connection)
    bench.join(A)
    bench.ask(A, SetTag("rig", "good", new(graph())))
    rows = bench.rows()
    bench.take(A, RemoveTag("rig", "good"))
    bench.take(A, WritePartitions(RAW, [partition(1)]))
    connection.fails = "before"

    with pytest.raises(JournalFailedError):
        bench.finish()

    bench.restart()
    assert bench.rows() == rows
    assert [each.kind for each in bench.events()][-1] == "TagSet"


def test_the_state_is_as_it_was_whatever_is_stored(bench: Bench) -> None:
    bench.ask(A, rig(3))
    before, seq = bench.engine.state.fingerprint(), bench.engine.state.seq

    for command in changes_of(graph()):
        assert not isinstance(bench.ask(A, command), Refusal)

    state = bench.engine.state
    assert state.seq > seq
    state.seq = seq
    assert state.fingerprint() == before
    rooms = {slot[0] for slot, _ in bench.engine._live.freeze()}
    assert rooms == {"session", "graph", "component", "settings"}


# --- refusals ---


def test_what_is_not_there_and_what_is_needed_is_refused_and_says_so(bench: Bench) -> None:
    bench.ask(A, SetTag("rig", "good", new(graph())))
    bench.ask(A, WritePartitions(RAW, [partition(1)], True, "rig", new(graph()), "raw"))
    print_, other = graph().fingerprint, graph(4).fingerprint

    refusals = [
        bench.refused(RemoveTag("rig", "bad")),
        bench.refused(SetTag("rig", "bad", SnapshotRef(other))),
        bench.refused(SetTag("rig", "bad", SnapshotRef(print_, 1, 99))),
        bench.refused(SetTag("rig", "good", SnapshotRef(print_))),
        bench.refused(StoreSnapshot("rig", NewSnapshot(other, 1, 1, 5.0))),
        bench.refused(WritePartitions(RAW, [partition(1)], True, "x", SnapshotRef(print_), "raw")),
        bench.refused(DeleteStored(Deletable.GRAPH, "rig", print_)),
        bench.refused(DeleteStored(Deletable.SNAPSHOT, "rig", print_)),
        bench.refused(DeleteStored(Deletable.SNAPSHOT, "rig", other)),
        bench.refused(DeleteStored(Deletable.GRAPH, "other", print_)),
        bench.refused(
            DeleteStored(Deletable.PARTITIONS, artifact=RAW, partitions=[partition(1)])
        ),
    ]

    assert [each.code for each in refusals] == [
        "unknown_tag", "unknown_snapshot", "unknown_snapshot", "tag_exists", "unknown_graph",
        "unknown_snapshot", "still_referenced", "still_referenced", "unknown_snapshot",
        "unknown_graph", "still_referenced",
    ]
    assert all(len(each.message) > 40 for each in refusals)


P = Fingerprint.from_string("p")
NONSENSE: dict[str, Command] = {
    "a graph without a name": Freeze(""),
    "a tag with a control character": Freeze("rig", "a\n"),
    "a name that is too long": RemoveTag("r" * 256, "good"),
    "a piece under another name": StorePieces({b"x" * 16: b"y"}),
    "half a place": SetTag("rig", "t", SnapshotRef(P, 1)),
    "a negative seq": SetTag("rig", "t", SnapshotRef(P, 1, -1)),
    "a time that is none": StoreSnapshot("rig", NewSnapshot(P, 1, 1, float("inf"))),
    "a number beyond all": StoreSnapshot("rig", NewSnapshot(P, 1, 1 << 63, 0.0)),
    "partitions that go nowhere": WritePartitions(RAW, [partition(1)], False),
    "a snapshot without a name": WritePartitions(RAW, [], True, None, SnapshotRef(P), "raw"),
    "a name without a snapshot": WritePartitions(RAW, [partition(1)], True, "rig", None, None),
    "no content fingerprint": WritePartitions(RAW, [Partition({"n": 1})]),
    "partitions of nothing": DeleteStored(Deletable.PARTITIONS, partitions=[partition(1)]),
    "a graph and partitions": DeleteStored(Deletable.GRAPH, "rig", P, RAW),
    "which snapshot": DeleteStored(Deletable.SNAPSHOT, "rig"),
}


@pytest.mark.parametrize("what", list(NONSENSE))
def test_what_makes_no_sense_is_refused_and_changes_nothing(bench: Bench, what: str) -> None:
    refusal = bench.refused(NONSENSE[what])

    assert refusal.code in ("invalid_value", "invalid_command")


def broken(what: str) -> NewSnapshot:
    """A graph that is not what it is said to be."""
    given = new(graph())
    row = given.graph
    assert row is not None
    match what:
        case "another fingerprint":
            return replace(given, fingerprint=P)
        case "a missing piece":
            return replace(given, pieces={})
        case "a missing blob":
            return replace(given, graph=replace(row, blobs=b"x" * 16))
        case "half a name":
            return replace(given, graph=replace(row, pages=row.pages[:-1]))
        case "a wrong count":
            return replace(given, graph=replace(row, edges=row.edges + 1))
        case "a newer row":
            return replace(given, graph=replace(row, version=VERSION + 1))
        case "a page too few":
            return replace(given, graph=replace(row, pages=b""))
        case "a page that is none":
            return _with_page(given, values.pack({"a": 1}))
        case "a page of text":
            return _with_page(given, values.pack(["text"]))
        case "bytes that are nothing":
            return _with_page(given, b"\xc1")
        case "a part of a newer ezgraph":
            return _with_page(given, values.pack([values.pack(["PartOfThreeThousand", {}])]))
        case "a part that no graph has":
            edge = ["EdgePart", {"from_topic": "", "to_topic": "b"}]
            return _with_page(given, values.pack([values.pack(edge)]))
        case "two makers of one artifact":
            makers = [Producer(["a"], ["x"], "1"), Producer(["b"], ["x"], "1")]
            parts = [codec.encode_apart(ProducerPart(each))[0] for each in makers]
            pages = [values.pack([each]) for each in parts]
            names = b"".join(map(content_hash, pages))
            return replace(
                given,
                graph=replace(row, pages=names),
                pieces={content_hash(each): each for each in pages},
            )
        case _:
            raise AssertionError(what)


def _with_page(given: NewSnapshot, page: bytes) -> NewSnapshot:
    assert given.graph is not None
    name = content_hash(page)
    return replace(given, graph=replace(given.graph, pages=name), pieces={name: page})


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("another fingerprint", "invalid_command"),
        ("a missing piece", "invalid_command"),
        ("a missing blob", "invalid_command"),
        ("half a name", "invalid_command"),
        ("a wrong count", "invalid_command"),
        ("a page too few", "invalid_command"),
        ("a page that is none", "invalid_command"),
        ("a page of text", "invalid_command"),
        ("bytes that are nothing", "invalid_command"),
        ("a part that no graph has", "invalid_command"),
        ("two makers of one artifact", "invalid_command"),
        ("a newer row", "unsupported"),
        ("a part of a newer ezgraph", "unsupported"),
    ],
)
def test_a_graph_that_is_not_what_it_is_said_to_be_is_refused(
    bench: Bench, what: str, code: str
) -> None:
    refusals = [
        bench.refused(SetTag("rig", "good", broken(what))),
        bench.refused(WritePartitions(RAW, [partition(1)], True, "rig", broken(what), "raw")),
    ]

    assert [each.code for each in refusals] == [code, code]


def test_a_large_graph_is_verified_in_steps_while_others_are_answered(bench: Bench) -> None:
    large = graph(1_500)
    row, pieces = cut(large, NOBODY)
    assert bench.ask(A, StorePieces(pieces)) == Done(bench.journal.head)
    asked = A, bench.take(A, StoreGraph("rig", large.fingerprint, row))
    answered: dict[tuple[bytes, int], Reply] = {}
    passes = 0

    while asked not in answered:
        number = bench.take(B, Connect("a", f"b{passes}"))
        answered = bench.finish()
        assert isinstance(answered[B, number], Done)
        passes += 1

    assert passes > 3
    assert bench.graph("rig", large.fingerprint) == large
    (stored,) = bench.read(Listed("graph")).rows
    assert codec.decode(stored[1], type(row)).author


# --- bounds ---


def test_more_than_the_limits_allow_is_refused_and_names_the_limit(small: Bench) -> None:
    many = [partition(n) for n in range(6)]
    piece, large = b"p" * 3_000, b"p" * 4_001
    assert isinstance(small.ask(A, StorePieces({content_hash(piece): piece})), Done)

    refusals = [
        small.refused(WritePartitions(RAW, many)),
        small.refused(DeleteStored(Deletable.PARTITIONS, artifact=RAW, partitions=many)),
        small.refused(StorePieces({content_hash(large): large})),
        small.refused(StorePieces({content_hash(b"q" * 3_000): b"q" * 3_000})),
        small.refused(Freeze("rig", reason="x" * 3_000)),
        small.refused(SetTag("rig", "good", new(graph(), reason="x" * 3_000))),
    ]

    assert {each.code for each in refusals} == {"limit"}
    named = ("max_partitions_per_command", "max_partitions_per_command", "max_piece_bytes",
             "max_pieces_waiting_bytes", "max_reason_characters", "max_reason_characters")
    for limit, each in zip(named, refusals, strict=True):
        assert limit in each.message
    assert isinstance(small.ask(A, WritePartitions(RAW, many[:5])), PartitionsStored)


def test_pieces_that_no_graph_came_for_are_removed_and_make_room(small: Bench) -> None:
    first, second = b"p" * 3_000, b"q" * 3_000
    small.ask(A, StorePieces({content_hash(first): first}))
    small.now += LIFE_S + 1

    assert isinstance(small.ask(A, StorePieces({content_hash(second): second})), Done)

    kept = {key for key in small.rows() if key.startswith(b"piece/")}
    assert kept == {stored_graphs.piece_key(content_hash(second))}


def test_pieces_that_a_graph_needs_by_now_stay(small: Bench) -> None:
    row, pieces = cut(graph(), NOBODY)
    small.ask(A, StorePieces(pieces))
    small.ask(A, StoreGraph("rig", graph().fingerprint, row))
    small.now += LIFE_S + 1
    small.ask(A, StorePieces({content_hash(b"x"): b"x"}))

    assert small.graph("rig", graph().fingerprint) == graph()


# --- reading ---


def test_a_graph_comes_in_pages_as_it_is_stored(small: Bench) -> None:
    small.engine.config = BrokerConfig(limits=replace(LIMITS, chunk_bytes=500))
    large = graph(30)
    row, pieces = cut(large, NOBODY)
    for name, piece in pieces.items():
        small.ask(A, StorePieces({name: piece}))
    small.ask(A, StoreGraph("rig", large.fingerprint, row))

    page = small.read(GraphAt("rig", large.fingerprint))
    there = small.read(PieceAt([*pieces, b"none"], with_bytes=False))

    assert page.rows[0][0] == stored_graphs.graph_key("rig", large.fingerprint)
    assert {key for key, _ in there.rows} == set(map(stored_graphs.piece_key, pieces))


def test_pages_tell_whether_what_they_are_of_has_changed(bench: Bench) -> None:
    bench.ask(A, WritePartitions(RAW, [partition(n) for n in range(5)]))
    question, other = PartitionsAt(RAW.storage_fingerprint), Artifact("other", storage="o")
    first = bench.read(question)

    bench.ask(A, WritePartitions(other, [partition(1)]))
    bench.ask(A, Connect("a", "b"))
    same = bench.read(question)
    bench.ask(A, WritePartitions(RAW, [partition(9)]))
    changed = bench.read(question)

    assert (same.revision, same.rows) == (first.revision, first.rows)
    assert changed.revision > first.revision
    assert len(changed.rows) == 6


def test_a_list_ends_where_it_was_asked_to_and_goes_on_behind_that(bench: Bench) -> None:
    bench.ask(A, WritePartitions(RAW, [partition(n) for n in range(7)]))
    within = ("artifact", str(RAW.storage_fingerprint))
    found: list[bytes] = []
    after: bytes | None = b""
    sizes = []

    while after is not None:
        page = bench.read(Listed("partition", within, after, 3))
        sizes.append(len(page.rows))
        found += [key for key, _ in page.rows]
        after = page.next_after

    assert sizes == [3, 3, 1]
    assert found == sorted(set(found))


def test_what_was_frozen_often_is_found_a_page_at_a_time(bench: Bench) -> None:
    for name in ("one", "two", "three"):
        for seq in range(1, 41):
            where = new(graph(name=name), seq)
            bench.ask(A, WritePartitions(RAW, [partition(1)], False, name, where, "raw"))
    storage, one = RAW.storage_fingerprint, partition(1)
    question = SnapshotsWith(storage, one.key.text, one.input_fingerprint, one.fingerprint)
    bench.engine._storing._limits = replace(bench.config.limits, chunk_bytes=5_000)
    found: dict[bytes, bytes] = {}
    pages = 0

    while (page := bench.read(question)).next_after is not None:
        assert sum(map(len, dict(page.rows).values())) < 10_000
        found |= dict(page.rows)
        question = replace(question, after=page.next_after)
        pages += 1
    found |= dict(page.rows)

    assert pages > 5
    assert len([key for key in found if key.startswith(b"snapshot/")]) == 120
    assert found == {key: value for key, value in bench.rows().items() if key in found}


def test_partitions_are_not_looked_for_in_more_snapshots_than_can_be_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_changes, "_MOST_LOOKS", 20)
    bench.ask(A, WritePartitions(RAW, [partition(n) for n in range(10)]))
    for seq in range(15):
        where = new(graph(size=seq + 1), 1)
        bench.ask(A, WritePartitions(RAW, [partition(9)], False, "rig", where, "raw"))

    def delete(*numbers: int) -> DeleteStored:
        going = [partition(n) for n in numbers]
        return DeleteStored(Deletable.PARTITIONS, artifact=RAW, partitions=going)

    several, held = bench.refused(delete(0, 1, 2)), bench.refused(delete(9))
    bench.ask(A, delete(0))

    assert (several.code, held.code) == ("limit", "still_referenced")
    assert "fewer" in several.message
    assert len(bench.read(PartitionsAt(RAW.storage_fingerprint)).rows) == 9


@pytest.mark.parametrize(
    "question",
    [
        Listed("piece"),
        Listed("meta"),
        Listed("tag", ("a", "b")),
        Listed("tag", limit=0),
        Listed("tag", limit=100_000),
        PartitionsAt(P, "rig"),
        PieceAt([b""] * 2_001),
        PartitionsAt(P, wanted=[("k", P)] * 2_001),
    ],
    ids=repr,
)
def test_a_question_that_is_none_is_refused(bench: Bench, question: Any) -> None:
    reply = bench.ask(A, ReadStored(question))

    assert isinstance(reply, Refusal)
    assert reply.code == "invalid_command"


def test_what_makes_no_event_lasts_too_once_it_is_answered() -> None:
    connection = FlakyMemory()
    bench = Bench(connection=connection)
    bench.join(A)
    row, pieces = cut(graph(), NOBODY)
    bench.ask(A, StorePieces(pieces))
    bench.ask(A, StoreGraph("rig", graph().fingerprint, row))

    connection.crash()
    bench.start()

    assert bench.graph("rig", graph().fingerprint) == graph()


def test_who_reads_a_part_is_told_of_the_tags_in_it_and_of_nothing_else(bench: Bench) -> None:
    for name in ("rig", "secret"):
        bench.ask(A, SetTag(name, "good", new(graph(name=name))))
    scope = ReadScope(1, (parse_pattern("tag/rig"),))
    someone = Identity("part", "0" * 64, Role("part", {"read": scope.patterns}))

    reply, _ = bench.engine._storing.read(Listed("tag"), scope)

    assert isinstance(reply, StoredPage)
    assert [key for key, _ in reply.rows] == [b"tag/rig/good/"]
    refuse_stored(someone, scope, Listed("tagged", ("rig", "good")))
    for question in (
        TagAt("rig", "good"), GraphAt("rig", P), PieceAt([]), PartitionsAt(P), Listed("graph"),
        Listed("snapshot"), Listed("partition"), Listed("recording"),
        SnapshotsWith(P, "{}", P, P),
    ):
        with pytest.raises(ForbiddenError, match="may not read"):
            refuse_stored(someone, scope, question)
        refuse_stored(someone, FULL_SCOPE, question)


def test_a_role_bounds_what_is_written_and_deleted_by_who_wrote_there_before(bench: Bench) -> None:
    theirs = Artifact("theirs", storage="file:///theirs/{n}")
    bench.ask(B, WritePartitions(theirs, [partition(1)]))
    granted = {"store": (parse_pattern("partitions/mine"),)}
    someone = Identity("anna", "0" * 64, Role("mine only", granted))
    connection = bench.engine.core.connection_of(A)
    assert connection is not None
    disguised = replace(theirs, key="mine")

    def asked(command: Any) -> Any:
        refuse_forbidden(someone, command)  # by the key that is given, it may
        asked = StoreAsked(command, connection.lease, 99, A, None, None, someone)
        return bench.engine._storing.take(asked, now=bench.now, wall=bench.wall)

    rows = bench.rows()
    refused = [
        asked(WritePartitions(disguised, [partition(2)])),
        asked(DeleteStored(Deletable.PARTITIONS, artifact=disguised, partitions=[partition(1)])),
    ]
    own = asked(WritePartitions(Artifact("mine", storage="file:///mine"), [partition(2)]))

    assert [type(each) for each in refused] == [ForbiddenError] * 2
    assert "store partitions/theirs" in str(refused[0])
    assert isinstance(own, Decided)
    assert rows.items() <= bench.rows().items()


def test_a_state_that_never_stands_still_is_frozen_all_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freezing, "_TURNS", 10)
    bench.ask(A, rig(200))
    asked = A, bench.take(A, Freeze("rig"))
    answered: dict[tuple[bytes, int], Reply] = {}

    for gain in range(200):
        bench.take(A, rig(200, gain=float(gain)))  # more than is digested in one pass
        answered = bench.finish()
        if asked in answered:
            break

    info = frozen(answered[asked]).snapshot
    kept = bench.graph("rig", info.fingerprint)
    assert len({str(value.structured_value) for value in kept.settings.values()}) == 1
    assert replace(kept).fingerprint == info.fingerprint


def test_the_end_of_a_page_names_no_tag_that_one_may_not_read(bench: Bench) -> None:
    for name in ("a-secret", "rig", "secret", "z-rig"):
        for tag in ("one", "two"):
            bench.ask(A, SetTag(name, tag, new(graph(name=name))))
    scope = ReadScope(1, (parse_pattern("tag/rig"), parse_pattern("tag/z-rig")))
    found: list[bytes] = []
    after: bytes | None = b""

    while after is not None:
        reply, _ = bench.engine._storing.read(Listed("tag", after=after, limit=1), scope)
        assert isinstance(reply, StoredPage)
        found += [key for key, _ in reply.rows]
        after = reply.next_after
        assert b"secret" not in (after or b"")

    assert found == [b"tag/rig/one/", b"tag/rig/two/", b"tag/z-rig/one/", b"tag/z-rig/two/"]


def test_where_very_many_tags_may_not_be_read_one_is_told_so(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads_stored, "MOST_ROWS", 2)
    monkeypatch.setattr(reads_stored, "_MOST_LOOKS", 2)
    for tag in range(6):
        bench.ask(A, SetTag("many", f"{tag}", new(graph(name="many"))))
    bench.ask(A, SetTag("rig", "one", new(graph(name="rig"))))
    scope = ReadScope(1, (parse_pattern("tag/rig"),))

    with pytest.raises(LimitError, match="ask within one graph"):
        bench.engine._storing.read(Listed("tag"), scope)
    reply, _ = bench.engine._storing.read(Listed("tag", ("rig",)), scope)

    assert isinstance(reply, StoredPage)
    assert [key for key, _ in reply.rows] == [b"tag/rig/one/"]
