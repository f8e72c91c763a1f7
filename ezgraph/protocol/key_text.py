"""Keys as they are typed and shown.

A key is a room and what is in it: ``settings/SYS/UNIT_A``, ``edge/FROM/TO``, ``session/ID``.

* The first ``/`` ends the room. In ``settings``, ``component``, ``session``, ``process``,
  ``graph`` and ``control`` all that follows is **one** name, slashes and all:
  ``settings/SYS/UNIT_A`` is the component at ``SYS/UNIT_A``, and not what lies below it.
* A ``/`` at the end means "and everything below": ``settings/`` all settings, ``settings/SYS/``
  those of every address that begins with ``SYS/``. The room alone, ``settings``, is all of it too.
* In ``edge`` (and in rooms of other kinds) each ``/`` parts two names, so a slash *inside* a topic
  is written ``%2F``: ``edge/SYS%2FSRC%2FOUT/REC``; ``edge/SYS%2FSRC%2FOUT`` are all edges from
  there.
* ``%`` and two capital hexadecimal digits stand for a byte of UTF-8 everywhere; ``%25`` is ``%``.

`key_text` shows keys in this spelling, so what ``watch`` and ``log`` print can be typed again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ezgraph.errors import InvalidKeyError
from ezgraph.names import Key, check_key

ONE_NAME_ROOMS = frozenset({"settings", "component", "session", "process", "graph", "control"})
EDGE_NAMES = 2

_ESCAPE = re.compile(r"(?:%[0-9A-F]{2})+")


@dataclass(frozen=True, slots=True)
class KeyFilter:
    """The prefix to ask the broker for, and what the name after it begins with."""

    prefix: Key
    below: str = ""

    def __str__(self) -> str:
        return f"{key_text((*self.prefix, self.below))}" if self.below else key_text(self.prefix)

    def matches(self, key: Key) -> bool:
        """Return whether an event's key is meant."""
        depth = len(self.prefix)
        if key[:depth] != self.prefix:
            return False
        return not self.below or (len(key) > depth and key[depth].startswith(self.below))


def parse_filter(typed: str) -> KeyFilter:
    """Return what a PREFIX on the command line asks for; nothing, or ``/``, asks for everything.

    Raises:
        InvalidKeyError: an empty name, or more names than an edge has.
    """
    room, slash, rest = typed.partition("/")
    if not room:
        if rest:
            raise InvalidKeyError(f"{typed!r} has no room before the first '/', such as settings/A")
        return KeyFilter(())
    if not slash or not rest:
        return KeyFilter((unescaped(room),))
    if room in ONE_NAME_ROOMS:
        if rest.endswith("/"):
            return KeyFilter((room,), unescaped(rest))
        return KeyFilter((room, unescaped(rest)))
    names = rest.removesuffix("/").split("/")
    if room == "edge" and len(names) > EDGE_NAMES:
        raise InvalidKeyError(
            f"{typed!r} names {len(names)} topics, and an edge has two; write a '/' inside a topic "
            f"as %2F: edge/SYS%2FSRC%2FOUT/REC"
        )
    return KeyFilter(check_key((unescaped(room), *map(unescaped, names))))


def key_text(key: Key) -> str:
    """Return a key as it would be typed."""
    if not key:
        return "/"
    if len(key) == EDGE_NAMES and key[0] in ONE_NAME_ROOMS:
        return f"{key[0]}/{escaped(key[1], '%')}"
    return "/".join(escaped(name, "%/") for name in key)


def escaped(name: str, also: str) -> str:
    """Return a name with what is not printable, and each of ``also``, as ``%XX``."""
    return "".join(
        _percent(each) if each in also or not each.isprintable() else each for each in name
    )


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))


def unescaped(typed: str) -> str:
    """Decode runs of escapes as UTF-8; what is none stays as it was typed."""

    def decode(found: re.Match[str]) -> str:
        try:
            return bytes.fromhex(found[0].replace("%", "")).decode()
        except UnicodeDecodeError:
            return found[0]

    return _ESCAPE.sub(decode, typed)
