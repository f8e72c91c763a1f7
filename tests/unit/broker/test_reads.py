"""Reads wait in lines, one for each client, and are served by turns."""

from __future__ import annotations

import pytest

from ezgraph.broker.reads import Reading, Reads
from ezgraph.config import Limits
from ezgraph.errors import LimitError
from ezgraph.protocol.commands import GetStatus


def reading(client: str, request_id: int) -> Reading:
    return Reading(client.encode(), request_id, GetStatus(), client, None)


def test_who_asks_for_much_waits_behind_who_asks_for_little() -> None:
    reads = Reads(Limits())
    for number in range(5):
        reads.put(reading("much", number))
    reads.put(reading("little", 0))

    order = [reads.take().client for _ in range(len(reads))]

    assert order == ["much", "little", "much", "much", "much", "much"]
    assert not reads


def test_a_repetition_waits_once_until_it_is_answered() -> None:
    reads = Reads(Limits())
    for _ in range(3):
        reads.put(reading("a", 7))

    assert len(reads) == 1
    reads.take()
    reads.put(reading("a", 7))
    assert len(reads) == 1


@pytest.mark.parametrize(
    ("limits", "bound"),
    [
        (Limits(max_waiting_reads_per_client=2), "max_waiting_reads_per_client"),
        (Limits(max_waiting_reads=2), "max_waiting_reads"),
    ],
)
def test_more_than_may_wait_are_refused_by_name(limits: Limits, bound: str) -> None:
    reads = Reads(limits)
    for number in range(2):
        reads.put(reading("a", number))

    with pytest.raises(LimitError, match=rf"2 reads .*\({bound}\)"):
        reads.put(reading("a", 2))

    assert len(reads) == 2


def test_one_client_that_fills_its_line_leaves_room_for_others() -> None:
    reads = Reads(Limits(max_waiting_reads_per_client=1))
    reads.put(reading("a", 0))

    reads.put(reading("b", 0))

    assert len(reads) == 2
