"""NumPy arrays and scalars as plain parts: a dtype in words, a shape, an order, raw bytes.

A dtype is spelled as its text; as a mapping of its fields with their places; or as [dtype, shape].
NumPy is imported only when an array is read back.
"""

from __future__ import annotations

import math
import sys
from typing import Any

from ezgraph.errors import MalformedMessageError

_MOST_DIMENSIONS = 64  # NumPy's own bound
_MOST_EMPTY_ITEMS = 1_000_000


def spell_dtype(dtype: Any) -> Any:  # noqa: ANN401
    """Return a dtype in plain values.

    Raises:
        TypeError: it holds Python objects, or is of a type that NumPy itself does not know.
    """
    if dtype.hasobject:
        raise TypeError(f"an array of dtype {dtype} holds Python objects; convert it first")
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return [spell_dtype(base), list(shape)]
    if dtype.fields is not None:
        return _spell_fields(dtype)
    if sys.modules["numpy"].dtype(dtype.str) != dtype:
        raise TypeError(f"an array of dtype {dtype} is of a type NumPy itself does not know")
    return dtype.str


def _spell_fields(dtype: Any) -> dict[str, Any]:  # noqa: ANN401
    parts = [dtype.fields[name] for name in dtype.names]
    content = {
        "names": list(dtype.names),
        "formats": [spell_dtype(kind) for kind, *_ in parts],
        "offsets": [offset for _, offset, *_ in parts],
        "itemsize": dtype.itemsize,
    }
    titles = [title[0] if title else None for _, _, *title in parts]
    return content | {"titles": titles} if any(each is not None for each in titles) else content


def order_of(array: Any) -> str:  # noqa: ANN401
    """Return how an array lies in memory: ``F`` (columns first) or ``C``."""
    return "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"


def read_dtype(content: Any) -> Any:  # noqa: ANN401
    """Return the dtype that `spell_dtype` has spelled.

    Raises:
        MalformedMessageError: it would hold Python objects. NumPy raises more than that.
    """
    import numpy as np

    if isinstance(content, list):
        base, shape = content
        content = (read_dtype(base), tuple(shape))
    elif isinstance(content, dict):
        content = {**content, "formats": [read_dtype(each) for each in content["formats"]]}
    dtype = np.dtype(content)
    if dtype.hasobject:
        raise MalformedMessageError(f"an array of dtype {dtype} would hold Python objects")
    return dtype


def read_array(kind: Any, shape: Any, order: Any, raw: bytes) -> Any:  # noqa: ANN401
    """Return the array of these parts; it is read-only.

    Raises:
        MalformedMessageError: they do not fit each other. NumPy raises more than that.
    """
    import numpy as np

    dtype = read_dtype(kind)
    if len(shape) > _MOST_DIMENSIONS:  # their product would take time that grows as their square
        raise MalformedMessageError(f"an array of {len(shape)} dimensions")
    if not all(type(each) is int and each >= 0 for each in shape) or order not in ("C", "F"):
        raise MalformedMessageError(f"an array of shape {shape!r} and order {order!r}")
    items = math.prod(shape)
    if items * dtype.itemsize != len(raw) or (not dtype.itemsize and items > _MOST_EMPTY_ITEMS):
        raise MalformedMessageError(
            f"{len(raw)} bytes are no array of {items} items of {dtype.itemsize} bytes"
        )
    array = np.frombuffer(raw, dtype) if len(raw) else np.ndarray(items, dtype)
    return array.reshape(tuple(shape), order=order)


def read_scalar(kind: Any, raw: bytes) -> Any:  # noqa: ANN401
    """Return the scalar of this dtype."""
    import numpy as np

    dtype = read_dtype(kind)
    if dtype.type is np.str_:  # an item of an array would lose the NULs at its end
        big = dtype.str.startswith(">")
        return np.str_(raw[: dtype.itemsize].decode("utf-32-be" if big else "utf-32-le"))
    if dtype.type is np.bytes_ or (dtype.type is np.void and dtype.fields is None):
        return dtype.type(raw[: dtype.itemsize])
    return np.frombuffer(raw, dtype, count=1)[0]
