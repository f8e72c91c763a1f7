"""Content hashes over a canonical encoding: equal content, equal fingerprint, on any host.

A fingerprint is BLAKE2b with 16 bytes of output, over the canonical encoding of a value, with a
*domain* (1 to 16 bytes of UTF-8) as its ``person`` parameter, so that equal values that mean
different things have different fingerprints.

The encoding of a value is a tag byte, then its content. Below, ``len`` is 8 bytes, big-endian, and
counts what follows it in the part; ``[x]`` is the encoding of x; ``text`` is UTF-8 (lone
surrogates as they are, three bytes each).

====  =====================================  ====================================================
tag   value                                  content
====  =====================================  ====================================================
n     None                                   nothing
t, f  True, False                            nothing
i     int                                    len, decimal digits with ``-`` if below zero
d     float                                  8 bytes IEEE 754, big-endian; one NaN: 7ff8000000000000
c     complex                                16 bytes: real, imaginary, each as for d
s     str                                    len, text
b     bytes, bytearray, memoryview           len, bytes
u     UUID                                   len, its 16 bytes
l     list, tuple                            len, [item] one after the other
m     mapping                                len, [key][value] of each pair, pairs in byte order
S     set, frozenset                         len, [member] of each, in byte order
D     datetime, date, time                   len, ["datetime" …], [ISO 8601 text], [fold]
T     timedelta                              len, [days], [seconds], [microseconds]
p     path                                   len, ["posix" or "windows"], [text]
e     enum member                            len, [name of its class], [value]
a     NumPy array or scalar                  len, [dtype], [shape], [bytes in C order]
o     other dataclass                        len, [name of its class], [field] each, in order
k     dataclass, by the names of its fields  len, [name of its class], [name][value] of each field
                                             that is not at its default, fields in order of names
====  =====================================  ====================================================

So ``1``, ``1.0`` and ``True`` differ, a list and a tuple do not, nor the order of a mapping, nor
an enum member and the `EnumValue` it arrives as. A dtype is its text (``<f8``), [base, [shape]],
or [size in bytes, [[name, dtype, offset] …]]. A subclass of a type counts as that type. Anything
else is refused.

``k`` is for what is stored (`named`): a later version that adds a field with a default leaves the
fingerprints of earlier content as they are. ``o`` is for what only equals compare: states.
"""

from __future__ import annotations

import datetime as dt
import enum
import math
import pathlib
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache, lru_cache
from hashlib import blake2b
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from ezgraph.errors import InvalidValueError
from ezgraph.protocol.settings import EnumValue

if TYPE_CHECKING:
    from collections.abc import Iterable

FINGERPRINT_BYTES = 16
MOST_DOMAIN_BYTES = 16
_MODULUS = (1 << 8 * FINGERPRINT_BYTES) - 1
_NO_FINGERPRINT = _MODULUS.to_bytes(FINGERPRINT_BYTES, "big")
_HEX = re.compile(r"[0-9a-fA-F]{32}")
_EMPTY = "empty"
_pack_double = struct.Struct(">d").pack
_NAN = _pack_double(math.nan)


