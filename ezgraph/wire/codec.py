"""The one place that spells messages: ``[tag, {field: value}]``, in msgpack.

A message type is a frozen dataclass of `ezgraph.protocol`; its field types say how each field is
spelled and checked. Decoding ignores unknown fields, fills absent ones from their defaults, and
refuses everything else with `MalformedMessageError`, which names the field.

Three spellings deserve a word:

* A field whose type has subclasses, or a union of message types, carries the tag too.
* `Source` and `SettingsSchemaMetadata` come again and again with equal content: in commands and
  replies they are one binary field (their own encoding), so that a decoder meets equal bytes and
  keeps one object for them.
* In events these fields are references to content-addressed blobs. An event as journaled and
  published is self-contained: the length of a table of its blobs (4 bytes, big-endian), the
  table, then the message. A snapshot holds the messages alone, and each blob once beside them.
"""

from __future__ import annotations

import enum
import reprlib
import struct
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache, lru_cache
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import msgpack

from ezgraph.errors import InvalidValueError, MalformedMessageError
from ezgraph.protocol.artifacts import PartitionKey
from ezgraph.protocol.events import Event, Source
from ezgraph.protocol.fingerprints import Fingerprint, content_hash
from ezgraph.protocol.metadata import SettingsSchemaMetadata
from ezgraph.protocol.settings import SettingsSnapshotValue
from ezgraph.wire import values

Encode = Callable[[Any], Any] | None
Decode = Callable[[Any], Any]
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
_INTERNED: tuple[type, ...] = (Source, SettingsSchemaMetadata)
_INTERN_BYTES = 2 << 20
_LENGTH_BYTES = 4
_DOUBLE = struct.Struct(">d")
_WALL_TIME = msgpack.packb("wall_time") + b"\xcb"
_HEAD_BYTES = 128
_MAX_INT = 1 << 64


def _once(make: F) -> F:
    """Make each result once per argument."""
    return typing.cast("F", cache(make))


class _Misfit(Exception):  # noqa: N818 - never leaves this module
    """A part of a message has the wrong form; the path grows on the way out."""

    def __init__(self, problem: str, *, unknown: bool = False) -> None:
        super().__init__(problem)
        self.unknown = unknown
        self.path: list[str] = []

    def __str__(self) -> str:
        place = ".".join(filter(None, self.path)).replace(".[", "[")
        return f"{place or 'message'}: {self.args[0]}"


class _Blob:
    """The encoding of an interned value, on its way into a message."""

    __slots__ = ("ext", "packed", "table", "table_bytes")

    def __init__(self, packed: bytes) -> None:
        name = content_hash(packed)
        self.packed = packed
        self.ext = msgpack.ExtType(values.BLOB, name)
        self.table = {name: packed}
        self.table_bytes = _with_length(values.pack(self.table))


class _InternTable:
    """Decoded interned values by their bytes, and back; forgets all when full."""

    def __init__(self) -> None:
        self._by_bytes: dict[bytes, Any] = {}
        self._spelled: dict[int, _Blob] = {}
        self._held: list[object] = []
        self._held_bytes = 0

    def decode(self, packed: bytes, decode: Decode) -> Any:  # noqa: ANN401
        known = self._by_bytes.get(packed)
        if known is None:
            try:
                known = decode(values.unpack(packed))
            except MalformedMessageError as error:
                raise _Misfit(str(error)) from None
            self.hold(known, _Blob(packed))
        return known

    def hold(self, value: object, blob: _Blob) -> None:
        """Keep a value that will not change, and how it is spelled."""
        if self._held_bytes > _INTERN_BYTES:
            self._by_bytes, self._spelled, self._held_bytes = {}, {}, 0
            self._held = []
        self._held.append(value)
        self._by_bytes[blob.packed] = value
        self._spelled[id(value)] = blob
        self._held_bytes += 2 * len(blob.packed) + 512

    def spelling(self, value: object) -> _Blob | None:
        """Return how a value that is held is spelled; holding it keeps its id its own."""
        return self._spelled.get(id(value))


_interned = _InternTable()


