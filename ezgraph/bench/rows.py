"""A row of the table: what was measured, beside which bare figure, against which goal."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Unit = Literal["/s", "µs", "ms", "s", "MiB", "MiB/s", "%", ""]
"""What a figure is in; "" is a count."""
MS = 1e3
US = 1e6
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound, both ends allowed. ``of``: which of a row's two figures it binds."""

    text: str
    of: Literal["measured", "ratio"]
    least: float | None = None
    most: float | None = None

    def is_met(self, figure: float) -> bool:
        """Return whether ``figure`` keeps to the bound."""
        return (self.least is None or figure >= self.least) and (
            self.most is None or figure <= self.most
        )


def at_least_of_bare(share: float) -> Goal:
    """Return the goal of a rate: ``share`` of the bare rate."""
    return Goal(f"≥ {share:.2f} x bare", "ratio", least=share)


def at_most_of_bare(share: float) -> Goal:
    """Return the goal of a time: ``share`` times the bare time."""
    return Goal(f"≤ {share:.2f} x bare", "ratio", most=share)


def at_most(limit: float, unit: Unit, *, why: str = "") -> Goal:
    """Return the goal of a time or size; ``why`` says how the limit came about."""
    return Goal(f"≤ {shown(limit, unit)}{why}", "measured", most=limit)


def exactly(count: int) -> Goal:
    """Return the goal of a count."""
    return Goal(f"= {shown(count, '')}", "measured", least=count, most=count)


def at_least(limit: float, unit: Unit) -> Goal:
    """Return the goal of a rate."""
    return Goal(f"≥ {shown(limit, unit)}", "measured", least=limit)


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. ``samples`` has what each round gave; ``measured`` is None if it failed."""

    section: str
    name: str
    unit: Unit
    measured: float | None
    bare: float | None = None
    ratio: float | None = None
    goal: Goal | None = None
    note: str = ""
    samples: list[float] = field(default_factory=list)
    ezmsg: float | str | None = None

    @property
    def passed(self) -> bool | None:
        """Whether the goal was met; None where there is none."""
        if self.measured is None:
            return False
        if self.goal is None:
            return None
        figure = self.measured if self.goal.of == "measured" else self.ratio
        return figure is not None and self.goal.is_met(figure)


def compared(
    section: str,
    name: str,
    unit: Unit,
    ours: Sequence[float],
    bare: Sequence[float],
    *,
    goal: Goal | None = None,
    note: str = "",
) -> Row:
    """Return the row of figures taken by turns with bare ones.

    The ratio is the median of the rounds' ratios and not the ratio of the medians: the two figures
    of a round were taken within a second of each other, so that a machine which gets slower or
    quicker on the way (clock frequency, neighbours) moves both.
    """
    ratios = [each / its_bare for each, its_bare in zip(ours, bare, strict=True)]
    return Row(
        section, name, unit, median(ours), median(bare), median(ratios), goal, note, list(ours)
    )


def alone(
    section: str,
    name: str,
    unit: Unit,
    samples: Sequence[float],
    *,
    goal: Goal | None = None,
    note: str = "",
) -> Row:
    """Return the row of figures that have no bare counterpart."""
    return Row(section, name, unit, median(samples), goal=goal, note=note, samples=list(samples))


def percentile_99(samples: Sequence[float]) -> float:
    """Return the value that one sample in a hundred exceeds."""
    if len(samples) < 2:
        return max(samples, default=0.0)
    return quantiles(samples, n=100, method="inclusive")[98]


def shown(figure: float, unit: Unit) -> str:
    """Return a figure as the table spells it."""
    if unit in ("/s", ""):
        return f"{figure:,.0f}{unit}"
    digits = 0 if figure >= 1000 else 1 if figure >= 10 else 2 if figure >= 0.1 else 3
    return f"{figure:,.{digits}f} {unit}"
