"""Section k: what keys cost. The same commands with CURVE on every connection, and without.

Both brokers run at a time, on the same kind of journal, and are asked by turns; in this section the
*bare* figure is the one without keys.
"""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from ezgraph.bench.commands import SHELLS, asyncio_rate
from ezgraph.bench.rows import Goal, Row, compared
from ezgraph.bench.workbench import Durability, Progress, backend_url, broker, folder
from ezgraph.keys.keyring import Keyring

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ezgraph.bench.scale import Scale
    from ezgraph.config import Address, ClientKeys

_DURABILITIES: tuple[Durability, ...] = ("memory", "SQLite FULL")
_GOAL = Goal("≥ 0.75 x without", "ratio", least=0.75)
_NAME = "bench"


def keep_pace(scale: Scale, progress: Progress) -> list[Row]:
    """Measure section k."""
    rates = _rates(scale.in_flight)
    kinds = list(itertools.product(rates, _DURABILITIES))
    secured: dict[tuple[str, Durability], list[float]] = {each: [] for each in kinds}
    plain: dict[tuple[str, Durability], list[float]] = {each: [] for each in kinds}
    with ExitStack() as stack:
        where = stack.enter_context(folder())
        brokers = {each: _start(stack, where, each) for each in _DURABILITIES}
        for number, (how, durability) in itertools.product(range(scale.rounds), kinds):
            progress(f"k: {how}, {durability}, with keys and without")
            without, within, keys = brokers[durability]
            sides = [(plain, without, None), (secured, within, keys)]
            for found, address, shown in sides[:: 1 if number % 2 else -1]:
                found[how, durability].append(rates[how](address, scale.seconds, shown))
    return [
        compared(
            "k", f"{how}, {each}, CURVE", "/s", secured[how, each], plain[how, each], goal=_GOAL
        )
        for how, each in kinds
    ]


def _rates(in_flight: int) -> dict[str, Callable[[Address, float, ClientKeys | None], float]]:
    one = {f"one in flight, {shell}": measure for shell, measure in SHELLS.items()}
    return {**one, f"{in_flight} in flight, asyncio": partial(asyncio_rate, in_flight=in_flight)}


def _start(
    stack: ExitStack, where: Path, durability: Durability
) -> tuple[Address, Address, ClientKeys]:
    """Start a broker without keys and one with; return where they are, and the key to show."""
    plain = stack.enter_context(broker(backend_url(durability, where)))
    ring = Keyring(where / durability.replace(" ", "-"))
    ring.admit(_NAME)
    secured = stack.enter_context(broker(backend_url(durability, where), ring.config()))
    return plain.address, secured.address, ring.keys(_NAME, secured.address)
