"""The configuration against a plain dict: whoever changes it, whoever watches, whatever breaks."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ezgraph.broker import reads_config
from ezgraph.broker.reads_config import ConfigRead
from ezgraph.client.blocking import run
from ezgraph.config import BrokerConfig, Limits, Retention
from ezgraph.errors import InvalidKeyError
from ezgraph.graph.configuration.reading import read_entries
from ezgraph.graph.context import GraphContext
from ezgraph.protocol.commands import ChangeConfig, Goodbye, ReadConfig, Revert
from ezgraph.protocol.config import (
    ConfigAbsent,
    ConfigAtSeq,
    ConfigCreatedAt,
    ConfigDelete,
    ConfigHasValue,
    ConfigPresent,
    ConfigPut,
    as_config_key,
    config_key_text,
    parse_config_key,
)
from ezgraph.protocol.events import (
    ConfigValueDeleted,
    ConfigValueSet,
    Event,
    SessionClosed,
    Source,
    key_of,
)
from ezgraph.protocol.patterns import EVERY_KEY, KeyPattern, NamePattern
from ezgraph.protocol.replies import ConfigChanged, ConfigPage, Refusal
from ezgraph.protocol.roles import ReadScope, normal
from ezgraph.state import ordered
from ezgraph.state.config_values import is_same_value
from ezgraph.state.graph import GraphState
from ezgraph.state.ordered import OrderedKeys
from ezgraph.testing import Network, SimulatedBroker, SimulatedClient
from ezgraph.testing import strategies as ours
from ezgraph.testing.broker import ADDRESS
from ezgraph.testing.guarantees import check_calls, check_history
from ezgraph.testing.programs import KINDS, CoreProgram
from ezgraph.testing.session import simulated_sessions
from ezgraph.wire import values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ezgraph.graph.configuration.watch import ConfigWatch
    from ezgraph.protocol.config import ConfigCondition, ConfigKey

slow = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

Place = tuple[str, "ConfigKey"]


class Kept(NamedTuple):
    """What a plain dict has under (type, key)."""

    value: Any
    owner: str | None
    seq: int
    created_seq: int


def alike(one: object, other: object) -> bool:
    """Whether two of the values that these programs use are the same, types and all."""
    return repr(one) == repr(other)


class PlainDict:
    """The rules in a few lines: what commands make of a dict, and the dict at every seq."""

    def __init__(self) -> None:
        self.now: dict[Place, Kept] = {}
        self._at: list[tuple[int, dict[Place, Kept]]] = [(0, {})]

    def holds(self, condition: ConfigCondition) -> bool:
        kept = self.now.get((condition.type, condition.key))
        match condition:
            case ConfigAbsent():
                return kept is None
            case ConfigPresent():
                return kept is not None
            case ConfigAtSeq(seq=seq):
                return (kept.seq if kept else 0) == seq
            case ConfigCreatedAt(seq=seq):
                return kept is not None and kept.created_seq == seq
            case ConfigHasValue(value=value):
                return kept is not None and alike(kept.value, value)

    def wanted(self, command: ChangeConfig, session: str) -> list[tuple[Place, Any, str | None]]:
        """Return what a transaction changes: deletes, then puts; ``...`` is "gone"."""
        changes: list[tuple[Place, Any, str | None]] = [
            ((each.type, each.key), ..., None)
            for each in command.deletes
            if (each.type, each.key) in self.now
        ]
        for put in command.puts:
            owner = session if put.ephemeral else None
            kept = self.now.get((put.type, put.key))
            if kept is None or kept.owner != owner or not alike(kept.value, put.value):
                changes.append(((put.type, put.key), put.value, owner))
        return changes

    def owned(self, session: str) -> list[tuple[Place, Any, str | None]]:
        """Return what its end changes."""
        places = [place for place, kept in self.now.items() if kept.owner == session]
        return [(place, ..., None) for place in sorted(places, key=lambda p: (p[0], *p[1]))]

    def change(self, seqs: Sequence[int], changes: list[tuple[Place, Any, str | None]]) -> None:
        for seq, (place, value, owner) in zip(seqs, changes, strict=True):
            self.now = dict(self.now)
            if value is ...:
                del self.now[place]
            else:
                before = self.now.get(place)
                created_seq = seq if before is None else before.created_seq
                self.now[place] = Kept(value, owner, seq, created_seq)
            self._at.append((seq, self.now))

    def at(self, seq: int, kind: str, prefix: ConfigKey) -> dict[ConfigKey, Any]:
        """Return the values under a prefix at a seq."""
        there = [entries for since, entries in self._at if since <= seq][-1]
        return {
            key: kept.value
            for (its_kind, key), kept in there.items()
            if its_kind == kind and key[: len(prefix)] == prefix
        }

    def last_seq(self, kind: str, prefix: ConfigKey) -> int:
        """Return when something under a prefix changed last."""
        last, before = 0, self.at(0, kind, prefix)
        for seq, _ in self._at:
            if repr(now := self.at(seq, kind, prefix)) != repr(before):
                last, before = seq, now
        return last


def of_state(state: GraphState) -> dict[Place, Kept]:
    return {
        (key[0], key[1:]): Kept(held.value, held.owner, held.seq, held.created_seq)
        for key, held in state.config.entries.items()
    }


# --- one command after the other: every answer is the model's ---

commands = st.one_of(
    ours.config_changes(ephemeral=True),
    ours.config_changes(ephemeral=True),
    st.builds(Revert),
    st.none(),
)


@slow
@given(st.lists(st.tuples(st.integers(0, 5), commands), max_size=40))
def test_every_answer_and_every_state_is_that_of_a_plain_dict(
    steps: list[tuple[int, Any]],
) -> None:
    program, model = CoreProgram(), PlainDict()

    for client, command in steps:
        program.join(client)
        head = program.state.seq
        lease = program.core.connection_of(b"%d" % client)
        assert lease is not None
        session = lease.lease.client
        reply = program.do(client, command)
        if isinstance(command, ChangeConfig):
            check_answer(model, command, session, reply, head, KINDS[client % 3])
        else:
            gone = model.owned(session)
            model.change(range(head + 1, head + 1 + len(gone)), gone)
        assert repr(of_state(program.state)) == repr(in_order(program.state, model.now))
    assert program.state.config.owners == {k.owner for k in model.now.values()} - {None}


def in_order(state: GraphState, there: dict[Place, Kept]) -> dict[Place, Kept]:
    """Return the same in the order of the state's own dict, so that their texts can be compared."""
    order = [place for place in of_state(state) if place in there]
    assert len(order) == len(there)
    return {place: there[place] for place in order}


