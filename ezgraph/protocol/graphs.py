"""A rig as it is stored: its graph, and snapshots of that graph.

A graph's fingerprint is that of its content and of nothing else: two graphs of equal wiring,
metadata, settings, configuration, artifacts and producers have the same, whatever they are named,
whenever they were taken, and whoever held what. It is a tree (`fingerprint_tree`) in the domain
``ezgraph.graph`` with these slots; the content is digested in the domain ``ezgraph.part``, from its
encoding by names (``k`` in `fingerprints`):

=================================  ===========================================================
``("edge", from, to)``             None
``("component", address)``         the metadata; of the initial settings only the structured form
                                   where there is one
``("settings", address)``          the structured form; where there is none, (bytes, text)
``("config", type, key)``          the value
``("artifact", key)``              the artifact
``("producer", its fingerprint)``  the producer
=================================  ===========================================================

So what a program attaches in opaque bytes (another run may well spell the same settings otherwise)
counts only where nothing else says what the settings are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ezgraph.errors import InvalidValueError
from ezgraph.protocol.artifacts import Artifact, Producer, check_fingerprint, check_name
from ezgraph.protocol.fingerprint_tree import FingerprintTree, Slot
from ezgraph.protocol.fingerprints import Fingerprint, Memo, digest, named, named_with
from ezgraph.protocol.json_form import JsonValue
from ezgraph.protocol.metadata import ComponentMetadata
from ezgraph.protocol.settings import SettingsSnapshotValue, settings_value
from ezgraph.protocol.snapshot import Edge
from ezgraph.protocol.tagged import to_tagged

if TYPE_CHECKING:
    from ezgraph.protocol.listing import SnapshotInfo

DOMAIN = "ezgraph.graph"
_UNKNOWN = Fingerprint.empty()
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, init=False)
class Graph(JsonValue):
    """What a rig is at one moment: how it is wired and set, and what it makes.

    ``artifacts`` by key, ``topology`` the edges in order, ``components`` and ``settings`` by
    address, ``config`` by type and key as text (``chunker:default``). Settings may be given as any
    settings object, artifacts as a sequence, the topology as a mapping of topics. Do not change
    what a graph holds: make another with `dataclasses.replace`.
    """

    name: str
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    producers: tuple[Producer, ...] = ()
    topology: tuple[Edge, ...] = ()
    components: dict[str, ComponentMetadata] = field(default_factory=dict)
    settings: dict[str, SettingsSnapshotValue] = field(default_factory=dict)
    config: dict[str, dict[str, Any]] = field(default_factory=dict)
    _fingerprint: Fingerprint = field(default=_UNKNOWN, init=False, repr=False, compare=False)

    def __init__(
        self,
        name: str,
        artifacts: Mapping[str, Artifact] | Iterable[Artifact] = (),
        producers: Iterable[Producer] = (),
        topology: Iterable[tuple[str, str]] | Mapping[str, Iterable[str]] = (),
        components: Mapping[str, ComponentMetadata] = _NOTHING,
        settings: Mapping[str, object] = _NOTHING,
        config: Mapping[str, Mapping[str, Any]] = _NOTHING,
    ) -> None:
        """Check everything, and keep it in order."""
        made = {
            "name": check_name(name, "a graph"),
            "artifacts": _artifacts(artifacts),
            "producers": _producers(producers),
            "topology": _topology(topology),
            "components": _components(components),
            "settings": _settings(settings),
            "config": _config(config),
            "_fingerprint": _UNKNOWN,
        }
        for field_name, value in made.items():
            object.__setattr__(self, field_name, value)

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the content; it is computed once."""
        if self._fingerprint.is_empty:
            tree = FingerprintTree(DOMAIN)
            for slot, content in contents(self):
                tree.put(slot, content)
            remember_fingerprint(self, tree.fingerprint())
        return self._fingerprint

    def __hash__(self) -> int:
        return hash((self.name, self.fingerprint))

    def __repr__(self) -> str:
        return (
            f"<Graph {self.name!r} edges={len(self.topology)} components={len(self.components)} "
            f"settings={len(self.settings)} artifacts={len(self.artifacts)}>"
        )


def remember_fingerprint(graph: Graph, fingerprint: Fingerprint) -> None:
    """Let a graph know its fingerprint, which was computed or verified elsewhere."""
    object.__setattr__(graph, "_fingerprint", fingerprint)


