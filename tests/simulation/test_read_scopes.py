"""Read scopes on the simulated network: each client has all of its part, and nothing beside it.

What a client of a partial scope was ever sent, in any frame, is compared with the events that its
role lets it read; connections are cut, publications lost, the broker killed, roles changed.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from ezgraph.client.blocking import run
from ezgraph.client.watch import Compacted, Phase, Progress
from ezgraph.config import BrokerConfig
from ezgraph.errors import ForbiddenError, PreconditionFailedError, SessionExpiredError
from ezgraph.graph.configuration.keys import ConfigKeys
from ezgraph.protocol.commands import (
    ChangeConfig,
    Connect,
    Disconnect,
    ListClients,
    ReadEvents,
    RegisterMetadata,
    ReportSettings,
    SetPause,
    UpdateUnits,
)
from ezgraph.protocol.config import ConfigDelete, ConfigPresent, ConfigPut
from ezgraph.protocol.events import ConfigValueSet, Event, Source, key_of
from ezgraph.protocol.metadata import DynamicSettingsMetadata, GraphMetadata, UnitMetadata
from ezgraph.protocol.patterns import parse_pattern
from ezgraph.protocol.replies import (
    ClientList,
    ConfigChanged,
    ConfigPage,
    Done,
    EventRange,
    SnapshotChunk,
)
from ezgraph.protocol.roles import OPERATOR, Access, Identity, ReadScope, Role, owner_of
from ezgraph.protocol.settings import SettingsSnapshotValue
from ezgraph.state.graph import GraphState
from ezgraph.testing import Network, SimulatedBroker, SimulatedClient, SimulatedSession
from ezgraph.wire import codec, frames

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ezgraph.graph.configuration.watch import ConfigWatch, ConfigWatchEvent
    from ezgraph.protocol.config import ConfigEntry
    from ezgraph.protocol.replies import Reply
    from ezgraph.testing import WatchRecord

TTL_S = 2.0
ADDRESSES = ("RIG_A/AMP", "RIG_A/FILTER", "RIG_AB/AMP", "DISPLAY")
TOPICS = ("RIG_A/OUT", "RIG_A/IN", "DISPLAY/IN", "REC")
READS = (
    ("settings/RIG_A/",),
    ("edge/RIG_A%2FOUT", "control/"),
    ("component/", "settings/DISPLAY", "session/"),
    ("edge/*/DISPLAY%2F*",),
    ("config/flow/a",),
    ("config/*/b", "session/"),
    ("/",),
    (),
)


def reader(name: str, *patterns: str) -> Identity:
    reads = tuple(map(parse_pattern, patterns))
    return Identity(name, f"key of {name}", Role(f"role of {name}", {"read": reads}))


def operator() -> Identity:
    return Identity("operator", "key of operator", OPERATOR)


class Lab:
    """A broker with keys, an operator's session and process, and readers."""

    def __init__(self, seed: int, *readers: Identity) -> None:
        self.network = Network(seed)
        self.random = Random(seed)
        self.identities = {each.name: each for each in (operator(), *readers)}
        self.broker = SimulatedBroker(
            self.network, BrokerConfig(ttl_s=TTL_S), access=Access(self.identities.values())
        )
        self.sent: dict[str, list[Event]] = {each.name: [] for each in readers}
        self.clients: dict[str, SimulatedClient] = {}
        self.session = self.join("operator")
        self.process = self.join("operator", kind="process")

    def join(self, name: str, *, kind: str = "session") -> SimulatedClient:
        public = self.identities[name].public
        number = len(self.clients)
        client = SimulatedClient(
            self.network, f"{name} {kind} {number}", kind=kind, ttl_s=TTL_S, public=public,
            high_water_mark=100_000,
        )
        if name in self.sent:
            self._tap(client, self.sent[name])
        self.clients[client.name] = client.start()
        assert self.network.run_until(lambda: bool(client.lease_id), 5.0), client
        return client

    def _tap(self, client: SimulatedClient, sent: list[Event]) -> None:
        """Note every event that arrives at a client, asked for or not, in whatever frame."""
        take_publication, take_replies = client.engine.take_publication, client.engine.take_replies

        def publication(message: Sequence[bytes]) -> None:
            if len(message) == 3:
                sent.append(codec.decode_event(message[2]))
            take_publication(message)

        def replies(message: Sequence[bytes]) -> None:
            for frame in message:
                sent.extend(events_in(frames.read_reply(frame)[1]))
            take_replies(message)

        client.engine.take_publication = publication  # type: ignore[method-assign]
        client.engine.take_replies = replies  # type: ignore[method-assign]

    def scope(self, name: str) -> ReadScope:
        assert self.broker.access is not None
        return self.broker.access.scope_of(self.identities[name])

    def work(self, steps: int) -> None:
        """Have the operator do this and that, and wait for what is under way."""
        for _ in range(steps):
            self.act()
            self.network.run(self.random.uniform(0.0, 0.02))
        self.settle()

    def act(self) -> None:
        random, session, process = self.random, self.session, self.process
        match random.randrange(8):
            case 0:
                session.call(Connect(*random.sample(TOPICS, 2)))
            case 1:
                session.call(Disconnect(*random.sample(TOPICS, 2)))
            case 2:
                session.call(components(random.sample(ADDRESSES, random.randint(0, 3))))
            case 3:
                process.call(UpdateUnits(random.sample(ADDRESSES, 2), []))
            case 4:
                value = SettingsSnapshotValue(None, {"gain": random.random()})
                process.call(ReportSettings(random.choice(ADDRESSES), value))
            case 5:
                session.call(SetPause(paused=random.random() < 0.5))
            case _:
                session.call(configured(random))

    def settle(self) -> None:
        """Wait until everybody has heard of everything."""
        calls = [call for client in self.clients.values() for call in client.calls]
        assert self.network.run_until(lambda: all(c.ended is not None for c in calls), 30.0)
        head = self.broker.seq
        live = [c for c in self.clients.values() if c.lost is None]
        reached = self.network.run_until(
            lambda: all(
                w.watch.phase is Phase.FAILED or w.watch.position >= head
                for client in live for w in client.watches
            )
            and all(each._complete >= head for client in live for each in client.replicas),
            30.0,
        )
        assert reached, [w.watch for client in live for w in client.watches]


