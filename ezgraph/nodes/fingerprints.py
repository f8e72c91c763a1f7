"""Fingerprints of chunks: what a server remembers of them, and what a reader keeps by them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from ezgraph.protocol.fingerprints import content_hash
from ezgraph.wire.arrays import raw_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from numpy.typing import NDArray

Place = tuple[str, str, int]
"""Of a chunk: uid and incarnation of its node, and its number."""


def fingerprint_of(array: NDArray[Any]) -> bytes:
    """Return the hash of an array's items in C order."""
    return hash_of_bytes(raw_bytes(array))


def hash_of_bytes(items: NDArray[Any]) -> bytes:
    """Return the hash of raw bytes."""
    return content_hash(items.data)


class RememberedFingerprints:
    """The fingerprints of a source's chunks, as long as its stamp says that it has not changed."""

    def __init__(self) -> None:
        self._stamp: Hashable | None = None
        self._known: dict[int, bytes] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<RememberedFingerprints {len(self._known)} of {self._stamp!r}>"

    def of(self, number: int, stamp: Hashable | None, chunk: Callable[[], NDArray[Any]]) -> bytes:
        """Return the fingerprint of a chunk, which is read only if it is not known."""
        if (known := self.known(number, stamp)) is not None:
            return known
        made = fingerprint_of(chunk())
        with self._lock:
            if stamp is not None and stamp == self._stamp:
                self._known[number] = made
        return made

    def known(self, number: int, stamp: Hashable | None) -> bytes | None:
        """Return it if it is known, and the source has not changed."""
        with self._lock:
            if stamp is None or stamp != self._stamp:
                self._stamp, self._known = stamp, {}
            return self._known.get(number)


class ChunkCache:
    """Whole chunks that were read, the least recently used one dropped when they become too many.

    Chunks are kept by the fingerprint of their content, so equal ones are kept once. A fingerprint
    takes about as long to make as the chunk took to arrive; therefore it is made when the chunk is
    wanted a second time, and until then the chunk is kept by its place.

    Args:
        size_bytes: how much is kept at most; chunks larger than that are not kept.
    """

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.held_bytes = 0
        self._by_key: OrderedDict[bytes | Place, NDArray[Any]] = OrderedDict()
        self._places: OrderedDict[Place, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<ChunkCache chunks={len(self._by_key)} bytes={self.held_bytes}/{self.size_bytes}>"

    def __contains__(self, place: Place) -> bool:
        with self._lock:
            return place in self._by_key or self._places.get(place) in self._by_key

    def put(self, place: Place, chunk: NDArray[Any]) -> None:
        """Keep the bytes of a chunk; nobody may change them from now on."""
        if chunk.nbytes > self.size_bytes:
            return
        with self._lock:
            self._places.pop(place, None)
            self._keep(place, chunk)

    def get(self, place: Place, fingerprint: bytes) -> NDArray[Any] | None:
        """Return the bytes with this fingerprint; None if they are not here."""
        with self._lock:
            unnamed = self._by_key.pop(place, None)
            if unnamed is not None:
                self.held_bytes -= unnamed.nbytes
        if unnamed is not None:
            name = hash_of_bytes(unnamed)
            with self._lock:
                self._keep(name, unnamed)
                self._places[place] = name
        with self._lock:
            found = self._by_key.get(fingerprint)
            if found is not None:
                self._by_key.move_to_end(fingerprint)
                self._places[place] = fingerprint
            else:
                self._places.pop(place, None)
            return found

    def clear(self) -> None:
        """Keep nothing of what there is."""
        with self._lock:
            self._by_key.clear()
            self._places.clear()
            self.held_bytes = 0

    def _keep(self, key: bytes | Place, chunk: NDArray[Any]) -> None:
        before = self._by_key.pop(key, None)
        if before is not None:
            self.held_bytes -= before.nbytes
        self._by_key[key] = chunk
        self.held_bytes += chunk.nbytes
        while self.held_bytes > self.size_bytes:
            _, dropped = self._by_key.popitem(last=False)
            self.held_bytes -= dropped.nbytes
        while len(self._places) > 4 * len(self._by_key) + 1_000:
            self._places.popitem(last=False)