def check_answer(
    model: PlainDict, command: ChangeConfig, session: str, reply: object, head: int, kind: str
) -> None:
    keys = [(each.type, each.key) for each in command.changes]
    is_owned = any(put.ephemeral for put in command.puts)
    if len(set(keys)) < len(keys):
        expected = "invalid_command"
    elif not all(map(model.holds, command.conditions)):
        expected = "precondition_failed"
    elif is_owned and kind != "session":
        expected = "invalid_command"
    else:
        changes = model.wanted(command, session)
        assert reply == ConfigChanged(
            head + len(changes), len(changes), len(command.changes) - len(changes)
        )
        model.change(range(head + 1, head + 1 + len(changes)), changes)
        return
    assert isinstance(reply, Refusal), (command, reply)
    assert reply.code == expected


# --- several clients at once, a broker that dies, watchers and readers ---


class Doing(NamedTuple):
    """Something that happens so long after what happened before."""

    pause_s: float
    what: str
    client: int = 0
    command: ChangeConfig | None = None


doing = st.one_of(
    st.builds(
        Doing,
        st.floats(0.0, 0.02),
        st.just("change"),
        st.integers(0, 2),
        ours.config_changes(ephemeral=True),
    ),
    st.builds(
        Doing,
        st.floats(0.0, 0.3),
        st.sampled_from(
            ["crash", "crash decided", "crash stored", "crash answering", "compact", "cut",
             "deafen", "close", "revert", "consume", "consume", "watch"]
        ),
        st.integers(0, 5),
        st.none(),
    ),
    st.builds(
        Doing,
        st.floats(0.0, 0.3),
        st.just("read"),
        st.integers(0, 5),
        ours.config_changes(ephemeral=True),
    ),
)  # fmt: skip
doings = st.lists(doing, max_size=10) | st.lists(doing, min_size=20, max_size=60)
PREFIXES: list[tuple[str, ConfigKey]] = [
    ("flow", ()), ("flow", ("a",)), ("flow", ("a", "b")), ("flow2", ()), ("flow", ("ab",)),
    ("nothing", ()),
]  # fmt: skip
MOST_AT_ONCE_S = 60.0


