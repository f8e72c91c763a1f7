"""Array nodes: what they say of themselves, what they refuse, how they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ezgraph.errors import (
    LimitError,
    MalformedMessageError,
    NodeDtypeError,
    NodeError,
    NodeIndexError,
    NodeSourceError,
    UnknownLabelError,
)
from ezgraph.nodes import ArrayNode, EmptyNode, NodeServer, RootNode
from ezgraph.nodes.grid import CHUNK_BYTES, Grid
from ezgraph.nodes.sources.base import SourceLayout
from ezgraph.protocol.nodes import ArrayLayout, NodeDescription, NodeOpening
from ezgraph.wire import codec
from ezgraph.wire.arrays import spell_dtype

if TYPE_CHECKING:
    from collections.abc import Callable

ARRAY = np.arange(60, dtype=">i2").reshape(5, 4, 3)


def both(node: ArrayNode) -> tuple[ArrayNode, ArrayNode]:
    """Return a node and its copy."""
    return node, RootNode(NodeServer(RootNode(edges={"a": node})))["a"]


def test_an_array_node_says_here_and_there_what_it_is() -> None:
    for node in both(ArrayNode(ARRAY, chunks=(2, 4, 2), meta={"unit": "µV"})):
        assert (node.shape, node.dtype, node.chunks) == ((5, 4, 3), np.dtype(">i2"), (2, 4, 2))
        assert (node.ndim, node.size, node.nbytes, len(node)) == (3, 60, 120, 5)
        assert node.chunk_count == 6
        assert node.meta == {"unit": "µV"}
        assert node.summary() == "ArrayNode >i2 (5, 4, 3)"


def test_an_array_node_is_used_like_an_array() -> None:
    for node in both(ArrayNode(ARRAY, chunks=(2, 4, 2))):
        np.testing.assert_array_equal(np.asarray(node), ARRAY)
        np.testing.assert_array_equal(np.asarray(node, dtype="f8"), ARRAY.astype("f8"))
        np.testing.assert_array_equal(node[1:4, ::2, -1], ARRAY[1:4, ::2, -1])
        np.testing.assert_array_equal(list(node), list(ARRAY))
        np.testing.assert_array_equal(node.read(), ARRAY)
        assert node[1, 2, 0] == ARRAY[1, 2, 0]
        with pytest.raises(ValueError, match="always makes a copy"):
            np.array(node, copy=False)


def test_what_is_read_is_ones_own() -> None:
    array = np.zeros(1_000_000)
    for node in both(ArrayNode(array)):
        found = node[:]
        found[:] = 1

        assert array.sum() == 0
        assert node[0] == 0


def test_a_text_is_a_label_also_of_an_array() -> None:
    child = EmptyNode("child")
    for node in both(ArrayNode(ARRAY, edges={"events": child, 3: child})):
        assert node["events"].uid == "child"
        assert node.child(3).uid == "child"
        assert node[3].shape == (4, 3)
        with pytest.raises(UnknownLabelError):
            node["nothing"]


@pytest.mark.parametrize(
    ("index", "why"),
    [
        (5, "index 5 is out of range for axis 0, which has 5 positions"),
        (-6, "index -6 is out of range"),
        ((0, 0, 0, 0), "too many indices: the array has 3 axes, 4 were indexed"),
        ((..., ...), "single ellipsis"),
        ([0, 1], "no basic index"),
        (np.array([0, 1]), "no basic index"),
        (np.array(1), "no basic index"),
        (ARRAY > 3, "no basic index"),
        (True, "no basic index"),
        (np.True_, "no basic index"),
        (1.0, "no basic index"),
        ((0, "label"), "no basic index"),
        (slice(None, None, 0), "slice step cannot be zero"),
        (slice("a"), "selects nothing"),
    ],
)
def test_an_index_that_is_not_basic_or_out_of_range_is_refused(index: Any, why: str) -> None:
    for node in both(ArrayNode(ARRAY)):
        with pytest.raises(IndexError, match=why) as caught:
            node[index]
        assert isinstance(caught.value, NodeIndexError)


def test_huge_numbers_in_slices_are_what_they_are_to_numpy() -> None:
    node = ArrayNode(ARRAY)

    assert node[-(10**30) : 10**30 : 10**30].tobytes() == ARRAY[:1].tobytes()
    with pytest.raises(NodeIndexError):
        node[10**30]


def test_python_objects_are_refused_with_a_reason() -> None:
    structured = np.zeros(2, np.dtype([("a", "i4"), ("b", "O")]))
    for array in (np.array([None, "x"], dtype=object), structured):
        with pytest.raises(NodeDtypeError, match=r"Python objects have no bytes.*pickle"):
            ArrayNode(array)


def test_structured_datetime_big_endian_empty_and_0d_arrays_arrive_as_they_are() -> None:
    for array in (
        np.array([(1, 2.5, b"x")], np.dtype([("a", ">i4"), ("b", "<f8"), ("c", "S3")])),
        np.array(["2026-01-02T03:04:05.678901234"], "M8[ns]"),
        np.array([3, -4], "m8[D]"),
        np.array(7.5, ">f8"),
        np.zeros((3, 0, 2), "c16"),
        np.array(["ä", "日本"]),
        np.zeros(4, "V0"),
        np.zeros((2, 2), np.dtype([])),
        np.array([1, 2], np.dtype(("<i4", ()))),
    ):
        for node in both(ArrayNode(array)):
            found = node.read()
            assert (found.dtype, found.shape) == (array.dtype, array.shape)
            assert found.tobytes() == array.tobytes()


@pytest.mark.parametrize("chunks", [(2,), (2, 2, 0), (2, 2, -1), (2, 2, 1.5), (True, 2, 2)])
def test_chunks_that_do_not_fit_are_refused(chunks: Any) -> None:
    with pytest.raises(NodeIndexError, match="give a length >= 1 for each axis"):
        ArrayNode(ARRAY, chunks=chunks)


def test_without_chunks_of_its_own_an_array_is_cut_into_pieces_of_about_8_mib() -> None:
    class Large:
        dtype = np.dtype("f8")

        def layout(self) -> SourceLayout:
            return SourceLayout((1 << 40, 64, 100))

        def read(self, part: tuple[slice, ...]) -> Any:
            raise AssertionError(part)

        def stamp(self) -> None:
            return None

    chunks = ArrayNode(Large()).chunks

    assert chunks == (163, 64, 100)
    assert 0.9 * CHUNK_BYTES < np.prod(chunks) * 8 <= CHUNK_BYTES


def test_progress_tells_true_bytes() -> None:
    for node in both(ArrayNode(np.zeros((10, 10), "f8"), chunks=(3, 10))):
        told: list[tuple[int, int]] = []

        def progress(done: int, total: int, told: list[tuple[int, int]] = told) -> None:
            told.append((done, total))

        node.read((slice(1, 9), slice(0, 5)), progress=progress)

        assert told == [(80, 320), (200, 320), (320, 320)]


def test_chunks_are_partitions_and_come_one_by_one_or_in_a_row() -> None:
    array = np.arange(10.0)
    for node in both(ArrayNode(array, chunks=(4,))):
        chunk = node.read_chunk(1)

        assert chunk.tolist() == [4, 5, 6, 7]
        assert not chunk.flags.writeable
        assert node.partition(2).tolist() == [8, 9]
        assert [(number, part.tolist()) for number, part in node.read_chunks(1)] == [
            (1, [4, 5, 6, 7]),
            (2, [8, 9]),
        ]
        assert len(node.data) == 3
        assert node.data[-1].tolist() == [8, 9]
        assert [part.tolist() for part in node.data[:2]] == [[0, 1, 2, 3], [4, 5, 6, 7]]
        with pytest.raises(NodeIndexError, match="has no partition 3: it has 3"):
            node.read_chunk(3)


# --- servers that announce what cannot be ---


def announcing(layout: ArrayLayout | None) -> ArrayNode:
    """Return a copy of an array that is said to be so."""
    described = NodeDescription(
        uid="a",
        module="ezgraph.nodes.array",
        name="ArrayNode",
        version="1",
        labels=0,
        partitions=1,
        first_partition=0,
        is_growing=False,
        is_stable=False,
        incarnation="i",
        layout=layout,
    )

    class Liar:
        def request(self, message: Any, /) -> bytes:
            assert message["request"] == "send_node", "nothing is asked for"
            return codec.encode(NodeOpening(described, {}))

    return ArrayNode(uid="a", server=Liar())


def test_an_announced_array_of_2_to_the_60_bytes_is_refused_before_anything_is_allocated() -> None:
    node = announcing(ArrayLayout("<f8", (1 << 57,), (1 << 20,)))

    assert node.nbytes == 1 << 60
    with pytest.raises(LimitError, match=r"takes 1152921504606846976 bytes; at most 17179869184"):
        node.read()


@pytest.mark.parametrize(
    "layout",
    [
        ArrayLayout("V0", (1 << 60,), (1,)),
        ArrayLayout("<i1", (1 << 30, 1), (1, 1)),
        ArrayLayout("<f8", (0, 1 << 60), (1, 1)),
        ArrayLayout("<f8", (1 << 60, 3, 0), (1, 1, 1)),
    ],
)
def test_an_announced_array_of_too_many_items_or_chunks_is_refused(layout: ArrayLayout) -> None:
    with pytest.raises(LimitError):
        announcing(layout).read()


def test_what_has_no_items_is_read_without_a_look_at_the_chunks_along_its_other_axes() -> None:
    node = announcing(ArrayLayout("<i1", (0, 1 << 60), (1, 1)))

    assert node.read().shape == (0, 1 << 60)
    assert node[:, ::2].shape == (0, 1 << 59)


@pytest.mark.parametrize(
    "layout",
    [
        ArrayLayout("|O", (3,), (3,)),
        ArrayLayout("no dtype", (3,), (3,)),
        ArrayLayout({"names": ["a"]}, (3,), (3,)),
        ArrayLayout("<f8", (3,), (3, 3)),
        ArrayLayout("<f8", (3,), (0,)),
        ArrayLayout("<f8", (-3,), (3,)),
        ArrayLayout("<f8", (3,), (3,), (0, 2)),
        ArrayLayout("<f8", (3,), (3,), (0, 2, 2, 3)),
        ArrayLayout("<f8", (3,), (3,), ()),
        ArrayLayout("<f8", (), (), (0, 1)),
    ],
)
def test_an_announced_layout_that_fits_nothing_is_malformed(layout: ArrayLayout) -> None:
    with pytest.raises(MalformedMessageError):
        announcing(layout).read()


def test_an_array_announced_without_a_layout_is_an_error() -> None:
    with pytest.raises(NodeError, match="said to be an array, but not of what shape"):
        _ = announcing(None).shape


def answering(array: Any) -> ArrayNode:
    """Return a copy of an array of 4 numbers, whose server answers with something else."""
    server = NodeServer(RootNode(edges={"a": ArrayNode(np.arange(4.0), uid="a")}))

    class Liar:
        def request(self, message: Any, /) -> bytes:
            if message["request"] == "send_data":
                from ezgraph.wire import values

                return values.pack(array)
            return server.request(message)

    return ArrayNode(uid="a", server=Liar())


@pytest.mark.parametrize(
    "answer", [np.zeros(3), np.zeros(4, "f4"), np.zeros((4, 1)), [0, 1, 2, 3], None]
)
def test_an_answer_of_another_shape_or_kind_is_malformed(answer: Any) -> None:
    with pytest.raises(MalformedMessageError, match="chunk 0 came as"):
        answering(answer).read()


# --- sources that fail ---


class Flaky:
    """A source that does what it is told to."""

    dtype = np.dtype("f8")

    def __init__(self, read: Callable[[], Any]) -> None:
        self._read = read

    def __repr__(self) -> str:
        return "<Flaky>"

    def layout(self) -> SourceLayout:
        return SourceLayout((4,))

    def read(self, part: tuple[slice, ...]) -> Any:
        return self._read()

    def stamp(self) -> None:
        return None


def fail() -> Any:
    raise OSError(5, "Input/output error")


def test_a_source_that_fails_is_an_error_that_names_node_and_cause() -> None:
    for node in both(ArrayNode(Flaky(fail), uid="eeg")):
        with pytest.raises(NodeSourceError, match=r"node 'eeg': <Flaky> failed at reading: OS"):
            node.read()


def test_a_source_that_gives_something_else_is_an_error() -> None:
    for node in both(ArrayNode(Flaky(lambda: np.zeros(3)))):
        with pytest.raises(NodeSourceError, match=r"gave float64 \(3,\) in place of float64"):
            node.read()


def test_dtypes_are_spelled_and_grids_numbered_consistently() -> None:
    grid = Grid((5, 4, 3), (2, 3, 2))

    assert grid.count == 3 * 2 * 2
    assert [grid.number(grid.place(number)) for number in range(12)] == list(range(12))
    assert grid.spans(11) == ((4, 5), (3, 4), (2, 3))
    assert spell_dtype(np.dtype("<M8[us]")) == "<M8[us]"


# --- in other hands ---


def test_dask_reads_chunk_by_chunk() -> None:
    dask = pytest.importorskip("dask.array")
    for node in both(ArrayNode(ARRAY, chunks=(2, 4, 2))):
        array = node.dask()

        assert isinstance(array, dask.Array)
        assert array.chunks == ((2, 2, 1), (4,), (2, 1))
        found = array[1:, ::2].sum(axis=0).compute(scheduler="synchronous")
        np.testing.assert_array_equal(found, ARRAY[1:, ::2].sum(0))


def test_xarray_has_the_dims_and_the_meta() -> None:
    pytest.importorskip("xarray")
    meta = {"dims": ["trial", "channel", "time"], "unit": "µV"}
    for node in both(ArrayNode(ARRAY, meta=meta)):
        array = node.xarray()

        assert array.dims == ("trial", "channel", "time")
        assert array.attrs == {"unit": "µV"}
        found = array.isel(trial=2).compute(scheduler="synchronous")
        np.testing.assert_array_equal(found.values, ARRAY[2])
    assert ArrayNode(ARRAY, meta={"dims": ["one"]}).xarray().attrs == {"dims": ["one"]}
