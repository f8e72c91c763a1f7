r"""What a picture shows: the topics of a snapshot, where each stands, what leads where. Pure.

A topic stands in the component that names it in its metadata (as a stream, topic or relay), else
in the component whose address it begins with, else alone. Address segments (``SYS/UNIT_A``)
nest. Where a unit's tasks say which of its wired topics lead to which, that is a link *inside*.

A topic's *path* is the segments of its component's address and its own name. Compacting by ``n``
leaves the innermost ``n`` levels of each path out (1: topics become their units, 2: units their
collections), but never so far that a node would stand beside what lies inside it.

Names are shown as they are, but for what cannot be seen or would steer a terminal: that is shown
as an escape (``\x1b``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ezgraph.protocol.metadata import CollectionMetadata, ComponentMetadata, UnitMetadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ezgraph.protocol.snapshot import GraphSnapshot

Path = tuple[str, ...]
"""Where a node stands: the segments of its component's address, and its own name."""

Link = tuple[Path, Path]


def visible(name: str) -> str:
    """Return ``name`` on one line, with escapes for characters that cannot be seen."""
    if name.isprintable():
        return name
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in name
    )


@dataclass(frozen=True, slots=True)
class Wiring:
    """Nodes and links, sorted. ``path_of`` says where each topic stands."""

    path_of: dict[str, Path]
    edges: list[Link]
    inside: list[Link]

    @property
    def nodes(self) -> list[Path]:
        """Every place a topic stands at, sorted."""
        return sorted(set(self.path_of.values()))

    def compact(self, levels: int) -> Wiring:
        """Return the wiring without the innermost ``levels`` of every path."""
        if not levels:
            return self
        cut = {path: path[: max(1, len(path) - levels)] for path in self.nodes}
        while True:
            groups = {short[:end] for short in cut.values() for end in range(1, len(short))}
            grown = {
                path: path[: len(short) + 1]
                for path, short in cut.items()
                if short in groups and len(short) < len(path)
            }
            if not grown:
                break
            cut.update(grown)
        return Wiring(
            {topic: cut[path] for topic, path in self.path_of.items()},
            _between(self.edges, cut),
            _between(self.inside, cut),
        )


def _between(links: Iterable[Link], cut: dict[Path, Path]) -> list[Link]:
    found = {(cut[start], cut[end]) for start, end in links}
    return sorted((start, end) for start, end in found if start != end)


def wiring_of(snapshot: GraphSnapshot) -> Wiring:
    """Return what a picture of ``snapshot`` shows."""
    topics = set(snapshot.graph)
    topics.update(end for ends in snapshot.graph.values() for end in ends)
    components = _components(snapshot)
    named = _named_topics(components)
    path_of: dict[str, Path] = {}
    taken: set[Path] = set()
    for topic in sorted(topics):
        places = _paths(topic, named, components)
        path_of[topic] = next(path for path in places if path not in taken)
        taken.add(path_of[topic])
    edges = sorted(
        (path_of[start], path_of[end]) for start, ends in snapshot.graph.items() for end in ends
    )
    inside = {
        (path_of[start], path_of[end])
        for component in components.values()
        for start, end in _ways_through(component)
        if start in path_of and end in path_of and path_of[start] != path_of[end]
    }
    return Wiring(path_of, edges, sorted(inside.difference(edges)))


def _components(snapshot: GraphSnapshot) -> dict[str, ComponentMetadata]:
    found: dict[str, ComponentMetadata] = {}
    for session in snapshot.sessions.values():
        if session.metadata is not None:
            found.update(session.metadata.components)
    return {address: found[address] for address in sorted(found)}


def _named_topics(components: dict[str, ComponentMetadata]) -> dict[str, str]:
    """Return which component names each topic in its metadata."""
    named: dict[str, str] = {}
    for address, component in components.items():
        match component:
            case UnitMetadata():
                own = [stream.address for stream in component.streams.values()]
            case CollectionMetadata():
                ends = (*component.topics.values(), *component.relays.values())
                own = [each.address for each in ends]
            case _:
                own = []
        for topic in own:
            named.setdefault(topic, address)
    return named


def _paths(
    topic: str, named: dict[str, str], components: dict[str, ComponentMetadata]
) -> Iterator[Path]:
    """Yield where a topic may stand, best first; the last place no other topic can take."""
    home = named.get(topic) or _enclosing(topic, components)
    if home is not None:
        segments = home.split("/")
        yield (*segments, topic.removeprefix(home + "/"))
        yield (*segments, topic)
    yield (topic,)


def _enclosing(topic: str, components: dict[str, ComponentMetadata]) -> str | None:
    """Return the longest component address that ``topic`` begins with."""
    end = topic.rfind("/")
    while end > 0:
        if topic[:end] in components:
            return topic[:end]
        end = topic.rfind("/", 0, end)
    return None


def _ways_through(component: ComponentMetadata) -> Iterator[tuple[str, str]]:
    """Yield (topic read, topic written) of every task of a unit."""
    if not isinstance(component, UnitMetadata):
        return
    streams = component.streams
    for task in component.tasks:
        if task.subscribes is None:
            continue
        start = streams[task.subscribes].address if task.subscribes in streams else task.subscribes
        for each in task.publishes:
            yield start, streams[each].address if each in streams else each