def encode(message: object) -> bytes:
    """Return the encoding of a command, reply or event body.

    Raises:
        MalformedMessageError: a field holds what its type does not allow; says which.
    """
    plain = _plain(message)
    try:
        return _pack(plain, _inline)
    except MalformedMessageError as error:
        tag, content = plain
        place = values.culprit(content, lambda part: _pack(part, _inline))
        raise MalformedMessageError(f"{tag}.{place}: {error}" if place else str(error)) from error


def decode(packed: bytes | memoryview, family: type[T] | Any) -> T:  # noqa: ANN401
    """Return the message of ``family`` (a union of message types) that ``packed`` spells.

    Raises:
        MalformedMessageError: it spells none.
    """
    decoded: T = decoder_of(family)(packed)
    return decoded


def decoder_of(family: Any) -> Callable[[bytes | memoryview], Any]:  # noqa: ANN401
    """Return `decode` for one family; keep it where many messages come in."""
    decode_plain = _union_decoder(family)
    return lambda packed: _message(decode_plain, values.unpack(packed))


def _message(decode_plain: Decode, plain: Any) -> Any:  # noqa: ANN401
    try:
        return decode_plain(plain)
    except _Misfit as misfit:
        if not misfit.unknown:
            misfit.path.insert(0, _tag_of(plain))
        raise MalformedMessageError(str(misfit), unknown=misfit.unknown) from None
    except MalformedMessageError:
        raise
    except Exception as error:
        raise MalformedMessageError(f"a message cannot be read: {error!r}") from error


def _tag_of(plain: Any) -> str:  # noqa: ANN401
    """Return what a message calls itself if that is text; else it may be too deep to show."""
    return plain[0][:60] if type(plain) is list and plain and type(plain[0]) is str else ""


class EncodedEvent(NamedTuple):
    """An event as journaled and published, and as it stands in snapshots beside its blobs."""

    event: bytes
    live: bytes
    blobs: Mapping[bytes, bytes]


def encode_event(event: Event) -> EncodedEvent:
    """Return both forms of an event."""
    found: list[_Blob] = []

    def refer(value: Any) -> Any:  # noqa: ANN401
        if type(value) is not _Blob:
            return values.extend(value)
        found.append(value)
        return value.ext

    live = _pack(_plain(event), refer)
    if len(found) == 1:
        return EncodedEvent(found[0].table_bytes + live, live, found[0].table)
    table_bytes, table = _joint_table(tuple(found))
    return EncodedEvent(table_bytes + live, live, table)


@lru_cache(maxsize=256)
def _joint_table(blobs: tuple[_Blob, ...]) -> tuple[bytes, Mapping[bytes, bytes]]:
    table = {name: packed for blob in blobs for name, packed in blob.table.items()}
    return _with_length(values.pack(table)), table


def encode_apart(message: object) -> tuple[bytes, Mapping[bytes, bytes]]:
    """Return the encoding of a message without its blobs, and these by their names.

    Raises:
        MalformedMessageError: a field holds what its type does not allow; says which.
    """
    blobs: dict[bytes, bytes] = {}

    def refer(value: Any) -> Any:  # noqa: ANN401
        if type(value) is not _Blob:
            return values.extend(value)
        blobs.update(value.table)
        return value.ext

    return _pack(_plain(message), refer), blobs


def decode_apart(packed: bytes, blobs: Mapping[bytes, bytes], family: Any) -> Any:  # noqa: ANN401
    """Return the message of ``family`` that `encode_apart` has encoded.

    Raises:
        MalformedMessageError: it spells none, or a blob is missing.
    """
    try:
        plain = values.unpack_with(_resolver_of(blobs), packed)
    except MalformedMessageError:
        raise
    except Exception as error:
        raise MalformedMessageError(f"these bytes are no msgpack value: {error}") from error
    return _message(_union_decoder(family), plain)


def _with_length(table: bytes) -> bytes:
    return len(table).to_bytes(_LENGTH_BYTES, "big") + table