def events_in(reply: Reply) -> list[Event]:
    match reply:
        case EventRange():
            return [codec.decode_event(each) for each in reply.events]
        case SnapshotChunk():
            return [codec.decode_live_event(each, reply.blobs) for each in reply.entries]
        case ConfigPage():
            return [as_event(each) for each in reply.entries]
        case _:
            return []


def as_event(entry: ConfigEntry) -> Event:
    """The event that put an entry, as far as the entry tells."""
    body, seq = ConfigValueSet(entry.type, entry.key, entry.value, entry.owner), entry.seq
    return Event(1, seq, seq - 1, seq, seq, 0.0, 0.0, key_of(body), Source(), None, body)


def configured(random: Random) -> ChangeConfig:
    """Two entries change as one transaction; often only one of them may be read."""
    kinds, keys = ["flow", "flow2"], [("a",), ("a", "x"), ("b",), ("ab", "x")]
    one, other = random.sample([(kind, key) for kind in kinds for key in keys], 2)
    put = ConfigPut(*one, random.randint(0, 3), random.random() < 0.2)
    if random.random() < 0.3:
        return ChangeConfig([put], [ConfigDelete(*other)])
    return ChangeConfig([put, ConfigPut(*other, random.randint(0, 3))])


def components(addresses: Iterable[str]) -> RegisterMetadata:
    no = DynamicSettingsMetadata(enabled=False)
    return RegisterMetadata(
        GraphMetadata(
            components={
                each: UnitMetadata(each, each, "lab.Unit", "lab.S", (None, {"gain": 1}), no)
                for each in addresses
            }
        )
    )


def given(record: WatchRecord) -> list[int]:
    return [item.seq for item in record.items if isinstance(item, Event)]


