"""Roles of one's own: a TOML file, checked field by field.

::

    [roles.display]
    comment = "sees everything, wires what leads to the display"
    include = ["observer"]                      # all that these may do, too
    connect = ["edge/*/DISPLAY%2F*"]            # patterns, see ezgraph.protocol.patterns
    pause = ["/"]

There is a field for each verb of `ezgraph.protocol.roles`. Included are roles of the same file, the
built-in ones, and ``owner:PREFIX``.
"""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from ezgraph.errors import EzGraphError, KeyFileError
from ezgraph.keys.fields import Fields
from ezgraph.keys.folder import read_table
from ezgraph.keys.public_key import check_name
from ezgraph.names import MAX_TOPIC_BYTES
from ezgraph.protocol.patterns import parse_pattern
from ezgraph.protocol.roles import BUILT_IN, OWNER, VERBS, Role, normal, owner_of
from ezgraph.toml_text import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from ezgraph.protocol.patterns import KeyPattern
    from ezgraph.protocol.roles import Patterns

MAX_ROLES = 256
MAX_INCLUDED = 16
MAX_PATTERNS = 256
"""For one verb of one role, what it includes among them."""
_FIELDS = ("comment", "include", *VERBS)


class _Written(NamedTuple):
    """A role as it stands in the file."""

    fields: Fields
    comment: str
    include: list[str]
    grants: dict[str, list[KeyPattern]]


def load_roles(path: Path) -> dict[str, Role]:
    """Return the roles in a file, by name, with all they include.

    Raises:
        KeyFileError: there is no such file, or something in it is wrong; role and field are named.
    """
    table = read_table(path)
    if table is None:
        raise KeyFileError(f"there is no file of roles {str(path)!r}; name another, or write one")
    where = repr(str(path))
    rooms = Fields(table, where, ("roles",))
    tables = rooms.tables("roles")
    if len(tables) > MAX_ROLES:
        raise rooms.wrong("roles", f"{len(tables)} roles; at most {MAX_ROLES} are allowed")
    written = {name: _read(rooms, name, each, where) for name, each in tables.items()}
    found: dict[str, Role] = {}
    for name in _included_first(written, where):
        found[name] = _role(name, written[name], found)
    return {name: found[name] for name in written}


def _read(rooms: Fields, name: str, table: object, where: str) -> _Written:
    try:
        check_name(name, "the name")
    except KeyFileError as error:
        raise rooms.wrong("roles", str(error)) from None
    if name in BUILT_IN:
        raise rooms.wrong(
            "roles", f"{name!r} is a built-in role and cannot be another; choose another name"
        )
    fields = Fields(table, f"role {name!r} in {where}", _FIELDS)
    include = fields.texts("include")
    if len(include) > MAX_INCLUDED:
        raise fields.wrong("include", f"{len(include)} roles; at most {MAX_INCLUDED} are allowed")
    grants = {verb: _patterns(fields, verb) for verb in VERBS}
    return _Written(fields, fields.comment(), include, grants)


def _patterns(fields: Fields, verb: str) -> list[KeyPattern]:
    typed = fields.texts(verb)
    if len(typed) > MAX_PATTERNS:
        raise _too_many(fields, verb, len(typed))
    try:
        return [_pattern(each) for each in typed]
    except EzGraphError as error:
        raise fields.wrong(verb, str(error)) from error


def _pattern(typed: str) -> KeyPattern:
    if len(typed) > MAX_TOPIC_BYTES:
        raise KeyFileError(
            f"a pattern of {len(typed)} characters; at most {MAX_TOPIC_BYTES} are allowed"
        )
    return parse_pattern(typed)


def _too_many(fields: Fields, verb: str, number: int) -> KeyFileError:
    return fields.wrong(verb, f"{number} patterns; at most {MAX_PATTERNS} are allowed")


def _included_first(written: Mapping[str, _Written], where: str) -> list[str]:
    """Return the names of the roles, each after those it includes."""
    graph = {
        name: [each for each in role.include if each in written] for name, role in written.items()
    }
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        loop = [str(each) for each in reversed(error.args[1])]
        raise KeyFileError(
            f"role {loop[0]!r} in {where}: field 'include': it includes itself: "
            f"{' -> '.join(loop)}; take one of these out"
        ) from error


def _role(name: str, written: _Written, before: Mapping[str, Role]) -> Role:
    try:
        included = [find_role(each, before) for each in written.include]
    except KeyFileError as error:
        raise written.fields.wrong("include", str(error)) from error
    grants: dict[str, Patterns] = {}
    for verb in VERBS:
        patterns = normal(
            [*written.grants[verb], *(p for role in included for p in role.grants.get(verb, ()))]
        )
        if len(patterns) > MAX_PATTERNS:
            raise _too_many(written.fields, verb, len(patterns))
        if patterns:
            grants[verb] = patterns
    return Role(name, MappingProxyType(grants), written.comment)


def find_role(name: str, custom: Mapping[str, Role]) -> Role:
    """Return the role of that name: built in, of a file, or ``owner:PREFIX``.

    Raises:
        KeyFileError: there is none.
    """
    if name.startswith(OWNER):
        return _owner(name.removeprefix(OWNER))
    role = BUILT_IN.get(name) or custom.get(name)
    if role is None:
        raise KeyFileError(
            f"there is no role {name[:80]!r}{nearest(name, [*BUILT_IN, *custom])} "
            f"There are {', '.join(_some([*BUILT_IN, f'{OWNER}PREFIX', *custom]))}"
        )
    return role


def _some(names: list[str]) -> Iterable[str]:
    return names if len(names) <= 20 else [*names[:20], "…"]


def _owner(prefix: str) -> Role:
    if not prefix.strip("/") or prefix.endswith("/") or len(prefix) > MAX_TOPIC_BYTES:
        raise KeyFileError(
            f"role {OWNER + prefix[:80]!r} names no addresses: give the first part of some, "
            f"without a '/' at its end, such as {OWNER}RIG/ARM"
        )
    return owner_of(prefix)
