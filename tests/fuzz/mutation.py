"""A seeded mutation engine: it changes the structure of a sample, or its bytes.

A *sample* is a piece of a recorded session (`tests.fuzz.recording`): a head of fixed form, and a
msgpack body, before which an event carries a table of its blobs. Structure-aware mutations parse
the body to a tree, change nodes and write it again, so that most of them get past the first check
of whoever reads them.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.fuzz.trees import Ext, Map, Packed, Raw, parse, places, write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from tests.fuzz.trees import Place

CODES = range(-1, 18)
ODD_NUMBERS = (0, 1, -1, 2**31, 2**32, 2**53 + 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1, -(2**63))
ODD_FLOATS = (0.5, -0.0, 1e308, -1e308, 5e-324, math.nan, math.inf, -math.inf)
ODD_TEXTS = ("", "\0", "%", "%2F", "a/b", "/", "é\u2028", "\ud800", "session", "guest", "process")
ODD_BYTES = (b"", b"\0", bytes(16), b"\xc1", b"9" * 3_000, b"9" * 5_000, b"\x91" * 70)
DEEPENINGS = (b"\x91", b"\x81\xa1a", b"\x81\xa1a\x91")
LENGTHS = (10, 255, 256, 4_095, 5_000, 70_000)
DEPTHS = (1, 8, 9, 63, 64, 65, 511, 600, 1_100)
COUNTS = (1, 2, 40, 1_000)
LARGEST = 40_000
LIES = (-2, -1, 1, 2, 1_000, 2**31, 2**32 - 20)


@dataclass(frozen=True, slots=True)
class Sample:
    """A head, and a body in msgpack; ``table``: that of an event's blobs stands between them."""

    kind: str
    head: bytes
    body: bytes
    table: bytes | None = None

    @property
    def written(self) -> bytes:
        """The bytes as they were recorded."""
        if self.table is None:
            return self.head + self.body
        return self.head + len(self.table).to_bytes(4, "big") + self.table + self.body