class Watcher:
    """A watch, and the view that somebody keeps who follows it; checked at every event."""

    def __init__(self, watch: ConfigWatch, kind: str, prefix: ConfigKey) -> None:
        self.watch, self.kind, self.prefix = watch, kind, prefix
        self.told: list[tuple[int, dict[ConfigKey, Any]]] = []
        self.resets = 0
        self.vanished: list[ConfigKey] = []
        self.view: dict[ConfigKey, Any] = {}
        self.seq = -1

    def take(self) -> None:
        """Take one event, and note what the view is then, unless a picture is under way."""
        event = run(self.watch.__anext__())
        match str(event.kind):
            case "reset":
                self.resets += 1
                assert set(event.vanished) <= self.view.keys()
                self.vanished += event.vanished
                self.view = {k: v for k, v in self.view.items() if k not in event.vanished}
            case "initial":
                assert event.key is not None
                self.view[event.key] = event.value
            case "end_of_initial":
                self._note(event.seq)
            case "put":
                assert event.key is not None
                before = event.previous.value if event.previous else ...
                assert alike(before, self.view.get(event.key, ...))
                self.view[event.key] = event.value
                self._note(event.seq)
            case "deleted":
                assert event.key is not None
                del self.view[event.key]
                self._note(event.seq)
            case other:
                raise AssertionError(other)

    def _note(self, seq: int) -> None:
        assert seq >= self.seq, "a watch goes forward"
        self.seq = seq
        self.told.append((seq, dict(self.view)))


class Story:
    """One program on a simulated network."""

    def __init__(self, seed: int, *, keep: int | None) -> None:
        self.network = Network(seed)
        limits = Limits(chunk_events=3)
        config = BrokerConfig(
            ttl_s=60.0, limits=limits, checkpoint_events=10, retention=Retention(events=keep)
        )
        self.broker = SimulatedBroker(self.network, config)
        self.clients = [
            SimulatedClient(self.network, f"writer {number}", kind=kind).start()
            for number, kind in enumerate(["session", "session", "guest"])
        ]
        sessions = simulated_sessions(self.network)
        self.context = GraphContext(str(ADDRESS), session_factory=sessions, ttl_s=60.0)
        run(self.context.open())
        self.keep_running()
        self.watchers = [self.watching(*each) for each in PREFIXES]
        self.reads: list[tuple[ReadConfig, int, dict[ConfigKey, Any]]] = []

    def keep_running(self) -> None:
        """Start the broker again, soon after it has died."""
        self.broker.start()
        self.network.after(0.4, self.keep_running)

    @property
    def reader(self) -> SimulatedClient:
        """Who watches and reads."""
        return self.context._session.client  # type: ignore[union-attr, no-any-return]

    def watching(self, kind: str, prefix: ConfigKey) -> Watcher:
        return Watcher(self.context.config.watch(kind, prefix), kind, prefix)

    def do(self, doing: Doing) -> None:
        self.network.run(doing.pause_s)
        client = self.clients[doing.client % len(self.clients)]
        match doing.what.split():
            case ["change"]:
                self.change(client, doing.command)
            case ["crash"]:
                self.broker.crash()
            case ["crash", point]:
                self.broker.crash_at = point  # type: ignore[assignment]
            case ["compact"]:
                self.broker.compact()
            case ["cut"]:
                for link in client.links():
                    link.cut()
            case ["deafen"]:
                self.reader.events.drop_for(0.5)
            case ["close"]:
                client.close()
            case ["revert"]:
                client.call(Revert())
            case ["read"]:
                for pause_s in (0.001, 0.003, 0.006):
                    self.network.after(pause_s, lambda: self.change(client, doing.command))
                self.read(*PREFIXES[doing.client])
            case ["consume"]:
                self.consume(self.watchers[doing.client])
            case ["watch"]:
                self.watchers.append(self.watching(*PREFIXES[doing.client]))
            case other:
                raise AssertionError(other)

    def change(self, client: SimulatedClient, command: ChangeConfig | None) -> None:
        if command is not None:
            client.call(command)

    def read(self, kind: str, prefix: ConfigKey) -> None:
        """Read several pages while others change what they have."""
        command = ReadConfig(kind, prefix)
        found = run(read_entries(self.context._active(), command, MOST_AT_ONCE_S))
        there = {key: entry.value for key, entry in found.entries.items()}
        assert list(there) == sorted(there)
        self.reads.append((command, found.seq, there))

    def consume(self, watcher: Watcher) -> None:
        """Take what there is by now."""
        last = self.model().last_seq(watcher.kind, watcher.prefix)
        while watcher.seq < last:
            watcher.take()

    def model(self) -> PlainDict:
        """Do what was stored, command by command, to a plain dict: it must make the same events."""
        asked = {
            (lease, call.request_id): call.command
            for client in self.clients
            for call in client.calls
            for lease in client.lease_ids
            if call.request_id  # else it never left
        }
        model = PlainDict()
        for events in self.broker.history().transactions():
            of_config = [
                event
                for event in events
                if isinstance(event.body, ConfigValueSet | ConfigValueDeleted)
            ]
            session = events[0].source.session_id or ""
            command = asked.get((events[0].source.client or "", events[0].request_id or 0))
            if isinstance(command, ChangeConfig):
                assert all(map(model.holds, command.conditions))
                changes = model.wanted(command, session)
            elif is_end(command) or isinstance(events[-1].body, SessionClosed):
                changes = model.owned(session)
            else:
                changes = []
            assert len(changes) == len(of_config), (command, changes, of_config)
            model.change([event.seq for event in of_config], changes)
        return model

    def finish(self) -> None:
        """Everybody catches up, and everything that was said is what the dict was then."""
        self.broker.crash_at = None
        self.network.run(3.0)
        self.watchers += [self.watching(*each) for each in PREFIXES]
        for watcher in self.watchers:
            self.consume(watcher)
        for kind, prefix in PREFIXES:
            self.read(kind, prefix)
        model = self.model()
        for watcher in self.watchers:
            for seq, view in watcher.told:
                there = model.at(seq, watcher.kind, watcher.prefix)
                assert {k: repr(v) for k, v in view.items()} == {
                    k: repr(v) for k, v in there.items()
                }, (watcher.watch, seq)
        for command, seq, found in self.reads:
            there = model.at(seq, command.type, command.prefix)
            assert {k: repr(v) for k, v in found.items()} == {k: repr(v) for k, v in there.items()}
        self.check_promises()
        run(self.context.close())

    def check_promises(self) -> None:
        history = self.broker.history()
        check_history(history)
        for client in self.clients:
            check_calls(history, client)


