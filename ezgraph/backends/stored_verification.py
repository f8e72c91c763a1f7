"""Whether stored pieces add up to the graph that somebody says they are, step by step.

Whoever stores a graph through a broker sends pieces and names a fingerprint. What is then read by
others must be what that fingerprint stands for, whole, and a graph: so all of it is looked at once,
before the row that makes it count is written.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ezgraph.backends.stored_graphs import COUNTS, graph_from, names_in, parts_of_page
from ezgraph.errors import (
    InvalidCommandError,
    InvalidValueError,
    MalformedMessageError,
    UnsupportedError,
)
from ezgraph.protocol.fingerprint_tree import FingerprintTree
from ezgraph.protocol.graphs import DOMAIN, contents
from ezgraph.protocol.stored import VERSION, ProducerPart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ezgraph.protocol.fingerprints import Fingerprint
    from ezgraph.protocol.stored import GraphRow, Part


def verification(
    name: str, fingerprint: Fingerprint, row: GraphRow, piece: Callable[[bytes], bytes | None]
) -> Iterator[int]:
    """Verify the graph that ``row`` names the pieces of; yield what each step has cost.

    A step looks at a page, or at a blob, and costs 1. ``piece`` returns a stored piece by its name.
    Walk through it to the end: then all is well.

    Raises:
        InvalidCommandError: it is no graph of this fingerprint; says why.
        UnsupportedError: it is of a newer ezgraph.
    """
    what = f"graph {name!r} {fingerprint}"
    if row.version > VERSION:
        raise UnsupportedError(f"{what} is of a newer ezgraph than this broker; update the broker")
    blobs = {}
    for each in names_in(row.blobs):
        blobs[each] = _there(what, each, piece)
        yield 1
    tree, seen = FingerprintTree(DOMAIN), _Seen(what)
    for page in names_in(row.pages):
        packed = _there(what, page, piece)
        parts = _parts(what, packed, blobs)
        seen.take(parts)
        try:
            for slot, content in contents(graph_from(name, parts)):
                tree.put(slot, content)
        except (InvalidValueError, MalformedMessageError, TypeError, ValueError) as error:
            raise InvalidCommandError(f"{what} has a part that no graph has: {error}") from error
        yield 1
    seen.check(row)
    if (found := tree.fingerprint()) != fingerprint:
        raise InvalidCommandError(
            f"{what} is not what its pieces come to: that has the fingerprint {found}"
        )


def _there(what: str, name: bytes, piece: Callable[[bytes], bytes | None]) -> bytes:
    found = piece(name)
    if found is None:
        raise InvalidCommandError(
            f"{what} consists of a piece {name.hex()} that is not stored; store it first"
        )
    return found


def _parts(what: str, packed: bytes, blobs: Mapping[bytes, bytes]) -> list[Part]:
    try:
        return parts_of_page(packed, blobs)
    except MalformedMessageError as error:
        if error.unknown:
            raise UnsupportedError(f"{what} is of a newer ezgraph: {error}") from error
        raise InvalidCommandError(f"{what} has a page that cannot be read: {error}") from error
    except (TypeError, ValueError) as error:
        raise InvalidCommandError(f"{what} has a page that is none: {error}") from error


class _Seen:
    """What there was in the pages so far, as far as it may be there once only, or is counted."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._counts: Counter[str] = Counter()
        self._made: set[str] = set()

    def take(self, parts: Iterable[Part]) -> None:
        for part in parts:
            self._counts[COUNTS[type(part)]] += 1
            if isinstance(part, ProducerPart):
                self._take_outputs(part.producer.outputs)

    def _take_outputs(self, outputs: Iterable[str]) -> None:
        for key in set(outputs):
            if key in self._made:
                raise InvalidCommandError(
                    f"{self._what}: artifact {key!r} is the output of two producers"
                )
            self._made.add(key)

    def check(self, row: GraphRow) -> None:
        for field in COUNTS.values():
            if getattr(row, field) != self._counts[field]:
                raise InvalidCommandError(
                    f"{self._what} is said to have {getattr(row, field)} {field}, and has "
                    f"{self._counts[field]}"
                )
