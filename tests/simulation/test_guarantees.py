"""One story per promise, on the simulated network: what goes wrong, and what must hold anyway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ezgraph.broker import retention
from ezgraph.client import watch as watching
from ezgraph.client.blocking import run
from ezgraph.client.resumption import Resumed, SessionExpired
from ezgraph.client.watch import Compacted, Phase, Progress
from ezgraph.config import Address, BrokerConfig, Limits, Retention
from ezgraph.errors import (
    BrokerUnreachableError,
    CyclicException,
    DeadlineError,
    DivergedError,
    JournalFailedError,
    SessionExpiredError,
    SessionTakenOverError,
    UnknownEdgeError,
)
from ezgraph.graph.context import GraphContext
from ezgraph.protocol.commands import (
    Command,
    Connect,
    Disconnect,
    Goodbye,
    RegisterMetadata,
    ReportSettings,
    Revert,
    SetPause,
    Sync,
    UpdateUnits,
)
from ezgraph.protocol.events import Event, SessionClosed, SettingsChanged
from ezgraph.protocol.metadata import DynamicSettingsMetadata, GraphMetadata, UnitMetadata
from ezgraph.protocol.replies import Done
from ezgraph.protocol.settings import SettingsSnapshotValue
from ezgraph.testing import FlakyMemory, Network, SimulatedBroker, SimulatedClient
from ezgraph.testing.broker import ADDRESS
from ezgraph.testing.clock import HostClock
from ezgraph.testing.guarantees import check_calls, check_history, check_replica, check_watch
from ezgraph.testing.session import simulated_sessions

if TYPE_CHECKING:
    from ezgraph.state.graph import GraphState
    from ezgraph.testing import Call, WatchRecord

TTL_S = 2.0
AT_ONCE_S = 0.1


class Rig:
    """A broker, and clients that have joined it."""

    def __init__(self, seed: int = 0, config: BrokerConfig | None = None) -> None:
        self.network = Network(seed)
        self.broker = SimulatedBroker(self.network, config or BrokerConfig(ttl_s=TTL_S))
        self.clients: list[SimulatedClient] = []

    def client(self, kind: str = "session", **options: Any) -> SimulatedClient:
        client = self.coming(kind, **options)
        assert self.network.run_until(lambda: bool(client.lease_id), 1.0)
        return client

    def coming(self, kind: str = "session", **options: Any) -> SimulatedClient:
        """A client that has said HELLO and no more."""
        name = f"{kind} {len(self.clients)}"
        client = SimulatedClient(self.network, name, kind=kind, high_water_mark=100_000, **options)
        self.clients.append(client.start())
        return client

    @property
    def state(self) -> GraphState:
        """The broker's."""
        assert self.broker.engine is not None
        return self.broker.engine.state

    def watching(
        self, client: SimulatedClient, *prefix: str, after: int | None = None
    ) -> WatchRecord:
        record = client.watch(prefix, after)
        assert self.network.run_until(lambda: record.watch.phase is Phase.LIVE, 1.0)
        return record

    def done(self, call: Call) -> int:
        self.network.run_until(lambda: call.ended is not None, 20.0)
        assert isinstance(call.result, Done), call
        return call.result.seq

    def check(self) -> None:
        history = self.broker.history()
        check_history(history)
        for client in self.clients:
            check_calls(history, client)
            check_replica(history, client.fingerprints)
            for record in client.watches:
                check_watch(history, record)


def components(*addresses: str) -> RegisterMetadata:
    return RegisterMetadata(
        GraphMetadata(
            components={
                address: UnitMetadata(
                    address, address, "lab.Unit", "lab.Settings", (None, {"gain": 1}),
                    DynamicSettingsMetadata(enabled=False),
                )
                for address in addresses
            }
        )
    )


def seqs(record: WatchRecord) -> list[int]:
    return [item.seq for item in record.items if isinstance(item, Event)]


def open_context(rig: Rig, **options: Any) -> GraphContext:
    """A context on the rig's network."""
    context = GraphContext(
        str(ADDRESS), session_factory=simulated_sessions(rig.network), ttl_s=TTL_S, **options
    )
    run(context.open())
    return context


def client_of(context: GraphContext) -> SimulatedClient:
    return context._session.client  # type: ignore[union-attr, no-any-return]


@pytest.fixture
def rig() -> Rig:
    return Rig()


# --- G1, G2: ordered, once, complete ---


@pytest.mark.parametrize("prefix", [(), ("edge",), ("edge", "a"), ("edge", "a", "b3")])
def test_g2_a_lost_tail_is_found_within_a_second(rig: Rig, prefix: tuple[str, ...]) -> None:
    client = rig.client()
    record = rig.watching(client, *prefix)
    for n in range(1_000):
        rig.broker.engine.take_subscription(b"\x01\0other%d/\0" % n, now=rig.network.now)  # type: ignore[union-attr]
    client.events.drop_for(0.05)

    seq = rig.done(client.call(Connect("a", "b3")))
    assert seq not in seqs(record)

    assert rig.network.run_until(lambda: seq in seqs(record), 1.0)
    rig.check()


