"""What differs between two graphs, in the words in which one speaks of a rig.

Settings and metadata are compared field by field; a component that stands at another address, with
all else as it was, has moved. Everything is in sorted order, so that equal pairs of graphs have
equal differences.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from itertools import count
from typing import Any

from ezgraph.protocol.fingerprints import Fingerprint, named_with
from ezgraph.protocol.graphs import Graph, component_digest, content_digest, settings_digest
from ezgraph.protocol.json_form import JsonValue
from ezgraph.protocol.metadata import ComponentMetadata, SettingsSchemaMetadata
from ezgraph.protocol.settings import SettingsSnapshotValue
from ezgraph.protocol.snapshot import Edge

_ABSENT = object()
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field that is not the same: ``path`` leads to it, as in ``("parameters", "gain")``.

    ``old`` and ``new`` are None where there is none; `was_there` and `is_there` tell that from a
    value of None. Of settings ``old_unit`` and ``new_unit`` are what the schemas say the values are
    in; None: nothing.
    """

    path: tuple[str, ...]
    old: Any = None
    new: Any = None
    was_there: bool = True
    is_there: bool = True
    old_unit: str | None = None
    new_unit: str | None = None


@dataclass(frozen=True, slots=True)
class Changed:
    """What is in both graphs and is not the same: a component, settings, an artifact."""

    name: str
    fields: list[FieldChange]


@dataclass(frozen=True, slots=True)
class Moved:
    """A component that stands at another address, with all else as it was."""

    old_address: str
    new_address: str


@dataclass(frozen=True, slots=True)
class Part:
    """What was added, removed and changed of one part of a graph, by name."""

    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    changed: list[Changed] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True, slots=True)
class GraphDiff(JsonValue):
    """What differs from graph ``old`` to graph ``new``; false if nothing does.

    ``config`` names entries as ``type key``; ``producers`` as ``outputs <- inputs``.
    """

    old: Fingerprint
    new: Fingerprint
    edges_added: list[Edge] = field(default_factory=list)
    edges_removed: list[Edge] = field(default_factory=list)
    moved: list[Moved] = field(default_factory=list)
    components: Part = field(default_factory=Part)
    settings: Part = field(default_factory=Part)
    config: Part = field(default_factory=Part)
    artifacts: Part = field(default_factory=Part)
    producers: Part = field(default_factory=Part)

    def __bool__(self) -> bool:
        parts = self.components, self.settings, self.config, self.artifacts, self.producers
        return bool(self.edges_added or self.edges_removed or self.moved or any(parts))

    def _repr_html_(self) -> str:
        """Return the tables of what differs for a notebook."""
        from ezgraph.protocol.difference_html import difference_html

        return difference_html(self)


def difference(old: Graph, new: Graph) -> GraphDiff:
    """Return what differs from ``old`` to ``new``; their names do not count."""
    before, after = set(old.topology), set(new.topology)
    moved = _moved(old, new)
    from_address = {each.new_address: each.old_address for each in moved}
    settings = _settings(old, new, from_address)
    return GraphDiff(
        old=old.fingerprint,
        new=new.fingerprint,
        edges_added=sorted(after - before),
        edges_removed=sorted(before - after),
        moved=moved,
        components=_components(old, new, from_address, settings),
        settings=settings,
        config=_part(_entries(old), _entries(new), content_digest),
        artifacts=_part(old.artifacts, new.artifacts, content_digest),
        producers=_part(_produced(old), _produced(new), content_digest),
    )


# --- components that moved ---


def _moved(old: Graph, new: Graph) -> list[Moved]:
    """Pair those that are gone with those that have come, where there is one way to do it."""
    gone = _by_content(old, old.components.keys() - new.components.keys())
    come = _by_content(new, new.components.keys() - old.components.keys())
    pairs = [
        Moved(gone[content][0], come[content][0])
        for content in gone.keys() & come.keys()
        if len(gone[content]) == len(come[content]) == 1
    ]
    return sorted(pairs, key=lambda each: each.old_address)


def _by_content(graph: Graph, addresses: set[str]) -> dict[bytes, list[str]]:
    found: dict[bytes, list[str]] = {}
    for address in addresses:
        found.setdefault(_content_apart(graph.components[address]), []).append(address)
    return found


def _content_apart(component: ComponentMetadata) -> bytes:
    """Return what a component is, without where it stands: its address within all its texts."""
    _, shown = component.initial_settings
    instead: dict[str, object] = {
        "address": "",
        "initial_settings": (None, shown) if isinstance(shown, dict) else shown,
    }
    for each in fields(component):
        value = getattr(component, each.name)
        if each.name not in instead and not isinstance(value, str):
            instead[each.name] = _relative(value, component.address)
    return named_with(component, instead)


