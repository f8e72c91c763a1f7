"""Section r: entries of the configuration, few and many: what a scan of some and a put of one cost.

The entries stand in groups of 100, ``(group, name)``. A scan asks for one group, a put changes an
entry of a group, all in turn, from a blocking context with one call in flight. The *bare* figure is
that of the same broker program with few entries, measured in the same rounds.
"""

from __future__ import annotations

import gc
import itertools
import time
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING

from ezgraph import sync
from ezgraph.bench.rows import MS, US, Row, alone, at_most, at_most_of_bare, compared
from ezgraph.bench.workbench import Progress, broker
from ezgraph.errors import EzGraphError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ezgraph.bench.scale import Scale

_TYPE = "bench"
_GROUP = 100
_WARM_UP = 20
_FLAT = 1.25
_numbers = itertools.count()


def read_and_put(scale: Scale, progress: Progress) -> Iterator[Row]:
    """Measure section r."""
    few, many = scale.config_entries
    with ExitStack() as stack:
        contexts = {}
        for count in (few, many):
            progress(f"r: putting {count:,} entries")
            address = stack.enter_context(broker()).address
            contexts[count] = stack.enter_context(sync.GraphContext(address))
            _fill(contexts[count], count)
        steps = {
            "scan": {count: _scan(ctx, count) for count, ctx in contexts.items()},
            "put": {count: _put(ctx, count) for count, ctx in contexts.items()},
            "new": {count: _put_new(ctx, count) for count, ctx in contexts.items()},
        }
        times: dict[tuple[str, int], list[float]] = {}
        for _, (what, by_count) in itertools.product(range(scale.rounds), steps.items()):
            for count, step in by_count.items():
                progress(f"r: {what}, {count:,} entries")
                times.setdefault((what, count), []).append(_median_s(step, scale.seconds))
    ms = {key: [each * MS for each in found] for key, found in times.items()}
    us = {key: [each * US for each in found] for key, found in times.items()}
    scan = f"scan of a prefix with {_GROUP} entries"
    yield alone("r", f"{scan}, of {many:,}", "ms", ms["scan", many], goal=at_most(5, "ms"))
    flat = at_most_of_bare(_FLAT)
    yield compared(
        "r", f"{scan}, of {many:,} against {few:,}", "ms", ms["scan", many], ms["scan", few],
        goal=flat,
    )
    for what, name in (("put", "put of another value"), ("new", "put of a new entry")):
        yield compared(
            "r", f"{name}, of {many:,} against {few:,}", "µs", us[what, many], us[what, few],
            goal=flat,
        )


def _key(number: int) -> tuple[str, str]:
    return (f"group-{number // _GROUP:05}", f"entry-{number % _GROUP:02}")


def _fill(ctx: sync.GraphContext, count: int) -> None:
    for first in range(0, count, 1_000):
        with ctx.config.txn() as txn:
            for number in range(first, min(first + 1_000, count)):
                txn.put(_TYPE, _key(number), {"cutoff_hz": 300.0, "number": number})


def _scan(ctx: sync.GraphContext, count: int) -> Callable[[], None]:
    groups = itertools.cycle(range(0, count, _GROUP))

    def step() -> None:
        prefix = _key(next(groups))[:1]
        if (found := len(list(ctx.config.scan(_TYPE, prefix)))) != _GROUP:
            raise EzGraphError(f"a scan of {prefix} gave {found} entries, not {_GROUP}")

    return step


def _put(ctx: sync.GraphContext, count: int) -> Callable[[], None]:
    keys = itertools.cycle(range(0, count, 7))

    def step() -> None:
        value = {"cutoff_hz": 300.0, "number": next(_numbers)}
        ctx.config.put(_TYPE, _key(next(keys)), value)

    return step


def _put_new(ctx: sync.GraphContext, count: int) -> Callable[[], None]:
    groups = itertools.cycle(range(0, count, 7 * _GROUP))

    def step() -> None:
        key = (_key(next(groups))[0], f"new-{next(_numbers)}")
        ctx.config.put(_TYPE, key, {"cutoff_hz": 300.0})
        ctx.config.delete(_TYPE, key)

    return step


def _median_s(step: Callable[[], None], seconds: float) -> float:
    """Return the median of what a step takes, over so many seconds."""
    for _ in range(_WARM_UP):
        step()
    gc.collect()
    took: list[float] = []
    end = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end or not took:
        step()
        took.append(time.perf_counter() - begin)
    return median(took)
