"""What is on its way to a peer is counted until it has left."""

from __future__ import annotations

from dataclasses import dataclass

from ezgraph.unsent import Unsent


@dataclass
class Buffer:
    done: bool = False


def test_what_has_left_is_counted_no_longer() -> None:
    unsent, first, second = Unsent(), Buffer(), Buffer()
    unsent.add(first, 10)
    unsent.add(second, 5)

    unsent.settle()
    assert (len(unsent), unsent.size_bytes) == (2, 15)
    first.done = True
    unsent.settle()
    assert (len(unsent), unsent.size_bytes) == (1, 5)
    second.done = True
    unsent.settle()
    assert (len(unsent), unsent.size_bytes) == (0, 0)


def test_buffers_of_a_connection_leave_in_order() -> None:
    unsent = Unsent()
    unsent.add(Buffer(), 10)
    unsent.add(Buffer(done=True), 5)

    unsent.settle()

    assert unsent.size_bytes == 15