@pytest.mark.parametrize("seed", range(20))
def test_g1_g2_a_watcher_whose_connection_breaks_again_and_again_has_everything_in_order(
    seed: int,
) -> None:
    rig = Rig(seed)
    client, other = rig.client(), rig.client()
    records = [rig.watching(client, *prefix) for prefix in [(), ("edge",), ("edge", "a")]]

    for n in range(40):
        other.call(Connect("a", f"b{n}"))
        if n % 5 == 2:
            client.events.cut()
        if n % 9 == 4:
            client.events.drop_for(0.02)
        rig.network.run(rig.network.random.uniform(0.0, 0.1))
    rig.network.run(2.0)

    assert [len(seqs(record)) for record in records] == [40, 40, 40]
    rig.check()


def test_g2_a_lost_subscription_is_made_again(rig: Rig) -> None:
    client, other = rig.client(), rig.client()
    client.events.lose_subscriptions_for(1.2)

    record = client.watch(("edge",))
    rig.network.run(0.1)
    first = rig.done(other.call(Connect("a", "b")))
    rig.network.run(2.0)

    assert record.watch.phase is Phase.LIVE
    second = rig.done(other.call(Connect("b", "c")))
    rig.network.run(1.0)
    assert seqs(record) == [first, second]
    rig.check()


def test_g2_a_reconnect_that_loses_its_subscriptions_is_noticed(rig: Rig) -> None:
    client, other = rig.client(), rig.client()
    records = [rig.watching(client, *prefix) for prefix in [(), ("edge",), ("edge", "a")]]
    client.events.lose_subscriptions_for(1.0)
    client.events.cut()
    rig.network.run(1.5)

    seq = rig.done(other.call(Connect("a", "b")))
    rig.network.run(10.0)

    assert [seq in seqs(record) for record in records] == [True] * 3
    rig.check()


def test_g2_a_slow_consumer_gets_everything_when_it_finds_the_time(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "BUFFER_EVENTS", 10)
    monkeypatch.setattr(watching, "STASH_EVENTS", 10)
    slow, other = rig.client(), rig.client()
    record = rig.watching(slow, "edge", after=0)
    record.reading = False

    for n in range(200):
        rig.done(other.call(Connect("a", f"b{n}")))
    assert len(record.watch.ready) < 50
    while record.watch.position < rig.broker.seq or record.watch.ready:
        slow.read(record)
        record.reading = False
        rig.network.run(0.05)
    slow.read(record)

    assert len(seqs(record)) == 200
    rig.check()


def test_g2_below_the_floor_a_watcher_is_told_and_goes_on_from_a_snapshot(rig: Rig) -> None:
    client = rig.client()
    for n in range(10):
        rig.done(client.call(Connect("a", f"b{n}")))
    rig.broker.compact()
    after = rig.done(client.call(Connect("a", "c")))

    record = rig.watching(client, "edge", after=3)
    seq = rig.done(client.call(Connect("a", "d")))
    rig.network.run(1.0)

    (compacted,) = [item for item in record.items if isinstance(item, Compacted)]
    assert compacted.floor == after
    assert compacted.snapshot.seq == after
    assert len(compacted.snapshot.dag.edge_owners) == 11
    assert seqs(record) == [seq]
    rig.check()


def test_g2_a_watcher_goes_on_after_a_broker_restart_as_if_nothing_had_been(rig: Rig) -> None:
    client, other = rig.client(), rig.client()
    record = rig.watching(client, "edge")
    first = rig.done(other.call(Connect("a", "b")))

    rig.broker.crash()
    rig.broker.restart_after(0.3)
    second = rig.done(other.call(Connect("b", "c")))
    rig.network.run(1.0)

    assert seqs(record) == [first, second]
    rig.check()


def test_g2_progress_is_told_to_who_watches_what_nobody_writes(rig: Rig) -> None:
    client = rig.client()
    record = rig.watching(client, "nobody", "writes")

    seq = rig.done(client.call(Connect("a", "b")))
    rig.network.run(6.0)

    assert record.items[-1] == Progress(seq)


# --- G3: atomic ---


@pytest.mark.parametrize("lost", range(8))
def test_g3_a_transaction_with_a_lost_part_arrives_whole_or_not_yet(rig: Rig, lost: int) -> None:
    client = rig.client()
    records = [rig.watching(client, *prefix) for prefix in [(), ("settings",), ("component",)]]
    carry, count = client.events.carry_publication, iter(range(1_000))

    def drop_one(pipe: object, message: list[bytes]) -> None:
        if next(count) != lost:
            carry(pipe, message)  # type: ignore[arg-type]

    client.events.carry_publication = drop_one  # type: ignore[method-assign, assignment]
    rig.done(client.call(components("SYS/A", "SYS/B", "SYS/C")))
    rig.network.run(1.0)

    assert [len(seqs(record)) for record in records] == [7, 3, 3]
    rig.check()


# --- G4, G5: durable, once ---


@pytest.mark.parametrize("point", ["decided", "stored", "answering", "answered"])
@pytest.mark.parametrize("kind", ["session", "guest"])
def test_g4_g5_a_call_in_flight_when_the_broker_dies_takes_effect_once(
    rig: Rig, point: str, kind: str
) -> None:
    client = rig.client(kind)
    rig.done(client.call(Connect("a", "b")))
    rig.broker.crash_at = point  # type: ignore[assignment]
    rig.broker.restart_after(0.5)

    call = client.call(Disconnect("a", "b"))
    rig.done(call)
    rig.broker.start()

    state = rig.broker.engine.state  # type: ignore[union-attr]
    assert not state.dag.edge_owners
    assert rig.broker.crashes == 1
    rig.check()


