"""The lossless encoding of values: each comes back as it was, or is refused by name."""

from __future__ import annotations

import datetime as dt
import enum
import math
import pathlib
from collections import OrderedDict, defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack
import numpy as np
import pytest

from ezgraph.errors import MalformedMessageError
from ezgraph.protocol import arrays
from ezgraph.protocol.settings import EnumValue
from ezgraph.wire import values
from ezgraph.wire.values import check_depth, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable


def through(value: object) -> Any:
    return unpack(pack(value))


class Mode(enum.Enum):
    FAST = "fast"


class Level(enum.IntEnum):
    HIGH = 3


class Flag(enum.Flag):
    A = 1
    B = 2


class Unhashable(enum.Enum):
    A = [1]  # noqa: RUF012 - the value of a member


class Name(str):
    __slots__ = ()


class Nanoseconds(dt.datetime):
    """Finer than its base, as pandas' Timestamp is."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Nanoseconds)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = dt.datetime.__hash__


class FineDelta(dt.timedelta):
    def __eq__(self, other: object) -> bool:
        return isinstance(other, FineDelta)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = dt.timedelta.__hash__


class Pair(NamedTuple):
    x: int
    y: int


SAME = [
    None,
    True,
    False,
    0,
    -1,
    2**63 - 1,
    -(2**63),
    2**64 - 1,
    2**64,
    -(2**64),
    10**300,
    0.0,
    -1.5,
    5e-324,
    math.inf,
    -math.inf,
    "",
    "µV ⚡ \x00",
    b"",
    b"\x00\xff",
    [],
    [1, [2, [3]]],
    {},
    {"a": {"b": None}},
    {1: "int", b"b": "bytes", None: "none", 1.5: "float"},
    {True: "bool"},
    {(1, (2, "x")): "tuple"},
    {frozenset({1}): "frozenset"},
    (),
    (1, (2, (3,))),
    [(1,), {"a": (2,)}],
    set(),
    {1, "a", b"b", (1, 2)},
    frozenset({frozenset({1}), frozenset()}),
    1 + 2j,
    complex(math.inf, -0.0),
    dt.datetime(2024, 2, 29, 23, 59, 59, 999999),  # noqa: DTZ001 - naive ones travel too
    dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
    dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=45))),
    dt.date(1, 1, 1),
    dt.time(1, 2, 3, 4),
    dt.timedelta(days=-1, seconds=3, microseconds=4),
    dt.timedelta.max,
    pathlib.PurePosixPath("/data/run 1.bin"),
    pathlib.PureWindowsPath(r"C:\data\run.bin"),
    UUID(int=2**128 - 1),
    EnumValue("m", "C.D", "A", (1, {"x": {2}})),
]


@pytest.mark.parametrize("value", SAME, ids=range(len(SAME)))
def test_a_value_comes_back_as_it_was(value: object) -> None:
    found = through(value)

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("value", [0.0, -0.0])
def test_the_sign_of_zero_is_kept(value: float) -> None:
    assert math.copysign(1, through(value)) == math.copysign(1, value)


def test_nan_is_nan() -> None:
    assert math.isnan(through(math.nan))
    assert math.isnan(through([math.nan])[0])


def test_a_bool_is_no_int_and_an_int_no_float() -> None:
    assert [type(each) for each in through([True, 1, 1.0])] == [bool, int, float]


def test_equal_sets_are_spelled_alike_whatever_their_order() -> None:
    one, other = set(range(0, 8_000, 80)), set(range(7_920, -1, -80))

    assert pack(one) == pack(other)


def test_the_second_of_two_equal_hours_stays_the_second() -> None:
    moment = dt.datetime(2020, 10, 25, 2, 30, fold=1)  # noqa: DTZ001 - as above

    assert through(moment).fold == 1
    assert through(moment.timetz()).fold == 1


def test_a_time_zone_becomes_its_offset() -> None:
    moment = dt.datetime(2024, 7, 1, tzinfo=ZoneInfo("Europe/Berlin"))

    assert through(moment) == moment
    assert through(moment).utcoffset() == dt.timedelta(hours=2)


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        (Mode.FAST, EnumValue(__name__, "Mode", "FAST", "fast")),
        (Level.HIGH, EnumValue(__name__, "Level", "HIGH", 3)),
        (Flag.A, EnumValue(__name__, "Flag", "A", 1)),
        (Flag.A | Flag.B, EnumValue(__name__, "Flag", "A|B", 3)),
        (Flag(0), EnumValue(__name__, "Flag", None, 0)),
    ],
)
def test_an_enum_member_arrives_as_its_name_and_value_and_imports_nothing(
    member: enum.Enum, expected: EnumValue
) -> None:
    assert through(member) == expected
    assert pack(through(member)) == pack(member)


def test_a_member_may_be_a_key_or_in_a_set_whatever_its_value() -> None:
    arrived = EnumValue(__name__, "Unhashable", "A", [1])

    assert through({Unhashable.A: 1}) == {arrived: 1}
    assert through({Unhashable.A}) == {arrived}


def test_nothing_named_on_the_wire_is_imported() -> None:
    spy = EnumValue("antigravity", "Spy", "A", 1)

    assert through(spy) == spy
    import sys

    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Name("n"), "n"),
        (Pair(1, 2), (1, 2)),
        (OrderedDict(a=1), {"a": 1}),
        (defaultdict(int, a=1), {"a": 1}),
        (bytearray(b"x"), b"x"),
        (memoryview(b"x"), b"x"),
        (pathlib.PosixPath("/a"), pathlib.PurePosixPath("/a")),
    ],
)
def test_a_subclass_arrives_as_its_plain_type(value: object, plain: object) -> None:
    found = through(value)

    assert found == plain
    assert type(found) is type(plain)


# --- arrays ---

STRUCTURED = np.dtype([("gain", ">f4"), ("taps", "i2", (2,)), ("inner", [("x", "u1")])])
PADDED = np.dtype(
    {"names": ["a", "b"], "formats": ["<f4", "<f8"], "offsets": [4, 16], "itemsize": 32}
)
ARRAYS = [
    np.arange(6),
    np.arange(6, dtype=">i2"),
    np.arange(6, dtype="<u8").reshape(1, 2, 3),
    np.linspace(0, 1, 5, dtype=np.float16),
    np.array([np.nan, np.inf, -np.inf, -0.0]),
    np.array([1 + 2j], dtype=np.complex64),
    np.array([True, False]),
    np.array(3.5),
    np.array([]),
    np.zeros((3, 0, 2)),
    np.array(["a", "bcd", "µ"]),
    np.array([b"a", b"bcd"]),
    np.array(["2024-01-01", "NaT"], dtype="M8[ns]"),
    np.array([1, -1], dtype="m8[s]"),
    np.zeros(3, dtype="V5"),
    np.zeros(2, dtype=STRUCTURED),
    np.zeros((2, 2), dtype=PADDED),
    np.arange(24).reshape(2, 3, 4)[:, ::2, ::-1],
    np.asfortranarray(np.arange(6).reshape(2, 3)),
    np.zeros(2, dtype=[(("the gain", "gain"), "i4"), ("plain", "i1")]),
    np.zeros(2, dtype=[("empty", "U0"), ("x", "i1")])["empty"],
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype.str}{a.shape}")
def test_an_array_keeps_dtype_shape_and_content(array: np.ndarray[Any, Any]) -> None:
    found = through({"array": array})["array"]

    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()


def test_the_order_of_an_array_is_kept() -> None:
    array = np.asfortranarray(np.arange(6).reshape(2, 3))

    assert through(array).flags.f_contiguous
    assert through(np.ascontiguousarray(array)).flags.c_contiguous


def test_an_array_arrives_without_a_copy_and_read_only() -> None:
    assert not through(np.arange(6)).flags.writeable


@pytest.mark.parametrize(
    "scalar",
    [
        np.float32(1.5),
        np.float64(0.1),
        np.int8(-3),
        np.uint64(2**64 - 1),
        np.bool_(True),
        np.complex64(1 + 2j),
        np.datetime64("2024-01-01T00:00:00", "ns"),
        np.str_("µ"),
        np.str_(""),
        np.str_("NUL at the end\0"),
        np.bytes_(b""),
        np.bytes_(b"NUL at the end\0"),
        np.void(b"\0\0"),
        np.longdouble("1.1"),
        np.zeros(1, dtype=STRUCTURED)[0],
    ],
    ids=lambda each: type(each).__name__,
)
def test_an_array_scalar_keeps_its_type(scalar: np.generic) -> None:
    found = through(scalar)

    assert found == scalar
    assert (type(found), found.dtype) == (type(scalar), scalar.dtype)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (np.array([object()]), "holds Python objects"),
        (np.array([(1, "x")], dtype=[("a", "i4"), ("b", "O")]), "holds Python objects"),
        (np.ma.masked_array([1, 2], mask=[False, True]), "give its data and its mask"),
        (object(), "builtins.object is no type the bus carries"),
        (Decimal(1), "decimal.Decimal is no type the bus carries"),
        (range(3), "builtins.range is no type the bus carries"),
        (int, "builtins.type is no type the bus carries"),
        (len, "is no type the bus carries"),
        ({"deep": [{"x": object()}]}, "builtins.object is no type the bus carries"),
        ("\ud800", "surrogates not allowed"),
        (10**5000, "cannot be encoded"),
        (10**4000, "4001 digits is more than 4000"),
        (np.array(["a"], dtype=np.dtypes.StringDType()), "holds Python objects"),
        (dt.time(1, tzinfo=ZoneInfo("Europe/Berlin")), "has a zone but no offset"),
        (Nanoseconds(2024, 1, 1), "would arrive as datetime.datetime(2024, 1, 1, 0, 0)"),
        (FineDelta(seconds=1), "would arrive as datetime.timedelta(seconds=1)"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_cannot_be_carried_is_refused_by_name(value: object, says: str) -> None:
    with pytest.raises(MalformedMessageError) as refused:
        pack(value)

    assert says in str(refused.value)


class Bfloat16:
    """What a dtype that another package registered shows of itself: the size, not the kind."""

    hasobject, subdtype, fields, str = False, None, None, "|V2"


def test_a_dtype_that_would_arrive_as_another_is_refused() -> None:
    with pytest.raises(TypeError, match="is of a type NumPy itself does not know"):
        arrays.spell_dtype(Bfloat16())
    assert arrays.spell_dtype(np.dtype("V2")) == "|V2"


def test_a_value_that_holds_itself_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)

    with pytest.raises(MalformedMessageError):
        pack(endless)


# --- depth ---


def nested(depth: int, *, in_tuples: bool) -> object:
    value: object = 1
    for _ in range(depth):
        value = (value,) if in_tuples else [value]
    return value


def test_extensions_within_extensions_are_bounded_both_ways() -> None:
    deep = nested(values.MAX_EXTENSION_DEPTH, in_tuples=True)
    assert through(deep) == deep

    with pytest.raises(MalformedMessageError, match="deep within each other; use lists"):
        pack(nested(values.MAX_EXTENSION_DEPTH + 1, in_tuples=True))
    packed = pack(1)
    for _ in range(3_000):
        packed = msgpack.packb(msgpack.ExtType(values.TUPLE, b"\x91" + packed))
    with pytest.raises(MalformedMessageError, match="deep within each other"):
        unpack(packed)


def test_after_a_refusal_for_depth_the_same_depth_is_allowed_again() -> None:
    for _ in range(3):
        with pytest.raises(MalformedMessageError):
            pack(nested(500, in_tuples=True))
        with pytest.raises(MalformedMessageError):
            unpack(msgpack.packb(msgpack.ExtType(values.COMPLEX, b"\x91\xa1x")))
    deep = nested(values.MAX_EXTENSION_DEPTH, in_tuples=True)

    assert through(deep) == deep


@pytest.mark.parametrize("depth", [65, 1_000])
def test_a_value_nested_deeper_than_the_limit_is_refused(depth: int) -> None:
    with pytest.raises(MalformedMessageError, match="nested deeper than 64; flatten it"):
        check_depth(nested(depth, in_tuples=False))


def test_a_value_nested_as_deep_as_the_limit_is_fine() -> None:
    check_depth(nested(64, in_tuples=False))
    check_depth({"a": [{"b": (1, {2})}]})
    check_depth("x" * 1000)


# --- bytes that spell nothing ---


def extension(code: int, content: object) -> bytes:
    packed = content if isinstance(content, bytes) else pack(content)
    return bytes(msgpack.packb(msgpack.ExtType(code, packed)))


NONSENSE = {
    "nothing": b"",
    "reserved byte": b"\xc1",
    "cut off": pack([1, 2, 3])[:-1],
    "more than one value": pack(1) + pack(2),
    "no UTF-8": b"\xa1\xff",
    "endless lists": b"\x91" * 100_000,
    "a list as a key": b"\x81\x91\x01\x01",
    "unknown extension": extension(99, b""),
    "a blob": extension(values.BLOB, b"x" * 16),
    "a set of lists": extension(values.SET, [[1]]),
    "a tuple of nothing": extension(values.TUPLE, b""),
    "a tuple of a number": extension(values.TUPLE, 3),
    "complex text": extension(values.COMPLEX, ["a", 1]),
    "an unknown moment": extension(values.DATETIME, ["century", "x", 0]),
    "a moment that is none": extension(values.DATETIME, ["datetime", "noon", 0]),
    "a date with a fold": extension(values.DATETIME, ["date", "2020-01-01", 1]),
    "a delta too long": extension(values.TIMEDELTA, [10**12, 0, 0]),
    "a path of no system": extension(values.PATH, ["plan9", "/"]),
    "a path that is a number": extension(values.PATH, ["posix", 3]),
    "half an enum member": extension(values.ENUM, ["m", "C"]),
    "a number that is none": extension(values.BIGINT, b"twelve"),
    "a number too long": extension(values.BIGINT, b"9" * 4_001),
    "a short UUID": extension(values.UUID_, b"x"),
    "an object array": extension(values.NDARRAY, ["O", [1], "C", b"\0" * 8]),
    "an array of objects within": extension(
        values.NDARRAY,
        [{"names": ["a"], "formats": ["O"], "offsets": [0], "itemsize": 8}, [1], "C", b"\0" * 8],
    ),
    "a dtype that is none": extension(values.NDARRAY, ["nonsense", [1], "C", b""]),
    "too few bytes": extension(values.NDARRAY, ["<f8", [3], "C", b"\0" * 16]),
    "too many bytes": extension(values.NDARRAY, ["<f8", [1], "C", b"\0" * 16]),
    "a huge shape": extension(values.NDARRAY, ["<f8", [1 << 40], "C", b"\0" * 8]),
    "a huge shape of nothing": extension(values.NDARRAY, ["|S0", [1 << 40], "C", b""]),
    "a negative shape": extension(values.NDARRAY, ["<f8", [-1], "C", b"\0" * 16]),
    "a shape of text": extension(values.NDARRAY, ["<f8", ["2"], "C", b"\0" * 16]),
    "an unknown order": extension(values.NDARRAY, ["<f8", [2], "Q", b"\0" * 16]),
    "too many dimensions": extension(values.NDARRAY, ["<f8", [1] * 100, "C", b"\0" * 8]),
    "an array of one part": extension(values.NDARRAY, ["<f8"]),
    "a scalar of nothing": extension(values.SCALAR, ["<f8", b""]),
    "an object scalar": extension(values.SCALAR, ["O", b"\0" * 8]),
}


@pytest.mark.parametrize("packed", NONSENSE.values(), ids=NONSENSE.keys())
def test_bytes_that_spell_no_value_are_one_kind_of_error(packed: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        unpack(packed)


def test_sizes_from_the_wire_allocate_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("allocated before it was checked")

    monkeypatch.setattr(np, "empty", refuse)
    monkeypatch.setattr(np, "zeros", refuse)
    for kind in ("|S0", "<U0", "|V0", "<f8"):
        with pytest.raises(MalformedMessageError):
            unpack(extension(values.NDARRAY, [kind, [1 << 33], "C", b""]))


PRIME = 2**61 - 1  # a whole multiple of it has the hash 0
COLLIDING: dict[str, Callable[[int], list[Any]]] = {
    "numbers": lambda n: [PRIME * (9 + k) for k in range(n)],
    "UUIDs": lambda n: [UUID(int=PRIME * k) for k in range(1, n + 1)],
}


@pytest.mark.parametrize("kind", ["numbers", "UUIDs"])
def test_keys_and_members_made_to_share_a_hash_are_refused_before_they_cost_time(kind: str) -> None:
    colliding = COLLIDING[kind](200)
    packed_map = b"\xde\x00\xc8" + b"".join(pack(each) + b"\xc0" for each in colliding)

    assert len(set(map(hash, colliding))) == 1
    for packed in (
        extension(values.SET, colliding), extension(values.FROZENSET, colliding), packed_map
    ):
        with pytest.raises(MalformedMessageError, match="share a hash"):
            unpack(packed)


def test_a_few_that_share_a_hash_and_many_that_do_not_are_fine() -> None:
    few = set(COLLIDING["UUIDs"](100))
    many = {(x, y): x for x in range(50) for y in range(50)}

    assert through(few) == few
    assert through(many) == many


def test_the_product_of_more_dimensions_than_any_array_has_is_not_taken() -> None:
    with pytest.raises(MalformedMessageError, match="an array of 65 dimensions"):
        unpack(extension(values.NDARRAY, ["<f8", [1] * 65, "C", b"\0" * 8]))
