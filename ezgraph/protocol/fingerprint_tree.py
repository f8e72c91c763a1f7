"""The fingerprint of many parts, kept as they change.

A part is a *slot* (a tuple of texts) and its content. The fingerprint is that of a tree of three
levels, in whatever order the parts came::

    part     D = digest of [slot] in domain "ezgraph.slot" (16 bytes), then that of its content
    bucket   digest in domain "ezgraph.bucket" of the parts whose D begins with one byte, in byte
             order, one after the other; 16 zero bytes where there are none
    root     digest in the tree's own domain of all 256 buckets, in order of that byte

where digests are as in `ezgraph.protocol.fingerprints`. So a change costs its bucket and the root:
of 10,000 parts some 40, and 4 KiB. A sum of the parts would cost less, but whoever may choose many
parts can find two sets of them with one sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezgraph.protocol.fingerprints import FINGERPRINT_BYTES, Fingerprint, canonical_texts, digest

if TYPE_CHECKING:
    from collections.abc import Iterable

Slot = tuple[str, ...]
_NONE = bytes(FINGERPRINT_BYTES)


class FingerprintTree:
    """Parts by slot, and the fingerprint of all of them."""

    def __init__(self, domain: str) -> None:
        self._domain = domain
        self._buckets: list[dict[bytes, bytes]] = [{} for _ in range(256)]
        self._digests = [_NONE] * 256
        self._changed: set[int] = set()

    def __len__(self) -> int:
        return sum(map(len, self._buckets))

    def __repr__(self) -> str:
        return f"<FingerprintTree {self._domain} parts={len(self)} changed={len(self._changed)}>"

    def put(self, slot: Slot, content: bytes) -> bytes:
        """Have ``content`` (the 16 bytes of its digest) in ``slot``; return the slot's digest."""
        name = digest("ezgraph.slot", canonical_texts(slot))
        self._buckets[name[0]][name] = content
        self._changed.add(name[0])
        return name

    def differing(self, other: FingerprintTree) -> set[bytes]:
        """Return the digests of the slots in which two trees have not the same."""
        pairs = zip(self._buckets, other._buckets, strict=True)
        return {name for mine, its in pairs for name, _ in mine.items() ^ its.items()}

    def remove(self, slot: Slot) -> None:
        """Have nothing in ``slot``."""
        name = digest("ezgraph.slot", canonical_texts(slot))
        self._buckets[name[0]].pop(name, None)
        self._changed.add(name[0])

    def fingerprint(self) -> Fingerprint:
        """Return the fingerprint of all parts there are."""
        for number in self._changed:
            self._digests[number] = _of_bucket(self._buckets[number].items())
        self._changed.clear()
        return Fingerprint(digest(self._domain, b"".join(self._digests)))


def _of_bucket(parts: Iterable[tuple[bytes, bytes]]) -> bytes:
    joined = b"".join(sorted(name + content for name, content in parts))
    return digest("ezgraph.bucket", joined) if joined else _NONE