@pytest.mark.parametrize("fails", ["before", "after"])
def test_g4_a_failed_append_answers_nobody_and_ends_the_broker(rig: Rig, fails: str) -> None:
    client = rig.client()
    record = rig.watching(client)
    rig.broker.disk.fails = fails  # type: ignore[assignment]

    call = client.call(Connect("a", "b"))
    rig.network.run(0.4)
    assert call.ended is None
    assert rig.broker.engine is None
    assert seqs(record) == []

    rig.network.run(0.4)
    assert isinstance(call.result, JournalFailedError)
    rig.network.run(1.0)
    rig.broker.start()
    rig.done(client.call(Connect("a", "b")))
    rig.network.run(1.0)
    assert len(seqs(record)) == 1
    rig.check()


def test_g4_whoever_asks_again_after_the_broker_is_back_hears_nothing_of_the_failure(
    rig: Rig,
) -> None:
    client = rig.client()
    rig.broker.disk.fails = "after"

    call = client.call(Connect("a", "b"))
    rig.network.run(0.1)
    rig.broker.start()
    rig.done(call)

    assert rig.broker.engine.state.dag.owners("a", "b") == {client.lease_id}  # type: ignore[union-attr]
    rig.check()


def test_g2_a_watcher_outlives_a_broker_whose_journal_failed(rig: Rig) -> None:
    client, other = rig.client(), rig.client()
    early = rig.watching(client, "edge")
    rig.broker.disk.fails = "before"
    other.call(Connect("a", "b"))
    rig.network.run(0.1)

    late = client.watch(("edge",), 0)
    rig.network.run(1.0)
    rig.broker.start()
    seq = rig.done(other.call(Connect("b", "c")))
    rig.network.run(3.0)

    assert early.watch.error is late.watch.error is None
    assert seqs(early) == seqs(late) == [seq]
    rig.check()


def test_g4_of_a_torn_group_commit_what_is_found_again_counts_and_the_rest_is_asked_again() -> None:
    torn = 0
    for seed in range(20):
        rig = Rig(seed)
        clients = [rig.client() for _ in range(5)]
        rig.broker.stall(0.05)
        calls = [each.call(Connect("a", f"b{n}")) for n, each in enumerate(clients)]
        rig.broker.disk.fails = "torn"
        rig.network.run(0.1)
        assert rig.broker.engine is None

        rig.broker.start()
        seen = {rig.done(call) for call in calls}

        assert len(seen) == len(rig.state.dag.edge_owners) == 5
        torn += rig.broker.disk.torn  # type: ignore[attr-defined]
        rig.check()
    assert torn


def test_g4_nobody_is_answered_before_a_slow_disk_has_it(rig: Rig) -> None:
    client, other = rig.client(), rig.client()
    record = rig.watching(other)
    rig.broker.disk.append_s = 0.3
    started = rig.network.now

    call = client.call(Connect("a", "b"))
    rig.network.run(0.25)
    assert call.ended is None
    assert not seqs(record)

    seq = rig.done(call)
    assert rig.network.now - started > 0.3
    rig.network.run(0.1)
    assert seqs(record) == [seq]
    rig.check()


def test_g4_after_a_failed_append_the_engine_hands_out_nothing(rig: Rig) -> None:
    client = rig.client()
    rig.network.run(0.5)  # its keep-alive has its own connection by now
    engine = rig.broker.engine
    assert engine is not None
    rig.broker.disk.fails = "before"
    port = rig.broker._port
    assert port is not None
    client.call(Connect("a", "b"))
    assert rig.network.run_until(lambda: bool(port.requests), 1.0)
    for arrival in port.requests:
        for frame in arrival.message:
            engine.take_command(arrival.peer, frame, now=rig.network.now, wall=0.0)

    with pytest.raises(JournalFailedError):
        engine.finish_pass(now=rig.network.now, wall=0.0)

    assert engine.replies() == []


def test_g5_a_repeated_request_is_answered_from_what_it_did(rig: Rig) -> None:
    client, other = rig.client(), rig.client()
    rig.broker.stall(1.8)

    refused = client.call(Disconnect("a", "b"))
    accepted = client.call(Connect("a", "b"))
    rig.network.run(3.0)

    assert isinstance(refused.result, UnknownEdgeError)
    assert isinstance(accepted.result, Done)
    assert rig.broker.engine.state.dag.owners("a", "b") == {client.lease_id}  # type: ignore[union-attr]
    del other
    rig.check()


@pytest.mark.parametrize("seed", range(30))
def test_g5_retries_across_cuts_and_restarts_do_nothing_twice(seed: int) -> None:
    rig = Rig(seed)
    client, other = rig.client(), rig.client("guest")

    for n in range(20):
        client.call(Connect("a", f"b{n % 4}"))
        client.call(Revert())
        other.call(SetPause(n % 2 == 0))
        if n % 6 == 3:
            rig.broker.crash_at = rig.network.random.choice(["stored", "answering"])
            rig.broker.restart_after(0.2)
        if n % 5 == 1:
            client.commands.cut()
        if n % 7 == 2:
            rig.broker.stall(0.6)
        rig.network.run(rig.network.random.uniform(0.0, 0.3))
        rig.broker.start()
    rig.network.run(12.0)

    assert all(call.ended is not None for call in client.calls)
    rig.check()


def test_g5_requests_that_arrive_twice_are_executed_once(rig: Rig) -> None:
    client = rig.client()
    client.commands.repeat_for(2.0)

    for _ in range(10):
        rig.done(client.call(Connect("a", "b")))
        rig.done(client.call(Disconnect("a", "b")))
    rig.network.run(2.0)

    assert client.commands.duplicated > 10
    rig.check()


