"""The fingerprint of many parts: in whatever order, of what is there now and nothing else."""

from __future__ import annotations

import hashlib
import random

from ezgraph.protocol.fingerprint_tree import FingerprintTree
from ezgraph.protocol.fingerprints import canonical

PARTS = {("settings", f"U{n}"): n.to_bytes(16, "big") for n in range(1_000)}


def digest(domain: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16, person=domain).digest()


def by_definition(parts: dict[tuple[str, str], bytes]) -> str:
    """The tree as its module describes it, built the plain way."""
    named = sorted((digest(b"ezgraph.slot", canonical(slot)), parts[slot]) for slot in parts)
    buckets = []
    for first in range(256):
        inside = b"".join(name + content for name, content in named if name[0] == first)
        buckets.append(digest(b"ezgraph.bucket", inside) if inside else bytes(16))
    return digest(b"test", b"".join(buckets)).hex()


def test_the_tree_is_as_it_is_described_whatever_order_its_parts_came_in() -> None:
    wanted = by_definition(PARTS)
    for seed in range(3):
        slots = list(PARTS)
        random.Random(seed).shuffle(slots)
        tree = FingerprintTree("test")
        for slot in slots:
            tree.put(slot, PARTS[slot])
        assert str(tree.fingerprint()) == wanted
        assert len(tree) == 1_000
        assert repr(tree) == "<FingerprintTree test parts=1000 changed=0>"


def test_what_was_replaced_and_removed_is_not_in_it() -> None:
    tree = FingerprintTree("test")
    for slot, content in PARTS.items():
        tree.put(slot, bytes(16))
        tree.fingerprint()
        tree.put(slot, content)
    tree.remove(("settings", "U7"))
    tree.remove(("settings", "nobody"))

    left = {slot: content for slot, content in PARTS.items() if slot != ("settings", "U7")}
    assert str(tree.fingerprint()) == by_definition(left)


def test_an_empty_tree_has_a_fingerprint_of_its_domain() -> None:
    assert str(FingerprintTree("test").fingerprint()) == by_definition({})
    assert FingerprintTree("test").fingerprint() != FingerprintTree("other").fingerprint()
