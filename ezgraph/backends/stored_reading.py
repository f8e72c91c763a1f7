"""The content of a stored graph, read step by step, between other things, as a broker does it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ezgraph.backends.stored_graphs import (
    graph_from,
    graph_row,
    names_in,
    parts_of_page,
    piece_key,
    stored_piece,
    understood,
)
from ezgraph.protocol.graph_content import GraphContent

if TYPE_CHECKING:
    from ezgraph.backends.store import Store
    from ezgraph.protocol.fingerprints import Fingerprint

_PIECES_A_STEP = 2


class GraphReading:
    """A graph of a store; ``content`` is as much of it as was read. A step takes milliseconds."""

    def __init__(self, store: Store, name: str, fingerprint: Fingerprint) -> None:
        """Begin with a stored graph.

        Raises:
            UnknownGraphError: there is none of this name and fingerprint.
        """
        row = graph_row(store, name, fingerprint)
        self.name = name
        self.fingerprint = fingerprint
        self._blobs_left, self._pages_left = names_in(row.blobs), names_in(row.pages)
        self._blobs: dict[bytes, bytes] = {}
        self.content = GraphContent(fingerprint)

    def __repr__(self) -> str:
        return f"<GraphReading {self.name} {self.fingerprint} pages_left={len(self._pages_left)}>"

    @property
    def is_done(self) -> bool:
        """Whether all of it was read."""
        return not self._blobs_left and not self._pages_left

    def step(self, store: Store) -> None:
        """Read some more of it, blobs first.

        Raises:
            UnknownGraphError: it was deleted meanwhile.
            JournalCorruptError: a piece of it is missing, or is not what it was.
        """
        graph_row(store, self.name, self.fingerprint)
        if self._blobs_left:
            now, self._blobs_left = _cut(self._blobs_left)
            self._blobs.update({name: stored_piece(store, name) for name in now})
            return
        now, self._pages_left = _cut(self._pages_left)
        for name in now:
            read = partial(parts_of_page, stored_piece(store, name), self._blobs)
            self.content.add(graph_from(self.name, understood(piece_key(name), read)))


def _cut(names: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    return names[:_PIECES_A_STEP], names[_PIECES_A_STEP:]