@dataclass(frozen=True, slots=True)
class Snapshot(JsonValue):
    """A graph, and when it was so: at ``seq`` of ``epoch``, ``time`` in seconds since 1970.

    ``fingerprint`` is the graph's; left out, it is computed, and given, it is checked.
    """

    graph: Graph
    seq: int = 0
    epoch: int = 0
    time: float = 0.0
    fingerprint: Fingerprint = _UNKNOWN
    reason: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.graph, Graph):
            raise InvalidValueError(f"a snapshot is of a Graph, not of {self.graph!r:.60}")
        for name in ("seq", "epoch"):
            _check_number(name, getattr(self, name))
        if type(self.time) not in (int, float) or not math.isfinite(self.time):
            raise InvalidValueError(
                f"time of a snapshot is {self.time!r:.60}; give seconds since 1970"
            )
        if not isinstance(self.reason, str):
            raise InvalidValueError(f"reason of a snapshot is {self.reason!r:.60}; give a text")
        given, found = check_fingerprint(self.fingerprint, "fingerprint"), self.graph.fingerprint
        if not given.is_empty and given != found:
            raise InvalidValueError(
                f"a snapshot of graph {self.graph.name!r} cannot have the fingerprint {given}: "
                f"its graph's is {found}. Leave it out to have it computed"
            )
        object.__setattr__(self, "fingerprint", found)
        object.__setattr__(self, "time", float(self.time))

    @property
    def name(self) -> str:
        """The graph's name."""
        return self.graph.name

    def __hash__(self) -> int:
        return hash((self.name, self.fingerprint, self.epoch, self.seq, self.time))

    def __repr__(self) -> str:
        return f"<Snapshot {self.name!r} {self.fingerprint} epoch={self.epoch} seq={self.seq}>"


class LazySnapshot(Snapshot):
    """A snapshot like any other, of which ``graph`` is made when somebody first asks for it."""

    __slots__ = ("_name", "_read")
    _name: str
    _read: Callable[[], Graph]

    @classmethod
    def of(cls, info: SnapshotInfo, read: Callable[[], Graph]) -> LazySnapshot:
        """Return the snapshot that ``info`` tells of; ``read`` returns its graph."""
        made = object.__new__(cls)
        for name in ("seq", "epoch", "time", "fingerprint", "reason"):
            object.__setattr__(made, name, getattr(info, name))
        object.__setattr__(made, "_name", info.name)
        object.__setattr__(made, "_read", read)
        return made

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - asked for what is not there yet
        if name != "graph" or not hasattr(self, "_read"):
            raise AttributeError(f"a snapshot has no {name!r}")
        graph = self._read()
        object.__setattr__(self, "graph", graph)
        return graph

    @property
    def name(self) -> str:
        """The graph's name."""
        return self._name if hasattr(self, "_name") else self.graph.name

    def __eq__(self, other: object) -> bool:
        """Compare what is of equal content, without a look at it."""
        if not isinstance(other, Snapshot):
            return NotImplemented
        return _told(self) == _told(other)

    __hash__ = Snapshot.__hash__

    def to_json(self, *, indent: int | None = None) -> str:
        """Return it as JSON text, which `Snapshot.from_json` reads."""
        told = self.seq, self.epoch, self.time, self.fingerprint, self.reason
        return Snapshot(self.graph, *told).to_json(indent=indent)


def _told(snapshot: Snapshot) -> tuple[object, ...]:
    at = snapshot.epoch, snapshot.seq, snapshot.time
    return snapshot.name, snapshot.fingerprint, *at, snapshot.reason


def _check_number(name: str, value: object) -> None:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise InvalidValueError(f"{name} of a snapshot is {value!r:.60}; give a whole number")


# --- what a graph is made of ---


def _artifacts(given: object) -> dict[str, Artifact]:
    if not isinstance(given, Mapping):
        listed = _listed(given, "artifacts", Artifact)
        given = {each.key: each for each in listed}
        if len(given) < len(listed):
            raise InvalidValueError("two artifacts of a graph have the same key; give each its own")
    return _by_name(given, "an artifact", Artifact)


def _producers(given: object) -> tuple[Producer, ...]:
    found = dict.fromkeys(_listed(given, "producers", Producer))
    made: dict[str, Producer] = {}
    for producer in found:
        for key in producer.outputs:
            if made.setdefault(key, producer) is not producer:
                raise InvalidValueError(
                    f"artifact {key!r} is the output of two producers ({made[key]}, {producer}); "
                    f"an artifact has one"
                )
    return tuple(found)


