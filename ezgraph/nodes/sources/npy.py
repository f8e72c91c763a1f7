"""Files of one array, as ``numpy.save`` writes them.

They are read with ``pread`` and not mapped: a mapped file that somebody shortens ends the process
that looks at it (SIGBUS), and no exception could be made of that.
"""

from __future__ import annotations

import ast
import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ezgraph.errors import NodeDtypeError
from ezgraph.nodes.grid import chunks_for
from ezgraph.nodes.sources.base import FileGoneError, SourceLayout, WatchedFile

if TYPE_CHECKING:
    from collections.abc import Hashable
    from typing import BinaryIO

    from numpy.typing import NDArray


_MAX_HEADER_BYTES = 1 << 20


class NpySource:
    """An ``.npy`` file; only what a part needs is read, in whole rows of its slowest axis.

    Raises:
        OSError, ValueError: there is no such file, or it is none of NumPy's.
        NodeDtypeError: it holds pickled objects, which are never read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = WatchedFile(path)
        with open(self._file.path, "rb") as opened:
            shape, is_fortran, self.dtype = _read_header(opened)
            self._offset = opened.tell()
        if self.dtype.hasobject:
            raise NodeDtypeError(
                f"{self._file.path} holds Python objects (dtype {self.dtype}), and pickle is not "
                f"read; save it as numbers, fixed-length text or a structured dtype"
            )
        self.shape: tuple[int, ...] = shape
        self._is_fortran = is_fortran

    def __repr__(self) -> str:
        return f"<NpySource {self._file.path} {self.dtype} {self.shape}>"

    def layout(self) -> SourceLayout:
        """Return its shape; in Fortran order with chunks that lie in one piece there."""
        if not self._is_fortran:
            return SourceLayout(self.shape)
        return SourceLayout(self.shape, chunks_for(self.shape[::-1], self.dtype.itemsize)[::-1])

    def read(self, part: tuple[slice, ...]) -> NDArray[Any]:
        """Return a part, freshly read.

        Raises:
            OSError: the file is gone, was replaced, is too short, or cannot be read.
        """
        self._file.stamp()
        if self._is_fortran:
            return self._read_rows(self.shape[::-1], part[::-1]).T
        return self._read_rows(self.shape, part)

    def _read_rows(self, shape: tuple[int, ...], part: tuple[slice, ...]) -> NDArray[Any]:
        """Read the rows a part lies in, and return it as a view of them."""
        if not shape:
            return self._read_items(0, 1).reshape(())
        row = math.prod(shape[1:])
        rows = part[0]
        items = self._read_items(rows.start * row, (rows.stop - rows.start) * row)
        block = items.reshape((rows.stop - rows.start, *shape[1:]))
        return block[(slice(None, None, rows.step), *part[1:])]

    def _read_items(self, first: int, count: int) -> NDArray[Any]:
        buffer = np.empty(count * self.dtype.itemsize, np.uint8)
        descriptor = os.open(self._file.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            _fill(descriptor, buffer, self._offset + first * self.dtype.itemsize)
        except EOFError as error:
            raise FileGoneError(f"{self._file.path} ends before item {first + count}") from error
        finally:
            os.close(descriptor)
        return buffer.view(self.dtype) if buffer.size else np.empty(count, self.dtype)

    def stamp(self) -> Hashable | None:
        """Return what changes with the file."""
        return self._file.stamp()


def _read_header(opened: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether in Fortran order, and dtype; as `numpy.lib.format` describes it."""
    major, _ = np.lib.format.read_magic(opened)
    length_bytes = 2 if major == 1 else 4
    length = int.from_bytes(opened.read(length_bytes), "little")
    if length > _MAX_HEADER_BYTES:
        raise ValueError(f"{opened.name!r} announces a header of {length} bytes")
    header = ast.literal_eval(opened.read(length).decode("utf-8" if major > 2 else "latin-1"))
    return header["shape"], header["fortran_order"], np.lib.format.descr_to_dtype(header["descr"])


def _fill(descriptor: int, buffer: NDArray[Any], offset: int) -> None:
    """Read until the buffer is full."""
    view = memoryview(buffer)  # type: ignore[arg-type]
    while view:
        if hasattr(os, "preadv"):
            got = os.preadv(descriptor, [view], offset)
        else:
            os.lseek(descriptor, offset, os.SEEK_SET)
            piece = os.read(descriptor, len(view))
            view[: len(piece)] = piece
            got = len(piece)
        if not got:
            raise EOFError
        view, offset = view[got:], offset + got
