"""The contract of sources, and what those that are files share."""

from __future__ import annotations

import os
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from ezgraph.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import NDArray


class SourceLayout(NamedTuple):
    """How large a source is, and how it is cut.

    ``chunks`` is the shape of its own (largest) chunk; None: it has none, and any will do.
    ``bounds`` says where they lie along the first axis, if they differ in length.
    """

    shape: tuple[int, ...]
    chunks: tuple[int, ...] | None = None
    bounds: Sequence[int] | None = None


class ArraySource(Protocol):
    """An array that is somewhere."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its dtype; stays what it is."""
        ...

    def layout(self) -> SourceLayout:
        """Return its shape and how it is cut, as they are now."""
        ...

    def read(self, part: tuple[slice, ...]) -> NDArray[Any]:
        """Return a part, given by a slice with steps >= 1 for each axis; raise if it cannot."""
        ...

    def stamp(self) -> Hashable | None:
        """Return what changes whenever the content may have; None: it may change at any time."""
        ...


def read_without_steps(dataset: Any, part: tuple[slice, ...]) -> NDArray[Any]:  # noqa: ANN401
    """Return a part of what reads slices with steps slowly, or not at all: read what is around."""
    around = tuple(slice(each.start, each.stop) for each in part)
    steps: Any = (*(slice(None, None, each.step) for each in part), ...)
    found: NDArray[Any] = np.asarray(dataset[around])[steps]
    return found


_SETTLED_S = 3.0
"""How long after a change no other can have the same time; file systems tick up to 2 s apart."""


class FileGoneError(OSError):
    """The file is not what it was when it was opened."""


class WatchedFile:
    """A file (or folder) that must stay there while it is served, and may not shrink."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(os.fspath(path))
        found = os.stat(self.path)
        self._identity = (found.st_dev, found.st_ino)
        self._size = found.st_size
        self._clock = SystemClock()
        self._looks = count(1)

    def __repr__(self) -> str:
        return f"<WatchedFile {self.path}>"

    def stamp(self) -> tuple[int, ...]:
        """Return what changes with the file; soon after a change, always something else.

        As a file that is written to again within a tick of its file system's clock looks as before.

        Raises:
            FileGoneError: it is gone, was replaced by another, or is shorter than it was.
        """
        try:
            found = os.stat(self.path)
        except OSError as error:
            raise FileGoneError(f"{self.path} is gone: {error.strerror or error}") from error
        if (found.st_dev, found.st_ino) != self._identity:
            raise FileGoneError(f"{self.path} was replaced by another file since it was opened")
        if found.st_size < self._size:
            raise FileGoneError(
                f"{self.path} has shrunk from {self._size} to {found.st_size} bytes"
            )
        age_s = self._clock.wall() - found.st_mtime
        looked = 0 if age_s > _SETTLED_S else next(self._looks)
        return (*self._identity, found.st_size, found.st_mtime_ns, looked)
