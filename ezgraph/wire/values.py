"""The lossless encoding of values that users give us, as msgpack extension types.

Plain msgpack carries None, bool, int (64 bit), float, str, bytes, list and dict. Everything else
a settings object may hold is an extension whose content is msgpack again:

====  ============================  =============================================
code  type                          content
====  ============================  =============================================
1     tuple                         list
2     set                           list, in order of the members' encoding
3     frozenset                     list, likewise
4     complex                       [real, imag]
5     datetime, date, time          [kind, ISO 8601 text, fold]
6     timedelta                     [days, seconds, microseconds]
7     numpy.ndarray                 [dtype, shape, order, raw bytes]
8     numpy scalar                  [dtype, raw bytes]
9     enum member                   [module, qualname, member name, value]
10    path                          [flavour, text]
11    int beyond 64 bit             decimal text
12    UUID                          16 bytes
14    content-addressed blob        16 bytes: the blob's name (snapshots only)
====  ============================  =============================================

A name from the wire is never imported: an enum member arrives as `EnumValue`. Object arrays are
refused. A bytearray arrives as bytes. NumPy is imported only when an array is met.
"""

from __future__ import annotations

import datetime as dt
import enum
import pathlib
import sys
import threading
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgpack

from ezgraph.errors import MalformedMessageError
from ezgraph.protocol import arrays
from ezgraph.protocol.settings import EnumValue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

TUPLE, SET, FROZENSET, COMPLEX, DATETIME, TIMEDELTA = range(1, 7)
NDARRAY, SCALAR, ENUM, PATH, BIGINT, UUID_ = range(7, 13)
BLOB = 14
MAX_DEPTH = 64
MAX_EXTENSION_DEPTH = 8  # msgpack's unpacker takes some 50 KB of stack for each
_MAX_DIGITS = 4_000
_MAX_COLLISIONS = 100
_PATHS = {"posix": pathlib.PurePosixPath, "windows": pathlib.PureWindowsPath}
_MOMENTS: dict[str, Any] = {"datetime": dt.datetime, "date": dt.date, "time": dt.time}


class _Nesting(threading.local):
    """How deep extensions stand within extensions, in this thread."""

    depth = 0

    def __enter__(self) -> None:
        if self.depth >= MAX_EXTENSION_DEPTH:
            raise MalformedMessageError(
                f"tuples, sets and other extended types stand more than {MAX_EXTENSION_DEPTH} "
                f"deep within each other; use lists, or flatten the value"
            )
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1


_nesting = _Nesting()


def pack(value: object) -> bytes:
    """Return the encoding of ``value``.

    Raises:
        MalformedMessageError: it holds something that cannot be encoded; says where and what.
    """
    try:
        return _pack(value)
    except MalformedMessageError as error:
        place = culprit(value, _pack)
        raise MalformedMessageError(f"{place}: {error}" if place else str(error)) from error


def _pack(value: object) -> bytes:
    try:
        packed: bytes = msgpack.packb(value, default=extend, strict_types=True)
    except MalformedMessageError:
        raise
    except (TypeError, ValueError, OverflowError, UnicodeEncodeError, RecursionError) as error:
        raise MalformedMessageError(f"a value cannot be encoded: {error}") from error
    return packed


def culprit(value: object, pack_part: Callable[[Any], object]) -> str:
    """Return where in ``value`` the part stands that cannot be packed: ``a.b[1]``."""
    place = ""
    for _ in range(MAX_DEPTH):  # what holds itself has no innermost part
        for step, part in _parts(value):
            try:
                pack_part(part)
            except MalformedMessageError:
                place, value = place + step, part
                break
        else:
            break
    return place.removeprefix(".")


