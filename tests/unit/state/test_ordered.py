"""Keys in order: what is walked through, and what it costs."""

from __future__ import annotations

from itertools import islice
from random import Random
from typing import TYPE_CHECKING

from ezgraph.state import ordered
from ezgraph.state.ordered import OrderedKeys

if TYPE_CHECKING:
    from ezgraph.names import Key


class CountedKey(tuple[str, ...]):
    """A key that counts how often keys are compared."""

    __slots__ = ()
    compared = 0

    def __lt__(self, other: object) -> bool:
        CountedKey.compared += 1
        return tuple.__lt__(self, other)  # type: ignore[operator]

    def __gt__(self, other: object) -> bool:
        CountedKey.compared += 1
        return tuple.__gt__(self, other)  # type: ignore[operator]


def filled(keys: list[Key]) -> OrderedKeys:
    found = OrderedKeys()
    for key in keys:
        found.add(key)
    return found


def numbered(count: int) -> list[Key]:
    return [CountedKey(("flow", f"{number:06}")) for number in range(count)]


def test_keys_are_walked_through_in_order_however_they_came() -> None:
    keys = numbered(5_000)
    mixed = keys.copy()
    Random(1).shuffle(mixed)

    found = filled(mixed)

    assert list(found.since(())) == keys
    for leaving in mixed[:4_990]:
        found.remove(leaving)
    assert list(found.since(())) == sorted(mixed[4_990:])
    for leaving in mixed[4_990:]:
        found.remove(leaving)
    assert list(found.since(())) == list(found.after(())) == []
    found.add(("again",))
    assert list(found.since(())) == [("again",)]


def test_a_walk_goes_on_behind_a_key_whether_it_is_there_or_not() -> None:
    found = filled([("a",), ("a", "b"), ("b",), ("c", "d")])

    assert list(found.since(("a", "b"))) == [("a", "b"), ("b",), ("c", "d")]
    assert list(found.after(("a", "b"))) == [("b",), ("c", "d")]
    assert list(found.after(("a", "z"))) == list(found.since(("a", "z"))) == [("b",), ("c", "d")]
    assert list(found.after(("c", "d"))) == list(found.since(("z",))) == []


def test_the_last_key_of_each_chunk_is_where_a_walk_finds_it() -> None:
    keys = numbered(4 * ordered.CHUNK)
    found = filled(keys)

    for key in keys[:: ordered.CHUNK // 3]:
        at = keys.index(key)
        assert list(islice(found.since(key), 2)) == keys[at : at + 2]
        assert list(islice(found.after(key), 2)) == keys[at + 1 : at + 3]


def test_a_key_is_put_and_found_with_as_many_comparisons_as_its_count_has_digits() -> None:
    def compared(count: int) -> int:
        found = filled(numbered(count))
        CountedKey.compared = 0
        for name in ("000500x", "x", "0"):
            key = CountedKey(("flow", name))
            found.add(key)
            list(islice(found.since(key), 10))
            found.remove(key)
        return CountedKey.compared

    few, many = compared(1_000), compared(100_000)

    assert few > 30
    assert many < 2 * few  # it grows as the number of its digits: 17 bits against 10


def test_chunks_stay_few_and_short_while_keys_come_and_go() -> None:
    found = filled(numbered(20_000))
    for key in numbered(20_000)[: 19_000]:
        found.remove(key)

    lengths = [len(chunk) for chunk in found._chunks]

    assert sum(lengths) == 1_000
    assert len(lengths) <= 1_000 // (ordered.CHUNK // 4) + 1
    assert max(lengths) <= 2 * ordered.CHUNK
