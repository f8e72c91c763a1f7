"""What a state comes to as a graph, and its fingerprint, kept as the state changes.

The content of a state is its wiring, metadata, effective settings and configuration, whoever holds
and whenever they were made so: the slots of `ezgraph.protocol.graphs`. The first time somebody asks
for the fingerprint all of it is digested; from then on `GraphState.apply` says which slots an event
touches, and those alone are digested anew when somebody asks again. Until somebody asks nothing is
kept; a broker asks for it, some of it at a time, when nothing else happens.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, assert_never

from ezgraph.errors import EzGraphError
from ezgraph.protocol.config import config_key_text, parse_config_key
from ezgraph.protocol.events import (
    AccessRefused,
    Body,
    ComponentRegistered,
    ComponentRemoved,
    ConfigSchemaSet,
    ConfigValueDeleted,
    ConfigValueSet,
    EdgeConnected,
    EdgeDisconnected,
    GraphRegistered,
    GraphRemoved,
    GraphServed,
    GraphWithdrawn,
    HistoryCompacted,
    NodeAnnounced,
    NodeWithdrawn,
    PartitionsWritten,
    PauseChanged,
    ProcessClosed,
    ProcessOpened,
    ProcessTakenOver,
    ProcessUnitsChanged,
    RecordingDeleted,
    RecordingWritten,
    SessionClosed,
    SessionOpened,
    SessionTakenOver,
    SettingsChanged,
    SettingsOwed,
    SettingsSettled,
    SnapshotFrozen,
    StateRestored,
    StoredDeleted,
    TagRemoved,
    TagSet,
)
from ezgraph.protocol.fingerprint_tree import FingerprintTree
from ezgraph.protocol.graphs import (
    DOMAIN,
    NO_CONTENT,
    Graph,
    component_digest,
    content_digest,
    remember_fingerprint,
    settings_digest,
)
from ezgraph.protocol.settings import initial_value
from ezgraph.protocol.stored import ComponentPart, ConfigPart, EdgePart, SettingsPart

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.names import Key
    from ezgraph.protocol.events import Slot
    from ezgraph.protocol.fingerprints import Fingerprint, Memo
    from ezgraph.protocol.settings import SettingsSnapshotValue
    from ezgraph.protocol.stored import Part
    from ezgraph.state.config import HeldEntry
    from ezgraph.state.graph import ComponentEntry, GraphState, SettingEntry

_MOST_REMEMBERED = 1_000


class Content:
    """The fingerprint of one state's content."""

    def __init__(self, state: GraphState) -> None:
        self._state = state
        self._tree = FingerprintTree(DOMAIN)
        self._first = _slots(state)
        self._unlisted = slots_in(state)
        self._touched: set[Slot] = set()
        self._memo: Memo = {}

    def __repr__(self) -> str:
        return f"<Content {self._tree!r} left={self.left}>"

    def touch(self, body: Body) -> None:
        """Take note that an event was applied."""
        self._touched.update(touched(body))

    @property
    def is_current(self) -> bool:
        """Whether `fingerprint` has nothing to digest."""
        return not self.left

    @property
    def left(self) -> int:
        """How many slots `fingerprint` has to digest."""
        return self._unlisted + len(self._touched)

    def digest_some(self, most: int) -> None:
        """Digest up to ``most`` of the slots that are left, so that a loop can go on."""
        for slot in islice(self._first, min(most, self._unlisted)):
            self._unlisted -= 1
            self._touched.add(slot)  # until it is digested, should that fail
            self._digest(slot)
            self._touched.discard(slot)
            most -= 1
        for _ in range(min(most, len(self._touched))):
            slot = self._touched.pop()
            try:
                self._digest(slot)
            except EzGraphError:
                self._touched.add(slot)
                raise

    def tree(self) -> FingerprintTree:
        """Return the digests of all slots as they are now; do not change it."""
        self.digest_some(self.left)
        return self._tree

    def fingerprint(self) -> Fingerprint:
        """Return the fingerprint of the content as it is now."""
        self.digest_some(self.left)
        return self._tree.fingerprint()

    def _digest(self, slot: Slot) -> None:
        content = self._content(slot)
        if content is None:
            self._tree.remove(slot)
        else:
            self._tree.put(slot, content)

    def _content(self, slot: Slot) -> bytes | None:
        """Return the digest of what stands in a slot; None: nothing."""
        state = self._state
        match slot:
            case ("edge", start, end):
                return NO_CONTENT if (start, end) in state.dag.edge_owners else None
            case ("component", address):
                entry = state.components.get(address)
                return None if entry is None else component_digest(entry.metadata, self._kept())
            case ("settings", address):
                value = settings_at(state, address)
                return None if value is None else settings_digest(value, self._kept())
            case ("config", kind, text):
                held = state.config.get(kind, parse_config_key(text))
                return None if held is None else content_digest(held.value)
            case _:
                raise AssertionError(f"no content stands in {slot!r}")

    def _kept(self) -> Memo:
        if len(self._memo) > _MOST_REMEMBERED:
            self._memo.clear()
        return self._memo


