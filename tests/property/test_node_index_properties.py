"""An array node gives for any basic index what NumPy gives, wherever it is read."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ezgraph.nodes import ArrayNode, NodeServer, RootNode
from ezgraph.nodes.grid import BoundedAxis, Grid, chunks_for
from ezgraph.nodes.selection import select

_structured = st.sampled_from(
    [
        np.dtype([("a", ">i2"), ("b", "<f8", (2,))]),
        np.dtype({"names": ["x"], "formats": ["u1"], "offsets": [3], "itemsize": 8}),
        np.dtype([("text", "S3"), ("at", "M8[us]"), ("z", ">c16")]),
        np.dtype([]),
    ]
)
_dtypes = (
    arrays.boolean_dtypes()
    | arrays.integer_dtypes(endianness="?")
    | arrays.floating_dtypes(endianness="?", sizes=(16, 32, 64))
    | arrays.complex_number_dtypes(endianness="?", sizes=(64, 128))
    | arrays.datetime64_dtypes(endianness="?")
    | arrays.timedelta64_dtypes(endianness="?")
    | arrays.byte_string_dtypes(min_len=1, max_len=4)
    | arrays.unicode_string_dtypes(endianness="?", min_len=1, max_len=3)
    | _structured
)
_shapes = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=7)


@st.composite
def indexed_arrays(draw: st.DrawFn) -> tuple[Any, tuple[int, ...], Any]:
    """Return an array, in any order in memory, how to cut it, and a basic index of it."""
    shape = draw(_shapes)
    dtype = draw(_dtypes)
    count = int(np.prod(shape)) * dtype.itemsize
    raw = np.frombuffer(draw(st.binary(min_size=count, max_size=count)), np.uint8)
    if dtype.kind == "U":  # not any number is a character
        raw = raw[: count // 4].astype(f"{dtype.str[0]}u4").view(np.uint8)
    array = raw.view(dtype).reshape(shape) if count else np.zeros(shape, dtype)
    if shape and draw(st.sampled_from("CF")) == "F":
        array = np.asfortranarray(array)
    chunks = draw(st.tuples(*[st.integers(1, 4)] * len(shape)))
    indices = arrays.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True, max_dims=6)
    return array, chunks, draw(indices)


def same(found: Any, expected: Any) -> bool:
    """Whether two results are equal to the bit, in type, dtype and shape."""
    return (
        isinstance(found, np.ndarray) == isinstance(expected, np.ndarray)
        and found.dtype == expected.dtype
        and found.shape == expected.shape
        and items_of(found) == items_of(expected)
    )


def items_of(array: Any) -> bytes:
    """Return what the items of an array hold; between the fields of a record is nothing."""
    if array.dtype.names is None:
        return bytes(array.tobytes())
    return b"".join(items_of(array[name]) for name in array.dtype.names)


@given(indexed_arrays())
@settings(max_examples=400)
def test_any_basic_index_gives_what_numpy_gives_here_and_at_a_reader(case: Any) -> None:
    array, chunks, index = case
    node = ArrayNode(array, chunks=chunks)
    copy = RootNode(NodeServer(RootNode(edges={"a": node})))["a"]

    here, there = node.read(index), copy.read(index)

    assert same(here, array[index]), (here, array[index])
    assert same(there, array[index]), (there, array[index])
    assert (copy.shape, copy.dtype, copy.nbytes) == (array.shape, array.dtype, array.nbytes)


@given(indexed_arrays())
def test_a_selection_needs_each_of_its_items_once_and_only_chunks_it_touches(case: Any) -> None:
    array, chunks, index = case
    grid = Grid(array.shape, chunks_for(array.shape, 8, chunks))
    numbers = np.arange(array.size).reshape(array.shape)
    wanted = {int(each) for each in np.asarray(numbers[index]).reshape(-1)}

    needed: list[int] = []
    touched: list[int] = []
    for piece in grid.pieces(select(index, array.shape)):
        spans = grid.spans(piece.chunk)
        chunk = numbers[tuple(slice(*span) for span in spans)]
        part = chunk[tuple(slice(*triple) for triple in piece.part)]
        assert part.shape == piece.shape
        assert piece.is_whole == (part.shape == chunk.shape)
        needed += [int(each) for each in part.reshape(-1)]
        touched.append(piece.chunk)

    assert sorted(needed) == sorted(wanted)
    assert len(set(touched)) == len(touched)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.slices(20))
def test_chunks_of_any_lengths_along_the_first_axis_serve_any_slice(
    lengths: list[int], index: slice
) -> None:
    bounds = [0, *np.cumsum(lengths).tolist()]
    numbers = np.arange(bounds[-1])
    grid = Grid((bounds[-1],), (max(lengths),), bounds)
    result = np.full(len(numbers[index]), -1)

    selection = select(index, numbers.shape)
    for piece in grid.pieces(selection):
        low, high = BoundedAxis(bounds).span(piece.chunk)
        result[piece.target] = numbers[low:high][slice(*piece.part[0])]

    assert result[selection.final].tolist() == numbers[index].tolist()


@given(
    st.lists(st.integers(0, 1 << 40), max_size=5),
    st.integers(0, 1 << 20),
    st.booleans(),
)
def test_chunks_fit_their_bound_and_their_array(
    shape: list[int], itemsize: int, is_native: bool
) -> None:
    native = [max(1, each) for each in shape] if is_native else None

    chunks = chunks_for(shape, itemsize, native)

    bound = (64 << 20) if is_native else (8 << 20)
    assert all(1 <= chunk <= max(1, length) for chunk, length in zip(chunks, shape, strict=True))
    items = int(np.prod(np.array(chunks, dtype=object)))
    assert items * itemsize <= bound or items == 1
