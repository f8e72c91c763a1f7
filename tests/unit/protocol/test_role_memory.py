"""What a role remembers of the keys it has judged is bounded, whatever it is asked about."""

from __future__ import annotations

import tracemalloc

import pytest

from ezgraph.protocol.roles import owner_of

MEGABYTE = 1 << 20


@pytest.mark.parametrize("length", [10_000, MEGABYTE])
def test_keys_that_are_refused_for_their_length_are_not_kept(length: int) -> None:
    role = owner_of("RIG_A")
    tracemalloc.start()
    try:
        for number in range(30 * MEGABYTE // length):
            assert not role.may("connect", ("edge", "x" * length, f"RIG_B/{number}"))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert kept < MEGABYTE


def test_a_key_is_judged_alike_whether_it_is_long_or_short_new_or_known() -> None:
    role = owner_of("RIG_A")

    for length in (1, 200, 300, 5_000):
        for _ in range(2):
            assert role.may("connect", ("edge", "x" * length, "RIG_A/Y"))
            assert not role.may("connect", ("edge", "x" * length, "RIG_B/Y"))