def readable(lab: Lab, name: str, record: WatchRecord) -> list[int]:
    """What a watcher should have been given: its prefix, and what the role lets it read."""
    scope, depth = lab.scope(name), len(record.prefix)
    assert record.start is not None
    return [
        event.seq
        for event in lab.broker.history().events
        if event.seq > record.start
        and event.key[:depth] == record.prefix
        and scope.has(event.key)
    ]


def check_nothing_beside(lab: Lab) -> None:
    for name, events in lab.sent.items():
        scope = lab.scope(name)
        beside = [event for event in events if not scope.has(event.key)]
        assert not beside, f"{name} may read {scope} and was sent {beside[0]}"


@pytest.mark.parametrize("seed", range(12))
def test_a_watcher_has_all_that_its_role_lets_it_read_and_nothing_beside_it(
    seed: int, seed_option: int | None
) -> None:
    seed = seed if seed_option is None else seed_option
    random = Random(seed)
    chosen = random.sample(READS, 3)
    readers = [reader(f"reader{n}", *patterns) for n, patterns in enumerate(chosen)]
    lab = Lab(seed, *readers)
    prefixes: list[tuple[str, ...]] = [
        (), ("settings",), ("edge",), ("edge", "RIG_A/OUT"), ("config", "flow"),
    ]  # fmt: skip
    records: list[tuple[str, WatchRecord]] = []
    lab.work(10)
    for each in readers:
        client = lab.join(each.name)
        for prefix in prefixes:
            after = random.choice([None, 0, lab.broker.seq // 2])
            records.append((each.name, client.watch(prefix, after)))

    for _ in range(6):
        lab.work(8)
        victim = random.choice(list(lab.clients.values()))
        match random.randrange(4):
            case 0:
                victim.events.cut()
            case 1:
                victim.events.drop_for(0.05)
            case 2:
                victim.commands.cut()
            case _:
                lab.broker.crash()
                lab.broker.restart_after(0.1)
    lab.work(8)

    check_nothing_beside(lab)
    for name, record in records:
        scope = lab.scope(name)
        if not scope.touches(record.prefix):
            assert isinstance(record.watch.error, ForbiddenError), (name, record)
            assert given(record) == []
        else:
            assert record.watch.error is None, (name, record)
            assert given(record) == readable(lab, name, record), (name, record, str(scope))


def test_a_filtered_replica_is_the_fold_of_what_may_be_read() -> None:
    lab = Lab(3, reader("part", "settings/RIG_A/", "component/", "edge/*/REC"))
    client = lab.join("part")
    lab.work(20)
    replica = client.follow()
    lab.work(40)

    scope = lab.scope("part")
    events = [event for event in lab.broker.history().events if scope.has(event.key)]
    wanted = GraphState.fold(
        events, epoch=lab.broker.history().events[0].epoch, seq=replica.seq, filtered=True
    )

    assert replica.state.filtered
    assert replica.seq >= events[-1].seq
    assert replica.fingerprint() == wanted.fingerprint()


def test_history_listings_and_snapshots_have_only_what_may_be_read() -> None:
    lab = Lab(4, reader("part", "settings/RIG_A/"))
    lab.work(40)
    client = lab.join("part")

    everything = client.call(ReadEvents([], 0))
    edges = client.call(ReadEvents(["edge"], 0))
    clients = client.call(ListClients())
    lab.settle()

    assert isinstance(everything.result, EventRange)
    found = [codec.decode_event(each) for each in everything.result.events]
    assert found
    assert all(event.key[1].startswith("RIG_A/") for event in found)
    assert isinstance(edges.result, ForbiddenError)
    assert isinstance(clients.result, ClientList)
    assert (clients.result.clients, clients.result.filtered) == ([], True)


def test_a_narrower_role_ends_what_went_beyond_it_at_once_and_the_rest_goes_on() -> None:
    wide = reader("reader", "settings/", "edge/")
    lab = Lab(5, wide)
    client = lab.join("reader")
    settings = client.watch(("settings",), 0)
    edges = client.watch(("edge",), 0)
    lab.work(30)
    before = lab.broker.seq
    seen_edges = given(edges)
    lab.sent["reader"].clear()

    lab.identities["reader"] = reader("reader", "settings/")
    lab.broker.change_access(Access(lab.identities.values(), before=lab.broker.access))
    lab.work(40)

    assert seen_edges == [
        event.seq for event in lab.broker.history().events
        if event.key[0] == "edge" and event.seq <= before
    ]
    check_nothing_beside(lab)
    assert isinstance(edges.watch.error, ForbiddenError)
    assert given(edges) == seen_edges
    assert given(settings) == readable(lab, "reader", settings)


@pytest.mark.parametrize("patterns", [("/",), ("settings/RIG_A/",), ("edge/", "session/")])
def test_a_replica_is_what_may_be_read_also_after_the_role_has_changed(
    patterns: tuple[str, ...],
) -> None:
    lab = Lab(8, reader("part", "component/", "settings/"))
    client = lab.join("part")
    lab.work(20)
    replica = client.follow()
    lab.work(20)

    lab.identities["part"] = reader("part", *patterns)
    lab.broker.change_access(Access(lab.identities.values(), before=lab.broker.access))
    lab.work(40)

    scope = lab.scope("part")
    events = [event for event in lab.broker.history().events if scope.has(event.key)]
    wanted = GraphState.fold(
        events, epoch=events[0].epoch, seq=replica.seq, filtered=not scope.is_full
    )
    assert replica.state.filtered is not scope.is_full
    assert replica.fingerprint() == wanted.fingerprint()


def test_a_wider_role_has_what_comes_from_then_on() -> None:
    lab = Lab(6, reader("reader", "settings/"))
    client = lab.join("reader")
    everything = client.watch((), 0)
    lab.work(20)
    before = lab.broker.seq

    lab.identities["reader"] = reader("reader", "settings/", "edge/")
    lab.broker.change_access(Access(lab.identities.values(), before=lab.broker.access))
    lab.work(30)

    edges = [
        item for item in everything.items if isinstance(item, Event) and item.key[0] == "edge"
    ]
    assert [event.seq for event in edges] == [
        event.seq for event in lab.broker.history().events
        if event.key[0] == "edge" and event.seq > before
    ]
    assert everything.watch.error is None


def test_a_revoked_key_is_cut_off_and_what_it_held_ends() -> None:
    rig = Identity("rig", "key of rig", owner_of("RIG_A"))
    lab = Lab(7, rig)
    client = lab.join("rig")
    watch = client.watch((), None)
    call = client.call(Connect("X", "RIG_A/IN"))
    refused = client.call(Connect("RIG_A/OUT", "DISPLAY/IN"))
    lab.settle()
    assert isinstance(call.result, Done)
    assert isinstance(refused.result, ForbiddenError)
    lab.sent["rig"].clear()
    seen = len(watch.items)

    del lab.identities["rig"]
    lab.broker.change_access(Access(lab.identities.values(), before=lab.broker.access))
    lab.network.run(1.0)

    assert lab.broker.engine is not None
    state = lab.broker.engine.state
    assert client.lease_id not in state.sessions
    assert not state.dag.edge_owners
    late = client.call(Connect("X", "RIG_A/OUT"), timeout=2.0)
    lab.network.run(3.0)
    assert not isinstance(late.result, Done)
    assert not lab.sent["rig"]
    assert [item for item in watch.items[seen:] if not isinstance(item, Progress | Compacted)] == []

    lab.identities["rig"] = rig
    lab.broker.change_access(Access(lab.identities.values(), before=lab.broker.access))
    again = client.call(Connect("X", "RIG_A/OUT"), timeout=10.0)
    lab.network.run(10.0)
    assert isinstance(again.result, SessionExpiredError)



# --- the configuration ---


def configuration(lab: Lab, name: str) -> ConfigKeys:
    """The configuration as somebody with this key sees it."""

    def new_client(_: object) -> SimulatedClient:
        return lab.join(name)

    return ConfigKeys(SimulatedSession(new_client))


def there(lab: Lab, name: str) -> dict[tuple[str, ...], object]:
    """What of the configuration a key may read, by type and key."""
    assert lab.broker.engine is not None
    entries, scope = lab.broker.engine.state.config.entries, lab.scope(name)
    return {key: held.value for key, held in entries.items() if scope.has(("config", *key))}


@pytest.mark.parametrize("patterns", [("config/flow/a",), ("config/*/a/x", "config/flow2/b")])
def test_a_partial_reader_finds_its_part_of_the_configuration_and_no_more(
    patterns: tuple[str, ...],
) -> None:
    lab = Lab(11, reader("part", *patterns))
    config = configuration(lab, "part")
    lab.work(80)
    mine = there(lab, "part")
    assert mine
    assert len(there(lab, "operator")) > len(mine)

    types = run(config.types())
    found = {(kind, *each.key): each.value for kind in types for each in run(config.entries(kind))}

    assert found == mine
    assert types == sorted({key[0] for key in mine})
    assert run(config.keys("flow")) == sorted(key[1:] for key in mine if key[0] == "flow")
    assert run(config.get("flow", "ab:x", "withheld")) == "withheld"
    check_nothing_beside(lab)


def test_a_failed_condition_tells_nothing_to_who_may_not_read_the_entry() -> None:
    may = {"read": (parse_pattern("config/flow/a"),), "config": (parse_pattern("config/flow"),)}
    lab = Lab(12, Identity("part", "key of part", Role("part", may)))
    client = lab.join("part")
    lab.session.call(ChangeConfig([ConfigPut("flow", ("b",), "a secret")]))
    lab.session.call(ChangeConfig([ConfigPut("flow", ("a",), "mine")]))
    lab.settle()
    put = [ConfigPut("flow", ("c",), 1)]

    asked = [client.call(ChangeConfig(put, [], [ConfigPresent("flow", (n,))])) for n in "bdxa"]
    mine = client.call(ChangeConfig(put, [], [ConfigPresent("flow", ("a", "x"))]))
    lab.settle()

    hidden = [call.result for call in asked[:3]]
    assert {type(each) for each in hidden} == {ForbiddenError}
    assert "a secret" not in str(hidden)
    assert isinstance(asked[3].result, ConfigChanged)
    assert isinstance(mine.result, PreconditionFailedError)
    assert "it is absent" in str(mine.result)


def test_a_watch_of_a_part_tells_of_that_part_and_begins_anew_when_the_role_changes() -> None:
    lab = Lab(13, reader("part", "config/flow/a"))
    config = configuration(lab, "part")
    lab.session.call(ChangeConfig([ConfigPut("flow", (n,), 1) for n in ("a", "b", "c")]))
    lab.settle()
    watch = config.watch("flow")
    assert told(watch, 2) == [("initial", ("a",)), ("end_of_initial", None)]

    lab.session.call(ChangeConfig([ConfigPut("flow", (n,), 2) for n in ("a", "b")]))
    assert told(watch, 1) == [("put", ("a",))]
    lab.identities["part"] = reader("part", "config/flow/b", "config/flow/c")
    lab.broker.change_access(Access(lab.identities.values(), before=lab.broker.access))
    again = [take(watch) for _ in range(4)]

    assert [(str(each.kind), each.key) for each in again] == [
        ("reset", None), ("initial", ("b",)), ("initial", ("c",)), ("end_of_initial", None),
    ]
    assert again[0].vanished == (("a",),)
    lab.session.call(ChangeConfig([ConfigPut("flow", (n,), 3) for n in ("a", "b")]))
    assert told(watch, 1) == [("put", ("b",))]
    run(watch.aclose())


def take(watch: ConfigWatch) -> ConfigWatchEvent:
    return run(watch.__anext__())


def told(watch: ConfigWatch, count: int) -> list[tuple[str, tuple[str, ...] | None]]:
    events = [take(watch) for _ in range(count)]
    return [(str(event.kind), event.key) for event in events]


def test_who_may_read_nothing_of_a_type_is_refused() -> None:
    lab = Lab(14, reader("part", "config/flow/a"))
    config = configuration(lab, "part")
    for asking in (config.entries("other"), config.keys("flow", "b"), config.schema("flow")):
        with pytest.raises(ForbiddenError, match=r"may not read config/"):
            run(asking)

    with pytest.raises(ForbiddenError, match=r"may not read config/other"):
        take(config.watch("other"))