@dataclass(frozen=True, slots=True, order=True)
class Fingerprint:
    """The content hash of something: 16 bytes, or none (`empty`).

    `combine` is addition modulo 2**128 - 1 of the digests as big-endian numbers. So it is the same
    in any order, `identity` (0) leaves the others as they are, and a part that comes twice counts
    twice: as the modulus is odd, two equal parts never cancel out. All bits set would be a second
    0, and is no fingerprint. `empty` says that something has none, and so has what is combined
    with it.

    `combine` is for parts one has made oneself: whoever may choose many parts can find two sets of
    them with one sum. What others fill, a state or a graph, is hashed as a tree
    (`ezgraph.protocol.fingerprint_tree`).
    """

    digest: bytes

    def __post_init__(self) -> None:
        _check_digest(self.digest)

    @classmethod
    def of(cls, value: object, domain: str = "ezgraph.value") -> Fingerprint:
        """Return the fingerprint of ``value`` in ``domain``.

        Raises:
            InvalidValueError: ``value`` holds something that has no canonical encoding.
        """
        return cls(digest(domain, canonical(value)))

    @classmethod
    def from_string(cls, text: str) -> Fingerprint:
        """Return the fingerprint of a text, in the domain ``ezgraph.text``."""
        return cls.of(text, "ezgraph.text")

    @classmethod
    def from_hex(cls, text: object) -> Fingerprint:
        """Return the fingerprint that ``str`` of one shows: 32 hexadecimal digits, or ``empty``.

        Raises:
            InvalidValueError: it shows none.
        """
        if text == _EMPTY:
            return cls.empty()
        if not isinstance(text, str) or not _HEX.fullmatch(text):
            raise InvalidValueError(
                f"{text!r} is no fingerprint: that is 32 hexadecimal digits, or {_EMPTY!r}"
            )
        return cls(bytes.fromhex(text))

    @classmethod
    def identity(cls) -> Fingerprint:
        """Return the fingerprint that, combined with others, leaves these as they are."""
        return cls(bytes(FINGERPRINT_BYTES))

    @classmethod
    def empty(cls) -> Fingerprint:
        """Return the fingerprint of what has none; combined with others, it is all that is left."""
        return cls(b"")

    @property
    def is_identity(self) -> bool:
        """Whether it leaves others as they are."""
        return bool(self.digest) and not any(self.digest)

    @property
    def is_empty(self) -> bool:
        """Whether there is none."""
        return not self.digest

    def combine(self, *others: Fingerprint) -> Fingerprint:
        """Return the fingerprint of all of them together, in whatever order."""
        total = 0
        for each in (self, *others):
            if not isinstance(each, Fingerprint):
                raise InvalidValueError(f"{each!r} is no Fingerprint; give what `of` returns")
            if each.is_empty:
                return each
            total += int.from_bytes(each.digest, "big")
        return Fingerprint((total % _MODULUS).to_bytes(FINGERPRINT_BYTES, "big"))

    def __str__(self) -> str:
        return self.digest.hex() or _EMPTY

    def __repr__(self) -> str:
        return f"<Fingerprint {self}>"


def _check_digest(given: object) -> None:
    if type(given) is not bytes or len(given) not in (0, FINGERPRINT_BYTES):
        raise InvalidValueError(
            f"{given!r:.60} is no fingerprint: that is {FINGERPRINT_BYTES} bytes; read text "
            f"with Fingerprint.from_hex, hash text with Fingerprint.from_string"
        )
    if given == _NO_FINGERPRINT:
        raise InvalidValueError(
            f"{given.hex()} is no fingerprint: of all {FINGERPRINT_BYTES} bytes there are, it is "
            f"the one that none has"
        )


def fingerprint(domain: str, value: object) -> str:
    """Return the fingerprint of ``value`` in ``domain`` as 32 hexadecimal digits."""
    return digest(domain, canonical(value)).hex()


def content_hash(blob: bytes | memoryview) -> bytes:
    """Return the 16-byte name of a content-addressed blob."""
    return blake2b(blob, digest_size=FINGERPRINT_BYTES).digest()


def digest(domain: str, encoded: bytes) -> bytes:
    """Return the 16 bytes that stand for a canonical encoding in ``domain``."""
    hasher = _hasher(domain).copy()
    hasher.update(encoded)
    return bytes(hasher.digest())


@cache
def _hasher(domain: str) -> Any:  # noqa: ANN401 - hashlib does not name the type
    return blake2b(digest_size=FINGERPRINT_BYTES, person=_person(domain))


def _person(domain: str) -> bytes:
    person = domain.encode()
    if not 0 < len(person) <= MOST_DOMAIN_BYTES or b"\0" in person:
        raise InvalidValueError(
            f"{domain!r} is no domain of a fingerprint: give 1 to {MOST_DOMAIN_BYTES} bytes of text"
        )
    return person


# --- the encoding ---

Memo = dict[int, tuple[object, bytes]]
"""What was encoded, by id: for values that occur often, and that nobody changes meanwhile."""


def canonical(value: object) -> bytes:
    """Return the canonical encoding of ``value``; dataclasses as ``o``.

    Raises:
        InvalidValueError: it holds something that has none, or itself.
    """
    return _guarded(_Encoder(is_named=False, memo=None).encode, value)


