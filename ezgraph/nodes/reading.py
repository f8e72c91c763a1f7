"""Reading a selection: which parts come from where, and how they become one array."""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import numpy as np

from ezgraph.errors import ChunkCorruptError, LimitError, MalformedMessageError
from ezgraph.nodes.factory import message_of
from ezgraph.nodes.fingerprints import fingerprint_of, hash_of_bytes
from ezgraph.nodes.grid import Piece
from ezgraph.nodes.selection import select
from ezgraph.protocol.nodes import NodeVerb
from ezgraph.wire import values
from ezgraph.wire.arrays import MAX_ITEMS_WITHOUT_BYTES, opaque, raw_bytes, shaped
from ezgraph.wire.nodes import Fingerprinted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from ezgraph.nodes.factory import AnyServer
    from ezgraph.nodes.fingerprints import ChunkCache, Place
    from ezgraph.nodes.grid import Grid, Triple
    from ezgraph.protocol.nodes import NodeDescription

Progress = Callable[[int, int], None]
"""Called with the bytes that are there, and those that there will be."""

MAX_READ_BYTES = 16 << 30
MAX_PIECES = 1_000_000
FINGERPRINTS_AT_ONCE = 1_000
_LARGE_BYTES = 64 << 10


class Fetched(NamedTuple):
    """An array that came: the number of its request, and its fingerprint if that was asked for."""

    number: int
    items: NDArray[Any]
    fingerprint: bytes | None


class FetchingServer(Protocol):
    """A server that has several requests for arrays in flight (`RemoteTree`)."""

    cache: ChunkCache
    max_read_bytes: int

    def fetch(
        self,
        requests: Iterable[tuple[Mapping[str, Any], int]],
        /,
        *,
        timeout: float | None,
    ) -> Iterator[Fetched]:
        """Ask for arrays of so many bytes each, and return them as they come."""
        ...


class Way(Protocol):
    """How the parts are had."""

    @property
    def max_read_bytes(self) -> int:
        """How much may be read at once."""
        ...

    def bring(
        self, grid: Grid, dtype: np.dtype[Any], pieces: Iterator[Piece]
    ) -> Iterator[tuple[Piece, NDArray[Any]]]:
        """Return each piece with its items, in any order."""
        ...


def read_selection(
    grid: Grid, dtype: np.dtype[Any], index: object, way: Way, progress: Progress | None
) -> Any:  # noqa: ANN401 - an array or an item
    """Return what an index selects, as NumPy would, in memory of its own.

    Raises:
        NodeIndexError: it is no basic index, or out of range.
        LimitError: it is too much; nothing was allocated or asked for.
    """
    selection = select(index, grid.shape)
    total = math.prod(selection.shape) * dtype.itemsize
    _check_size(total, selection.shape, way.max_read_bytes)
    _check_extent(selection.shape, dtype)
    _check_count(grid, selection.shape)
    result = _Result(selection.shape, dtype, total, progress)
    for piece, items in way.bring(grid, dtype, grid.pieces(selection)):
        result.take(piece, items)
    whole = result.array()
    return whole[selection.final] if selection.is_item else whole[(*selection.final, ...)]


def _check_size(total: int, shape: tuple[int, ...], most: int) -> None:
    if total > most or (not total and math.prod(shape) > MAX_ITEMS_WITHOUT_BYTES):
        raise LimitError(
            f"an array of shape {shape} takes {total} bytes; at most {most} are read at once: read "
            f"it in parts, such as node[:1000], or give the reader a larger max_read_bytes"
        )


