"""Patterns of keys, as roles name them. Pure.

A pattern is spelled like a key (`ezgraph.protocol.key_text`), and stands for the keys that begin
with what it names:

* ``/`` is every key; ``settings/`` all settings; ``edge/A`` all edges from the topic ``A``.
* ``*`` in place of a name is any one name: ``edge/*/REC`` are the edges to ``REC``.
* A name that ends in ``*`` is every name that begins so: ``edge/*/RIG%2F*`` are the edges to what
  lies below ``RIG``. As on the command line, ``settings/RIG/`` says the same as ``settings/RIG/*``.
* A star that is meant as itself is written ``%2A``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ezgraph.errors import InvalidKeyError
from ezgraph.names import MAX_SEGMENTS
from ezgraph.protocol.key_text import ONE_NAME_ROOMS, escaped, unescaped

if TYPE_CHECKING:
    from collections.abc import Sequence


class NamePattern(NamedTuple):
    """One name of a pattern: exactly ``text``, or, if it ``is_open``, all that begins with it."""

    text: str
    is_open: bool

    def matches(self, name: str) -> bool:
        """Return whether this name is meant."""
        return name.startswith(self.text) if self.is_open else name == self.text

    def __str__(self) -> str:
        return escaped(self.text, "%/*") + "*" * self.is_open


@dataclass(frozen=True, slots=True)
class KeyPattern:
    """A set of keys: those that begin with names which match, one after the other."""

    names: tuple[NamePattern, ...]

    def __str__(self) -> str:
        return "/".join(map(str, self.names)) or "/"

    def matches(self, key: Sequence[str]) -> bool:
        """Return whether ``key``, and so every key that begins with it, is meant."""
        if len(key) < len(self.names):
            return False
        return all(pattern.matches(name) for pattern, name in zip(self.names, key, strict=False))

    def touches(self, prefix: Sequence[str]) -> bool:
        """Return whether some key that begins with ``prefix`` is meant."""
        return all(pattern.matches(name) for pattern, name in zip(self.names, prefix, strict=False))


EVERY_KEY = KeyPattern(())


Matcher = Callable[[Iterable[str]], bool]


def matcher(patterns: Iterable[KeyPattern]) -> Matcher:
    """Return what says whether a key is meant by one of ``patterns``: the same, and quicker.

    The names of a key are joined by NUL and compared with one regular expression. A NUL inside a
    name would make two keys look alike, so such a key is compared pattern by pattern, and a pattern
    that has one is not in the expression: it means only such keys.
    """
    known = tuple(patterns)
    if EVERY_KEY in known:
        return lambda _: True
    plain = [each.names for each in known if not any(_NUL in name.text for name in each.names)]
    expression = re.compile(_expression(plain)).match if plain else None

    def matches(key: Iterable[str]) -> bool:
        names = tuple(key)
        joined = _NUL.join(names)
        if joined.count(_NUL) != len(names) - 1:  # also of the key without a name
            return any(pattern.matches(names) for pattern in known)
        return expression is not None and expression(joined + _NUL) is not None

    return matches


_NUL = "\0"
_REST = f"[^{_NUL}]*{_NUL}"


def _expression(patterns: Sequence[tuple[NamePattern, ...]]) -> str:
    """Return an expression for what begins with one of ``patterns``, first names put together."""
    if () in patterns:
        return ""
    by_first: dict[NamePattern, list[tuple[NamePattern, ...]]] = {}
    for first, *rest in patterns:
        by_first.setdefault(first, []).append(tuple(rest))
    branches = [
        re.escape(first.text) + (_REST if first.is_open else _NUL) + _expression(rest)
        for first, rest in by_first.items()
    ]
    return f"(?:{'|'.join(branches)})"


def parse_pattern(typed: str) -> KeyPattern:
    """Return what a pattern in a role stands for.

    Raises:
        InvalidKeyError: an empty text or name, too many names, or a star inside a name.
    """
    if not typed:
        raise InvalidKeyError("an empty pattern; write '/' for every key")
    if typed == "/":
        return EVERY_KEY
    room, _, rest = typed.partition("/")
    if not rest:
        return KeyPattern((_name(room, typed),))
    if room in ONE_NAME_ROOMS:
        rest = f"{rest}*" if rest.endswith("/") else rest
        return KeyPattern((_name(room, typed), _name(rest, typed)))
    names = [room, *rest.removesuffix("/").split("/")]
    if len(names) > MAX_SEGMENTS:
        raise InvalidKeyError(
            f"pattern {typed[:60]!r} has {len(names)} names; at most {MAX_SEGMENTS} are allowed"
        )
    return KeyPattern(tuple(_name(each, typed) for each in names))


def _name(spelled: str, typed: str) -> NamePattern:
    is_open = spelled.endswith("*")
    text = spelled[:-1] if is_open else spelled
    if "*" in text:
        raise InvalidKeyError(
            f"pattern {typed!r} has a '*' inside the name {spelled!r}; it stands at the end of a "
            f"name, or alone (a star that is meant as itself is written %2A)"
        )
    if not spelled:
        raise InvalidKeyError(f"pattern {typed!r} has an empty name; '*' is any name")
    return NamePattern(unescaped(text), is_open)