def named(value: object, memo: Memo | None = None) -> bytes:
    """Return the canonical encoding of ``value``, dataclasses as ``k``.

    ``memo`` remembers mappings, and those of the dataclasses that `REMEMBERED` names, from one call
    to the next.

    Raises:
        InvalidValueError: it holds something that has none, or itself.
    """
    return _guarded(_Encoder(is_named=True, memo=memo).encode, value)


def named_with(value: object, instead: Mapping[str, object], memo: Memo | None = None) -> bytes:
    """Return what `named` would of a dataclass whose fields in ``instead`` had these values."""
    encoder = _Encoder(is_named=True, memo=memo)
    return _guarded(lambda whole: encoder.fields_of(whole, instead), value)


_NOTHING: Mapping[str, object] = {}


def canonical_texts(texts: Iterable[str]) -> bytes:
    """Return what `canonical` returns of a tuple of texts, in less time."""
    return _part(b"l", b"".join(map(_text, texts)))


REMEMBERED = frozenset({"SettingsSchemaMetadata"})


def _guarded(encode: Callable[[Any], bytes], value: object) -> bytes:
    try:
        return encode(value)
    except RecursionError:
        raise InvalidValueError(
            f"a {type(value).__name__} holds itself, or parts that stand too deep within each "
            f"other; it has no fingerprint. Flatten it"
        ) from None


def _part(tag: bytes, content: bytes) -> bytes:
    return tag + len(content).to_bytes(8, "big") + content


_SHORT_TEXT = [_part(b"s", bytes(length))[:9] for length in range(256)]


def _text(value: str) -> bytes:
    try:
        content = value.encode()
    except UnicodeEncodeError:
        content = value.encode("utf-8", "surrogatepass")
    if len(content) < 256:
        return _SHORT_TEXT[len(content)] + content
    return _part(b"s", content)


_name = lru_cache(maxsize=4096)(_text)
"""`_text` of what comes again and again: names of fields and keys."""

_FEW = 32
_TEXTS = {str}


@lru_cache(maxsize=1024)
def _in_order_of_names(keys: tuple[str, ...]) -> list[tuple[str, bytes]]:
    """Return the keys of a mapping, each with its encoding, in the order of their pairs.

    That is the order of the encodings: none begins with another, as each begins with its length.
    """
    return sorted(((key, _text(key)) for key in keys), key=itemgetter(1))


def _number(value: int) -> bytes:
    try:
        return _part(b"i", b"%d" % int(value))
    except ValueError as error:  # Python bounds the digits
        raise InvalidValueError(f"an integer has no fingerprint: {error}") from error


def _eight_bytes(value: float) -> bytes:
    return _pack_double(value) if value == value else _NAN  # NaN is not


def _float(value: float) -> bytes:
    return b"d" + _pack_double(value) if value == value else b"d" + _NAN