def _parts(value: object) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict):
        return ((f".{key}", item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return ((f"[{index}]", item) for index, item in enumerate(value))
    return ()


def unpack(packed: bytes | memoryview) -> Any:  # noqa: ANN401
    """Return the value that ``packed`` spells.

    Raises:
        MalformedMessageError: the bytes spell no value, or one nested deeper than 64.
    """
    try:
        return unpack_with(from_extension, packed)
    except MalformedMessageError:
        raise
    except Exception as error:
        raise MalformedMessageError(
            f"{len(packed)} bytes are no msgpack value: {type(error).__name__}: {error}"
        ) from error


def unpack_with(extension: Callable[[int, bytes], Any], packed: bytes | memoryview) -> Any:  # noqa: ANN401
    """Return the value that ``packed`` spells, raising anything; ``extension`` reads extensions."""
    return msgpack.unpackb(
        packed, ext_hook=extension, object_pairs_hook=_mapping, strict_map_key=False
    )


def _mapping(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    if len(pairs) > _MAX_COLLISIONS:
        _check_hashes([key for key, _ in pairs])
    return dict(pairs)


def _check_hashes(members: Sequence[Any]) -> None:
    """Refuse members made to share a hash: a table of n of them takes n squared steps.

    Python's hashes of text and bytes are secret; those of numbers, UUIDs and tuples are not.
    """
    if len(members) - len(set(map(hash, members))) > _MAX_COLLISIONS:
        raise MalformedMessageError(
            f"of {len(members)} keys or members more than {_MAX_COLLISIONS} share a hash"
        )


def _members_read(content: list[Any]) -> list[Any]:
    _check_hashes(content)
    return content


def _pack_within(value: object) -> bytes:
    """Pack the content of an extension."""
    with _nesting:
        return _pack(value)


def check_depth(value: object, limit: int = MAX_DEPTH) -> None:
    """Refuse a value nested deeper than ``limit``.

    Raises:
        MalformedMessageError: it is.
    """
    level = _inner_containers(value) if type(value) in _CONTAINERS else ()
    depth = 1
    while level:  # mostly not: settings are flat
        if depth == limit:
            raise MalformedMessageError(f"a value is nested deeper than {limit}; flatten it")
        level = [inner for each in level for inner in _inner_containers(each)]
        depth += 1


def _inner_containers(container: Any) -> Sequence[Any]:  # noqa: ANN401
    items = container.values() if type(container) is dict else container
    if _CONTAINERS.isdisjoint(map(type, items)):
        return ()
    return [each for each in items if type(each) in _CONTAINERS]


_CONTAINERS = frozenset({dict, list, tuple, set, frozenset})


def extend(value: Any) -> Any:  # noqa: ANN401 - one line per type
    """Return what msgpack can spell in place of ``value`` (its ``default`` hook)."""
    match value:
        case enum.Enum():
            kind = type(value)
            content = [kind.__module__, kind.__qualname__, value.name, value.value]
            return msgpack.ExtType(ENUM, _pack_within(content))
        case EnumValue():
            content = [value.module, value.qualname, value.name, value.value]
            return msgpack.ExtType(ENUM, _pack_within(content))
        case tuple():
            return msgpack.ExtType(TUPLE, _pack_within(list(value)))
        case frozenset():
            return msgpack.ExtType(FROZENSET, _members(value))
        case set():
            return msgpack.ExtType(SET, _members(value))
        case dt.datetime() | dt.date() | dt.time():
            return msgpack.ExtType(DATETIME, _pack_within(_moment_content(value)))
        case dt.timedelta():
            content = [value.days, value.seconds, value.microseconds]
            _check_same(dt.timedelta(*content), value)
            return msgpack.ExtType(TIMEDELTA, _pack_within(content))
        case pathlib.PurePath():
            flavour = "windows" if isinstance(value, pathlib.PureWindowsPath) else "posix"
            return msgpack.ExtType(PATH, _pack_within([flavour, str(value)]))
        case UUID():
            return msgpack.ExtType(UUID_, value.bytes)
        case _:
            return _extend_array(value)


def _moment_content(value: Any) -> list[Any]:  # noqa: ANN401
    kind = next(name for name, kind in _MOMENTS.items() if isinstance(value, kind))
    content = [kind, value.isoformat(), getattr(value, "fold", 0)]
    if type(value) is not _MOMENTS[kind]:
        _check_same(_moment(content), value)
    if kind == "time" and value.tzinfo is not None and value.utcoffset() is None:
        raise TypeError(f"{value!r} has a zone but no offset; give a datetime")
    return content


def _check_same(spelled: object, value: object) -> None:
    """Refuse an instance of a subclass (pandas has such) that is finer than what we spell."""
    if spelled != value:
        raise TypeError(f"{value!r} would arrive as {spelled!r}; give what is exact, or its text")


def _extend_array(value: Any) -> Any:  # noqa: ANN401
    if (numpy := sys.modules.get("numpy")) is not None:
        if isinstance(value, numpy.ma.MaskedArray):
            raise TypeError("a masked array is two arrays: give its data and its mask")
        if isinstance(value, numpy.ndarray):
            return msgpack.ExtType(NDARRAY, _array_content(value))
        if isinstance(value, numpy.generic):
            content = [arrays.spell_dtype(value.dtype), value.tobytes()]
            return msgpack.ExtType(SCALAR, _pack_within(content))
    return _extend_number_or_subclass(value)


def _extend_number_or_subclass(value: Any) -> Any:  # noqa: ANN401
    match value:
        case complex():
            return msgpack.ExtType(COMPLEX, _pack_within([value.real, value.imag]))
        case bool() | int():
            digits = str(int(value)).encode()
            if len(digits) > _MAX_DIGITS:
                raise TypeError(f"an integer of {len(digits)} digits is more than {_MAX_DIGITS}")
            return msgpack.ExtType(BIGINT, digits)
        case float():
            return float(value)
        case str():
            return str.__str__(value)
        case bytes():
            return bytes(value)
        case dict():
            return dict(value)
        case list():
            return list(value)
        case _:
            raise TypeError(
                f"{type(value).__module__}.{type(value).__qualname__} is no type the bus "
                f"carries; give plain values, arrays, or their text"
            )


def _members(value: set[Any] | frozenset[Any]) -> bytes:
    return _pack_within([unpack(each) for each in sorted(map(_pack, value))])


def _array_content(array: Any) -> bytes:  # noqa: ANN401
    order = arrays.order_of(array)
    dtype = arrays.spell_dtype(array.dtype)
    return _pack_within([dtype, list(array.shape), order, array.tobytes(order)])


def _moment(content: list[Any]) -> Any:  # noqa: ANN401
    kind, text, fold = content
    moment = _MOMENTS[kind].fromisoformat(text)
    return moment.replace(fold=fold) if fold else moment


def from_extension(code: int, content: bytes) -> Any:  # noqa: ANN401
    """Return the value an extension stands for (msgpack's ``ext_hook``)."""
    if code == BLOB:
        raise MalformedMessageError("a reference to a blob stands where none may stand")
    if code == UUID_:
        return UUID(bytes=content)
    if code == BIGINT:
        if len(content) > _MAX_DIGITS:
            raise MalformedMessageError(f"an integer of {len(content)} digits")
        return int(content)
    decode = _DECODERS.get(code)
    if decode is None:
        raise MalformedMessageError(f"extension type {code} is unknown to this version")
    with _nesting:
        return decode(unpack(content))


_DECODERS: dict[int, Any] = {
    TUPLE: tuple,
    SET: lambda content: set(_members_read(content)),
    FROZENSET: lambda content: frozenset(_members_read(content)),
    COMPLEX: lambda content: complex(*content),
    DATETIME: _moment,
    TIMEDELTA: lambda content: dt.timedelta(*content),
    NDARRAY: lambda content: arrays.read_array(*content),
    SCALAR: lambda content: arrays.read_scalar(*content),
    ENUM: lambda content: EnumValue(*content),
    PATH: lambda content: _PATHS[content[0]](content[1]),
}
