"""Arrays beside the codec: a small head that says what a buffer of raw bytes is.

The bytes are the items in C order, exactly as they lie in memory, so nothing is packed or copied
on the way, whatever the dtype. A head is checked against its buffer before anything is made of it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ezgraph.errors import MalformedMessageError, NodeDtypeError
from ezgraph.protocol import arrays

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    AnyArray = NDArray[Any]

MAX_DIMENSIONS = 64  # NumPy's own bound
MAX_ITEMS_WITHOUT_BYTES = 1_000_000
"""How many items of no bytes an array may have: they cost nothing to announce."""


def spell_dtype(dtype: np.dtype[Any]) -> Any:  # noqa: ANN401 - text, list or mapping
    """Return how a dtype is spelled.

    Raises:
        NodeDtypeError: its items cannot be sent as bytes; says why.
    """
    try:
        return arrays.spell_dtype(dtype)
    except TypeError as error:
        why = (
            "items that are Python objects have no bytes of their own, and pickle is not used; "
            "convert them to numbers, fixed-length text ('S', 'U') or a structured dtype"
            if dtype.hasobject
            else str(error)
        )
        raise NodeDtypeError(f"an array of dtype {dtype} cannot be served: {why}") from error


def read_dtype(spelled: object) -> np.dtype[Any]:
    """Return the dtype that `spell_dtype` spelled.

    Raises:
        MalformedMessageError: it is none.
    """
    try:
        dtype: np.dtype[Any] = arrays.read_dtype(spelled)
    except MalformedMessageError:
        raise
    except Exception as error:
        raise MalformedMessageError(f"{spelled!r:.200} spells no dtype: {error}") from error
    return dtype


def read_shape(shape: Sequence[object]) -> tuple[int, ...]:
    """Return a shape from the wire.

    Raises:
        MalformedMessageError: it is none.
    """
    if len(shape) > MAX_DIMENSIONS:  # their product would take time that grows as their square
        raise MalformedMessageError(f"an array of {len(shape)} dimensions")
    sizes = [each for each in shape if isinstance(each, int) and 0 <= each < 1 << 63]
    if len(sizes) != len(shape):
        raise MalformedMessageError(f"{shape!r:.200} is no shape of an array")
    return tuple(sizes)


def array_head(array: AnyArray) -> dict[str, Any]:
    """Return what the receiver of `raw_bytes` needs to know.

    Raises:
        NodeDtypeError: the items cannot be sent as bytes.
    """
    return {"dtype": spell_dtype(array.dtype), "shape": list(array.shape)}


def raw_bytes(array: AnyArray) -> AnyArray:
    """Return the items in C order as bytes; no copy if they lie so already."""
    if not array.nbytes:
        return np.empty(0, np.uint8)
    return np.ascontiguousarray(opaque(array)).reshape(-1).view(np.uint8)


def opaque(array: AnyArray) -> AnyArray:
    """Return a view whose items are copied as they lie in memory.

    Of structured items NumPy copies the fields alone, and leaves in the gaps what was there before.
    """
    if array.dtype.fields is None or not array.dtype.itemsize:
        return array
    return array.view(np.dtype((np.void, array.dtype.itemsize)))


def array_from(head: object, buffer: memoryview | AnyArray) -> AnyArray:
    """Return the array that a head and a buffer make, as a view of the buffer.

    Raises:
        MalformedMessageError: they do not fit each other.
    """
    if not isinstance(head, dict) or not isinstance(head.get("shape"), list | tuple):
        raise MalformedMessageError(f"{head!r:.200} is no head of an array")
    dtype, shape = read_dtype(head.get("dtype")), read_shape(head["shape"])
    return shaped(buffer, dtype, shape)


def shaped(
    buffer: memoryview | AnyArray, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> AnyArray:
    """Return raw bytes as an array of this dtype and shape, as a view of them.

    Raises:
        MalformedMessageError: they are more or fewer than it takes.
    """
    items, has = math.prod(shape), buffer.nbytes
    if items * dtype.itemsize != has or (not dtype.itemsize and items > MAX_ITEMS_WITHOUT_BYTES):
        raise MalformedMessageError(
            f"{has} bytes are no array of shape {shape} with items of {dtype.itemsize} bytes"
        )
    if not has:
        return np.empty(shape, dtype)
    flat = buffer if isinstance(buffer, np.ndarray) else np.frombuffer(buffer, np.uint8)
    return flat.view(dtype).reshape(shape)