class _Encoder:
    """Encodes one value. Exact types are looked up; the rest is found out in order."""

    __slots__ = ("_is_named", "_memo")

    def __init__(self, *, is_named: bool, memo: Memo | None) -> None:
        self._is_named = is_named
        self._memo = memo

    def encode(self, value: Any) -> bytes:  # noqa: ANN401
        kind: Any = type(value)
        leaf = _LEAVES.get(kind)
        if leaf is not None:
            return leaf(value)
        if kind is dict:
            return self._mapping(value)
        if kind is list or kind is tuple:
            return self._joined(b"l", map(self.encode, value))
        if self._is_named:
            quick = _quick_forms.get(kind)
            if quick is not None:
                return quick(value, self.encode, _NOTHING)
            if _is_plain_dataclass(kind):
                return self._remembered(value)
        return self._composed(value)

    def _composed(self, value: Any) -> bytes:  # noqa: ANN401 - one line per type
        match value:
            case enum.Enum():
                return self._member(type(value).__name__, value.value)
            case EnumValue():
                return self._member(value.qualname.rpartition(".")[2], value.value)
            case int() | float() | complex() | str() | bytes() | UUID() | dt.timedelta():
                kind: Any = type(value)
                return _leaf_of(kind)(value)
            case bytearray() | memoryview():
                return _part(b"b", bytes(value))
            case list() | tuple():
                return self._joined(b"l", map(self.encode, value))
            case Mapping():
                return self._mapping(value)
            case set() | frozenset():
                return self._joined(b"S", sorted(map(self.encode, value)))
            case dt.datetime() | dt.date() | dt.time():
                return self._moment(value)
            case pathlib.PurePath():
                is_windows = isinstance(value, pathlib.PureWindowsPath)
                flavour = "windows" if is_windows else "posix"
                return self._joined(b"p", (_text(flavour), _text(str(value))))
            case _:
                return self._object(value)

    def _joined(self, tag: bytes, parts: Iterable[bytes]) -> bytes:
        return _part(tag, b"".join(parts))

    def _mapping(self, value: Mapping[Any, Any]) -> bytes:
        if self._memo is None:
            return self._new_mapping(value)
        known = self._memo.get(id(value))
        if known is None:
            known = self._memo[id(value)] = value, self._new_mapping(value)
        return known[1]

    def _new_mapping(self, value: Mapping[Any, Any]) -> bytes:
        encode, pairs = self.encode, []
        if len(value) <= _FEW and set(map(type, value)) == _TEXTS:
            for key, name in _in_order_of_names(tuple(value)):
                item = value[key]
                leaf = _LEAVES.get(type(item))
                pairs.append(name)
                pairs.append(encode(item) if leaf is None else leaf(item))
            return _part(b"m", b"".join(pairs))
        for key, item in value.items():
            name = _name(key) if type(key) is str else encode(key)
            leaf = _LEAVES.get(type(item))
            pairs.append(name + (encode(item) if leaf is None else leaf(item)))
        pairs.sort()
        return _part(b"m", b"".join(pairs))

    def _member(self, name: str, value: object) -> bytes:
        return self._joined(b"e", (_text(name), self.encode(value)))

    def _moment(self, value: Any) -> bytes:  # noqa: ANN401
        name = next(name for name, kind in _MOMENTS.items() if isinstance(value, kind))
        fold = getattr(value, "fold", 0)
        return self._joined(b"D", (_text(name), _text(value.isoformat()), _number(fold)))

    def _object(self, value: Any) -> bytes:  # noqa: ANN401
        if is_dataclass(value) and not isinstance(value, type):
            return self._remembered(value) if self._is_named else self._in_order(value)
        if hasattr(value, "dtype") and hasattr(value, "tobytes"):
            return self._array(value)
        raise InvalidValueError(
            f"a {type(value).__module__}.{type(value).__qualname__} has no fingerprint; give plain "
            f"values, dataclasses, arrays, or their text"
        )

    def _in_order(self, value: Any) -> bytes:  # noqa: ANN401
        content = (self.encode(getattr(value, each.name)) for each in fields(value))
        return self._joined(b"o", (_text(type(value).__name__), *content))

    def _remembered(self, value: Any) -> bytes:  # noqa: ANN401
        kind: Any = type(value)
        if kind.__name__ not in REMEMBERED:
            _quick_forms[kind] = _quick_form_of(kind, ())
            return self.fields_of(value, _NOTHING)
        if self._memo is None:
            return self.fields_of(value, _NOTHING)
        known = self._memo.get(id(value))
        if known is None:
            known = self._memo[id(value)] = value, self.fields_of(value, _NOTHING)
        return known[1]

    def fields_of(self, value: Any, instead: Mapping[str, object]) -> bytes:  # noqa: ANN401
        """Encode a dataclass as ``k``, with some fields as if they were something else."""
        kind: Any = type(value)
        quick = _quick_form_of(kind, tuple(instead))
        return quick(value, self.encode, instead)

    def _array(self, value: Any) -> bytes:  # noqa: ANN401
        if value.dtype.hasobject:
            raise InvalidValueError(
                f"an array of dtype {value.dtype} has no fingerprint: it holds Python objects"
            )
        parts = _layout(value.dtype), list(value.shape), value.tobytes()
        return self._joined(b"a", map(self.encode, parts))