def _topology(given: object) -> tuple[Edge, ...]:
    if isinstance(given, Mapping):
        given = [(start, end) for start, ends in given.items() for end in ends]
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InvalidValueError(f"topology is {given!r:.60}; give edges as pairs of topics")
    return tuple(sorted({_edge(each) for each in given}))


def _edge(given: object) -> Edge:
    match given:
        case (str(start), str(end)) if start and end:
            return Edge(start, end)
    raise InvalidValueError(f"{given!r:.60} is no edge; give a pair (from_topic, to_topic)")


def _components(given: object) -> dict[str, ComponentMetadata]:
    found = _by_name(given, "a component", ComponentMetadata)
    for address, component in found.items():
        if component.address != address:
            raise InvalidValueError(
                f"the component at {address!r} says that its address is {component.address!r}"
            )
    return found


def _settings(given: object) -> dict[str, SettingsSnapshotValue]:
    if not isinstance(given, Mapping):
        raise InvalidValueError(f"settings are {given!r:.60}; give a mapping of address to value")
    found = {address: settings_value(value) for address, value in given.items()}
    return _by_name(found, "settings", SettingsSnapshotValue)


def _config(given: object) -> dict[str, dict[str, Any]]:
    types = _by_name(given, "a type of configuration", Mapping)
    made = {
        kind: _by_name(entries, "a key of configuration", object)
        for kind, entries in types.items()
        if entries
    }
    for kind, entries in made.items():
        for key, value in entries.items():
            try:
                to_tagged(value)
            except (InvalidValueError, RecursionError) as error:
                raise InvalidValueError(f"config {kind!r} {key!r}: {error}") from error
    return made


def _listed(given: object, what: str, kind: type) -> list[Any]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InvalidValueError(f"{what} are {given!r:.60}; give a sequence of {kind.__name__}")
    found = list(given)
    for each in found:
        if not isinstance(each, kind):
            raise InvalidValueError(f"among {what} is {each!r:.60}; give a {kind.__name__}")
    return found


def _by_name(given: object, what: str, kind: type) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise InvalidValueError(f"{given!r:.60} does not map {what} by name; give a mapping")
    for name, value in given.items():
        if not isinstance(name, str) or not name:
            raise InvalidValueError(f"{name!r:.60} cannot name {what}: give a non-empty text")
        if not isinstance(value, kind):
            raise InvalidValueError(f"{what} {name!r:.60} is {value!r:.60}; give a {kind.__name__}")
    return {name: given[name] for name in sorted(given)}


# --- its fingerprint, part by part ---


def content_digest(content: object, memo: Memo | None = None) -> bytes:
    """Return the 16 bytes that stand for the content of a slot."""
    return digest("ezgraph.part", named(content, memo))


def component_digest(component: ComponentMetadata, memo: Memo | None = None) -> bytes:
    """Return the digest of a component's metadata."""
    serialized, shown = component.initial_settings
    if serialized is not None and isinstance(shown, dict):
        instead = {"initial_settings": (None, shown)}
        return digest("ezgraph.part", named_with(component, instead, memo))
    return content_digest(component, memo)


def settings_digest(value: SettingsSnapshotValue, memo: Memo | None = None) -> bytes:
    """Return the digest of the settings at an address."""
    shown = value.structured_value
    if shown is None and isinstance(value.repr_value, dict):
        shown = value.repr_value
    told = shown if shown is not None else (value.serialized, value.repr_value)
    return content_digest(told, memo)


NO_CONTENT = content_digest(None)
"""The digest of an edge: it is there."""


def contents(graph: Graph) -> Iterator[tuple[Slot, bytes]]:
    """Yield the slots of a graph, each with the digest of its content."""
    memo: Memo = {}
    for edge in graph.topology:
        yield ("edge", *edge), NO_CONTENT
    for address, component in graph.components.items():
        yield ("component", address), component_digest(component, memo)
    for address, value in graph.settings.items():
        yield ("settings", address), settings_digest(value)
    for kind, entries in graph.config.items():
        for key, value in entries.items():
            yield ("config", kind, key), content_digest(value)
    for key, artifact in graph.artifacts.items():
        yield ("artifact", key), content_digest(artifact)
    for producer in graph.producers:
        yield ("producer", str(producer.fingerprint)), content_digest(producer)
