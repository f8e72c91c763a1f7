"""Metadata of a tree of components, collected from the objects themselves.

`crawl_components` takes any object tree whose nodes say a few things about themselves
(`Component`). Nothing of it is imported or called but what the protocol names; a part that is
missing is left out. The walk is iterative, so a deep tree is no danger, and a component that is met
twice, or below itself, is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ezgraph.errors import InvalidCommandError, MissingExtraError
from ezgraph.protocol.metadata import (
    CollectionMetadata,
    ComponentMetadata,
    DynamicSettingsMetadata,
    GraphMetadata,
    InputStreamMetadata,
    StreamMetadata,
    TaskMetadata,
    UnitMetadata,
)
from ezgraph.protocol.settings import structured
from ezgraph.settings.hints import full_name
from ezgraph.settings.schema import settings_schema

if TYPE_CHECKING:
    from ezgraph.protocol.metadata import SettingsSchemaMetadata

INPUT_SETTINGS = "INPUT_SETTINGS"
"""The inlet of a unit that takes new settings while it runs."""


@runtime_checkable
class Component(Protocol):
    """What a node of the tree says of itself; all but ``address`` may be missing.

    ``settings``: a settings object. ``streams``: stream metadata by name. ``tasks``: what it runs.
    ``children``: the components it is made of, a sequence or a mapping by name.
    """

    @property
    def address(self) -> str:
        """Where it is, such as ``SYS/FILTER``."""
        ...


def crawl_components(root: Component, *, root_name: str | None = None) -> GraphMetadata:
    """Return the metadata of ``root`` and everything below it, for `register_metadata`.

    A component with children is a collection, one without a unit. It takes settings while it runs
    if one of its streams is an inlet called ``INPUT_SETTINGS``; the topic is that stream's address.

    Raises:
        InvalidCommandError: a node has no address, or two have the same one.
    """
    components: dict[str, ComponentMetadata] = {}
    to_do: list[object] = [root]
    while to_do:
        node = to_do.pop()
        address = _address_of(node)
        if address in components:
            raise InvalidCommandError(
                f"two components of the tree are at {address!r}, or one is below itself; give "
                f"each an address of its own"
            )
        children = _children_of(node)
        components[address] = _metadata_of(node, address, children)
        to_do.extend(reversed(children))
    return GraphMetadata(root_name=root_name or _name(_address_of(root)), components=components)


def _address_of(node: object) -> str:
    address = getattr(node, "address", None)
    if not isinstance(address, str) or not address:
        raise InvalidCommandError(
            f"a {type(node).__name__} of the tree has no address; a component says where it is in "
            f"its attribute 'address', a text such as 'SYS/FILTER'"
        )
    return address


def _children_of(node: object) -> list[object]:
    children = getattr(node, "children", None) or ()
    return list(children.values() if isinstance(children, Mapping) else children)


def _metadata_of(node: object, address: str, children: list[object]) -> ComponentMetadata:
    settings = getattr(node, "settings", None)
    streams = _streams_of(node)
    common: dict[str, Any] = {
        "address": address,
        "name": getattr(node, "name", None) or _name(address),
        "component_type": full_name(type(node)),
        "settings_type": "" if settings is None else full_name(type(settings)),
        "initial_settings": (None, _shown(settings)),
        "dynamic_settings": _dynamic(streams, settings),
        "settings_schema": _schema_of(settings),
    }
    if children:
        return CollectionMetadata(**common, children=[_address_of(each) for each in children])
    return UnitMetadata(**common, streams=streams, tasks=_tasks_of(node))


def _shown(settings: object) -> dict[str, Any] | str:
    if settings is None:
        return {}
    form = structured(settings)
    return repr(settings) if form is None else form


def _schema_of(settings: object) -> SettingsSchemaMetadata | None:
    if settings is None or isinstance(settings, Mapping):
        return None
    try:
        return settings_schema(type(settings))
    except (TypeError, MissingExtraError):
        return None  # a type that nobody can describe is shown all the same


def _streams_of(node: object) -> dict[str, StreamMetadata]:
    streams = getattr(node, "streams", None) or {}
    if not isinstance(streams, Mapping):
        streams = {each.name: each for each in streams}
    return {str(name): each for name, each in streams.items() if isinstance(each, StreamMetadata)}


def _dynamic(streams: Mapping[str, StreamMetadata], settings: object) -> DynamicSettingsMetadata:
    inlet = streams.get(INPUT_SETTINGS)
    if not isinstance(inlet, InputStreamMetadata):
        return DynamicSettingsMetadata(enabled=False)
    kind = None if settings is None else full_name(type(settings))
    return DynamicSettingsMetadata(enabled=True, input_topic=inlet.address, settings_type=kind)


def _tasks_of(node: object) -> list[TaskMetadata]:
    tasks = getattr(node, "tasks", None) or ()
    if not isinstance(tasks, Iterable):
        return []
    return [each if isinstance(each, TaskMetadata) else TaskMetadata(str(each)) for each in tasks]


def _name(address: str) -> str:
    return address.rpartition("/")[2]