def _relative(value: Any, address: str) -> Any:  # noqa: ANN401
    """Return ``value`` with addresses below ``address`` as they are seen from there."""
    if isinstance(value, str):
        is_below = value == address or value.startswith(f"{address}/")
        return "\0" + value[len(address) :] if is_below else value
    if isinstance(value, Mapping):
        return {key: _relative(item, address) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_relative(item, address) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        inner = {each.name: getattr(value, each.name) for each in fields(value)}
        return [type(value).__name__, _relative(inner, address)]
    return value


# --- what is in both ---


def _components(old: Graph, new: Graph, from_address: dict[str, str], settings: Part) -> Part:
    """Compare the metadata. Initial settings are told where the settings do not tell them."""
    left, told = set(from_address.values()), {each.name for each in settings.changed}
    part = _part(
        {key: each for key, each in old.components.items() if key not in left},
        {key: each for key, each in new.components.items() if key not in from_address},
        component_digest,
    )
    changed = [
        Changed(each.name, fields_left)
        for each in part.changed
        if (
            fields_left := [
                one
                for one in each.fields
                if one.path[0] != "initial_settings" or each.name not in told
            ]
        )
    ]
    return Part(part.added, part.removed, changed)


def _settings(old: Graph, new: Graph, from_address: dict[str, str]) -> Part:
    """Compare the settings at each address, and of a component that moved where it was before."""
    to_address = {start: end for end, start in from_address.items()}
    before = {to_address.get(key, key): value for key, value in old.settings.items()}
    part = _part(before, new.settings, settings_digest)
    changed = [
        Changed(
            each.name,
            _in_units(
                each.fields,
                units_at(old, from_address.get(each.name, each.name)),
                units_at(new, each.name),
            ),
        )
        for each in part.changed
    ]
    return replace(part, changed=changed)


def units_at(graph: Graph, address: str) -> dict[str, str]:
    """Return what each field of the settings at an address is in, where its schema says so."""
    value, component = graph.settings.get(address), graph.components.get(address)
    schema = value.settings_schema if value is not None else None
    if schema is None and component is not None:
        schema = component.settings_schema
    fields_known = [] if schema is None else schema.fields
    return {each.name: each.unit for each in fields_known if each.unit}


def _in_units(
    changes: list[FieldChange], old: Mapping[str, str], new: Mapping[str, str]
) -> list[FieldChange]:
    return [
        replace(each, old_unit=old.get(each.path[0]), new_unit=new.get(each.path[0]))
        if len(each.path) == 1  # a schema knows the units of whole fields
        else each
        for each in changes
    ]


def _entries(graph: Graph) -> dict[str, Any]:
    return {
        f"{kind} {key}": value
        for kind, entries in graph.config.items()
        for key, value in entries.items()
    }


def _produced(graph: Graph) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for producer in sorted(graph.producers, key=lambda each: each.fingerprint.digest):
        name = base = f"{', '.join(producer.outputs)} <- {', '.join(producer.inputs)}"
        for number in count(2):  # those without outputs may be alike but for their version
            if name not in found:
                break
            name = f"{base} ({number})"
        found[name] = producer
    return found


def _part(old: Mapping[str, Any], new: Mapping[str, Any], digest_of: Any) -> Part:  # noqa: ANN401
    changed = [
        Changed(name, list(_changes(_fields_of(old[name]), _fields_of(new[name]), ())))
        for name in sorted(old.keys() & new.keys())
        if digest_of(old[name]) != digest_of(new[name])
    ]
    return Part(sorted(new.keys() - old.keys()), sorted(old.keys() - new.keys()), changed)


def _fields_of(value: Any) -> Any:  # noqa: ANN401
    match value:
        case SettingsSnapshotValue():
            shown = value.structured_value
            return _shown(value.serialized, value.repr_value if shown is None else shown)
        case Fingerprint():
            return value
        case SettingsSchemaMetadata():
            found = {each.name: getattr(value, each.name) for each in fields(value)}
            return found | {"fields": {each.name: each for each in value.fields}}
        case _ if is_dataclass(value) and not isinstance(value, type):
            found = {each.name: getattr(value, each.name) for each in fields(value)}
            if isinstance(value, ComponentMetadata):
                found["initial_settings"] = _shown(*value.initial_settings)
            return found
        case _:
            return value


def _shown(serialized: bytes | None, shown: dict[Any, Any] | str) -> dict[Any, Any]:
    """Return settings as fields: of those without structure, their text and their bytes."""
    return shown if isinstance(shown, dict) else {"text": shown, "serialized": serialized}


def _changes(old: Any, new: Any, path: tuple[str, ...]) -> Iterator[FieldChange]:  # noqa: ANN401
    """Yield the innermost fields that differ."""
    old, new = _fields_of(old), _fields_of(new)
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}, key=lambda each: (str(each), str(type(each)))):
            yield from _changes(old.get(key, _ABSENT), new.get(key, _ABSENT), (*path, str(key)))
        return
    if old is _ABSENT:
        yield FieldChange(path, None, new, was_there=False)
    elif new is _ABSENT:
        yield FieldChange(path, old, None, is_there=False)
    elif content_digest(old) != content_digest(new):
        yield FieldChange(path, old, new)