class Mutator:
    """Mutations drawn from ``random``, which may be set anew; ``corpus`` gives what is grafted."""

    def __init__(self, random: Random, corpus: Sequence[Sample]) -> None:
        self.random = random
        self._corpus = corpus
        self._tags = sorted({tree[0] for tree in map(_tree_of, corpus) if _is_message(tree)})
        self._ways: list[Callable[[Place], None]] = [
            *[self._replace] * 3, *[self._replace_in_kind] * 5, *[self._shape] * 3, self._graft,
            self._deepen, self._lengthen, self._renumber, self._retag, self._lie,
        ]

    def mutated(self, sample: Sample) -> bytes:
        """Return a changed sample: three times in four its structure, else its bytes or both."""
        draw = self.random.random()
        if draw < 0.2:
            return self.changed_bytes(sample.written)
        changed = self._changed_structure(sample)
        return self.changed_bytes(changed) if draw > 0.95 else changed

    # --- structure ---

    def _changed_structure(self, sample: Sample) -> bytes:
        head, body, table = sample.head, sample.body, sample.table
        if head and self.random.random() < 0.1:
            head = self._changed_head(head)
        if table is not None and self.random.random() < 0.3:
            table = self.changed_tree(table)
        elif body:
            body = self.changed_tree(body)
        else:
            head = self._changed_head(head)
        if table is None:
            return head + body
        length = len(table) + (self.random.choice(LIES) if self.random.random() < 0.05 else 0)
        return head + (length % (1 << 32)).to_bytes(4, "big") + table + body

    def _changed_head(self, head: bytes) -> bytes:
        """Put an odd number in place of eight bytes of a head, or change it as bytes."""
        if len(head) < 12 or self.random.random() < 0.3:
            return self.changed_bytes(head)
        at = len(head) - 8 * self.random.randint(1, (len(head) - 4) // 8)
        number = self.random.choice(ODD_NUMBERS) % (1 << 64)
        return head[:at] + struct.pack("!Q", number) + head[at + 8 :]

    def changed_tree(self, packed: bytes) -> bytes:
        """Return msgpack with one to three nodes changed; what is none is changed as bytes."""
        try:
            root = [parse(packed)]
        except ValueError:
            return self.changed_bytes(packed)
        for _ in range(self.random.choice((1, 1, 1, 2, 3))):
            self.random.choice(self._ways)(self.random.choice(places(root)))
        return write(root[0])

    def _replace(self, place: Place) -> None:
        items, index = place
        items[index] = self._odd()

    def _replace_in_kind(self, place: Place) -> None:
        """Put an odd value of the same type there, so that it gets past the first check."""
        items, index = place
        choices: dict[type, Sequence[Any]] = {
            bool: (True, False), int: ODD_NUMBERS, float: ODD_FLOATS, str: ODD_TEXTS,
            bytes: ODD_BYTES,
        }
        if type(items[index]) in choices:
            items[index] = self.random.choice(choices[type(items[index])])

    def _odd(self) -> Any:
        """Return a value that stands where another is expected."""
        choice = self.random.choice
        match self.random.randrange(11):
            case 0:
                return choice((None, True, False))
            case 1 | 2:
                return choice(ODD_NUMBERS)
            case 3:
                return choice(ODD_FLOATS)
            case 4 | 5:
                return choice(ODD_TEXTS)
            case 6:
                return choice(ODD_BYTES)
            case 7:
                return choice(([], [None], ["a", "b"], [[], []], Map([]), Map([["a", 1]])))
            case 8:
                return Ext(choice(CODES), [choice(ODD_BYTES)])
            case 9:
                return Ext(choice(CODES), [[self._odd(), self._odd()][: self.random.randint(0, 2)]])
            case _:
                return Raw(self.random.randbytes(self.random.randint(0, 9)))

    def _graft(self, place: Place) -> None:
        """Put a node of another sample there."""
        other = [_tree_of(self.random.choice(self._corpus))]
        items, index = self.random.choice(places(other))
        place[0][place[1]] = items[index]

    def _deepen(self, place: Place) -> None:
        items, index = place
        depth, inner = self.random.choice(DEPTHS), write(items[index])
        if self.random.random() < 0.3:
            tree = items[index]
            for _ in range(min(depth, 65)):
                tree = Ext(self.random.choice((1, 1, 2, 3, 9)), [[tree]])
            items[index] = tree
        else:
            items[index] = Raw(self.random.choice(DEEPENINGS) * depth + inner)

    def _lengthen(self, place: Place) -> None:
        items, index = place
        length, item = self.random.choice(LENGTHS), items[index]
        if type(item) is str:
            items[index] = (item or "x") * (length // max(len(item), 1))
        elif type(item) is bytes:
            items[index] = item + bytes(length)
        elif type(item) is list and item:
            item += [Raw(write(item[-1]))] * self._times(item[-1], length)
        elif type(item) is int:
            items[index] = Ext(11, [b"-" * (length % 2) + b"7" * length])
        else:
            items[index] = "y" * length

    def _renumber(self, place: Place) -> None:
        items, index = place
        item = items[index]
        if type(item) is Ext:
            item.code = self.random.choice(CODES)
        elif type(item) is int and abs(item) < 2**62:
            items[index] = item + self.random.choice((-1, 1, -item - 1, 2**40))
        else:
            items[index] = self.random.choice(ODD_NUMBERS)

    def _retag(self, place: Place) -> None:
        """Call a message by another's name."""
        items, _ = place
        if _is_message(items):
            items[0] = self.random.choice(self._tags)
        else:
            items[place[1]] = [self.random.choice(self._tags), Map([])]

    def _shape(self, place: Place) -> None:
        """Leave out, repeat, add, rename or exchange parts of a map or array."""
        items, index = place
        item, random = items[index], self.random
        parts = item.pairs if type(item) is Map else item if type(item) is list else None
        if not parts:
            items[index] = self._odd()
            return
        at = random.randrange(len(parts))
        match random.randrange(5):
            case 0:
                del parts[at]
            case 1:
                self._repeat(parts, at, is_map=type(item) is Map)
            case 2:
                parts.insert(at, ["no such field", self._odd()])
            case 3 if type(item) is Map:
                parts[at] = [self._odd(), parts[at][1]]
            case _:
                other = random.randrange(len(parts))
                if type(item) is Map:
                    parts[at], parts[other] = (
                        [parts[at][0], parts[other][1]], [parts[other][0], parts[at][1]]
                    )
                else:
                    parts[at], parts[other] = parts[other], parts[at]

    def _repeat(self, parts: list[Any], at: int, *, is_map: bool) -> None:
        times = self._times(parts[at], self.random.choice(COUNTS))
        if is_map:
            key, value = parts[at][0], Raw(write(parts[at][1]))
            parts[at:at] = [[key, value] for _ in range(times)]
        else:
            parts[at:at] = [Raw(write(parts[at]))] * times

    def _times(self, tree: Any, count: int) -> int:
        """Return how often a tree may be repeated, so that not all inputs are huge."""
        return max(1, min(count, LARGEST // (len(write(tree)) + 1)))

    def _lie(self, place: Place) -> None:
        """Let a length say what is not there."""
        items, index = place
        item, lie = items[index], self.random.choice(LIES)
        if type(item) is Map or type(item) is Packed:
            item.lie = lie
        elif type(item) is list:
            inside = b"".join(map(write, item))
            items[index] = Raw(b"\xdd" + struct.pack("!I", (len(item) + lie) % 2**32) + inside)
        elif type(item) is str:
            text = item.encode(errors="surrogatepass")
            items[index] = Raw(b"\xdb" + struct.pack("!I", (len(text) + lie) % 2**32) + text)
        else:
            items[index] = Raw(self.random.choice((b"\xc6", b"\xc9", b"\xdd", b"\xdf", b"\xdb"))
                               + struct.pack("!I", lie % 2**32))

    # --- bytes ---

    def changed_bytes(self, written: bytes) -> bytes:
        """Return bytes that were flipped, cut, stretched or spliced in one to three places."""
        changed = bytearray(written)
        for _ in range(self.random.choice((1, 1, 2, 3))):
            self._change_somewhere(changed)
        return bytes(changed)

    def _change_somewhere(self, changed: bytearray) -> None:
        random = self.random
        at = random.randint(0, len(changed))
        match random.randrange(6):
            case 0 | 1 if at < len(changed):
                changed[at] ^= 1 << random.randrange(8)
            case 2:
                del changed[at:]
            case 3:
                changed[at:at] = random.randbytes(random.randint(1, 8))
            case 4:
                del changed[at : at + random.randint(1, 8)]
            case _:
                other = random.choice(self._corpus).written
                changed[at:] = other[random.randint(0, len(other)) :]


def _is_message(tree: Any) -> bool:
    return type(tree) is list and len(tree) == 2 and type(tree[0]) is str


def _tree_of(sample: Sample) -> Any:
    try:
        return parse(sample.body)
    except ValueError:
        return None