def decode_event(packed: bytes) -> Event:
    """Return the event that ``packed`` spells.

    Raises:
        MalformedMessageError: it spells none.
    """
    start = _LENGTH_BYTES + int.from_bytes(packed[:_LENGTH_BYTES], "big")
    if start > len(packed):
        raise MalformedMessageError(f"{len(packed)} bytes end within the event's blobs")
    return _decode_with(_resolver(packed[_LENGTH_BYTES:start]), memoryview(packed)[start:])


def wall_time_of(packed: bytes) -> float:
    """Return the wall time of an encoded event, without decoding it where that can be done.

    Raises:
        MalformedMessageError: these bytes are no event.
    """
    start = _LENGTH_BYTES + int.from_bytes(packed[:_LENGTH_BYTES], "big")
    place = packed.find(_WALL_TIME, start, start + _HEAD_BYTES)  # only numbers stand before it
    if place < 0 or len(packed) < place + len(_WALL_TIME) + _DOUBLE.size:
        return decode_event(packed).wall_time
    (wall_time,) = _DOUBLE.unpack_from(packed, place + len(_WALL_TIME))
    return float(wall_time)


def decode_live_event(packed: bytes, blobs: Mapping[bytes, bytes]) -> Event:
    """Return the event of a snapshot entry, with the blobs it refers to.

    Raises:
        MalformedMessageError: it spells none, or a blob is missing.
    """
    return _decode_with(_resolver_of(blobs), packed)


@lru_cache(maxsize=1024)
def _resolver(table: bytes) -> Callable[[int, bytes], Any]:
    blobs = values.unpack(table)
    if type(blobs) is not dict:
        raise MalformedMessageError("an event's blobs are no mapping")
    return _resolver_of(blobs)


def _resolver_of(blobs: Mapping[bytes, bytes]) -> Callable[[int, bytes], Any]:
    def resolve(code: int, content: bytes) -> Any:  # noqa: ANN401
        if code != values.BLOB:
            return values.from_extension(code, content)
        if content not in blobs:
            raise MalformedMessageError(f"blob {content.hex()} of an event is missing")
        return blobs[content]

    return resolve


def _decode_with(resolve: Callable[[int, bytes], Any], packed: bytes | memoryview) -> Event:
    try:
        plain = values.unpack_with(resolve, packed)
    except MalformedMessageError:
        raise
    except Exception as error:
        raise MalformedMessageError(f"an event is no msgpack value: {error}") from error
    return _event(plain)


def _event(plain: Any) -> Event:  # noqa: ANN401
    try:
        event: Event = _decode_event_fields(_upgraded(plain))
    except _Misfit as misfit:
        raise MalformedMessageError(str(misfit)) from None
    except MalformedMessageError:
        raise
    except Exception as error:
        raise MalformedMessageError(f"an event cannot be read: {error!r}") from error
    return event


def _upgraded(plain: Any) -> Any:  # noqa: ANN401
    """Return an event as this version spells it; the place for older spellings."""
    return plain


def _inline(value: Any) -> Any:  # noqa: ANN401
    if type(value) is _Blob:
        return value.packed
    return values.extend(value)


def _pack(plain: object, default: Callable[[Any], Any]) -> bytes:
    try:
        packed: bytes = msgpack.packb(plain, default=default, strict_types=True)
    except MalformedMessageError:
        raise
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise MalformedMessageError(f"a message cannot be encoded: {error}") from error
    return packed


def _plain(message: object) -> list[Any]:
    kind = type(message)
    try:
        return [kind.__name__, _encoder(kind)(message)]
    except _Misfit as misfit:
        misfit.path.insert(0, kind.__name__)
        raise MalformedMessageError(str(misfit)) from None


# --- encoders and decoders, made once per type from its annotations ---


# The general form walks the fields and knows where it is when something does not fit. The quick
# form is source made from the same fields, without the walking; when anything is out of the
# ordinary (a field absent, a wrong type) it leaves the message to the general form.


