"""Content hashes over a canonical encoding: equal content, equal fingerprint, on any host.

The encoding is a tag byte, then the content, every variable-length part preceded by its length
as 8 bytes big-endian. Mappings are sorted by their encoded keys, sets by their encoded members,
dataclasses are their class name and fields in order. Floats are their 8 IEEE bytes (big-endian,
one NaN), so ``1`` and ``1.0`` differ. The hash is BLAKE2b with 16 bytes.
"""

from __future__ import annotations

import enum
import math
import struct
from dataclasses import fields, is_dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Iterable

FINGERPRINT_BYTES = 16
_NAN = struct.pack(">d", math.nan)


def fingerprint(domain: str, value: object) -> str:
    """Return the fingerprint of ``value`` in ``domain`` as 32 hexadecimal digits."""
    return blake2b(
        canonical(value), digest_size=FINGERPRINT_BYTES, person=domain.encode()[:16]
    ).hexdigest()


def content_hash(blob: bytes | memoryview) -> bytes:
    """Return the 16-byte name of a content-addressed blob."""
    return blake2b(blob, digest_size=FINGERPRINT_BYTES).digest()


def _part(tag: bytes, content: bytes) -> bytes:
    return b"%c%b%b" % (tag, len(content).to_bytes(8, "big"), content)


def _joined(tag: bytes, parts: Iterable[bytes]) -> bytes:
    return _part(tag, b"".join(parts))


def canonical(value: Any) -> bytes:  # noqa: ANN401 - one line per type
    """Return the canonical encoding of a plain value, a dataclass or an array."""
    match value:
        case None:
            return b"n"
        case enum.Enum():
            return _joined(b"e", (canonical(type(value).__name__), canonical(value.value)))
        case bool():
            return b"t" if value else b"f"
        case int():
            return _part(b"i", str(int(value)).encode())
        case float():
            return b"d" + (_NAN if math.isnan(value) else struct.pack(">d", value))
        case str():
            return _part(b"s", value.encode("utf-8", "surrogatepass"))
        case bytes() | bytearray() | memoryview():
            return _part(b"b", bytes(value))
        case UUID():
            return _part(b"u", value.bytes)
        case list() | tuple():
            return _joined(b"l", map(canonical, value))
        case dict():
            pairs = sorted((canonical(key), canonical(item)) for key, item in value.items())
            return _joined(b"m", (part for pair in pairs for part in pair))
        case set() | frozenset():
            return _joined(b"S", sorted(map(canonical, value)))
        case _:
            return _canonical_object(value)


def _canonical_object(value: Any) -> bytes:  # noqa: ANN401
    if is_dataclass(value) and not isinstance(value, type):
        content = (canonical(getattr(value, each.name)) for each in fields(value))
        return _joined(b"o", (canonical(type(value).__name__), *content))
    if hasattr(value, "dtype") and hasattr(value, "tobytes"):
        return _joined(
            b"a",
            (
                canonical(_layout(value.dtype)),
                canonical(list(value.shape)),
                canonical(value.tobytes()),
            ),
        )
    return _joined(b"r", (canonical(type(value).__qualname__), canonical(repr(value))))


def _layout(dtype: Any) -> Any:  # noqa: ANN401
    """Return what tells a dtype from others: its text, or its fields and where they lie."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return [_layout(base), list(shape)]
    if dtype.fields is None:
        return dtype.str
    fields_of = [(name, *dtype.fields[name][:2]) for name in dtype.names]
    return [dtype.itemsize, [[name, _layout(kind), place] for name, kind, place in fields_of]]