def test_g5_a_successor_may_ask_although_its_predecessor_had_asked_more_than_it_changed(
    rig: Rig,
) -> None:
    client = rig.client()
    rig.done(client.call(Connect("a", "b")))
    for _ in range(5):
        rig.done(client.call(Sync()))
    client.crash()

    successor = rig.client(resume=client.resume_token)
    record = rig.watching(successor, "edge", after=0)
    rig.done(successor.call(Connect("b", "c")))
    rig.network.run(1.0)

    assert successor.lease_id == client.lease_id
    assert rig.state.dag.owners("a", "b") == {client.lease_id}
    assert len(seqs(record)) == 2
    rig.check()


# --- G6: read your writes ---


@pytest.mark.parametrize("seed", range(10))
def test_g6_a_call_returns_when_the_replica_has_what_it_did(seed: int) -> None:
    rig = Rig(seed)
    sessions = simulated_sessions(rig.network)
    context = GraphContext(str(ADDRESS), session_factory=sessions, replica=True)
    run(context.open())
    client = context._session.client  # type: ignore[union-attr]

    for n in range(10):
        if n % 3 == 0:
            client.events.drop_for(rig.network.random.uniform(0.0, 0.02))
        seq = run(context.connect("a", f"b{n}"))
        assert context.replica.seq >= seq
        assert f"b{n}" in context.replica.state.dag.graph["a"]
    run(context.disconnect("a", "b0"))
    assert "b0" not in context.replica.state.dag.graph["a"]
    run(context.close())


# --- G7: ownership ---


def test_g7_what_a_session_owns_ends_with_it_within_fifty_milliseconds_of_a_close(rig: Rig) -> None:
    client, other = rig.client(), rig.client()
    record = rig.watching(other)
    rig.done(client.call(Connect("a", "b")))
    rig.done(client.call(components("SYS/A")))
    closed = rig.network.now

    client.close()
    rig.network.run(0.05)

    bodies = [item.body for item in record.items if isinstance(item, Event)]
    ended = [item for item in record.items if isinstance(item, Event) and item.mono_time >= closed]
    assert isinstance(bodies[-1], SessionClosed)
    assert {event.txn_last for event in ended} == {ended[-1].seq}
    assert [type(event.body).__name__ for event in ended] == [
        "EdgeDisconnected", "ComponentRemoved", "SettingsChanged", "GraphRemoved", "SessionClosed",
    ]
    removal = ended[2].body
    assert isinstance(removal, SettingsChanged)
    assert removal.value.repr_value == {"gain": 1}
    rig.check()


def test_g7_what_a_silent_session_owns_ends_at_its_ttl_and_not_before(rig: Rig) -> None:
    client = rig.client()
    rig.done(client.call(Connect("a", "b")))
    rig.network.run(5.0)
    state = rig.broker.engine.state  # type: ignore[union-attr]
    assert state.dag.owners("a", "b")

    client.stall(10.0)
    rig.network.run(TTL_S / 2)
    assert state.dag.owners("a", "b")
    rig.network.run(TTL_S / 2 + 0.5)

    assert not state.dag.owners("a", "b")
    assert not state.sessions
    rig.check()


def test_g7_what_a_crashed_session_owns_ends_within_a_second(rig: Rig) -> None:
    client = rig.client()
    rig.done(client.call(Connect("a", "b")))
    rig.network.run(5.0)
    state = rig.broker.engine.state  # type: ignore[union-attr]

    client.crash()
    rig.network.run(0.5)
    assert state.dag.owners("a", "b")
    rig.network.run(0.5)

    assert not state.dag.owners("a", "b")
    assert not state.sessions
    rig.check()


def test_g7_who_crashes_before_its_hello_is_read_is_gone_within_a_second(rig: Rig) -> None:
    rig.broker.stall(0.5)
    client = rig.coming()
    rig.network.run(0.1)
    client.crash()
    rig.network.run(0.41)
    assert len(rig.state.sessions) == 1

    rig.network.run(1.0)

    assert not rig.state.sessions
    rig.check()


@pytest.mark.parametrize("seed", range(20))
def test_g7_a_session_whose_every_connection_breaks_for_a_moment_lives_on(seed: int) -> None:
    rig = Rig(seed)
    client = rig.client()
    rig.done(client.call(Connect("a", "b")))
    rig.network.run(rig.network.random.uniform(0.0, 3.0))

    for _ in range(3):
        client.commands.cut()
        client.keepalive.link.cut()  # type: ignore[union-attr]
        client.events.cut()
        rig.network.run(1.5)

    assert rig.broker.engine.state.dag.owners("a", "b") == {client.lease_id}  # type: ignore[union-attr]
    rig.done(client.call(Disconnect("a", "b")))
    rig.check()


@pytest.mark.parametrize("pause_s", [2.0, 100.0])
def test_a_guest_owns_nothing_so_it_may_come_back_whenever_it_likes(
    rig: Rig, pause_s: float
) -> None:
    guest = rig.client("guest")
    record = rig.watching(guest, "edge")
    first = rig.done(guest.call(Connect("a", "b")))

    guest.commands.cut()
    guest.events.cut()
    rig.network.run(pause_s)
    second = rig.done(guest.call(Connect("a", "c")))
    rig.network.run(1.0)

    assert seqs(record) == [first, second]
    rig.check()