def is_end(command: object) -> bool:
    return isinstance(command, Revert | Goodbye)


@settings(slow, max_examples=60)
@given(doings, st.integers(0, 1_000), st.sampled_from([None, 8]))
def test_watchers_and_readers_see_what_a_plain_dict_has_at_every_seq_they_report(
    program: list[Doing], seed: int, keep: int | None
) -> None:
    story = Story(seed, keep=keep)

    for doing in program:
        story.do(doing)

    story.finish()


def test_such_programs_reach_what_they_are_meant_to_try() -> None:
    """Resets, refusals, crashes and reads of several pages do happen in them."""
    story = Story(1, keep=8)
    for number in range(30):
        key = ("a", f"{number % 5}")
        story.do(Doing(0.05, "change", 0, ChangeConfig([ConfigPut("flow", key, number)])))
    story.do(Doing(0.1, "consume", 0))
    story.do(Doing(0.1, "crash stored"))
    for number in range(30):
        key = ("a", f"{number % 4}")
        story.do(Doing(0.05, "change", 1, ChangeConfig([ConfigPut("flow", key, -number)])))
    story.do(Doing(0.1, "compact"))
    story.do(Doing(0.1, "cut"))

    story.finish()

    assert story.broker.crashes == 1
    assert [seq for _, seq, found in story.reads if len(found) == 5]
    assert len(story.watchers[0].told) > 30


def test_a_watcher_that_is_far_behind_begins_anew_and_is_told_what_vanished() -> None:
    story = Story(1, keep=None)
    watcher = story.watchers[0]
    for key in ("a", "b", "c"):
        story.do(Doing(0.05, "change", 0, ChangeConfig([ConfigPut("flow", (key,), 1)])))
    story.do(Doing(0.1, "consume", 0))

    story.do(Doing(0.0, "deafen"))
    gone = ChangeConfig([], [ConfigDelete("flow", ("a",)), ConfigDelete("flow", ("b",))])
    story.do(Doing(0.05, "change", 0, gone))
    story.do(Doing(0.05, "change", 0, ChangeConfig([ConfigPut("flow", ("d",), 1)])))
    story.do(Doing(0.1, "compact"))
    story.finish()

    assert watcher.resets == 1
    assert watcher.vanished == [("a",), ("b",)]
    assert set(watcher.view) == {("c",), ("d",)}


# --- keys, order, values ---

names = st.text(min_size=1, max_size=6) | st.text("a:%/\0é\u202e", min_size=1, max_size=4)
keys = st.lists(names, min_size=1, max_size=4).map(tuple)


