"""Settings without loss: what goes in comes out, with its types.

It is the encoding the bus itself uses for commands, events and the journal, so a value that passes
here passes there. Arrays keep dtype, shape and order; bytes, tuples, sets, paths, complex numbers,
times, NaN and infinities, and keys that are numbers or tuples stay what they are. Settings objects
and other dataclasses become mappings of their fields.

An enum member travels as its name and value, for a host need not know its class and nothing named
by another is ever imported: `native` gives the member where its class has been loaded already.
A path arrives as a pure path, equal to the one sent. A time in a zone keeps its offset.
"""

from __future__ import annotations

import enum
import sys
from typing import Any

from ezgraph.protocol.settings import EnumValue, structured
from ezgraph.wire import values


def encode_settings(value: object) -> bytes:
    """Return the lossless encoding of a settings object, a mapping, or any value in one.

    Raises:
        MalformedMessageError: it holds something the bus does not carry; says where and what.
    """
    form = structured(value)
    spelled = value if form is None else form
    values.check_depth(spelled)
    return values.pack(spelled)


def decode_settings(packed: bytes) -> Any:  # noqa: ANN401
    """Return what `encode_settings` was given, enum members where their class is loaded.

    Raises:
        MalformedMessageError: the bytes are no such encoding.
    """
    decoded = values.unpack(packed)
    values.check_depth(decoded)
    return native(decoded)


def native(value: Any) -> Any:  # noqa: ANN401
    """Return a value from the bus with its enum members, as far as their classes are loaded.

    A member that is not found, or has another value here, stays an `EnumValue`.
    """
    kind = type(value)
    if kind is EnumValue:
        return _member(value)
    if kind is dict:
        return {native(key): native(item) for key, item in value.items()}
    if kind in (list, tuple, set, frozenset):
        return kind(native(item) for item in value)
    return value


def _member(named: EnumValue) -> EnumValue | enum.Enum:
    found: Any = sys.modules.get(named.module)
    for name in named.qualname.split("."):
        found = getattr(found, "__dict__", {}).get(name)  # no `getattr`: a module may load more
    if not isinstance(found, enum.EnumMeta):
        return named
    member: enum.Enum | None = found.__members__.get(named.name or "")
    if member is None:
        member = _several_flags(found, named.value)
    return member if member is not None and values.pack(member) == values.pack(named) else named


def _several_flags(kind: enum.EnumMeta, value: object) -> enum.Enum | None:
    """Return flags that are set together, which have no member of their own."""
    if not issubclass(kind, enum.Flag) or not isinstance(value, int):
        return None
    try:
        return kind(value)
    except ValueError:
        return None