def _layout(dtype: Any) -> Any:  # noqa: ANN401
    """Return what tells a dtype from others: its text, or its fields and where they lie."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return [_layout(base), list(shape)]
    if dtype.fields is None:
        return dtype.str
    fields_of = [(name, *dtype.fields[name][:2]) for name in dtype.names]
    return [dtype.itemsize, [[name, _layout(kind), place] for name, kind, place in fields_of]]


class _NamedForm(NamedTuple):
    """How a dataclass is encoded as ``k``: its name, and its fields."""

    head: bytes
    names: tuple[str, ...]
    fields: tuple[_NamedField, ...]


class _NamedField(NamedTuple):
    """A field's name encoded, and its default: encoded, as it is, and what makes an empty one.

    As it is, MISSING (nobody's value) stands for none.
    """

    spelled: bytes
    default: bytes | None
    plain_default: object
    empty: object


@cache
def _is_plain_dataclass(kind: Any) -> bool:  # noqa: ANN401
    is_special = issubclass(kind, EnumValue | enum.Enum | Mapping | tuple)
    return is_dataclass(kind) and not is_special


@cache
def _form_of(cls: Any) -> _NamedForm:  # noqa: ANN401
    counted = sorted((each for each in fields(cls) if each.compare), key=lambda each: each.name)
    names = tuple(each.name for each in counted)
    spelled = tuple(
        _NamedField(_text(each.name), _default(each), each.default, each.default_factory)
        for each in counted
    )
    return _NamedForm(_text(cls.__name__), names, spelled)


Quick = Callable[[Any, Callable[[Any], bytes], Mapping[str, object]], bytes]


_quick_forms: dict[type, Quick] = {}
"""Those of dataclasses that are encoded each time they come, for `_Encoder.encode` to find."""


@cache
def _quick_form_of(cls: Any, replaced: tuple[str, ...]) -> Quick:  # noqa: ANN401
    """Return what encodes a dataclass as ``k``: source made from its fields, in order of names.

    It is given the value, what encodes parts of it, and what to take for the fields in
    ``replaced``.
    """
    form = _form_of(cls)
    names: dict[str, Any] = {"text": _text, "leaves": _LEAVES, "part": _part, "head": form.head}
    lines = []
    for i, (name, field) in enumerate(zip(form.names, form.fields, strict=True)):
        names |= {
            f"name{i}": field.spelled,
            f"default{i}": field.default,
            f"plain{i}": field.plain_default,
            f"empty{i}": field.empty,
        }
        lines.append(f"""
    part_{i} = {f"instead[{name!r}]" if name in replaced else f"value.{name}"}
    kind = type(part_{i})
    if part_{i} is not plain{i} and (part_{i} or kind is not empty{i}):
        if kind is str:
            encoded = text(part_{i})
        else:
            leaf = leaves.get(kind)
            encoded = encode(part_{i}) if leaf is None else leaf(part_{i})
        if encoded != default{i}:
            parts.append(name{i} + encoded)
""".strip("\n"))
    body = "\n".join(lines)
    source = f"""
def quick(value, encode, instead):
    parts = [head]
{body}
    return part(b"k", b"".join(parts))
"""
    exec(source, names)  # noqa: S102 - made from field names of dataclasses only
    quick: Quick = names["quick"]
    return quick


def _default(each: Any) -> bytes | None:  # noqa: ANN401
    if each.default is not MISSING:
        return named(each.default)
    return None if each.default_factory is MISSING else named(each.default_factory())


_MOMENTS: dict[str, type] = {"datetime": dt.datetime, "date": dt.date, "time": dt.time}


def _span(value: dt.timedelta) -> bytes:
    parts = value.days, value.seconds, value.microseconds
    return _part(b"T", b"".join(map(_number, parts)))


@cache
def _leaf_of(kind: Any) -> Callable[[Any], bytes]:  # noqa: ANN401
    return next(leaf for base, leaf in _LEAVES.items() if issubclass(kind, base))


_LEAVES: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"n",
    bool: lambda value: b"t" if value else b"f",
    int: _number,
    float: _float,
    complex: lambda value: b"c" + _eight_bytes(value.real) + _eight_bytes(value.imag),
    str: _text,
    bytes: lambda value: _part(b"b", bytes(value)),
    UUID: lambda value: _part(b"u", value.bytes),
    dt.timedelta: _span,
}
