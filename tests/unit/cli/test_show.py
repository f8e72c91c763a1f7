"""What ``ezgraph status`` says of who may command a broker."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ezgraph.cli.show import _admitted
from ezgraph.protocol.replies import StatusReport, without_numbers

REPORT = StatusReport(
    version="1",
    cluster_id="c",
    epoch=1,
    head=0,
    floor=1,
    sessions=0,
    processes=0,
    edges=0,
    components=0,
    watched_prefixes=0,
    paused=False,
    uptime_s=1.0,
    backend="memory://",
    journal_bytes=0,
)


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (REPORT, "none: every user of its host may command it"),
        (replace(REPORT, insecure=True), "none, insecure: anybody who reaches it may command it"),
        (replace(REPORT, keys=3), "3 admitted"),
        (replace(REPORT, keys=0), "0 admitted"),
        (without_numbers(replace(REPORT, keys=3)), "asked for"),
    ],
)
def test_status_says_who_may_command_the_broker(report: StatusReport, said: str) -> None:
    assert [text for text, _ in _admitted(report)] == [said]
