"""Which classes of nodes are known here, by the module and name that a description gives.

A name from the wire is only ever looked up. A class is known once somebody here registered it, or
if an installed package offers it as an entry point of the group ``ezgraph.nodes``, whose value is
then the very text ``module:Class``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

from ezgraph.errors import NodeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ezgraph.nodes.base import BaseNode

N = TypeVar("N", bound="type[BaseNode]")
ENTRY_POINTS = "ezgraph.nodes"

_OURS = {
    ("ezgraph.nodes.array", "ArrayNode"),
    ("ezgraph.nodes.kinds", "EmptyNode"),
    ("ezgraph.nodes.kinds", "GenericNode"),
    ("ezgraph.nodes.kinds", "RootNode"),
    ("ezgraph.nodes.table", "TableNode"),
}
"""Our own classes, which need no entry point; each registers itself when it is loaded."""

_known: dict[tuple[str, str], type[BaseNode]] = {}


def register(kind: N) -> N:
    """Make a class of nodes known, so that copies of its nodes are of it. Usable as a decorator.

    Raises:
        NodeError: another class of this name is known.
    """
    name = (kind.__module__, kind.__qualname__)
    if _known.get(name, kind) is not kind and "<locals>" not in kind.__qualname__:
        raise NodeError(
            f"another class {name[0]}.{name[1]} is registered already; give this one its own name"
        )
    _known[name] = kind
    return kind


def registered(module: str, name: str) -> type[BaseNode] | None:
    """Return the class that is known by this name, or None."""
    found = _known.get((module, name))
    if found is not None:
        return found
    if (module, name) in _OURS:
        import_module(module)  # one of our own names, not one from the wire
    elif (module, name) in (offered := _offered()):
        offered[module, name]()
    return _known.get((module, name))


def _offered() -> Mapping[tuple[str, str], _Offer]:
    """Return what installed packages offer; nothing of it is imported."""
    from importlib.metadata import entry_points  # slow to import, and rarely needed

    found = {}
    for each in entry_points(group=ENTRY_POINTS):
        module, _, name = each.value.partition(":")
        found[module, name] = _Offer(each)
    return found


class _Offer:
    """An entry point; calling it imports the class and registers it."""

    def __init__(self, entry: _EntryPoint) -> None:
        self._entry = entry

    def __repr__(self) -> str:
        return f"<offered {self._entry.value}>"

    def __call__(self) -> None:
        from ezgraph.nodes.base import BaseNode

        kind = self._entry.load()
        if not (isinstance(kind, type) and issubclass(kind, BaseNode)):
            raise NodeError(f"entry point {self._entry.value!r} is no class of nodes: {kind!r}")
        register(kind)


if TYPE_CHECKING:
    from importlib.metadata import EntryPoint as _EntryPoint
