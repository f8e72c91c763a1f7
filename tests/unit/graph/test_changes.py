"""Changes of one address go one by one, and none is forgotten that waits."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from ezgraph.graph.changes import Changer, Changes
from ezgraph.protocol.routed import ProcessControlRequest, SettingsChangeRequest

if TYPE_CHECKING:
    from ezgraph.protocol.routed import Routed

UNIT = "SYS/A"


async def never_called(_: SettingsChangeRequest) -> object:
    raise AssertionError


def change(number: int, address: str = UNIT) -> SettingsChangeRequest:
    return SettingsChangeRequest(f"x::{number}", address, {"gain": number})


@pytest.mark.parametrize("ends", ["made", "not begun", "overdue"])
def test_what_waits_is_begun_when_the_one_before_is_over(ends: str) -> None:
    begun: list[Routed] = []
    changes, lock = Changes(begun.append), threading.Lock()
    changes.take(UNIT, Changer(never_called, 0.01, lock))
    first, second = change(1), change(2)
    if ends == "not begun":
        lock.acquire()

    with changes.turn(first) as busy:
        assert (busy is None) is (ends != "not begun")
        assert changes.must_wait(second)
        assert changes.must_wait(second)
        assert not changes.must_wait(change(3, "SYS/B"))
        assert not changes.must_wait(ProcessControlRequest("x::4", UNIT, "move"))
        assert begun == []
        if ends == "made":
            changes.made(first)
        elif ends == "overdue":
            assert changes.give_up(first) is not None
            assert not changes.must_wait(second)  # it is refused

    assert begun == [second]
    assert not changes.must_wait(second)
    assert repr(changes) == "<Changes of ['SYS/A'] making=0 overdue=0>"
    assert lock.locked() is (ends == "not begun")
