"""Where time and identities come from, and the stand-ins of the test kit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from ezgraph.clock import SystemClock
from ezgraph.ids import RandomIds
from ezgraph.testing import ManualClock, SequentialIds

if TYPE_CHECKING:
    from ezgraph.clock import Clock
    from ezgraph.ids import IdSource


def test_the_system_clock_reads_both_clocks_of_the_machine() -> None:
    clock = SystemClock()

    assert abs(clock.monotonic() - time.monotonic()) < 1.0
    assert clock.monotonic() <= clock.monotonic()
    assert clock.wall() > 1.7e9


def test_a_manual_clock_moves_when_it_is_told_to() -> None:
    clock: Clock = ManualClock()
    before = clock.monotonic(), clock.wall()

    assert (clock.monotonic(), clock.wall()) == before
    assert isinstance(clock, ManualClock)
    clock.advance(1.5)
    assert (clock.monotonic(), clock.wall()) == (before[0] + 1.5, before[1] + 1.5)
    clock.step_wall(-60.0)
    assert (clock.monotonic(), clock.wall()) == (before[0] + 1.5, before[1] - 58.5)
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1.0)


@pytest.mark.parametrize("ids", [RandomIds(), SequentialIds()], ids=["random", "sequential"])
def test_nobody_has_an_id_twice(ids: IdSource) -> None:
    assert len({ids.session_id() for _ in range(1_000)}) == 1_000
    assert len({ids.process_id() for _ in range(1_000)}) == 1_000


def test_a_session_id_is_16_hexadecimal_digits() -> None:
    assert len(bytes.fromhex(RandomIds().session_id())) == 8
