"""The verdict: errors in the logs count, and the last line has the numbers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ezgraph.chaos.schedule import Kind
from ezgraph.chaos.verdict import Verdict, unexpected_errors
from ezgraph.verify import Report

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = """Traceback (most recent call last):
  File "x.py", line 1, in <module>
zmq.error.ZMQError: Socket operation on non-socket
"""
GROUP = """  + Exception Group Traceback (most recent call last):
  |   File "x.py", line 1, in <module>
  | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)
  +-+---------------- 1 ----------------
    | KeyError: 'x'
    +------------------------------------
"""


def verdict_of(*seen: str) -> Verdict:
    counts = Counter({"calls": 10, "acknowledged": 8})
    faults = Counter({Kind.CUT: 2, Kind.PULL: 1})
    return Verdict(seen, Report(), counts, faults, seed=7, elapsed_s=31.0)


def test_an_error_that_nobody_caught_is_named_with_the_log_it_stands_in(tmp_path: Path) -> None:
    (tmp_path / "wirer-0.log").write_text("2026-11-22 WARNING: all right\n" + PLAIN * 2)
    (tmp_path / "watcher-6.log").write_text(GROUP)
    (tmp_path / "guest-12.log").write_text("2026-11-22 ERROR journal failed\n")

    found = unexpected_errors(tmp_path)

    assert found == [
        "watcher-6 met 1 unexpected errors, such as KeyError: 'x'",
        "wirer-0 met 2 unexpected errors, such as zmq.error.ZMQError: Socket operation on "
        "non-socket",
    ]


def test_a_promise_seen_broken_makes_the_verdict_not_ok() -> None:
    assert verdict_of().ok
    assert not verdict_of("G2: seq 7 is missing").ok
    assert verdict_of("G2: seq 7 is missing").as_dict()["broken"] == ["G2: seq 7 is missing"]


def test_the_last_line_has_the_numbers() -> None:
    assert verdict_of().last_line() == (
        "verdict: OK, every promise was kept: 3 faults of 2 kinds, 8 of 10 calls acknowledged, "
        "0 events in the journal, 0 delivered; seed 7, 31.0 s"
    )
    assert verdict_of("x").last_line().startswith("verdict: NOT OK, 1 broken promises: ")
