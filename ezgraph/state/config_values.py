"""Whether two values of the configuration are the same, and how deep one is nested. Pure."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any

from ezgraph.protocol.fingerprints import canonical

_CONTAINERS = frozenset({dict, list, tuple})


def is_same_value(one: object, other: object) -> bool:
    """Return whether two values are alike in every type and every item; order counts in lists only.

    ``1``, ``1.0`` and ``True`` are three values, as are a list and a tuple of the same items. Not a
    number is what not a number was.
    """
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return _have_same_items(one, other)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(is_same_value, one, other))
    if isinstance(one, str | bytes | int) or one is None:
        return one == other
    if isinstance(one, AbstractSet) and isinstance(other, AbstractSet):
        return _typed(one) == _typed(other)
    return canonical(one) == canonical(other)


def _have_same_items(one: dict[Any, Any], other: dict[Any, Any]) -> bool:
    if len(one) != len(other) or _typed(one.keys()) != _typed(other.keys()):
        return False
    return all(is_same_value(item, other[name]) for name, item in one.items())


def _typed(names: AbstractSet[Any]) -> set[Any]:
    """Return the members so that those which are equal across types are not: 1, 1.0, True."""
    return {(type(name), repr(name) if isinstance(name, float) else name) for name in names}


def is_deeper_than(value: object, depth: int) -> bool:
    """Return whether containers stand within each other in a value, more than ``depth`` deep."""
    level = [value] if type(value) in _CONTAINERS else []
    for _ in range(depth):
        level = [inner for each in level for inner in _inner_containers(each)]
        if not level:
            return False  # mostly at once: values are flat
    return bool(level)


def _inner_containers(container: Any) -> list[Any]:  # noqa: ANN401
    items = container.values() if type(container) is dict else container
    if _CONTAINERS.isdisjoint(map(type, items)):
        return []
    return [each for each in items if type(each) in _CONTAINERS]
