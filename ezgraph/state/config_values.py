"""Whether two values of the configuration are the same, and how deep one is nested. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

from ezgraph.protocol.fingerprints import canonical
from ezgraph.protocol.settings import EnumValue

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
    if isinstance(one, set | frozenset):
        return Counter(map(_exactly, one)) == Counter(map(_exactly, cast("set[Any]", other)))
    if isinstance(one, EnumValue) and isinstance(other, EnumValue):
        return _member_of(one) == _member_of(other) and is_same_value(one.value, other.value)
    return canonical(one) == canonical(other)


def _have_same_items(one: dict[Any, Any], other: dict[Any, Any]) -> bool:
    if len(one) != len(other):
        return False
    if all(type(name) is str for name in one):
        return all(name in other and is_same_value(one[name], other[name]) for name in one)
    items, others = _by_exact_name(one), _by_exact_name(other)
    return items.keys() == others.keys() and all(
        is_same_value(items[name], others[name]) for name in items
    )


def _by_exact_name(mapping: dict[Any, Any]) -> dict[object, list[Any]]:
    """Return the items by what `_exactly` says of their names.

    There is more than one of a name only where it does not equal itself.
    """
    found: dict[object, list[Any]] = {}
    for name, item in mapping.items():
        found.setdefault(_exactly(name), []).append(item)
    return found


def _exactly(hashed: object) -> object:
    """Return what is equal for the same values only: 1, 1.0 and True are equal, and NaN is not."""
    match hashed:
        case tuple() | frozenset():
            return type(hashed), type(hashed)(map(_exactly, hashed))
        case EnumValue():
            return EnumValue, _member_of(hashed), _exactly(hashed.value)
        case _:
            return type(hashed), canonical(hashed)


def _member_of(member: EnumValue) -> tuple[str, str, str | None]:
    return member.module, member.qualname, member.name


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