def test_g7_nobody_ends_for_heartbeats_that_wait_unread() -> None:
    limits = Limits(commands_per_pass=1)
    rig = Rig(config=BrokerConfig(ttl_s=TTL_S, limits=limits))
    clients = [rig.client() for _ in range(10)]

    rig.broker.stall(TTL_S + 1.0)
    rig.network.run(2 * TTL_S)

    assert [client.lost for client in clients] == [None] * 10
    rig.check()


def test_g7_who_comes_back_too_late_is_told(rig: Rig) -> None:
    client = rig.client()
    record = rig.watching(client)
    client.stall(5.0)
    rig.network.run(6.0)

    call = client.call(Connect("a", "b"))
    rig.network.run(1.0)

    assert isinstance(call.result, SessionExpiredError)
    assert isinstance(record.watch.error, SessionExpiredError)


def test_g7_a_restarted_broker_gives_every_session_one_fresh_ttl(rig: Rig) -> None:
    alive, dead = rig.client(), rig.client()
    rig.done(alive.call(Connect("a", "b")))
    rig.done(dead.call(Connect("c", "d")))

    dead.crash()
    rig.broker.crash()
    rig.network.run(4 * TTL_S)
    rig.broker.start()
    rig.network.run(TTL_S - 0.1)
    state = rig.broker.engine.state  # type: ignore[union-attr]
    assert set(state.sessions) == {alive.lease_id, dead.lease_id}
    rig.network.run(0.6)

    assert set(state.sessions) == {alive.lease_id}
    assert set(state.dag.edge_owners) == {("a", "b")}
    rig.check()


def test_g7_a_pulled_cable_costs_nothing_if_it_is_back_in_time(rig: Rig) -> None:
    client, other = rig.client(), rig.client()
    record = rig.watching(client, "edge")
    rig.done(client.call(Connect("a", "b")))

    client.pull_cable(TTL_S / 2)
    seq = rig.done(other.call(Connect("b", "c")))
    rig.network.run(TTL_S / 2 + 1.0)

    assert client.lost is None
    assert rig.state.dag.owners("a", "b") == {client.lease_id}
    assert seqs(record)[-1] == seq
    rig.done(client.call(Disconnect("a", "b")))
    rig.check()


@pytest.mark.parametrize("direction", ["up", "both"])
def test_g7_a_cable_pulled_for_longer_ends_the_lease_and_its_client_is_told_what_it_lost(
    rig: Rig, direction: Any
) -> None:
    context = open_context(rig, replica=True)
    run(context.connect("a", "b"))
    run(context.register_metadata(components("SYS/A").metadata))
    before = context.session_id
    pulled = rig.network.now

    client_of(context).pull_cable(2 * TTL_S, direction)
    assert rig.network.run_until(lambda: not rig.state.sessions, 2 * TTL_S)
    assert rig.network.now - pulled < TTL_S + 0.5
    rig.network.run(2 * TTL_S)
    with pytest.raises(SessionExpiredError, match="a -> b") as told:
        run(context.connect("c", "d"))
    run(context.redeclare())

    lost = told.value.lost
    assert [(edge.from_topic, edge.to_topic) for edge in lost.edges] == [("a", "b")]
    assert lost.components == ["SYS/A"]
    assert context.session_id != before
    assert rig.state.dag.owners("a", "b") == {context.session_id}
    assert set(rig.state.components) == {"SYS/A"}
    run(context.replica.reach(rig.state.seq))
    assert context.replica.fingerprint() == rig.state.fingerprint()
    run(context.close())


@pytest.mark.parametrize("direction", ["up", "down", "both"])
@pytest.mark.parametrize("which", ["commands", "events"])
def test_g7_a_connection_that_is_dead_without_a_sign_costs_no_lease_while_the_keepalive_passes(
    rig: Rig, which: str, direction: Any
) -> None:
    client = rig.client()
    rig.done(client.call(Connect("a", "b")))

    getattr(client, which).block(3 * TTL_S, direction)
    rig.network.run(3 * TTL_S)

    assert client.lost is None
    assert rig.state.dag.owners("a", "b") == {client.lease_id}
    rig.network.run(1.0)
    rig.done(client.call(Connect("b", "c")))
    rig.check()


def test_g7_a_keepalive_whose_connection_is_dead_without_a_sign_renews_on_another(
    rig: Rig,
) -> None:
    client = rig.client()
    rig.done(client.call(Connect("a", "b")))

    client.keepalive.link.block(10 * TTL_S, "up")  # type: ignore[union-attr]
    rig.network.run(5 * TTL_S)

    assert client.lost is None
    assert rig.state.dag.owners("a", "b") == {client.lease_id}
    rig.check()


@pytest.mark.parametrize(("here_s", "there_s"), [(0.2, 0.0), (0.0, 5.0), (0.5, 5.0)])
def test_g7_a_half_open_connection_costs_no_lease(
    rig: Rig, here_s: float, there_s: float
) -> None:
    client = rig.client()
    rig.done(client.call(Connect("a", "b")))
    rig.network.run(1.0)

    client.commands.cut(here_s=here_s, there_s=there_s)
    client.keepalive.link.cut(here_s=here_s, there_s=there_s)  # type: ignore[union-attr]
    rig.network.run(8.0)

    assert client.lost is None
    rig.done(client.call(Disconnect("a", "b")))
    rig.check()


