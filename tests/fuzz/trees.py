"""Msgpack as a tree that can be changed at any place and written again, lies included.

Plain values stand for themselves and Python lists for arrays. `Map` keeps its pairs, so that a key
may come twice. `Ext` and `Packed` (bytes that are msgpack again, as interned values are) hold the
tree of their content where it has one. `Raw` is written as it is.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import msgpack

Place = tuple[list[Any], int]
"""A list of the tree and an index in it: what may be replaced."""


@dataclass(slots=True)
class Map:
    """A map, as pairs ``[key, value]``. ``lie`` is added to the count that is written."""

    pairs: list[list[Any]]
    lie: int = 0


@dataclass(slots=True)
class Ext:
    """An extension: ``content`` is ``[bytes]`` or ``[tree]``."""

    code: int
    content: list[Any]


@dataclass(slots=True)
class Packed:
    """Bytes whose content is a tree: ``content`` is ``[tree]``. ``lie`` is added to the length."""

    content: list[Any]
    lie: int = 0


@dataclass(slots=True)
class Raw:
    """Bytes to write in place of a value."""

    written: bytes


def parse(packed: bytes) -> Any:
    """Return the tree that ``packed`` spells, or raise `ValueError`."""
    return _grown(
        msgpack.unpackb(
            packed,
            object_pairs_hook=_new_map,
            ext_hook=lambda code, content: Ext(code, [_tree_in(content)]),
            strict_map_key=False,
        )
    )


def _new_map(pairs: Any) -> Map:
    return Map([[key, value] for key, value in pairs])


def _tree_in(content: bytes) -> Any:
    """Return the tree that ``content`` spells if it is a container, else the bytes."""
    if content and (0x80 <= content[0] <= 0x9F or 0xC7 <= content[0] <= 0xC9):
        try:
            return parse(content)
        except ValueError:
            return content
    return content


def _grown(tree: Any) -> Any:
    """Replace bytes that spell a container by `Packed`."""
    if type(tree) is bytes:
        inner = _tree_in(tree)
        return tree if inner is tree else Packed([inner])
    if type(tree) is list:
        tree[:] = map(_grown, tree)
    elif type(tree) is Map:
        for pair in tree.pairs:
            pair[1] = _grown(pair[1])
    return tree


def places(tree: list[Any]) -> list[Place]:
    """Return every place below ``tree``, its own items first."""
    found: list[Place] = []
    waiting = [tree]
    while waiting:
        items = waiting.pop()
        for index, item in enumerate(items):
            found.append((items, index))
            kind = type(item)
            if kind is list:
                waiting.append(item)
            elif kind is Map:
                waiting.extend(item.pairs)
            elif kind is Ext or kind is Packed:
                waiting.append(item.content)
    return found


def write(tree: Any) -> bytes:
    """Return the bytes of a tree."""
    kind = type(tree)
    if kind is list:
        return _header(len(tree), 0x90, b"\xdd") + b"".join(map(write, tree))
    if kind is Map:
        inside = b"".join(write(each) for pair in tree.pairs for each in pair)
        return _header(len(tree.pairs) + tree.lie, 0x80, b"\xdf") + inside
    if kind is Ext:
        content = _content(tree.content[0])
        return b"\xc9" + struct.pack("!Ib", len(content), tree.code) + content
    if kind is Packed:
        content = _content(tree.content[0])
        return b"\xc6" + struct.pack("!I", (len(content) + tree.lie) % (1 << 32)) + content
    if kind is Raw:
        written: bytes = tree.written
        return written
    packed: bytes = msgpack.packb(tree, unicode_errors="surrogatepass")
    return packed


def _content(tree: Any) -> bytes:
    return tree if type(tree) is bytes else write(tree)


def _header(count: int, short: int, long: bytes) -> bytes:
    if 0 <= count < 16:
        return bytes([short | count])
    return long + struct.pack("!I", count % (1 << 32))
