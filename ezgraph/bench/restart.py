"""Section j: how soon a broker serves again on a long journal.

The journal is written by itself (`history`), with a checkpoint that lies as far back as one may,
so that the longest tail is folded too. The clock runs from the start of the process until a
client has its first reply.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ezgraph import sync
from ezgraph.bench.history import write_history
from ezgraph.bench.rows import Row, alone, at_most
from ezgraph.bench.workbench import Progress, backend_url, broker, folder
from ezgraph.config import BrokerConfig
from ezgraph.errors import EzGraphError

if TYPE_CHECKING:
    from ezgraph.bench.scale import Scale


def restart(scale: Scale, progress: Progress) -> list[Row]:
    """Measure section j."""
    count = scale.journal_events
    tail = min(BrokerConfig().checkpoint_events, count // 10)
    times = []
    with folder() as where:
        url = backend_url("SQLite FULL", where)
        progress(f"j: writing a journal of {count:,} events")
        write_history(url, count, tail=tail)
        for _ in range(scale.rounds):
            progress(f"j: start on {count:,} events")
            times.append(_start_time(url, count))
    return [
        alone(
            "j",
            f"serving again on {count:,} events",
            "s",
            times,
            goal=at_most(2.0, "s"),
            note=f"with a checkpoint and a tail of {tail:,} events",
        )
    ]


def _start_time(url: str, count: int) -> float:
    begin = time.perf_counter()
    with broker(url) as server, sync.GraphContext(server.address) as context:
        took = time.perf_counter() - begin
        head = context.sync()
        server.kill()  # so that it writes no checkpoint: the next round finds the same tail
    if head <= count:
        raise EzGraphError(f"the broker serves seq {head} of a journal of {count} events")
    return took