@pytest.mark.parametrize("step_s", [-86_400.0, 86_400.0])
def test_g7_a_wall_clock_that_is_set_changes_neither_order_nor_leases(
    rig: Rig, step_s: float
) -> None:
    client, other = rig.client(), rig.client()
    record = rig.watching(other)
    rig.done(client.call(Connect("a", "b")))

    rig.network.clock.step_wall(step_s)
    rig.done(client.call(Connect("b", "c")))
    client.crash()
    rig.network.run(0.6)
    assert rig.state.dag.owners("a", "b")
    rig.network.run(0.5)

    events = [item for item in record.items if isinstance(item, Event)]
    assert not rig.state.dag.edge_owners
    assert other.lost is None
    stamps = [event.wall_time for event in events]
    assert (stamps[1] < stamps[0]) is (step_s < 0)
    assert [event.mono_time for event in events] == sorted(event.mono_time for event in events)
    rig.check()


@pytest.mark.parametrize("rate", [0.8, 1.25])
def test_g7_a_client_whose_clock_runs_fast_or_slow_keeps_its_lease(rig: Rig, rate: float) -> None:
    client = rig.client(clock=HostClock(rig.network.clock, rate=rate, offset_s=1e6))
    rig.done(client.call(Connect("a", "b")))

    rig.network.run(20 * TTL_S)

    assert client.lost is None
    rig.check()


def test_g7_a_herd_that_comes_back_at_once_is_admitted_and_nobody_expires() -> None:
    rig = Rig()
    herd = [rig.coming() for _ in range(500)]
    assert rig.network.run_until(lambda: all(each.lease_id for each in herd), 5.0)
    for n, client in enumerate(herd):
        client.call(Connect("a", f"b{n}"))
    rig.network.run(1.0)

    rig.broker.crash()
    rig.broker.restart_after(0.5)
    calls = [client.call(Sync()) for client in herd]
    rig.network.run(3 * TTL_S)

    assert [client.lost for client in herd] == [None] * 500
    assert all(isinstance(call.result, Done) for call in calls)
    assert len(rig.state.dag.edge_owners) == len(rig.state.sessions) == 500


@pytest.mark.parametrize("seed", range(10))
def test_g7_descriptors_given_out_again_at_once_end_no_living_session(seed: int) -> None:
    """Half the clients die while the others reconnect, so that these get the dead ones' numbers."""
    rig = Rig(seed)
    living, dying = [rig.client() for _ in range(6)], [rig.client() for _ in range(6)]
    random = rig.network.random

    for client in dying:
        rig.broker.stall(random.uniform(0.0, 0.3))
        rig.network.after(random.uniform(0.0, 0.1), client.crash)
        for each in random.sample(living, 3):
            for link in (each.commands, each.keepalive.link):  # type: ignore[union-attr]
                rig.network.after(random.uniform(0.0, 0.2), link.cut)
        rig.network.run(1.5)

    assert [client.lost for client in living] == [None] * 6
    assert set(rig.state.sessions) == {client.lease_id for client in living}
    rig.check()


# --- resuming, taking over, moving ---


def test_a_successor_with_the_token_goes_on_with_everything(rig: Rig) -> None:
    client = rig.client("process")
    rig.done(client.call(UpdateUnits(["SYS/A"], [])))
    client.crash()

    successor = rig.client("process", resume=client.resume_token)
    rig.done(successor.call(UpdateUnits(["SYS/A", "SYS/B"], [])))
    rig.network.run(2 * TTL_S)

    assert successor.lease_id == client.lease_id
    assert set(rig.state.unit_owner) == {"SYS/A", "SYS/B"}
    assert isinstance(successor.engine.core.resumption, Resumed)
    rig.check()


def test_a_program_that_was_stopped_and_goes_on_cannot_act_beside_its_successor(rig: Rig) -> None:
    client = rig.client()
    rig.done(client.call(Connect("a", "b")))
    client.stall(1.0)
    doubtful = client.call(Disconnect("a", "b"))

    successor = rig.client(resume=client.resume_token)
    rig.network.run(3.0)

    assert isinstance(client.lost, SessionTakenOverError)
    assert doubtful.ended is not None
    late = client.call(Disconnect("a", "b"))
    assert isinstance(late.result, SessionTakenOverError)
    rig.done(successor.call(Sync()))


def test_a_successor_that_comes_too_late_and_asks_twice_gets_a_lease_of_its_own(rig: Rig) -> None:
    client = rig.client()
    rig.done(client.call(Connect("a", "b")))
    client.crash()
    rig.network.run(2.0)
    rig.broker.stall(1.0)

    successor = rig.coming(resume=client.resume_token)
    rig.network.run(3.0)

    assert successor.lost is None
    assert successor.lease_id not in ("", client.lease_id)
    assert isinstance(successor.engine.core.resumption, SessionExpired)
    rig.done(successor.call(Connect("a", "b")))
    rig.check()


@pytest.mark.parametrize("seed", range(5))
def test_a_hello_whose_welcome_is_lost_for_long_still_gets_a_lease(seed: int) -> None:
    rig = Rig(seed)
    client = rig.coming()
    assert rig.network.run_until(lambda: bool(rig.state.sessions), 1.0)
    client.commands.cut()
    client.commands.block(1.5)
    rig.network.run(1.5)
    assert not client.lease_id
    assert rig.network.run_until(lambda: not rig.state.sessions, 1.0)

    rig.network.run(5.0)

    assert client.lost is None
    rig.done(client.call(Connect("a", "b")))
    rig.check()