@_once
def _encoder(cls: type) -> Callable[[Any], dict[str, Any]]:
    if not is_dataclass(cls):
        raise _Misfit(f"expected a message, got {cls.__name__}")
    parts = [(name, encode) for name, (encode, _) in _fields_of(cls).items()]

    def general(message: Any) -> dict[str, Any]:  # noqa: ANN401
        plain: dict[str, Any] = {}
        for name, encode_field in parts:
            value = getattr(message, name)
            if encode_field is not None and value is not None:
                try:
                    value = encode_field(value)
                except _Misfit as misfit:
                    misfit.path.insert(0, name)
                    raise
            plain[name] = value
        return plain

    spelled = ", ".join(
        f"{name!r}: m.{name}"
        if encode is None
        else f"{name!r}: None if m.{name} is None else e{i}(m.{name})"
        for i, (name, encode) in enumerate(parts)
    )
    names = {f"e{i}": encode for i, (_, encode) in enumerate(parts)}
    source = f"""
def encode(m):
    try:
        return {{{spelled}}}
    except Misfit:
        return general(m)
"""
    return _made(source, "encode", {**names, "general": general, "Misfit": _Misfit})


@_once
def _decoder(cls: type) -> Decode:
    defaults = {each.name: _default(each) for each in fields(cls)}
    parts = [(name, decode, defaults[name]) for name, (_, decode) in _fields_of(cls).items()]

    def general(plain: Any) -> Any:  # noqa: ANN401
        if type(plain) is not dict:
            raise _Misfit(f"expected the fields of {cls.__name__}, got {_shown(plain)}")
        found = []
        for name, decode_field, default in parts:
            if name not in plain:
                if default is None:
                    raise _Misfit(f"{cls.__name__} lacks the field {name!r}")
                found.append(default())
                continue
            try:
                found.append(decode_field(plain[name]))
            except _Misfit as misfit:
                misfit.path.insert(0, name)
                raise
        return cls(*found)

    names: dict[str, Any] = {"cls": cls, "general": general, "Misfit": _Misfit}
    reads, fits = [], []
    for i, (name, decode, _) in enumerate(parts):
        kind, optional, members = _quick.get(decode, (None, False, None))
        names |= {f"d{i}": decode, f"t{i}": kind, f"m{i}": members}
        if kind is not None:
            reads.append(f"v{i} = p[{name!r}]")
            fits.append(f"(type(v{i}) is t{i}{f' or v{i} is None' if optional else ''})")
        elif members is not None:
            reads.append(f"v{i} = m{i}[p[{name!r}]]")
        else:
            reads.append(f"v{i} = d{i}(p[{name!r}])")
    read = "".join(f"        {line}\n" for line in reads)
    source = f"""
def decode(p):
    try:
{read}        if {" and ".join(fits) or "type(p) is dict"}:
            return cls({", ".join(f"v{i}" for i in range(len(parts)))})
    except (KeyError, TypeError, Misfit):
        pass
    return general(p)
"""
    return _made(source, "decode", names)


def _made(source: str, name: str, names: dict[str, Any]) -> Callable[[Any], Any]:
    exec(source, names)  # noqa: S102 - made from field names of our own dataclasses only
    made: Callable[[Any], Any] = names[name]
    return made


def _default(each: Any) -> Callable[[], Any] | None:  # noqa: ANN401
    if each.default is not MISSING:
        default = each.default
        return lambda: default
    factory: Callable[[], Any] | None = each.default_factory
    return None if factory is MISSING else factory


@_once
def _fields_of(cls: type) -> dict[str, tuple[Encode, Decode]]:
    hints = typing.get_type_hints(cls)
    return {each.name: _spelling(hints[each.name]) for each in fields(cls)}