@given(keys)
def test_every_key_has_one_text_that_shows_and_stands_for_it(key: ConfigKey) -> None:
    text = config_key_text(key)

    assert text.isprintable()
    assert parse_config_key(text) == as_config_key(text) == key


@given(keys, keys)
def test_different_keys_have_different_texts(one: ConfigKey, other: ConfigKey) -> None:
    assert (config_key_text(one) == config_key_text(other)) == (one == other)


@given(st.text(max_size=12) | st.text("a:%25\0", max_size=8))
def test_a_text_stands_for_a_key_or_is_refused(text: str) -> None:
    with suppress(InvalidKeyError):
        assert parse_config_key(config_key_text(parse_config_key(text))) == parse_config_key(text)


few_keys = st.lists(st.sampled_from(["a", "b", "ab", "c"]), min_size=1, max_size=3).map(tuple)


@given(st.lists(few_keys, max_size=40), few_keys, st.integers(1, 4))
def test_ordered_keys_are_a_sorted_list(
    toggled: list[ConfigKey], at: ConfigKey, chunk: int
) -> None:
    before, ordered.CHUNK = ordered.CHUNK, chunk
    try:
        found = OrderedKeys()
        there: set[ConfigKey] = set()
        for key in toggled:
            (found.remove if key in there else found.add)(key)
            there ^= {key}
            assert list(found.since(())) == sorted(there)
            assert list(found.since(at)) == sorted(each for each in there if each >= at)
            assert list(found.after(at)) == sorted(each for each in there if each > at)
    finally:
        ordered.CHUNK = before


@slow
@given(ours.plain_values, ours.plain_values)
def test_values_are_the_same_when_their_bytes_are(one: object, other: object) -> None:
    same_bytes = values.pack(one) == values.pack(other)

    assert is_same_value(one, one)
    assert is_same_value(one, values.unpack(values.pack(one)))
    assert not same_bytes or is_same_value(one, other)
    assert is_same_value(one, other) == is_same_value(other, one)


patterns = st.builds(
    lambda names: KeyPattern((NamePattern("config", is_open=False), *names)),
    st.lists(
        st.builds(NamePattern, st.sampled_from(["", "a", "b", "flow"]), st.booleans()), max_size=3
    ).map(tuple),
)


@slow
@given(
    st.sets(few_keys, max_size=30),
    st.lists(st.sampled_from(["a", "ab", "b"]), max_size=2).map(tuple),
    st.none() | st.lists(st.builds(NamePattern, st.sampled_from(["a", ""]), st.booleans()),
                         min_size=1, max_size=3),
    st.just((EVERY_KEY,)) | st.lists(patterns, max_size=2).map(normal),
    st.integers(1, 5),
    st.integers(1, 4),
)  # fmt: skip
def test_pages_add_up_to_what_was_asked_for_and_may_be_read(
    there: set[ConfigKey],
    prefix: ConfigKey,
    match: list[NamePattern] | None,
    reads: tuple[KeyPattern, ...],
    examined: int,
    per_page: int,
) -> None:
    scope, state = ReadScope(1, reads), GraphState()
    for seq, key in enumerate(sorted(there, key=hash), 1):
        body = ConfigValueSet("flow", key, seq)
        state.apply(Event(1, seq, seq - 1, seq, seq, 1.0, 1.0, key_of(body), Source(), None, body))
    expected = [
        key
        for key in sorted(there)
        if key[: len(prefix)] == prefix
        and any(pattern.matches(("config", "flow", *key)) for pattern in reads)
        and (match is None or (len(match) == len(key) and all(
            name.matches(part) for name, part in zip(match, key, strict=True)
        )))
    ]  # fmt: skip

    before, reads_config.EXAMINED = reads_config.EXAMINED, examined
    try:
        found = paged(state, ReadConfig("flow", prefix, match), scope, per_page)
    finally:
        reads_config.EXAMINED = before

    assert found == expected


def paged(
    state: GraphState, command: ReadConfig, scope: ReadScope, per_page: int
) -> list[ConfigKey]:
    found: list[ConfigKey] = []
    after: ConfigKey | None = ()
    while after is not None:
        page = None
        read = ConfigRead(ReadConfig(command.type, command.prefix, command.match, after), scope, 0)
        while page is None:
            page, _ = read.look(state.config, seq=0, limits=Limits(chunk_events=per_page))
        assert isinstance(page, ConfigPage)
        assert page.next_after is None or len(page.entries) == per_page
        found += [entry.key for entry in page.entries]
        after = page.next_after
    return found