def test_a_take_over_whose_welcome_is_lost_for_long_ends_in_a_lease_of_its_own(rig: Rig) -> None:
    client = rig.client()
    rig.done(client.call(Connect("a", "b")))
    client.crash()
    before = rig.state.sessions[client.lease_id].holder
    successor = rig.coming(resume=client.resume_token)
    taken = rig.network.run_until(
        lambda: rig.state.sessions[client.lease_id].holder != before, 0.5
    )
    assert taken
    successor.commands.cut()
    successor.commands.block(1.5)
    rig.network.run(1.5)
    assert not successor.lease_id
    assert not rig.state.sessions

    rig.network.run(5.0)

    assert successor.lost is None
    rig.done(successor.call(Connect("a", "b")))
    assert successor.lease_id != client.lease_id


def test_clients_follow_a_broker_to_its_second_address_and_back() -> None:
    rig = Rig(config=BrokerConfig(ttl_s=6.0))
    both = [ADDRESS, Address("other", 1)]
    clients = [rig.client(kind, addresses=both) for kind in ("session", "process", "session")]
    idle, _, follower = clients
    rig.done(idle.call(Connect("a", "b")))
    record = rig.watching(follower, "edge", after=0)
    replica = follower.follow()

    for where in (both[1], both[0]):
        rig.broker.crash()
        rig.broker.address = where
        rig.broker.restart_after(0.5)
        rig.network.run(12.0)
        assert [client.lost for client in clients] == [None] * 3
        rig.done(follower.call(Connect("x", where.host)))

    rig.network.run(1.0)
    assert rig.state.dag.owners("a", "b") == {idle.lease_id}
    assert len(seqs(record)) == 3
    assert replica.fingerprint() == rig.state.fingerprint()
    rig.check()


@pytest.mark.parametrize("stalled_s", [0.3, 0.76, 0.77, 0.78, 0.9, 2.0])
def test_a_knock_that_a_stalled_broker_reads_too_late_costs_no_lease(stalled_s: float) -> None:
    rig = Rig(config=BrokerConfig(ttl_s=6.0))
    both = [ADDRESS, Address("other", 1)]
    client = rig.client(addresses=both)
    rig.done(client.call(Connect("a", "b")))
    rig.network.run(1.0)

    rig.broker.crash()
    rig.broker.address = both[1]
    rig.broker.start()
    port = rig.broker._port
    assert port is not None
    assert rig.network.run_until(lambda: bool(port.monitor), 6.0)
    rig.broker.stall(stalled_s)
    rig.network.run(10.0)

    assert client.lost is None
    assert rig.state.dag.owners("a", "b") == {client.lease_id}
    rig.check()


def test_watchers_and_replicas_that_lag_behind_retention_are_told_and_go_on(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "MIN_EVENTS_BETWEEN_CHECKPOINTS", 5)
    keep = Retention(events=10, max_pinned_events=5)
    rig = Rig(config=BrokerConfig(ttl_s=TTL_S, retention=keep))
    client, other = rig.client(), rig.client()
    record, replica = rig.watching(client, "edge"), client.follow()
    rig.network.run(0.5)

    client.events.drop_for(3.0)
    client.commands.block(3.0)
    for n in range(100):
        rig.done(other.call(Connect("a", f"b{n}")))
    rig.network.run(6.0)

    compacted = [item for item in record.items if isinstance(item, Compacted)]
    assert compacted
    assert not compacted[-1].diverged
    assert any(event.kind == "HistoryCompacted" for event in rig.broker.history().events)
    assert replica.seq == rig.state.seq
    assert replica.fingerprint() == rig.state.fingerprint()
    rig.check()


# --- a backup put back ---


def restored(rig: Rig, backup: object) -> None:
    disk = rig.broker.disk
    assert isinstance(disk, FlakyMemory)
    rig.broker.restore(disk, backup)
    rig.broker.start()


def backed_up(rig: Rig) -> object:
    disk = rig.broker.disk
    assert isinstance(disk, FlakyMemory)
    return disk.backup()


def test_after_a_restore_watchers_and_replicas_are_told_and_go_on_from_a_snapshot(
    rig: Rig,
) -> None:
    guest, other = rig.client("guest"), rig.client()
    record, replica = rig.watching(guest, "edge"), guest.follow()
    kept = rig.done(guest.call(Connect("a", "b")))
    backup = backed_up(rig)
    lost = rig.done(guest.call(Connect("b", "c")))
    rig.done(other.call(Connect("x", "y")))
    rig.network.run(1.0)

    restored(rig, backup)
    new = rig.done(guest.call(Connect("b", "d")))
    refused = other.call(Connect("x", "z"))
    rig.network.run(5.0)

    assert seqs(record)[:2] == [kept, lost]
    assert new > 1_000_000_000_000_000
    told = [item for item in record.items if isinstance(item, Compacted)]
    assert [item.diverged for item in told] == [True]
    assert set(told[0].snapshot.dag.edge_owners) >= {("a", "b")}
    assert set(rig.state.dag.edge_owners) == {("a", "b"), ("b", "d")}
    assert replica.fingerprint() == rig.state.fingerprint()
    assert isinstance(refused.result, DivergedError)


