"""Array nodes: an array that is read like one, by its parts, wherever it is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ezgraph.errors import EzGraphError, NodeError, NodeIndexError, NodeSourceError
from ezgraph.nodes.base import BaseNode
from ezgraph.nodes.fingerprints import RememberedFingerprints, fingerprint_of
from ezgraph.nodes.grid import Grid, chunks_for
from ezgraph.nodes.progress_bar import progress_bar
from ezgraph.nodes.reading import Here, There, check_items, read_selection, whole_chunk
from ezgraph.nodes.registry import register
from ezgraph.nodes.selection import EVERYTHING
from ezgraph.nodes.sources.memory import GrowingSource, MemorySource
from ezgraph.nodes.vocabulary import check_keywords
from ezgraph.protocol.nodes import ArrayLayout, GrowthReport, NodeVerb, Partition
from ezgraph.wire.arrays import read_dtype, spell_dtype
from ezgraph.wire.nodes import Fingerprinted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import DTypeLike, NDArray

    from ezgraph.nodes.factory import AnyServer
    from ezgraph.nodes.grid import Triple
    from ezgraph.nodes.reading import Progress, Way
    from ezgraph.nodes.sources.base import ArraySource, SourceLayout
    from ezgraph.protocol.nodes import NodeDescription

KEEP_BYTES = 1 << 30
HASHED_BYTES = 64 << 20
"""How much is hashed for one answer: a server has others to answer too."""


@register
class ArrayNode(BaseNode):
    """An array: ``node.shape``, ``node[10:20, ::2]``, ``np.asarray(node)``.

    An index may be whatever NumPy calls basic: integers, slices, ``...``, None. Only the chunks it
    touches are asked for, and of those only the part it needs; the result is a new array (or item),
    equal to what NumPy would give. A text is a label: ``node["label"]`` is another node.

    Args:
        source: an array, or a source (`ezgraph.nodes.sources`) that has one.
        chunks: how it is cut, a length for each axis; None: as the source is, or in about 8 MiB.
        uid, edges, meta, server: as of every node.

    Raises:
        NodeDtypeError: its items are Python objects.
    """

    keywords: ClassVar[Mapping[str, frozenset[str]]] = {
        "send_data": frozenset({"part", "fingerprint"})
    }

    def __init__(
        self,
        source: Any = None,  # noqa: ANN401 - whatever NumPy takes for an array, or a source
        *,
        chunks: Sequence[int] | None = None,
        uid: str | None = None,
        edges: Mapping[Any, BaseNode | str] | None = None,
        meta: Any = None,  # noqa: ANN401
        server: AnyServer | None = None,
    ) -> None:
        super().__init__(uid, edges, meta, server=server)
        self._source: ArraySource | None = None
        self._fingerprints = RememberedFingerprints()
        self._wanted_chunks = None if chunks is None else tuple(chunks)
        if server is not None:
            return
        is_source = hasattr(source, "layout") and hasattr(source, "stamp")
        self._source = source if is_source else MemorySource(() if source is None else source)
        spell_dtype(self._source.dtype)
        self._check_wanted_chunks()

    @classmethod
    def growing(
        cls,
        dtype: DTypeLike,
        row_shape: Sequence[int] = (),
        *,
        keep_bytes: int = KEEP_BYTES,
        uid: str | None = None,
        meta: Any = None,  # noqa: ANN401
    ) -> ArrayNode:
        """Return a node without rows yet; `append` adds some, `finish` says that these were all.

        Of what is appended the newest ``keep_bytes`` are kept; who asks for older rows, or follows
        more slowly than that, is told (`CompactedError`).
        """
        node = cls(GrowingSource(dtype, row_shape, keep_bytes), uid=uid, meta=meta)
        node.grow()
        return node

    def __repr__(self) -> str:
        where = "" if self.server is None else f" at {self.server!r}"
        return f"<{self.summary()} {self.uid!r}{where}>"

    def summary(self) -> str:
        """Return class, dtype and shape."""
        grows = ", growing" if self.growth_is_open else ""
        return f"{self.info['class']} {self.dtype} {self.shape}{grows}"

    # --- what it is ---

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, as it is now."""
        return self._grid().shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of its items."""
        if self.server is not None:  # it stays what it is, however the node grows
            return read_dtype(self._known_layout().dtype)
        return self._own_source.dtype

    @property
    def chunks(self) -> tuple[int, ...]:
        """The shape of its largest chunk; those at the ends may be smaller."""
        return self._grid().chunks

    @property
    def chunk_count(self) -> int:
        """How many chunks there are."""
        return self._grid().count

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many items it has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes its items take."""
        return self.size * self.dtype.itemsize

    @property
    def growth_is_open(self) -> bool:
        """Whether rows may still be appended."""
        if self.server is not None:
            return self.description().is_growing
        return self._growth is not None and self._growth.is_open

    # --- reading ---

    def read(
        self,
        index: Any = EVERYTHING,  # noqa: ANN401
        *,
        verify: bool = False,
        progress: Progress | bool | None = None,
        timeout: float | None = None,
    ) -> Any:  # noqa: ANN401
        """Return what ``index`` selects (all of it by default), as a new array, or as an item.

        Args:
            index: a basic index.
            verify: whether to compare what arrives with the server's fingerprints.
            progress: called with the bytes that are there and those there will be; True: a bar is
                shown, in a notebook or on a terminal, of what has 1 MiB or more.
            timeout: how many seconds may pass without anything coming; None: the server's.

        Raises:
            NodeIndexError: it is no basic index, or out of range.
            LimitError: it is more than a reader may read at once.
            NodeSourceError: the file behind it failed.
            ChunkCorruptError: a fingerprint differs.
            CompactedError: rows in it were dropped.
            NodeHostGoneError, DeadlineError: the server is gone, or silent.
        """
        if progress is True:
            with progress_bar(self.summary()) as bar:
                return self.read(index, verify=verify, progress=bar, timeout=timeout)
        way = self._way(verify=verify, timeout=timeout)
        return read_selection(self._grid(), self.dtype, index, way, progress or None)

    def _way(self, *, verify: bool, timeout: float | None) -> Way:
        if self.server is None:
            return Here(self._read_part)
        return There(self.server, self.description(), verify=verify, timeout=timeout)

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 - an item, an array, or a node
        if isinstance(index, str):
            return self.child(index)
        return self.read(index)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:  # noqa: FBT001
        if copy is False:
            raise ValueError("reading a node always makes a copy; leave copy=False out")
        return np.asarray(self.read(), dtype=dtype)

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("an array node without axes has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        """Return its items along the first axis, a chunk at a time."""
        step = self.chunks[0] if self.ndim else 1
        for start in range(0, len(self), step):
            yield from self.read(slice(start, start + step))

    def read_chunk(self, number: int, *, verify: bool = False) -> NDArray[Any]:
        """Return a chunk as a read-only view of what was received. Copy it to keep it.

        Chunks are numbered in C order. Raises as `read` does, `NodeIndexError` for its number.
        """
        self._check_partition(number, self._grid().count)
        chunk: NDArray[Any] = next(self.read_chunks(number, number + 1, verify=verify)).value
        return chunk

    def read_chunks(
        self,
        start: int = 0,
        stop: int | None = None,
        *,
        verify: bool = False,
        timeout: float | None = None,
    ) -> Iterator[Partition]:
        """Return chunks from number ``start`` on, up to (not with) ``stop``, in order.

        Each is a read-only view of what was received, while the next are on their way already: so
        an array that is larger than memory is read at full speed. Raises as `read` does.
        """
        grid, dtype = self._grid(), self.dtype
        last = grid.count if stop is None else min(stop, grid.count)
        numbers = range(max(0, start), last)
        pieces = (whole_chunk(grid, number) for number in numbers)
        early: dict[int, NDArray[Any]] = {}  # what the cache has comes before what is fetched
        due = iter(numbers)
        awaited = next(due, None)
        for piece, items in self._way(verify=verify, timeout=timeout).bring(grid, dtype, pieces):
            check_items(piece, items, dtype)
            early[piece.chunk] = items
            while awaited in early:
                yield Partition(awaited, _read_only(early.pop(awaited)))
                awaited = next(due, None)

    def placed_chunks(self) -> Iterator[tuple[tuple[slice, ...], NDArray[Any]]]:
        """Return each chunk there is now, and where it lies: ``array[place] = chunk``.

        Raises as `read` does.
        """
        grid = self._grid()
        for number, chunk in self.read_chunks(0, grid.count):
            yield tuple(slice(*span) for span in grid.spans(number)), chunk

    def load_meta(self) -> None:
        """Have no meta but the given one."""
        self.meta = self._meta or {}

    def load_data(self) -> None:
        """Have the chunks as partitions, each read when it is looked at."""
        self.data = Chunks(self)

    def _fetched_data(self, start: int = 0) -> Sequence[Any]:  # noqa: ARG002
        return Chunks(self)

    def partition(self, number: int) -> NDArray[Any]:
        """Return a chunk; see `read_chunk`."""
        return self.read_chunk(number)

    def partitions(self, numbers: range) -> Iterator[Partition]:
        """Return chunks, several on their way at a time."""
        return self.read_chunks(numbers.start, numbers.stop)

    # --- how it is cut ---

    def _grid(self) -> Grid:
        if self.server is None:
            found = self._ask_source("layout", self._own_source.layout)
            return Grid(found.shape, self._chunks_of(found), found.bounds)
        layout = self._layout_there()
        return Grid.checked(layout.shape, layout.chunks, layout.bounds)

    def _chunks_of(self, found: SourceLayout) -> tuple[int, ...]:
        if found.bounds is not None and found.chunks is not None:
            return found.chunks
        wanted = self._wanted_chunks if self._wanted_chunks is not None else found.chunks
        return chunks_for(found.shape, self._own_source.dtype.itemsize, wanted)

    def _check_wanted_chunks(self) -> None:
        wanted, shape = self._wanted_chunks, self._grid_shape()
        if wanted is None:
            return
        if len(wanted) != len(shape) or any(type(each) is not int or each < 1 for each in wanted):
            raise NodeIndexError(
                f"chunks={wanted!r} do not fit the shape {shape}: give a length >= 1 for each axis"
            )
        if isinstance(self._source, GrowingSource):
            raise NodeIndexError("a node that grows has the chunks that are appended to it")

    def _grid_shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self._ask_source("layout", self._own_source.layout).shape
        return shape

    def _layout_there(self) -> ArrayLayout:
        if self.description().is_growing:
            self.refresh()
        return self._known_layout()

    def _known_layout(self) -> ArrayLayout:
        layout = self.description().layout
        if layout is None:
            raise NodeError(f"node {self.uid!r} is said to be an array, but not of what shape")
        return layout

    # --- what the serving side answers ---

    @property
    def _own_source(self) -> ArraySource:
        if self._source is None:
            raise NodeError(f"node {self.uid!r} is a copy: its source is where it is served")
        return self._source

    def _ask_source(self, what: str, ask: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401
        try:
            return ask(*args)
        except EzGraphError:
            raise
        except Exception as error:
            raise NodeSourceError(
                f"node {self.uid!r}: {self._source!r} failed at {what}: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _own_description(self) -> NodeDescription:
        grid = self._grid()
        return replace(
            super()._own_description(),
            partitions=grid.count,
            first_partition=self._first(),
            is_stable=self._ask_source("stamp", self._own_source.stamp) is not None,
            layout=ArrayLayout(
                spell_dtype(self.dtype),
                grid.shape,
                grid.chunks,
                None if grid.bounds is None else tuple(grid.bounds),
            ),
        )

    def _first(self) -> int:
        return self._source.first if isinstance(self._source, GrowingSource) else 0

    def send_data(self, index: int, **kwargs: Any) -> Any:  # noqa: ANN401
        """Return chunk ``index``, or a part of it.

        Keywords: ``part``, a list of ``[start, stop, step]`` for each axis of the chunk, and
        ``fingerprint``: whether to say the fingerprint of what is returned, too.
        """
        check_keywords(self, NodeVerb.DATA, {"index": index, **kwargs})
        grid = self._grid()
        self._check_partition(index, grid.count)
        part = kwargs.get("part")
        triples = None if part is None else self._checked_part(part, grid.chunk_shape(index))
        array = self._read_part(index, triples, grid)
        if not kwargs.get("fingerprint"):
            return array
        if triples is None:
            return Fingerprinted(array, self._fingerprint(index, grid, array))
        return Fingerprinted(array, fingerprint_of(array))

    def _checked_part(self, part: object, shape: tuple[int, ...]) -> tuple[Triple, ...]:
        triples: list[Any] = _tuples(part)
        fits = len(triples) == len(shape) and all(
            len(each) == 3
            and all(type(number) is int for number in each)
            and 0 <= each[0] < each[1] <= length
            and 1 <= each[2] <= length
            for each, length in zip(triples, shape, strict=False)
        )
        if not fits:
            raise NodeIndexError(
                f"part {part!r:.200} is none of a chunk of shape {shape} of node {self.uid!r}"
            )
        return tuple(triples)

    def _read_part(
        self, number: int, part: tuple[Triple, ...] | None, grid: Grid
    ) -> NDArray[Any]:
        """Return (a part of) a chunk as the source has it: perhaps a view of the source itself."""
        spans = grid.spans(number)
        if part is None:
            part = tuple((0, stop - start, 1) for start, stop in spans)
        wanted = tuple(
            slice(begin + start, begin + stop, step)
            for (begin, _), (start, stop, step) in zip(spans, part, strict=True)
        )
        found = self._ask_source("reading", self._own_source.read, wanted)
        shape = tuple(len(range(*each)) for each in part)
        if found.shape != shape or found.dtype != self._own_source.dtype:
            raise NodeSourceError(
                f"node {self.uid!r}: {self._source!r} gave {found.dtype} {found.shape} in place of "
                f"{self._own_source.dtype} {shape}"
            )
        array: NDArray[Any] = found
        return array

    def send_fingerprints(self, indexes: Sequence[int]) -> list[bytes]:
        """Return the fingerprints of chunks, as many as can be said soon, one at least."""
        grid = self._grid()
        stamp = self._ask_source("stamp", self._own_source.stamp)
        told: list[bytes] = []
        hashed = 0
        for index in indexes:
            self._check_partition(index, grid.count)
            known = self._fingerprints.known(index, stamp)
            if known is None:
                if hashed >= HASHED_BYTES:
                    break
                known = self._fingerprint(index, grid, None)
                hashed += math.prod(grid.chunk_shape(index)) * self.dtype.itemsize
            told.append(known)
        return told

    def _fingerprint(self, index: int, grid: Grid, array: NDArray[Any] | None) -> bytes:
        stamp = self._ask_source("stamp", self._own_source.stamp)
        return self._fingerprints.of(
            index, stamp, lambda: self._read_part(index, None, grid) if array is None else array
        )

    # --- growing ---

    def append(self, partition: Any) -> int:  # noqa: ANN401
        """Append rows, an array of shape ``(n, *row_shape)``; return the number of their chunk.

        One of more than 64 MiB makes several chunks; the number is that of the last.

        Raises:
            NodeIndexError: they are of another shape, or none.
            NodeError: the node was not made by `growing`, or is finished.
        """
        self._refuse_copy("be appended to")
        if not isinstance(self._source, GrowingSource):
            raise NodeError(
                f"{self!r} has a source that does not grow; make one with ArrayNode.growing(…)"
            )
        if not self.growth.is_open:
            raise NodeError(f"{self!r} is finished: who followed it was told that no more comes")
        number = self._source.append(partition)
        self.growth.tell()
        return number

    def _own_growth(self) -> GrowthReport:
        is_growing = self.growth.is_open  # before the count: what is appended last is not missed
        grid = self._grid()
        return GrowthReport(self._first(), grid.count, is_growing, self.growth.incarnation)

    # --- in other hands ---

    def dask(self) -> Any:  # noqa: ANN401
        """Return a `dask.array.Array` of it, each of its chunks one of dask's.

        Raises:
            MissingExtraError: dask is not installed.
        """
        from ezgraph.nodes.others import dask_array

        return dask_array(self, self._grid(), self.description().incarnation)

    def xarray(self) -> Any:  # noqa: ANN401
        """Return an `xarray.DataArray` of it, with its meta as attributes, read when needed.

        The names of its axes are ``meta["dims"]``, if these are so many texts.

        Raises:
            MissingExtraError: xarray, or dask, is not installed.
        """
        from ezgraph.nodes.others import data_array

        return data_array(self)


class Chunks(Sequence[Any]):
    """The chunks of an array node as a sequence; each is read when it is looked at."""

    def __init__(self, node: ArrayNode) -> None:
        self._node = node

    def __repr__(self) -> str:
        return f"<Chunks {len(self)} of {self._node!r}>"

    def __len__(self) -> int:
        return self._node.chunk_count

    def __getitem__(self, number: Any) -> Any:  # noqa: ANN401 - a chunk, or a list of them
        if isinstance(number, slice):
            return [self._node.read_chunk(each) for each in range(len(self))[number]]
        return self._node.read_chunk(range(len(self))[number])


def _read_only(items: NDArray[Any]) -> NDArray[Any]:
    view = items.view()
    view.flags.writeable = False
    return view


def _tuples(part: object) -> list[tuple[Any, ...]]:
    """Return what came as a list of lists; nothing else fits any chunk."""
    parts = part if isinstance(part, list | tuple) else [part]
    return [tuple(each) if isinstance(each, list | tuple) else () for each in parts]
