"""The broker against a model of plain dicts: any order of commands, ends, restarts, compaction.

The machine drives the engine with frames, as a shell does, and compares after every step what it
answers (or the code of its refusal), the events it publishes, and the state it shows with what a
few dicts and a naive search say must be so. Descriptors are given out again at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ezgraph.broker.engine import BrokerEngine
from ezgraph.broker.leases import GRACE_S
from ezgraph.config import BrokerConfig
from ezgraph.protocol import PROTOCOL_VERSION
from ezgraph.protocol.commands import (
    AnnounceNodes,
    Command,
    Connect,
    Disconnect,
    Goodbye,
    Heartbeat,
    Hello,
    RegisterMetadata,
    ReportSettings,
    Resume,
    Revert,
    ServeGraph,
    SetPause,
    TakeOver,
    UpdateUnits,
    WithdrawGraph,
)
from ezgraph.protocol.metadata import DynamicSettingsMetadata, GraphMetadata, UnitMetadata
from ezgraph.protocol.replies import Beat, Done, Refusal, Reply, Serving, Welcome
from ezgraph.protocol.served import NodeCard
from ezgraph.protocol.settings import SettingsSnapshotValue
from ezgraph.state.graph import GraphState
from ezgraph.testing import FlakyMemory, SequentialIds
from ezgraph.wire import codec, frames

if TYPE_CHECKING:
    from ezgraph.protocol.events import Event

TTL_S = 6.0
TOPICS = st.sampled_from("abc")
ADDRESSES = ("SYS", "SYS/A", "SYS/B")
UNITS = st.lists(st.sampled_from(ADDRESSES), max_size=2, unique=True)
Said = tuple[str, tuple[str, ...]]
"""The kind of an event and its key."""


class RefusedByModelError(Exception):
    """The model says no; the code is what the broker must answer."""


class Model:
    """The rig in plain dicts. Each method returns the events that must follow, or refuses."""

    def __init__(self) -> None:
        self.kinds: dict[str, str] = {}
        self.edges: dict[tuple[str, str], set[str]] = {}
        self.metadata: dict[str, dict[str, int]] = {}
        self.units: dict[str, str] = {}
        self.live: dict[str, int] = {}
        self.paused = False
        self.served: dict[str, dict[str, ServeGraph]] = {}
        self.nodes: dict[str, dict[str, NodeCard]] = {}

    # --- what is so ---

    def settings(self) -> dict[str, int]:
        initial = {a: gain for parts in self.metadata.values() for a, gain in parts.items()}
        return {**initial, **self.live}

    def reaches(self, start: str, end: str) -> bool:
        """Search naively."""
        seen, open_topics = set(), [start]
        while open_topics:
            topic = open_topics.pop()
            if topic == end:
                return True
            if topic not in seen:
                seen.add(topic)
                open_topics += [to for at, to in self.edges if at == topic]
        return False

    def owner(self, client: str) -> str:
        if self.kinds[client] == "process":
            raise RefusedByModelError("invalid_command")
        return client if self.kinds[client] == "session" else "persistent"

    # --- what is asked ---

    def connect(self, client: str, start: str, end: str) -> list[Said]:
        owner, owners = self.owner(client), self.edges.get((start, end), set())
        if owner in owners:
            return []
        if not owners and self.reaches(end, start):
            raise RefusedByModelError("cyclic")
        self.edges[start, end] = owners | {owner}
        return [("EdgeConnected", ("edge", start, end))]

    def disconnect(self, client: str, start: str, end: str) -> list[Said]:
        owner, owners = self.owner(client), self.edges.get((start, end), set())
        if not owners:
            raise RefusedByModelError("unknown_edge")
        if owner not in owners:
            raise RefusedByModelError("foreign_edge")
        self._let_go(start, end, owner)
        return [("EdgeDisconnected", ("edge", start, end))]

    def _let_go(self, start: str, end: str, owner: str) -> None:
        self.edges[start, end].discard(owner)
        if not self.edges[start, end]:
            del self.edges[start, end]

    def register(self, client: str, parts: dict[str, int]) -> list[Said]:
        if self.kinds[client] != "session":
            raise RefusedByModelError("invalid_command")
        others = {a for other, held in self.metadata.items() if other != client for a in held}
        if others & parts.keys():
            raise RefusedByModelError("address_collision")
        said: list[Said] = []
        for address in sorted(self.metadata.get(client, {}).keys() - parts.keys()):
            said += self._remove(address)
        self.metadata[client] = parts
        said.append(("GraphRegistered", ("graph", client)))
        for address in parts:
            said.append(("ComponentRegistered", ("component", address)))
            said.append(("SettingsChanged", ("settings", address)))
        return said

    def _remove(self, address: str) -> list[Said]:
        said: list[Said] = [("ComponentRemoved", ("component", address))]
        if address not in self.live:
            said.append(("SettingsChanged", ("settings", address)))
        return said

    def update_units(self, client: str, added: list[str], removed: list[str]) -> list[Said]:
        if self.kinds[client] != "process":
            raise RefusedByModelError("invalid_command")
        if any(self.units.get(unit, client) != client for unit in added):
            raise RefusedByModelError("address_collision")
        if any(self.units.get(unit) != client for unit in removed):
            raise RefusedByModelError("not_owner")
        new = set(added) - set(removed) - {u for u, owner in self.units.items() if owner == client}
        if not new and not removed:
            return []
        self.units.update(dict.fromkeys(new, client))
        said: list[Said] = [("ProcessUnitsChanged", ("process", client))]
        for unit in sorted(removed):
            del self.units[unit]
            said += self._end_live(unit)
        return said

    def _end_live(self, unit: str) -> list[Said]:
        was_live = self.live.pop(unit, None) is not None
        return [("SettingsChanged", ("settings", unit))] if was_live else []

    def report(self, client: str, address: str, gain: int) -> list[Said]:
        if self.kinds[client] != "process":
            raise RefusedByModelError("invalid_command")
        if self.units.get(address) != client:
            raise RefusedByModelError("not_owner")
        self.live[address] = gain
        return [("SettingsChanged", ("settings", address))]

    def serve(self, client: str, asked: ServeGraph) -> list[Said]:
        if self.kinds[client] == "guest":
            raise RefusedByModelError("invalid_command")
        name, hosts = asked.name, self.served.setdefault(asked.name, {})
        others = [each for owner, each in hosts.items() if owner != client]
        if any(each.root_uid != asked.root_uid for each in others):
            raise RefusedByModelError("address_collision")
        mine, said = hosts.get(client), list[Said]()
        if mine == asked:
            return []
        if mine is not None and not others:
            if (mine.root_uid, mine.incarnation) != (asked.root_uid, asked.incarnation):
                said = self._end_serving(name, client)
            elif not asked.announces:
                said = self._end_nodes(name)
        self.served.setdefault(name, {})[client] = asked
        return [*said, ("GraphServed", ("node", name, asked.root_uid))]

    def _end_nodes(self, name: str) -> list[Said]:
        gone = self.nodes.pop(name, {})
        return [("NodeWithdrawn", ("node", name, uid)) for uid in sorted(gone)]

    def _end_serving(self, name: str, client: str) -> list[Said]:
        root = self.served[name].pop(client).root_uid
        said = [] if self.served[name] else self._end_nodes(name)
        return [*said, ("GraphWithdrawn", ("node", name, root))]

    def announce(self, client: str, asked: AnnounceNodes) -> list[Said]:
        if self.kinds[client] == "guest":
            raise RefusedByModelError("invalid_command")
        mine = self.served.get(asked.name, {}).get(client)
        if mine is None:
            raise RefusedByModelError("not_owner")
        uids = [*(card.uid for card in asked.added), *asked.removed]
        if not mine.announces or len(set(uids)) < len(uids):
            raise RefusedByModelError("invalid_command")
        nodes = self.nodes.setdefault(asked.name, {})
        gone = [uid for uid in asked.removed if nodes.pop(uid, None) is not None]
        new = [card for card in asked.added if nodes.get(card.uid) != card]
        nodes.update({card.uid: card for card in new})
        said: list[Said] = [("NodeWithdrawn", ("node", asked.name, uid)) for uid in gone]
        return said + [("NodeAnnounced", ("node", asked.name, card.uid)) for card in new]

    def withdraw(self, client: str, name: str) -> list[Said]:
        if self.kinds[client] == "guest":
            raise RefusedByModelError("invalid_command")
        hosts = self.served.get(name, {})
        if hosts and client not in hosts:
            raise RefusedByModelError("not_owner")
        return self._end_serving(name, client) if hosts else []

    def pause(self, paused: bool) -> list[Said]:
        if self.paused is paused:
            return []
        self.paused = paused
        return [("PauseChanged", ("control", "pause"))]

    def revert(self, client: str) -> list[Said]:
        said: list[Said] = []
        for start, end in sorted(edge for edge, owners in self.edges.items() if client in owners):
            self._let_go(start, end, client)
            said.append(("EdgeDisconnected", ("edge", start, end)))
        if client in self.metadata:
            for address in sorted(self.metadata.pop(client)):
                said += self._remove(address)
            said.append(("GraphRemoved", ("graph", client)))
        units = sorted(unit for unit, owner in self.units.items() if owner == client)
        for unit in units:
            del self.units[unit]
            said += self._end_live(unit)
        if units:
            said.append(("ProcessUnitsChanged", ("process", client)))
        for name in sorted(name for name, hosts in self.served.items() if client in hosts):
            said += self._end_serving(name, client)
        return said

    def end(self, client: str) -> list[Said]:
        said, kind = self.revert(client), self.kinds.pop(client)
        if kind == "guest":
            return said
        return [*said, (f"{kind.title()}Closed", (kind, client))]


def said_by(command: Command, model: Model, client: str) -> list[Said]:
    """Return what must be said about a command, or refuse it."""
    match command:
        case Connect():
            return model.connect(client, command.from_topic, command.to_topic)
        case Disconnect():
            return model.disconnect(client, command.from_topic, command.to_topic)
        case RegisterMetadata():
            return model.register(client, gains_in(command.metadata))
        case UpdateUnits():
            return model.update_units(client, command.added, command.removed)
        case ReportSettings():
            return model.report(client, command.address, command.value.structured_value["gain"])  # type: ignore[index]
        case SetPause():
            return model.pause(command.paused)
        case ServeGraph():
            return model.serve(client, command)
        case AnnounceNodes():
            return model.announce(client, command)
        case WithdrawGraph():
            return model.withdraw(client, command.name)
        case Revert():
            return model.revert(client)
        case _:
            raise AssertionError(command)


def judged(command: Command, model: Model, client: str) -> list[Said] | str:
    """Return what must be said about a command, or the code of its refusal."""
    try:
        return said_by(command, model, client)
    except RefusedByModelError as refused:
        return str(refused)


def gains_in(metadata: GraphMetadata) -> dict[str, int]:
    found: dict[str, Any] = {a: part.initial_settings[1] for a, part in metadata.components.items()}
    return {address: shown["gain"] for address, shown in found.items()}


def register(parts: dict[str, int]) -> RegisterMetadata:
    return RegisterMetadata(
        GraphMetadata(
            components={
                address: UnitMetadata(
                    address, address, "lab.Unit", "lab.Settings", (None, {"gain": gain}),
                    DynamicSettingsMetadata(enabled=False),
                )
                for address, gain in parts.items()
            }
        )
    )


def report(address: str, gain: int) -> ReportSettings:
    return ReportSettings(address, SettingsSnapshotValue(None, {"gain": gain}, {"gain": gain}))


EDGES: st.SearchStrategy[Command] = st.one_of(
    st.builds(Connect, TOPICS, TOPICS),
    st.builds(Connect, TOPICS, TOPICS),
    st.builds(Disconnect, TOPICS, TOPICS),
)
PARTS = st.dictionaries(st.sampled_from(ADDRESSES), st.integers(0, 3), max_size=2).map(register)
RUNNING: st.SearchStrategy[Command] = st.one_of(
    st.builds(UpdateUnits, UNITS, st.just([])),
    st.builds(UpdateUnits, st.just([]), UNITS),
    st.builds(report, st.sampled_from(ADDRESSES), st.integers(4, 9)),
    st.builds(report, st.sampled_from(ADDRESSES), st.integers(4, 9)),
)
NAMES, UIDS = st.sampled_from(["run", "run2"]), st.sampled_from(["root", "n1", "n2"])
CARDS = st.builds(
    NodeCard, UIDS, st.just([]), st.just(0), st.just("lab.Node"), st.sampled_from("ab")
)
SERVING: st.SearchStrategy[Command] = st.one_of(
    st.builds(
        ServeGraph,
        NAMES,
        st.sampled_from(["root", "root", "n1"]),
        st.sampled_from(["i1", "i2"]),
        st.sampled_from([["127.0.0.1:4000"], []]),
        st.none(),
        st.sampled_from([True, True, True, False]),
    ),
    st.builds(AnnounceNodes, NAMES, st.lists(CARDS, max_size=3), st.just([])),
    st.builds(AnnounceNodes, NAMES, st.lists(CARDS, max_size=2), st.lists(UIDS, max_size=1)),
    st.builds(WithdrawGraph, NAMES),
)
ANYBODYS: st.SearchStrategy[Command] = st.one_of(
    EDGES, PARTS, RUNNING, SERVING, st.builds(SetPause, st.booleans()), st.builds(Revert)
)


def _by(kind: str, command: st.SearchStrategy[Command]) -> st.SearchStrategy[Task]:
    return st.tuples(st.just(kind), st.integers(0, 4), command)


Task = tuple[str, int, Command]
"""What kind of program asks it (no kind: anybody), which one of these, and what."""
WORK = st.lists(
    st.one_of(
        _by("session", EDGES),
        _by("session", EDGES),
        _by("guest", EDGES),
        _by("session", PARTS),
        _by("process", RUNNING),
        _by("process", RUNNING),
        _by("session", SERVING),
        _by("session", SERVING),
        _by("process", SERVING),
        _by("", ANYBODYS),
    ),
    min_size=4,
    max_size=12,
)


@dataclass(eq=False)
class Program:
    """A client: its lease, its connections, and the last command it sent."""

    hello: Hello
    welcome: Welcome
    peers: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    request_id: int = 0
    last: tuple[Command, Reply] | None = None
    changed: bool = False
    """Whether ``last`` did anything."""

    @property
    def id(self) -> str:
        return self.welcome.client


class BrokerMachine(RuleBasedStateMachine):
    """The rules are what may happen; the invariants what must be so after each."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.disk, self.ids = Model(), FlakyMemory(), SequentialIds()
        self.programs: list[Program] = []
        self.said: list[Said] = []
        self.events: list[Event] = []
        self.now = 0.0
        self.numbers = count(1)
        self.generations: dict[int, int] = {}

    @initialize(kinds=st.permutations(["session", "session", "process", "guest"]))
    def begin(self, kinds: list[str]) -> None:
        """A broker, and somebody of every kind."""
        self.start()
        for kind in kinds:
            self.join(kind)

    def start(self) -> None:
        """A broker on the journal there is."""
        journal = self.disk.open_journal()
        self.engine = BrokerEngine(
            BrokerConfig(ttl_s=TTL_S), journal, self.ids, events_port=2, now=self.now
        )
        self.engine.take_subscription(b"\x01", now=self.now)
        self.generations.clear()
        for program in self.programs:
            program.peers.clear()

    # --- the shell's part ---

    def accept(self, program: Program | None) -> tuple[bytes, tuple[int, int]]:
        """Give a new connection the lowest free descriptor, and the next generation of it."""
        taken = {fd for each in self.programs for fd, _ in each.peers.values()}
        fd = next(each for each in count(10) if each not in taken)
        self.generations[fd] = self.generations.get(fd, 0) + 1
        peer = b"peer%d" % next(self.numbers)
        descriptor = (fd, self.generations[fd])
        if program is not None:
            program.peers[peer] = descriptor
        return peer, descriptor

    def ask(
        self, peer: bytes, command: Command, request_id: int = 0, *, descriptor: Any = None
    ) -> Reply:
        frame = frames.request_frame(request_id, request_id, codec.encode(command))
        self.engine.take_command(peer, frame, now=self.now, wall=self.now, descriptor=descriptor)
        ((to, packed),) = self.turn()
        assert to == peer
        answered, reply = frames.read_reply(packed)
        assert answered == request_id
        return reply

    def turn(self) -> list[list[bytes]]:
        """End a pass; take down what was published."""
        self.engine.finish_pass(now=self.now, wall=self.now)
        replies = self.engine.replies()
        for publication in self.engine.publications():
            if len(publication) == 3:
                self.events.append(codec.decode_event(publication[2]))
        replies += self.engine.replies()
        self.engine.tidy()
        return replies

    def peer_of(self, program: Program) -> bytes:
        """Return a connection of a program that is bound, made anew if it has none."""
        if not program.peers:
            self.resume(program)
        return next(iter(program.peers))

    def resume(self, program: Program) -> None:
        """On a new connection: RESUME, or for a guest HELLO again."""
        welcome, hello = program.welcome, program.hello
        shown = (program.id, welcome.token, welcome.cluster_id, welcome.epoch)
        resume = Resume(PROTOCOL_VERSION, *shown, self.engine.state.seq, hello.nonce)
        peer, descriptor = self.accept(program)
        command = hello if hello.kind == "guest" else resume
        reply = self.ask(peer, command, descriptor=descriptor)
        assert isinstance(reply, Welcome), reply
        assert reply.client == program.id

    def hello(self, kind: str) -> Hello:
        nonce = f"nonce {next(self.numbers)}"
        return Hello(PROTOCOL_VERSION, kind, nonce, "program", "host", 1, "login")

    # --- rules ---

    @rule(kind=st.sampled_from(["session", "session", "process", "guest"]))
    @precondition(lambda self: len(self.programs) < 5)
    def join(self, kind: str) -> None:
        hello = self.hello(kind)
        peer, descriptor = self.accept(None)
        welcome = self.ask(peer, hello, descriptor=descriptor)
        assert isinstance(welcome, Welcome)
        self.programs.append(Program(hello, welcome, {peer: descriptor}))
        self.model.kinds[welcome.client] = kind
        if kind != "guest":
            self.said.append((f"{kind.title()}Opened", (kind, welcome.client)))

    @rule(tasks=WORK)
    def work(self, tasks: list[Task]) -> None:
        """Several commands, one after the other; most of what happens is this."""
        for kind, which, command in tasks:
            able = [each for each in self.programs if kind in ("", each.hello.kind)]
            if able:
                self.command(able[which % len(able)], command)
                self.the_events_are_those_of_the_model()

    @rule(tasks=WORK)
    def work_on(self, tasks: list[Task]) -> None:
        self.work(tasks)

    @rule(tasks=WORK, compacts=st.booleans())
    def work_restart_and_repeat(self, tasks: list[Task], compacts: bool) -> None:
        """The broker dies with the last replies; who asked asks again."""
        self.work(tasks)
        if compacts:
            self.compact()
        self.restart()
        for program in list(self.programs):
            if program.last is not None:
                self.repeat_last(program)

    def command(self, program: Program, command: Command) -> None:
        peer = self.peer_of(program)
        program.request_id += 1
        reply = self.ask(peer, command, program.request_id)
        expected = judged(command, self.model, program.id)
        if isinstance(expected, str):
            assert isinstance(reply, Refusal), reply
            assert reply.code == expected
        else:
            seq = self.engine.state.seq
            if isinstance(command, ServeGraph):
                assert isinstance(reply, Serving)
                assert reply.seq == seq
            else:
                assert reply == Done(seq)
            self.said += expected
        program.last = (command, reply)
        program.changed = isinstance(expected, list) and expected != []

    @rule(which=st.integers(0, 4))
    @precondition(lambda self: any(program.last for program in self.programs))
    def repeat(self, which: int) -> None:
        """The reply was lost; it is asked for again, and given again."""
        asked = [program for program in self.programs if program.last]
        self.repeat_last(asked[which % len(asked)])

    def repeat_last(self, program: Program) -> None:
        assert program.last is not None
        command, reply = program.last
        assert self.ask(self.peer_of(program), command, program.request_id) == reply

    @rule(which=st.integers(0, 4))
    @precondition(lambda self: self.programs)
    def another_connection(self, which: int) -> None:
        self.resume(self.programs[which % len(self.programs)])

    @rule(which=st.integers(0, 4))
    @precondition(lambda self: self.programs)
    def say_hello_again(self, which: int) -> None:
        """The Welcome was lost."""
        program = self.programs[which % len(self.programs)]
        again = self.ask(self.peer_of(program), program.hello)
        assert isinstance(again, Welcome)
        assert again.client == program.id

    @rule(which=st.integers(0, 4))
    @precondition(lambda self: self.programs)
    def say_goodbye(self, which: int) -> None:
        program = self.programs[which % len(self.programs)]
        peer = self.peer_of(program)
        program.request_id += 1
        assert isinstance(self.ask(peer, Goodbye(), program.request_id), Done)
        self.programs.remove(program)
        self.said += self.model.end(program.id)

    @rule(which=st.integers(0, 4))
    @precondition(lambda self: self.programs)
    def crash(self, which: int) -> None:
        """Every connection of it closes; the others renew theirs; the grace passes."""
        program = self.programs[which % len(self.programs)]
        if not program.peers:
            return  # the broker knows no connection of it; its TTL ends it
        for descriptor in program.peers.values():
            self.engine.connection_closed(descriptor, now=self.now)
        self.programs.remove(program)
        self.pass_time(GRACE_S - 0.01)
        assert self.engine.core.leases.get(program.id) is not None
        self.pass_time(0.02)
        self.said += self.model.end(program.id)
        self.turn()

    @rule(which=st.integers(0, 4))
    @precondition(lambda self: self.programs)
    def fall_silent(self, which: int) -> None:
        """Nothing is heard of it for a TTL, though its connections stand."""
        program = self.programs[which % len(self.programs)]
        if program.hello.kind == "guest":
            return  # a guest may be silent for longer, and owns nothing
        self.programs.remove(program)
        for _ in range(4):
            self.pass_time(TTL_S / 4 + 0.01)
        self.said += self.model.end(program.id)
        self.turn()

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for program in self.programs:
            assert isinstance(self.ask(self.peer_of(program), Heartbeat(0.0)), Beat)

    @rule(which=st.integers(0, 4))
    @precondition(lambda self: self.programs)
    def lose_one_connection(self, which: int) -> None:
        """One of several connections closes; the lease lives, whoever gets the number next."""
        program = self.programs[which % len(self.programs)]
        if len(program.peers) > 1:
            _, descriptor = program.peers.popitem()
            self.engine.connection_closed(descriptor, now=self.now)

    @rule(which=st.integers(0, 4))
    @precondition(lambda self: self.programs)
    def take_over(self, which: int) -> None:
        program = self.programs[which % len(self.programs)]
        if program.hello.kind == "guest":
            return
        hello, welcome = self.hello(program.hello.kind), program.welcome
        peer, descriptor = self.accept(None)
        command = TakeOver(hello, program.id, welcome.token, welcome.cluster_id)
        found = self.ask(peer, command, descriptor=descriptor)
        assert isinstance(found, Welcome), found
        assert found.client == program.id
        if program.changed:  # a refusal is not stored: after a restart its id is given again
            assert found.next_request_id > program.request_id
        self.said.append((f"{hello.kind.title()}TakenOver", (hello.kind, program.id)))
        self.programs.remove(program)
        heir = Program(hello, found, {peer: descriptor}, found.next_request_id - 1)
        self.programs.append(heir)
        old = next(iter(program.peers), None)
        if old is not None:
            late = self.ask(old, SetPause(not self.model.paused), program.request_id + 1)
            assert isinstance(late, Refusal), late

    @rule()
    def restart(self) -> None:
        """The process is gone; a new one goes on from the journal."""
        before = self.engine.state.fingerprint()
        self.disk.crash()
        self.start()
        assert self.engine.state.fingerprint() == before
        for program in self.programs:
            if not program.changed:
                program.last = None  # a refusal, or what changed nothing, is judged anew

    @rule()
    def compact(self) -> None:
        self.engine.write_checkpoint()
        journal = self.engine.journal
        if journal.checkpoint_seq is not None:
            journal.drop_below(journal.checkpoint_seq + 1)

    # --- what must be so ---

    @invariant()
    def the_events_are_those_of_the_model(self) -> None:
        assert [(event.kind, event.key) for event in self.events] == self.said
        assert [event.seq for event in self.events] == list(range(1, len(self.said) + 1))

    @invariant()
    def the_snapshot_is_what_the_model_holds(self) -> None:
        model, shown = self.model, self.engine.state.snapshot()
        assert shown.seq == len(self.said)
        assert {tuple(e): set(owners) for e, owners in shown.edge_owners.items()} == model.edges
        assert shown.graph == self.adjacency()
        kinds = {*shown.sessions, *map(str, shown.processes)}
        assert kinds == {each for each, kind in model.kinds.items() if kind != "guest"}
        registered = {
            each: gains_in(session.metadata)
            for each, session in shown.sessions.items()
            if session.metadata is not None
        }
        assert registered == model.metadata
        running = shown.processes.items()
        assert {u: str(pid) for pid, process in running for u in process.units} == model.units
        assert {a: gain_of(value) for a, value in shown.settings.items()} == model.settings()
        assert shown.paused is model.paused
        served = {name: sorted(hosts) for name, hosts in model.served.items() if hosts}
        assert {name: graph.owners for name, graph in shown.graphs.items()} == served
        announced = self.engine.state.served.nodes.items()
        assert {(name, uid) for name, nodes in announced for uid in nodes} == {
            (name, uid) for name, nodes in model.nodes.items() for uid in nodes
        }

    def adjacency(self) -> dict[str, list[str]]:
        topics = sorted({topic for edge in self.model.edges for topic in edge})
        return {at: sorted(to for start, to in self.model.edges if start == at) for at in topics}

    @invariant()
    def a_replica_folds_the_same(self) -> None:
        state = GraphState.fold(self.events, epoch=1, seq=len(self.events))
        assert state.fingerprint() == self.engine.state.fingerprint()

    @invariant()
    def everybody_who_should_be_there_is_there_and_nobody_else(self) -> None:
        there = {each.client for each in self.engine.core.leases if each.kind != "guest"}
        assert there == {each for each, kind in self.model.kinds.items() if kind != "guest"}


def gain_of(value: SettingsSnapshotValue) -> int:
    shown = value.repr_value
    assert isinstance(shown, dict)
    return int(shown["gain"])


def test_the_broker_does_what_a_model_of_plain_dicts_does() -> None:
    run_state_machine_as_test(
        BrokerMachine,
        settings=settings(
            max_examples=150,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.soak
def test_the_broker_does_what_a_model_does_in_many_more_steps() -> None:
    run_state_machine_as_test(
        BrokerMachine,
        settings=settings(
            max_examples=2_000,
            stateful_step_count=80,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