def _check_extent(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse an array without items whose other axes are longer than NumPy has them."""
    if math.prod(max(1, each) for each in shape) * max(1, dtype.itemsize) > sys.maxsize:
        raise LimitError(
            f"an array of shape {shape} with items of {dtype.itemsize} bytes is larger than NumPy "
            f"has any, though nothing is in it; read it in parts, such as node[:1000]"
        )


def _check_count(grid: Grid, shape: tuple[int, ...]) -> None:
    most = math.prod(min(*each) for each in zip(grid.counts, shape, strict=True))
    if most > MAX_PIECES:
        raise LimitError(
            f"up to {most} chunks would have to be read; at most {MAX_PIECES} are at once: read it "
            f"in parts, or serve it in larger chunks"
        )


def check_items(piece: Piece, items: NDArray[Any], dtype: np.dtype[Any]) -> None:
    """Refuse what is not what was asked for.

    Raises:
        MalformedMessageError: it has another shape or dtype.
    """
    if items.shape != piece.shape or items.dtype != dtype:
        raise MalformedMessageError(
            f"chunk {piece.chunk} came as {items.dtype} {items.shape} in place of "
            f"{dtype} {piece.shape}"
        )


def whole_chunk(grid: Grid, number: int) -> Piece:
    """Return all of a chunk as a piece, whose target is the chunk itself."""
    shape = grid.chunk_shape(number)
    part = tuple((0, length, 1) for length in shape)
    target = tuple(slice(0, length) for length in shape)
    return Piece(number, part, target, shape, is_whole=True)


class _Result:
    """The array that a selection becomes, as its pieces arrive."""

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        total: int,
        progress: Progress | None,
    ) -> None:
        self._shape = shape
        self._dtype = dtype
        self._total = total
        self._done = 0
        self._progress = progress
        self._array: NDArray[Any] | None = None

    def take(self, piece: Piece, items: NDArray[Any]) -> None:
        check_items(piece, items, self._dtype)
        if piece.shape == self._shape and _may_be_given_away(items):
            self._array = items
        else:
            opaque(self.array())[piece.target] = opaque(items)
        self._done += items.nbytes
        if self._progress is not None:
            self._progress(self._done, self._total)

    def array(self) -> NDArray[Any]:
        """Return the array; its memory is taken when the first piece needs it."""
        if self._array is None:
            self._array = np.empty(self._shape, self._dtype)
        return self._array


def _may_be_given_away(items: NDArray[Any]) -> bool:
    """Whether an array is the received frame itself, which nobody else holds or will change.

    What is small shares its memory with other frames: that would be held for nothing.
    """
    flags = items.flags
    fits = flags.writeable and flags.aligned and flags.c_contiguous
    return bool(fits and items.nbytes >= _LARGE_BYTES and _is_received(items))


def _is_received(items: NDArray[Any]) -> bool:
    owner: Any = items
    while isinstance(owner, np.ndarray):
        owner = owner.base
    return isinstance(owner, memoryview)


class Here:
    """The parts of an array whose source is in this process."""

    max_read_bytes = 1 << 62  # who has the source knows how large it is

    def __init__(
        self, read_part: Callable[[int, tuple[Triple, ...] | None, Grid], NDArray[Any]]
    ) -> None:
        self._read_part = read_part

    def __repr__(self) -> str:
        return f"<Here {self._read_part!r}>"

    def bring(
        self,
        grid: Grid,
        dtype: np.dtype[Any],  # noqa: ARG002 - the source knows it
        pieces: Iterator[Piece],
    ) -> Iterator[tuple[Piece, NDArray[Any]]]:
        """Read each piece where it is."""
        for piece in pieces:
            yield piece, self._read_part(piece.chunk, piece.part, grid)


class There:
    """The parts of an array that is served elsewhere."""

    def __init__(
        self,
        server: AnyServer,
        described: NodeDescription,
        *,
        verify: bool,
        timeout: float | None,
    ) -> None:
        self._server = server
        self._described = described
        self._verify = verify
        self._timeout = timeout
        has_many = hasattr(server, "fetch")
        self._many: FetchingServer | None = cast("FetchingServer", server) if has_many else None
        self._cache = self._many.cache if self._many and described.is_stable else None

    def __repr__(self) -> str:
        return f"<There {self._described.uid!r} at {self._server!r}>"

    @property
    def max_read_bytes(self) -> int:
        """The reader's bound."""
        return MAX_READ_BYTES if self._many is None else self._many.max_read_bytes

    def bring(
        self, grid: Grid, dtype: np.dtype[Any], pieces: Iterator[Piece]
    ) -> Iterator[tuple[Piece, NDArray[Any]]]:
        """Return what the cache has and the server still has, and ask for the rest."""
        kept: deque[tuple[Piece, NDArray[Any]]] = deque()
        if self._cache is not None:
            pieces = self._not_kept(self._cache, grid, dtype, pieces, kept)
        fetch = self._fetch_singly if self._many is None else self._fetch_many
        for found in fetch(pieces, dtype):
            while kept:
                yield kept.popleft()
            yield found
        yield from kept

    # --- what was read before ---

    def _place(self, number: int) -> Place:
        return (self._described.uid, self._described.incarnation, number)

    def _not_kept(
        self,
        cache: ChunkCache,
        grid: Grid,
        dtype: np.dtype[Any],
        pieces: Iterator[Piece],
        kept: deque[tuple[Piece, NDArray[Any]]],
    ) -> Iterator[Piece]:
        """Put what is in the cache and unchanged at the server into ``kept``; return the rest."""
        group: list[Piece] = []
        for piece in pieces:
            if self._place(piece.chunk) not in cache:
                yield piece
                continue
            group.append(piece)
            if len(group) == FINGERPRINTS_AT_ONCE:
                yield from self._checked(cache, grid, dtype, group, kept)
                group = []
        if group:
            yield from self._checked(cache, grid, dtype, group, kept)

    def _checked(
        self,
        cache: ChunkCache,
        grid: Grid,
        dtype: np.dtype[Any],
        group: list[Piece],
        kept: deque[tuple[Piece, NDArray[Any]]],
    ) -> Iterator[Piece]:
        now = self._fingerprints([piece.chunk for piece in group])
        for piece, fingerprint in zip(group, now, strict=True):
            held = cache.get(self._place(piece.chunk), fingerprint)
            if held is None:
                yield piece
                continue
            if self._verify and hash_of_bytes(held) != fingerprint:
                raise self._corrupt(piece.chunk)
            chunk = shaped(held, dtype, grid.chunk_shape(piece.chunk))
            kept.append((piece, chunk[tuple(slice(*each) for each in piece.part)]))

    def _fingerprints(self, numbers: list[int]) -> list[bytes]:
        told: list[bytes] = []
        while len(told) < len(numbers):
            asked = message_of(
                NodeVerb.FINGERPRINTS, self._described.uid, indexes=numbers[len(told) :]
            )
            more = values.unpack(self._server.request(asked))
            if not isinstance(more, list) or not 0 < len(more) <= len(numbers) - len(told):
                raise MalformedMessageError(f"{more!r:.200} are no fingerprints of chunks")
            told += more
        return told

    # --- what is asked for ---

    def _message(self, piece: Piece) -> Mapping[str, Any]:
        kwargs: dict[str, Any] = {"index": piece.chunk}
        if not piece.is_whole:
            kwargs["part"] = [list(each) for each in piece.part]
        if self._verify:
            kwargs["fingerprint"] = True
        return message_of(NodeVerb.DATA, self._described.uid, **kwargs)

    def _fetch_singly(
        self,
        pieces: Iterator[Piece],
        dtype: np.dtype[Any],  # noqa: ARG002 - each answer says it
    ) -> Iterator[tuple[Piece, NDArray[Any]]]:
        for piece in pieces:
            answer = values.unpack(self._server.request(self._message(piece)))
            fingerprint = None
            if isinstance(answer, tuple) and len(answer) == len(Fingerprinted._fields):
                answer, fingerprint = answer
            if not isinstance(answer, np.ndarray):
                raise MalformedMessageError(f"chunk {piece.chunk} came as {type(answer).__name__}")
            self._check(piece, answer, fingerprint)
            yield piece, answer

    def _fetch_many(
        self, pieces: Iterator[Piece], dtype: np.dtype[Any]
    ) -> Iterator[tuple[Piece, NDArray[Any]]]:
        asked: dict[int, Piece] = {}

        def requests() -> Iterator[tuple[Mapping[str, Any], int]]:
            for number, piece in enumerate(pieces):
                asked[number] = piece
                yield self._message(piece), math.prod(piece.shape) * dtype.itemsize

        server = cast("FetchingServer", self._many)
        for number, items, fingerprint in server.fetch(requests(), timeout=self._timeout):
            piece = asked.pop(number)
            self._check(piece, items, fingerprint)
            if self._cache is not None and piece.is_whole:
                self._keep(self._cache, piece, items)
            yield piece, items

    def _keep(self, cache: ChunkCache, piece: Piece, items: NDArray[Any]) -> None:
        held = raw_bytes(items)
        held.flags.writeable = items.flags.writeable = False
        cache.put(self._place(piece.chunk), held)

    def _check(self, piece: Piece, items: NDArray[Any], fingerprint: bytes | None) -> None:
        if self._verify and fingerprint_of(items) != fingerprint:
            raise self._corrupt(piece.chunk)

    def _corrupt(self, number: int) -> ChunkCorruptError:
        return ChunkCorruptError(
            f"chunk {number} of node {self._described.uid!r} does not have the fingerprint that "
            f"its server gave; it changed on the way, or in the file: read it again"
        )