def slots_in(state: GraphState) -> int:
    """Return how many slots a state has to begin with."""
    addresses = len(state.settings.keys() | state.components.keys())
    return len(state.dag.edge_owners) + len(state.components) + addresses + len(state.config)


def _slots(state: GraphState) -> Iterator[Slot]:
    """Return all slots there are by now, whatever becomes of them while they are gone through."""
    edges, components = list(state.dag.edge_owners), list(state.components)
    others = [*(state.settings.keys() - state.components.keys())]
    entries = list(state.config.entries)
    return chain(
        (("edge", *edge) for edge in edges),
        # Together: what a component began with is encoded once.
        ((room, address) for address in components for room in ("component", "settings")),
        (("settings", address) for address in others),
        (("config", kind, config_key_text(key)) for kind, *key in entries),
    )


def touched(body: Body) -> tuple[Slot, ...]:
    """Return the slots of the content that an event may change."""
    match body:
        case EdgeConnected() | EdgeDisconnected():
            return (("edge", body.from_topic, body.to_topic),)
        case ComponentRegistered():
            address = body.component.address
            return (("component", address), ("settings", address))
        case ComponentRemoved():
            return (("component", body.address), ("settings", body.address))
        case SettingsChanged():
            return (("settings", body.address),)
        case ConfigValueSet() | ConfigValueDeleted():
            return (("config", body.type, config_key_text(body.key)),)
        case (
            SessionOpened()
            | SessionTakenOver()
            | SessionClosed()
            | ProcessOpened()
            | ProcessTakenOver()
            | ProcessClosed()
            | ProcessUnitsChanged()
            | GraphRegistered()
            | GraphRemoved()
            | PauseChanged()
            | ConfigSchemaSet()
            | GraphServed()
            | GraphWithdrawn()
            | NodeAnnounced()
            | NodeWithdrawn()
            | HistoryCompacted()
            | AccessRefused()
            | SnapshotFrozen()
            | TagSet()
            | TagRemoved()
            | PartitionsWritten()
            | RecordingWritten()
            | RecordingDeleted()
            | StoredDeleted()
            | StateRestored()
            | SettingsOwed()
            | SettingsSettled()
        ):
            return ()
    assert_never(body)


def settings_at(state: GraphState, address: str) -> SettingsSnapshotValue | None:
    """Return the effective settings at an address; None: there are none."""
    if (entry := state.settings.get(address)) is not None:
        return entry.value
    component = state.components.get(address)
    return None if component is None else initial_value(component.metadata)


@dataclass(frozen=True, slots=True)
class FrozenContent:
    """The content of a state at ``seq``: what stands in it is replaced by events, never changed."""

    epoch: int
    seq: int
    fingerprint: Fingerprint
    edges: tuple[tuple[str, str], ...]
    components: dict[str, ComponentEntry]
    settings: dict[str, SettingEntry]
    config: dict[Key, HeldEntry]

    @classmethod
    def of(cls, state: GraphState) -> FrozenContent:
        """Return what a state is now, at the price of some copies of dictionaries."""
        return cls(
            state.epoch,
            state.seq,
            state.content_fingerprint(),
            tuple(state.dag.edge_owners),
            dict(state.components),
            dict(state.settings),
            dict(state.config.entries),
        )

    @property
    def size(self) -> int:
        """How many parts it has, roughly."""
        return sum(map(len, (self.edges, self.components, self.settings, self.config)))

    def parts(self) -> Iterator[tuple[str, Part]]:
        """Yield its parts, as `ezgraph.backends.stored_graphs.graph_parts` does of a graph."""
        for start, end in sorted(self.edges):
            yield f"edge {start} {end}", EdgePart(start, end)
        for address in sorted(self.components):
            yield f"component {address}", ComponentPart(self.components[address].metadata)
        for address in sorted(self.settings.keys() | self.components.keys()):
            yield f"settings {address}", SettingsPart(address, self._settings_at(address))
        texts = {(kind, config_key_text(key)): (kind, *key) for kind, *key in self.config}
        for kind, text in sorted(texts):
            held = self.config[texts[kind, text]]
            yield f"config {kind} {text}", ConfigPart(kind, text, held.value)

    def _settings_at(self, address: str) -> SettingsSnapshotValue:
        entry = self.settings.get(address)
        return initial_value(self.components[address].metadata) if entry is None else entry.value


def graph_of(state: GraphState, name: str) -> Graph:
    """Return a state's content as a graph of this name; it knows its fingerprint."""
    addresses = state.settings.keys() | state.components.keys()
    graph = Graph(
        name,
        topology=list(state.dag.edge_owners),
        components={address: entry.metadata for address, entry in state.components.items()},
        settings={
            address: value
            for address in addresses
            if (value := settings_at(state, address)) is not None
        },
        config={
            kind: {config_key_text(key): entry.value for key, entry in entries.items()}
            for kind, entries in state.config.by_type().items()
        },
    )
    remember_fingerprint(graph, state.content_fingerprint())
    return graph