def test_after_a_restore_what_diverged_is_declared_again_in_one_call(rig: Rig) -> None:
    context = open_context(rig)
    run(context.connect("a", "b"))
    backup = backed_up(rig)
    run(context.connect("b", "c"))

    restored(rig, backup)
    with pytest.raises(DivergedError):
        run(context.connect("c", "d"))
    run(context.redeclare())

    assert {*rig.state.dag.edge_owners} == {("a", "b"), ("b", "c")}
    assert len(rig.state.sessions) == 1
    rig.network.run(3 * TTL_S)
    assert {*rig.state.dag.edge_owners} == {("a", "b"), ("b", "c")}


def test_g6_a_replica_is_there_after_a_restore_before_anything_happened(rig: Rig) -> None:
    context = open_context(rig, replica=True)
    run(context.connect("a", "b"))
    backup = backed_up(rig)

    restored(rig, backup)
    started = rig.network.now
    run(context.sync())

    assert rig.network.now - started < 5.0
    assert context.replica.state.dag.owners("a", "b") == {context.session_id}


def test_a_broker_starts_on_a_restored_journal_that_had_been_compacted_whole(rig: Rig) -> None:
    client = rig.client("guest")
    rig.done(client.call(Connect("a", "b")))
    rig.broker.compact()
    backup = backed_up(rig)

    restored(rig, backup)
    rig.network.run(1.0)
    rig.done(client.call(Connect("b", "c")))

    assert {*rig.state.dag.edge_owners} == {("a", "b"), ("b", "c")}
    rig.broker.crash()
    rig.broker.start()
    assert {*rig.state.dag.edge_owners} == {("a", "b"), ("b", "c")}


# --- G8: a refusal changes nothing ---


def test_g8_a_refusal_names_the_loop_and_leaves_state_and_journal_as_they_were(rig: Rig) -> None:
    client = rig.client()
    rig.done(client.call(Connect("a", "b")))
    rig.done(client.call(Connect("b", "c")))
    state = rig.broker.engine.state  # type: ignore[union-attr]
    before = (state.fingerprint(), rig.broker.seq)

    call = client.call(Connect("c", "a"))
    rig.network.run(1.0)

    assert isinstance(call.result, CyclicException)
    assert "a -> b -> c" in str(call.result)
    assert (state.fingerprint(), rig.broker.seq) == before
    rig.check()


# --- G9: nothing hangs ---


def test_g9_a_call_to_nobody_ends_at_its_deadline_and_names_the_address(rig: Rig) -> None:
    nowhere = Address("nowhere", 9)
    client = SimulatedClient(rig.network, "lost", addresses=[nowhere]).start()

    call = client.call(Connect("a", "b"), timeout=3.0)
    rig.network.run(10.0)

    assert isinstance(call.result, BrokerUnreachableError)
    assert call.ended == pytest.approx(3.0, abs=0.05)
    assert "nowhere:9" in str(call.result)
    assert "ezgraph serve" in str(call.result)


@pytest.mark.parametrize("point", ["decided", "stored"])
def test_g9_a_call_in_flight_when_the_broker_dies_for_good_ends_at_its_deadline(
    rig: Rig, point: str
) -> None:
    client = rig.client()
    rig.broker.crash_at = point  # type: ignore[assignment]

    started = rig.network.now
    call = client.call(Connect("a", "b"), timeout=4.0)
    rig.network.run(20.0)

    assert isinstance(call.result, DeadlineError)
    assert call.ended == pytest.approx(started + 4.0, abs=0.05)
    assert str(ADDRESS) in str(call.result)


def test_g9_a_watcher_of_a_broker_that_is_gone_for_good_ends_with_an_error(rig: Rig) -> None:
    client = rig.client()
    record = rig.watching(client)

    rig.broker.crash()
    rig.network.run(client.engine.patience_s + 1.0)

    assert isinstance(record.watch.error, BrokerUnreachableError)
    assert str(ADDRESS) in str(record.watch.error)


# --- G10: replica equals broker ---


@pytest.mark.parametrize("seed", range(20))
def test_g10_a_replica_equals_the_broker_at_every_seq_it_shows(seed: int) -> None:
    rig = Rig(seed)
    client, other = rig.client(), rig.client()
    client.follow()
    random = rig.network.random

    for n in range(30):
        register, pause = components("SYS/A", f"SYS/{n % 3}"), SetPause(n % 2 > 0)
        commands: list[Command] = [Connect("a", f"b{n}"), register, Revert(), pause]
        other.call(random.choice(commands))
        if n % 8 == 5:
            client.events.drop_for(0.1)
        rig.network.run(random.uniform(0.0, 0.1))
    other.call(Goodbye())
    rig.network.run(1.0)

    broker, (replica,) = rig.broker.engine, client.replicas
    assert broker is not None
    assert (replica.seq, replica.fingerprint()) == (broker.state.seq, broker.state.fingerprint())
    assert len(client.fingerprints) > 10
    rig.check()


def test_g10_a_replica_that_begins_late_has_values_of_processes_that_came_later(rig: Rig) -> None:
    session = rig.client()
    rig.done(session.call(components("SYS/A")))
    process = rig.client("process")
    rig.done(process.call(UpdateUnits(["SYS/A"], [])))
    rig.done(process.call(ReportSettings("SYS/A", SettingsSnapshotValue(None, {"gain": 2}))))

    replica = rig.client().follow()
    rig.network.run(1.0)

    broker = rig.broker.engine
    assert broker is not None
    assert replica.seq == broker.state.seq
    assert replica.fingerprint() == broker.state.fingerprint()
    assert replica.state.effective_settings()["SYS/A"].repr_value == {"gain": 2}
