"""Every bound of the broker, at and beyond it, on real sockets, with keys and without.

A field of `Limits` stands here in one of two tables: it refuses by name, or it only shapes how the
work is cut. A new one that stands in neither fails the first test.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from ezgraph import (
    Address,
    BrokerConfig,
    DeadlineError,
    Event,
    EzGraphError,
    FloodError,
    GraphMetadata,
    GraphServer,
    LimitError,
    Limits,
    RestoreRefusedError,
    sync,
)
from ezgraph.backends.stored_graphs import Written, cut
from ezgraph.client.sockets import secure
from ezgraph.errors import from_code
from ezgraph.keys.keyring import Keyring
from ezgraph.protocol.artifacts import Artifact, Partition
from ezgraph.protocol.commands import (
    AnnounceNodes,
    Command,
    Connect,
    GetStatus,
    Hello,
    OpenSnapshot,
    RequestProcess,
    ServeGraph,
    Sync,
    UpdateUnits,
)
from ezgraph.protocol.fingerprints import Fingerprint, content_hash
from ezgraph.protocol.graphs import Graph
from ezgraph.protocol.metadata import ComponentMetadata, DynamicSettingsMetadata
from ezgraph.protocol.replies import Done, Refusal, Reply, SnapshotChunk, Welcome
from ezgraph.protocol.served import NodeCard
from ezgraph.protocol.stored_commands import (
    Freeze,
    Restore,
    StoreGraph,
    StorePieces,
    WritePartitions,
)
from ezgraph.wire import codec, frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ezgraph.config import ClientKeys

pytestmark = pytest.mark.integration

TIMEOUT_S = 5.0
SHORT_S = 0.6


@dataclass
class Rig:
    """A broker with some bound, and clients that go up to it."""

    address: Address
    keys: ClientKeys | None
    stack: ExitStack
    contexts: list[sync.GraphContext] = field(default_factory=list)

    def context(self, *, timeout: float = TIMEOUT_S) -> sync.GraphContext:
        context = sync.GraphContext(self.address, keys=self.keys)
        context.open(timeout=timeout)
        self.stack.callback(context.close)
        return context

    def service(self) -> sync.GraphService:
        return sync.GraphService(self.address, keys=self.keys)

    def process(self) -> sync.ProcessControlClient:
        return self.stack.enter_context(sync.ProcessControlClient(self.address, keys=self.keys))

    def raw(self, nonce: str = "raw", *, kind: str = "guest") -> Raw:
        client = Raw(self.address, self.keys)
        self.stack.callback(client.close)
        assert isinstance(client.ask(Hello(1, kind, nonce, "raw", "here", 1, "me"), 0), Welcome)
        return client


class Raw:
    """A DEALER that sends what it likes, and raises what it is told."""

    def __init__(self, address: Address, keys: ClientKeys | None) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.set(zmq.RCVTIMEO, int(TIMEOUT_S * 1000))
        self.socket.set(zmq.RCVHWM, 10)
        secure(self.socket, keys, address)
        self.socket.connect(address.endpoint)

    def tell(self, *commands: Command, first: int = 1) -> None:
        self.socket.send_multipart(
            [
                frames.request_frame(first + number, 0, codec.encode(each))
                for number, each in enumerate(commands)
            ]
        )

    def hear(self) -> Iterator[Reply]:
        while True:
            for frame in self.socket.recv_multipart():
                reply = frames.read_reply(frame)[1]
                if isinstance(reply, Refusal):
                    raise from_code(reply.code, reply.message)
                yield reply

    def hear_for(self, silence_ms: int) -> Iterator[Reply]:
        with suppress(zmq.Again):
            self.socket.set(zmq.RCVTIMEO, silence_ms)
            yield from self.hear()
        self.socket.set(zmq.RCVTIMEO, int(TIMEOUT_S * 1000))

    def ask(self, command: Command, request_id: int) -> Reply:
        self.tell(command, first=request_id)
        return next(self.hear())

    def close(self) -> None:
        self._context.destroy(linger=0)


@contextmanager
def rig(limits: Limits, where: Path, *, with_keys: bool) -> Iterator[Rig]:
    """A broker with these limits."""
    config, ring = BrokerConfig(address=Address("127.0.0.1", 0), limits=limits), None
    if with_keys:
        ring = Keyring(where)
        ring.admit("alice")
        config = ring.config(limits=limits)
    with GraphServer(config=config) as server, ExitStack() as stack:
        keys = ring.keys("alice", server.address) if ring is not None else None
        yield Rig(server.address, keys, stack)


# --- what is done beyond each bound ---


def a_large_frame(rig: Rig) -> None:
    rig.context().connect("a", "b", reason="r" * 200_000)


def a_third_client(rig: Rig) -> None:
    for _ in range(3):
        rig.context(timeout=SHORT_S)


def open_requests(rig: Rig) -> None:
    client = rig.raw()
    for number in range(1, 5):
        assert isinstance(client.ask(Connect("a", f"b{number}"), number), Done)


def connections_of_a_key(rig: Rig) -> None:
    for number in range(4):
        rig.raw(f"raw {number}")


def watches(rig: Rig) -> None:
    context = rig.context()
    for number in range(4):
        next(context.subscribe(("edge", f"{number}"), 0))


def a_message_of_many_frames(rig: Rig) -> None:
    client = rig.raw()
    client.tell(*[Sync()] * 9)
    list(client.hear())


def a_message_of_many_bytes(rig: Rig) -> None:
    client = rig.raw()
    client.tell(Connect("a", "b" * 3_000), Connect("a", "c" * 3_000))
    list(client.hear())


def half_read_snapshots(rig: Rig) -> None:
    client = rig.raw()
    for number in range(2):
        client.ask(Connect("a", f"b{number}"), 10 + 2 * number)
        client.ask(Connect("a", f"c{number}"), 11 + 2 * number)
        chunk = client.ask(OpenSnapshot([]), 20 + number)
        assert isinstance(chunk, SnapshotChunk)
        assert chunk.next_start is not None


def half_read_snapshots_of_two(rig: Rig) -> None:
    for number in range(2):
        client = rig.raw(f"raw {number}")
        client.ask(Connect("a", f"b{number}"), 1)
        client.ask(Connect("a", f"c{number}"), 2)
        assert isinstance(client.ask(OpenSnapshot([]), 3), SnapshotChunk)


def reads_at_once(rig: Rig) -> None:
    client = rig.raw()
    client.tell(*[GetStatus()] * 4)
    list(client.hear())


def edges_of_a_session(rig: Rig) -> None:
    context = rig.context()
    for number in range(3):
        context.connect("a", f"b{number}")


def persistent_edges(rig: Rig) -> None:
    for number in range(3):
        rig.service().connect("a", f"b{number}")


def rig_of(count: int) -> GraphMetadata:
    dynamic = DynamicSettingsMetadata(enabled=False)
    units = [f"RIG/U{n}" for n in range(count)]
    components = {
        unit: ComponentMetadata(unit, unit, "m.Unit", "m.Settings", (None, {}), dynamic)
        for unit in units
    }
    return GraphMetadata(components=components)


def components_of_a_session(rig: Rig) -> None:
    rig.context().register_metadata(rig_of(3))


def units_of_a_process(rig: Rig) -> None:
    process = rig.process()
    process.register(["RIG/U0", "RIG/U1"])
    process.register(["RIG/U2"])


def routed_requests(rig: Rig) -> None:
    silent, client = rig.raw("silent", kind="process"), rig.raw()
    silent.ask(UpdateUnits(["RIG/U"], []), 1)
    client.tell(*[RequestProcess("RIG/U", "move")] * 3)
    next(client.hear())


def a_long_reason(rig: Rig) -> None:
    rig.context().connect("a", "b", reason="because " * 100)


def many_entries(rig: Rig) -> None:
    with rig.context().config.txn() as txn:
        for number in range(3):
            txn.put("flow", f"{number}", "x" * 50)


def many_entries_of_a_session(rig: Rig) -> None:
    rig.context().config.put("flow", "of another", 1, ephemeral=True)
    context = rig.context()
    context.config.put("flow", "kept", 1)
    for number in range(3):
        context.config.put("flow", f"{number}", 1, ephemeral=True)


def a_long_config_key(rig: Rig) -> None:
    rig.context().config.put("flow", "k" * 60, 1)


def a_large_value(rig: Rig) -> None:
    rig.context().config.put("flow", "a", "x" * 200)


def a_deep_value(rig: Rig) -> None:
    rig.context().config.put("flow", "a", [[[[1]]]])


def many_schemas(rig: Rig) -> None:
    for number in range(3):
        rig.context().config.set_schema(f"flow{number}", {"type": "object"})


def a_large_schema(rig: Rig) -> None:
    rig.context().config.set_schema("flow", {"const": "x" * 200})


def a_schema_for_many(rig: Rig) -> None:
    many_entries(rig)
    rig.context().config.set_schema("flow", {"type": "string"})


@dataclass(frozen=True)
class Case:
    """What is done beyond a bound that was set to ``bound``, and what is raised; it names it."""

    bound: int
    beyond: Callable[[Rig], None]
    raised: type[EzGraphError] | tuple[type[EzGraphError], ...] = LimitError
    only_with_keys: bool = False
    besides: dict[str, Any] = field(default_factory=dict)


JOINING = (LimitError, DeadlineError)
"""Whoever is refused while joining asks again until the deadline, which names the bound then."""

SERVE = ServeGraph("run", "root", "i", ["127.0.0.1:1"])


def ask_in_session(rig: Rig, *commands: Command) -> None:
    client = rig.raw("server", kind="session")
    for number, command in enumerate(commands, 1):
        client.ask(command, number)


def many_graphs(rig: Rig) -> None:
    ask_in_session(rig, *[replace(SERVE, name=f"run{number}") for number in range(3)])


def many_endpoints(rig: Rig) -> None:
    ask_in_session(rig, replace(SERVE, endpoints=[f"127.0.0.1:{port}" for port in (1, 2, 3)]))


def many_nodes(rig: Rig) -> None:
    cards = [NodeCard(f"n{number}", [], 0, "m.Node") for number in range(3)]
    ask_in_session(rig, SERVE, *[AnnounceNodes("run", [each]) for each in cards])


def many_nodes_at_once(rig: Rig) -> None:
    cards = [NodeCard(f"n{number}", [], 0, "m.Node") for number in range(3)]
    ask_in_session(rig, SERVE, AnnounceNodes("run", cards))


def a_long_way(rig: Rig) -> None:
    card = NodeCard("n", ["a", "b", "c"], 3, "m.Node", "in words")
    ask_in_session(rig, SERVE, AnnounceNodes("run", [card]))


def store(rig: Rig, *commands: Command) -> None:
    """Ask all at once; be told of each."""
    client = rig.raw(f"storer of {type(commands[0]).__name__}")
    client.tell(*commands)
    heard = client.hear()
    for _ in commands:
        next(heard)


def freezes_at_once(rig: Rig) -> None:
    rig.context().register_metadata(rig_of(2_000))
    store(rig, *[Freeze("rig", f"tag{number}") for number in range(4)])


def restores_at_once(rig: Rig) -> None:
    store(rig, Freeze("rig", "now"))
    store(rig, *[Restore("rig", "now")] * 3)


def a_restore_of_much(rig: Rig) -> None:
    store(rig, Freeze("rig", "now"))
    for number in range(3):
        rig.service().connect("a", f"b{number}")
    store(rig, Restore("rig", "now", dry_run=False))


def many_partitions(rig: Rig) -> None:
    partitions = [Partition({"n": number}, Fingerprint.identity()) for number in range(3)]
    store(rig, WritePartitions(Artifact("raw"), partitions))


def a_large_piece(rig: Rig) -> None:
    piece = bytes(200)
    store(rig, StorePieces({content_hash(piece): piece}))


def a_graph_of_pieces(rig: Rig) -> None:
    values = {f"k{number}": chr(97 + number) * 70_000 for number in range(3)}
    graph = Graph("rig", config={"flow": values})
    row, pieces = cut(graph, Written(0.0, "me"))
    store(rig, StoreGraph("rig", graph.fingerprint, row, pieces))


REFUSED = {
    "max_frame_bytes": Case(100_000, a_large_frame),
    "max_leases": Case(2, a_third_client, JOINING),
    "max_leases_per_key": Case(2, a_third_client, JOINING, only_with_keys=True),
    "max_open_requests": Case(3, open_requests),
    "max_routed_requests": Case(2, routed_requests),
    "max_connections_per_key": Case(3, connections_of_a_key, only_with_keys=True),
    "max_subscriptions_per_connection": Case(7, watches),
    "max_watched_prefixes": Case(3, watches),
    "max_frames_per_message": Case(8, a_message_of_many_frames, FloodError),
    "max_waiting_commands": Case(8, a_message_of_many_frames, FloodError),
    "max_waiting_bytes": Case(5_000, a_message_of_many_bytes, FloodError),
    "max_waiting_commands_of_all": Case(8, a_message_of_many_frames, FloodError),
    "max_waiting_bytes_of_all": Case(5_000, a_message_of_many_bytes, FloodError),
    "max_snapshots": Case(1, half_read_snapshots_of_two, besides={"chunk_events": 1}),
    "max_snapshots_per_client": Case(1, half_read_snapshots, besides={"chunk_events": 1}),
    "max_waiting_reads": Case(3, reads_at_once),
    "max_waiting_reads_per_client": Case(3, reads_at_once),
    "max_edges_per_lease": Case(2, edges_of_a_session),
    "max_persistent_edges": Case(2, persistent_edges),
    "max_components_per_lease": Case(2, components_of_a_session),
    "max_units_per_lease": Case(2, units_of_a_process),
    "max_reason_characters": Case(100, a_long_reason),
    "max_config_operations": Case(2, many_entries),
    "max_config_key_bytes": Case(50, a_long_config_key),
    "max_config_value_bytes": Case(100, a_large_value),
    "max_config_depth": Case(3, a_deep_value),
    "max_config_entries": Case(2, many_entries),
    "max_config_entries_per_lease": Case(2, many_entries_of_a_session),
    "max_config_bytes": Case(120, many_entries),
    "max_config_schemas": Case(2, many_schemas),
    "max_config_schema_bytes": Case(100, a_large_schema),
    "max_config_judged": Case(2, a_schema_for_many),
    "max_partitions_per_command": Case(2, many_partitions),
    "max_graph_pieces": Case(2, a_graph_of_pieces),
    "max_piece_bytes": Case(100, a_large_piece),
    "max_pieces_waiting_bytes": Case(100, a_large_piece),
    "max_pieces_waiting_bytes_of_all": Case(100, a_large_piece),
    "max_restored_changes": Case(2, a_restore_of_much, RestoreRefusedError),
    "max_restores": Case(2, restores_at_once),
    "max_restores_per_client": Case(2, restores_at_once),
    "max_long_commands": Case(2, freezes_at_once),
    "max_long_commands_per_client": Case(2, freezes_at_once),
    "max_graphs_per_lease": Case(2, many_graphs),
    "max_announced_nodes_per_lease": Case(2, many_nodes),
    "max_announced_nodes_per_command": Case(2, many_nodes_at_once),
    "max_endpoints_per_graph": Case(2, many_endpoints),
    "max_path_labels": Case(2, a_long_way),
    "max_path_characters": Case(2, a_long_way),
    "max_summary_characters": Case(2, a_long_way),
}

SHAPING = {
    "high_water_mark": "events beyond it are dropped, and read again by whoever missed them",
    "inbox_messages": "how many messages are read in a pass; the others wait in their sockets",
    "commands_per_pass": "how many commands are decided in a pass; the others wait in their lines",
    "max_unread_messages": "beyond it the sender's own socket fills: it is read no more",
    "max_unread_replies": "replies beyond it are dropped, and given again when asked again",
    "max_connections": "closed as soon as it is there: before a handshake nothing can be said",
    "max_unsubscriptions": "cut off: on a socket for events nothing can be said",
    "chunk_events": "how much an answer has; the rest is asked for",
    "chunk_bytes": "how much an answer has; the rest is asked for",
    "snapshot_life_s": "a snapshot that is not read for so long is opened again",
    "ticket_life_s": "a ticket for a host of nodes that runs out is replaced by a new one",
    "min_ttl_s": "a shorter TTL is raised to it, and the welcome says so",
    "max_ttl_s": "a longer TTL is lowered to it, and the welcome says so",
    "guest_ttl_s": "how long a guest is remembered; it says HELLO again by itself",
}


def test_each_limit_refuses_by_name_or_only_shapes() -> None:
    known = [each.name for each in fields(Limits)]

    assert sorted([*REFUSED, *SHAPING]) == sorted(known)
    assert all(getattr(Limits(), name) > 0 for name in known)


@pytest.mark.parametrize("with_keys", [False, True], ids=["no keys", "keys"])
@pytest.mark.parametrize("name", REFUSED)
def test_beyond_a_bound_one_is_refused_and_told_which(
    name: str, with_keys: bool, tmp_path: Path
) -> None:
    case = REFUSED[name]
    if case.only_with_keys and not with_keys:
        pytest.skip("there is no key to count by")
    limits = replace(Limits(**case.besides), **{name: case.bound})
    with (
        rig(limits, tmp_path, with_keys=with_keys) as running,
        pytest.raises(case.raised, match=rf"\b{name}\b") as refused,
    ):
        case.beyond(running)
    assert "; " in str(refused.value)  # and what to do about it


# --- bounds at which nothing can be said ---


def test_a_connection_beyond_the_bound_is_closed_and_the_others_go_on(tmp_path: Path) -> None:
    with rig(Limits(max_connections=3), tmp_path, with_keys=False) as running:
        context = running.context()  # two: its own and its keep-alive's
        running.raw()

        with pytest.raises(DeadlineError):
            running.context(timeout=SHORT_S)

        assert context.connect("a", "b") == context.sync()


def test_whoever_subscribes_and_leaves_for_ever_is_cut_off_and_nobody_else(
    tmp_path: Path,
) -> None:
    with rig(Limits(max_unsubscriptions=50), tmp_path, with_keys=False) as running:
        context = running.context()
        stream = context.subscribe(("edge",), 0)
        with zmq.Context() as own, own.socket(zmq.XSUB) as xsub:
            xsub.set(zmq.LINGER, 0)
            monitor = xsub.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            xsub.connect(f"tcp://{running.address.host}:{running.address.port + 1}")
            for number in range(100):
                xsub.send(b"\1edge/%d/" % number)
                xsub.send(b"\0edge/%d/" % number)
            was_cut_off = monitor.poll(int(TIMEOUT_S * 1000))
            xsub.disable_monitor()
            monitor.close(linger=0)

        context.connect("a", "b")

        assert was_cut_off
        assert next(item for item in stream if isinstance(item, Event)).key == ("edge", "a", "b")


def test_replies_that_nobody_reads_are_dropped_and_given_again_when_asked(tmp_path: Path) -> None:
    with rig(Limits(max_unread_replies=2), tmp_path, with_keys=False) as running:
        context, client = running.context(), running.raw()
        for number in range(60):
            context.connect("a", f"{number} {'b' * 4_000}")  # the largest chunk there is
        client.tell(*[OpenSnapshot([])] * 200)

        for _ in range(200):  # by turns with those reads: they are all answered then
            context.status()
        heard = sum(1 for _ in client.hear_for(300))

        assert 0 < heard < 200
        assert isinstance(client.ask(OpenSnapshot([]), 200), SnapshotChunk)


@pytest.mark.parametrize(("asked", "given"), [(0.1, 0.5), (3.0, 3.0), (1e9, 3600.0)])
def test_a_ttl_outside_the_bounds_is_moved_to_them(
    asked: float, given: float, tmp_path: Path
) -> None:
    with rig(Limits(), tmp_path, with_keys=False) as running:
        with sync.GraphContext(running.address, ttl_s=asked) as context:
            (client,) = context.clients()

        assert client.ttl_s == given


def test_a_client_keeps_to_what_its_broker_takes_in_one_message(tmp_path: Path) -> None:
    with rig(Limits(max_frames_per_message=2), tmp_path, with_keys=False) as running:
        context = running.context()
        stream = [context.subscribe(("edge", f"{number}"), 0) for number in range(8)]

        assert context.connect("a", "b") == 2
        assert len(stream) == 8