def _spelling(hint: Any) -> tuple[Encode, Decode]:  # noqa: ANN401
    """Return how a field of type ``hint`` is spelled (None: as it is) and read."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in (typing.Any, object):
        return None, _decode_value
    if hint in _PLAIN:
        return None, _PLAIN[hint]
    if hint in _AS_PLAIN:
        return _AS_PLAIN[hint]
    if origin in (typing.Union, types.UnionType):
        return _spell_union(arguments)
    if origin is list:
        return _spell_list(arguments[0])
    if origin is tuple:
        return _spell_tuple(arguments)
    if origin is dict:
        return _spell_dict(*arguments)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _spell_enum(hint)
    if isinstance(hint, type) and issubclass(hint, tuple):
        return _spell_named_tuple(hint)
    if hint in _INTERNED:
        return _spell_interned(hint)
    if is_dataclass(hint):
        return _spell_message(typing.cast("type", hint))
    raise TypeError(f"the codec has no spelling for {hint!r}")


def _shown(value: object) -> str:
    return f"{reprlib.repr(value)} ({type(value).__name__})"  # it may be as large as a frame


def _exactly(kind: type, name: str) -> Decode:
    def decode(value: Any) -> Any:  # noqa: ANN401
        if type(value) is not kind:
            raise _Misfit(f"expected {name}, got {_shown(value)}")
        return value

    return decode


def _decode_float(value: Any) -> float:  # noqa: ANN401
    if type(value) is float:
        return value
    if type(value) is int and abs(value) <= _MAX_INT:
        return float(value)
    raise _Misfit(f"expected a number, got {_shown(value)}")


def _decode_uuid(value: Any) -> UUID:  # noqa: ANN401
    if type(value) is UUID:
        return value
    raise _Misfit(f"expected a UUID, got {_shown(value)}")


def _decode_value(value: Any) -> Any:  # noqa: ANN401
    if type(value) in (dict, list, tuple):
        try:
            values.check_depth(value)
        except MalformedMessageError as error:
            raise _Misfit(str(error)) from None  # so that it is said where it stands
    return value


def _decode_structure(value: Any) -> Any:  # noqa: ANN401
    if type(value) is not dict:
        raise _Misfit(f"expected a mapping, got {_shown(value)}")
    values.check_depth(value)
    return value


_PLAIN: dict[Any, Decode] = {
    int: _exactly(int, "an integer"),
    str: _exactly(str, "text"),
    bool: _exactly(bool, "true or false"),
    bytes: _exactly(bytes, "bytes"),
    float: _decode_float,
    UUID: _decode_uuid,
    types.NoneType: _exactly(types.NoneType, "nothing"),
    dict[str, typing.Any]: _decode_structure,
}


def _read_fingerprint(plain: Any) -> Fingerprint:  # noqa: ANN401
    try:
        return Fingerprint(plain)
    except InvalidValueError as error:
        raise _Misfit(str(error)) from error


def _read_partition_key(plain: Any) -> PartitionKey:  # noqa: ANN401
    try:
        return PartitionKey(_decode_structure(plain))
    except InvalidValueError as error:
        raise _Misfit(str(error)) from error


_AS_PLAIN: dict[Any, tuple[Encode, Decode]] = {
    Fingerprint: (lambda value: value.digest, _read_fingerprint),
    PartitionKey: (dict, _read_partition_key),
}


# What the quick form does without a call: an exact type, perhaps or None; or a look into a table.
_quick: dict[Decode, tuple[type | None, bool, dict[Any, Any] | None]] = {
    _PLAIN[kind]: (kind, False, None)
    for kind in (int, str, bool, bytes, float, UUID, types.NoneType)
}


def _spell_union(options: tuple[Any, ...]) -> tuple[Encode, Decode]:
    some = tuple(each for each in options if each is not types.NoneType)
    if all(is_dataclass(each) for each in some) and len(some) > 1:
        decode_tagged = _union_decoder(some)
        if types.NoneType in options:
            return _spell_optional(_plain, decode_tagged)
        return _plain, decode_tagged
    spellings = [_spelling(each) for each in some]
    if len(spellings) == 1:
        return _spell_optional(*spellings[0])

    def decode_any(value: Any) -> Any:  # noqa: ANN401
        if value is None and types.NoneType in options:
            return None
        for _, decode_one in spellings:
            try:
                return decode_one(value)
            except _Misfit:
                continue
        raise _Misfit(f"expected one of {some}, got {_shown(value)}")

    def encode_any(value: Any) -> Any:  # noqa: ANN401
        return decode_any(value)

    return encode_any, decode_any


def _spell_optional(encode: Encode, decode: Decode) -> tuple[Encode, Decode]:
    def decode_or_none(value: Any) -> Any:  # noqa: ANN401
        return None if value is None else decode(value)

    kind, _, _ = _quick.get(decode, (None, False, None))
    if kind is not None:
        _quick[decode_or_none] = (kind, True, None)
    return encode, decode_or_none


def _spell_list(item: Any) -> tuple[Encode, Decode]:  # noqa: ANN401
    encode_item, decode_item = _spelling(item)

    def encode(items: Any) -> list[Any]:  # noqa: ANN401
        if not isinstance(items, list | tuple):
            raise _Misfit(f"expected a list, got {_shown(items)}")
        return list(items) if encode_item is None else _each(encode_item, items)

    def decode(plain: Any) -> list[Any]:  # noqa: ANN401
        if type(plain) is not list:
            raise _Misfit(f"expected a list, got {_shown(plain)}")
        return _each(decode_item, plain)

    return encode, decode


def _each(convert: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """Convert each item; a misfit names the place of its item."""
    done: list[Any] = []
    try:
        done.extend(map(convert, items))
    except _Misfit as misfit:
        misfit.path.insert(0, f"[{len(done)}]")
        raise
    return done


def _spell_tuple(items: tuple[Any, ...]) -> tuple[Encode, Decode]:
    if len(items) == 2 and items[1] is Ellipsis:
        encode_list, decode_list = _spell_list(items[0])

        def decode_tuple(plain: Any) -> tuple[Any, ...]:  # noqa: ANN401
            if items[0] is str and type(plain) is list and set(map(type, plain)) == {str}:
                return tuple(plain)
            return tuple(decode_list(plain))

        return encode_list, decode_tuple
    spellings = [_spelling(each) for each in items]

    def of_right_length(plain: Any) -> Any:  # noqa: ANN401
        if not isinstance(plain, list | tuple) or len(plain) != len(spellings):
            raise _Misfit(f"expected {len(spellings)} values, got {_shown(plain)}")
        return plain

    def encode(value: Any) -> list[Any]:  # noqa: ANN401
        pairs = zip(spellings, of_right_length(value), strict=True)
        return [each if e is None or each is None else e(each) for (e, _), each in pairs]

    def decode(plain: Any) -> tuple[Any, ...]:  # noqa: ANN401
        pairs = zip(spellings, of_right_length(plain), strict=True)
        return tuple(d(each) for (_, d), each in pairs)

    return encode, decode


def _spell_named_tuple(cls: Any) -> tuple[Encode, Decode]:  # noqa: ANN401
    hints = typing.get_type_hints(cls)
    encode, decode = _spell_tuple(tuple(hints[name] for name in cls._fields))
    return encode, lambda plain: cls(*decode(plain))


def _spell_dict(key: Any, item: Any) -> tuple[Encode, Decode]:  # noqa: ANN401
    (_, decode_key), (encode_item, decode_item) = _spelling(key), _spelling(item)

    def encode(mapping: Any) -> dict[Any, Any]:  # noqa: ANN401
        if not isinstance(mapping, Mapping):
            raise _Misfit(f"expected a mapping, got {_shown(mapping)}")
        plain = {}
        for name, value in mapping.items():
            try:
                plain[decode_key(name)] = value if encode_item is None else encode_item(value)
            except _Misfit as misfit:
                misfit.path.insert(0, f"[{name!r}]")
                raise
        return plain

    def decode(plain: Any) -> dict[Any, Any]:  # noqa: ANN401
        if type(plain) is not dict:
            raise _Misfit(f"expected a mapping, got {_shown(plain)}")
        found = {}
        for name, value in plain.items():
            try:
                found[decode_key(name)] = decode_item(value)
            except _Misfit as misfit:
                misfit.path.insert(0, f"[{name!r}]")
                raise
        return found

    return encode, decode


def _spell_enum(cls: type[enum.Enum]) -> tuple[Encode, Decode]:
    members = {member.value: member for member in cls}

    def encode(member: Any) -> Any:  # noqa: ANN401
        if type(member) is not cls:
            raise _Misfit(f"expected a {cls.__name__}, got {_shown(member)}")
        return member.value

    def decode(value: Any) -> enum.Enum:  # noqa: ANN401
        if type(value) is not str or value not in members:
            raise _Misfit(f"expected one of {list(members)}, got {_shown(value)}")
        return members[value]

    _quick[decode] = (None, False, members)
    return encode, decode


def _spell_message(cls: type) -> tuple[Encode, Decode]:
    if _subclasses(cls):
        return _spell_family(cls)

    def encode(message: Any) -> Any:  # noqa: ANN401
        if type(message) is not cls:
            raise _Misfit(f"expected a {cls.__name__}, got {_shown(message)}")
        return _encoder(cls)(message)

    if cls is SettingsSnapshotValue:
        return _spell_settings_value(encode, _decoder(cls))
    return encode, _decoder(cls)


def _spell_settings_value(encode_fields: Decode, decode_fields: Decode) -> tuple[Encode, Decode]:
    """The structured form is mostly the shown one: ``true`` stands for "the same"."""

    def encode(value: Any) -> Any:  # noqa: ANN401
        plain = encode_fields(value)
        if value.structured_value is not None and value.structured_value is value.repr_value:
            plain["structured_value"] = True
        return plain

    def decode(plain: Any) -> Any:  # noqa: ANN401
        if type(plain) is dict and plain.get("structured_value") is True:
            plain["structured_value"] = plain.get("repr_value")
        return decode_fields(plain)

    return encode, decode


def _spell_family(cls: type) -> tuple[Encode, Decode]:
    decode = _union_decoder(cls)

    def encode(message: Any) -> Any:  # noqa: ANN401
        if not isinstance(message, cls):
            raise _Misfit(f"expected a {cls.__name__}, got {_shown(message)}")
        return [type(message).__name__, _encoder(type(message))(message)]

    return encode, decode


def _spell_interned(cls: type) -> tuple[Encode, Decode]:
    decode_fields = _decoder(cls)

    def encode(value: Any) -> _Blob:  # noqa: ANN401
        if type(value) is not cls:
            raise _Misfit(f"expected a {cls.__name__}, got {_shown(value)}")
        if (known := _interned.spelling(value)) is not None:
            return known
        blob = _Blob(_pack(_encoder(cls)(value), _inline))
        if cls is Source:  # a schema holds lists, which its maker may still change
            _interned.hold(value, blob)
        return blob

    def decode(plain: Any) -> Any:  # noqa: ANN401
        if type(plain) is not bytes:
            raise _Misfit(f"expected an encoded {cls.__name__}, got {_shown(plain)}")
        return _interned.decode(plain, decode_fields)

    return encode, decode


@_once
def _union_decoder(family: Any) -> Decode:  # noqa: ANN401
    by_tag = {cls.__name__: cls for cls in _members_of(family)}

    def decode(plain: Any) -> Any:  # noqa: ANN401
        if type(plain) is not list or len(plain) != 2:
            raise _Misfit(f"expected [tag, fields], got {_shown(plain)}")
        tag, content = plain
        if type(tag) is not str or tag not in by_tag:
            known = sorted(by_tag)
            raise _Misfit(f"unknown message {_shown(tag)}; known are {known}", unknown=True)
        return _decoder(by_tag[tag])(content)

    return decode


def _members_of(family: Any) -> list[type]:  # noqa: ANN401
    if isinstance(family, tuple):
        return [cls for each in family for cls in _members_of(each)]
    if typing.get_origin(family) in (typing.Union, types.UnionType):
        return _members_of(typing.get_args(family))
    return [family, *(cls for each in _subclasses(family) for cls in _members_of(each))]


def _subclasses(cls: type) -> list[type]:
    """Return the subclasses, without those that `dataclass` has replaced by ones with slots."""
    found: list[type] = cls.__subclasses__()
    return [
        each
        for each in found
        if getattr(sys.modules[each.__module__], each.__name__, each) is each
    ]


_decode_event_fields = _union_decoder(Event)
