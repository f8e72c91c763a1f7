"""Which column of a table a setting stands in: names that never collide."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeVar

from ezgraph.settings.flatten import sanitize_settings_column_name

if TYPE_CHECKING:
    from collections.abc import Iterable

Path = tuple[Any, ...]
"""Where a value stands: the address of its component, then field names and keys."""

A = TypeVar("A", bound=str | Path)
_DIGEST_BYTES = 4


def column_names(addresses: Iterable[A], known: Mapping[A, str] | None = None) -> dict[A, str]:
    """Return a column name for each address, or path of (address, field, …); no two are equal.

    A name is the sanitized address. Where that is taken by another, a hash of the address is added,
    so the names of a set of addresses do not depend on their order. ``known`` are names given
    before: they stay as they are, and others avoid them.
    """
    names = dict(known or {})
    taken = set(names.values())
    new = [each for each in dict.fromkeys(addresses) if each not in names]
    wanted: dict[str, list[A]] = {}
    for each in new:
        wanted.setdefault(sanitize_settings_column_name(_text(each)), []).append(each)
    for name, rivals in wanted.items():
        if len(rivals) == 1 and name not in taken:
            names[rivals[0]] = name
            taken.add(name)
    for each in sorted((each for each in new if each not in names), key=repr):
        names[each] = _free(sanitize_settings_column_name(_text(each)), each, taken)
        taken.add(names[each])
    return names


def _text(address: str | Path) -> str:
    return address if isinstance(address, str) else ".".join(map(str, address))


def _free(name: str, address: str | Path, taken: set[str]) -> str:
    digest = blake2b(repr(address).encode("utf-8", "backslashreplace"), digest_size=_DIGEST_BYTES)
    name = free = f"{name}_{digest.hexdigest()}"
    count = 1
    while free in taken:
        count += 1
        free = f"{name}_{count}"
    return free


def leaves(value: Any, path: Path = ()) -> dict[Path, Any]:  # noqa: ANN401
    """Return the values in a structured form by their paths; mappings alone are taken apart.

    An empty mapping is a leaf, so nothing is left out.
    """
    if not isinstance(value, Mapping) or (not value and path):
        return {path: value}
    found: dict[Path, Any] = {}
    for key, item in value.items():
        found |= leaves(item, (*path, key))
    return found


def differ(one: Any, other: Any) -> bool:  # noqa: ANN401
    """Return whether two values of a setting are not the same; 1, 1.0 and True are three."""
    if type(one) is not type(other):
        return True
    if hasattr(one, "dtype"):
        return bool(one.dtype != other.dtype or one.tobytes() != other.tobytes())
    return bool(repr(one) != repr(other))
