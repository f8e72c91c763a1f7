"""What a check comes to: findings, and a report of them. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

GUARANTEES = {
    "G1": "Ordered",
    "G2": "Complete or told",
    "G3": "Atomic",
    "G4": "Durable",
    "G5": "Once",
    "G6": "Read your writes",
    "G7": "Ownership",
    "G8": "A refusal changes nothing",
    "G9": "Nothing hangs",
    "G10": "Replica equals broker",
}
TRACE, JOURNAL = "trace", "journal"
"""What a finding is about that shows damage to the evidence rather than a broken guarantee."""

KEPT_OF_EACH = 1_000
_SEQS_SHOWN = 8


class BrokenPromiseError(AssertionError):
    """A guarantee was not kept; the message begins with its name."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was seen: the trace, the number of its record, the wall time there."""

    trace: str
    record: int | None = None
    wall: float | None = None

    def __str__(self) -> str:
        return self.trace if self.record is None else f"{self.trace}, record {self.record}"


IN_JOURNAL = Place("journal")


@dataclass(frozen=True, slots=True)
class Finding:
    """A guarantee that was not kept, or damage: ``what`` happened, ``expected`` and ``found``."""

    guarantee: str
    place: Place
    what: str
    expected: str = ""
    found: str = ""
    seqs: tuple[int, ...] = ()

    def __str__(self) -> str:
        parts = [f"{self.guarantee}: {self.what}"]
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.found:
            parts.append(f"found {self.found}")
        if self.seqs:
            parts.append(f"seq {shown_seqs(self.seqs)}")
        return "; ".join(parts) + f" [{self.place}]"


def shown_seqs(seqs: Iterable[int]) -> str:
    """Return some numbers for people: not more than fit into a line."""
    listed = list(seqs)
    more = len(listed) - _SEQS_SHOWN
    return ", ".join(map(str, listed[:_SEQS_SHOWN])) + (f" and {more} more" if more > 0 else "")


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """What one trace was: ``ending`` says how it ends."""

    name: str
    program: str
    records: int
    calls: int
    items: int
    ending: str


@dataclass(slots=True)
class Report:
    """What was checked how often, what was found, and what could not be checked.

    At most 1,000 findings of each guarantee are kept in ``findings``; ``violations`` counts all.
    """

    findings: list[Finding] = field(default_factory=list)
    violations: Counter[str] = field(default_factory=Counter)
    checked: Counter[str] = field(default_factory=Counter)
    unchecked: Counter[str] = field(default_factory=Counter)
    traces: list[TraceSummary] = field(default_factory=list)
    events: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.violations

    def add(self, finding: Finding) -> None:
        """Take a finding."""
        self.violations[finding.guarantee] += 1
        if self.violations[finding.guarantee] <= KEPT_OF_EACH:
            self.findings.append(finding)

    def extend(self, findings: Iterable[Finding]) -> None:
        """Take findings."""
        for each in findings:
            self.add(each)

    def rows(self) -> list[tuple[str, str, int, int]]:
        """Return guarantee, its name, how often it was checked, and its violations."""
        rows = [
            (each, name, self.checked[each], self.violations[each])
            for each, name in GUARANTEES.items()
        ]
        damage = [(TRACE, "The traces are whole"), (JOURNAL, "The journal is whole")]
        return rows + [(each, name, self.checked[each], self.violations[each])
                       for each, name in damage]

    def __str__(self) -> str:
        lines = [f"{'':8}{'':28}{'checked':>10}{'violations':>12}"]
        lines += [f"{g:8}{name:28}{times:>10}{bad:>12}" for g, name, times, bad in self.rows()]
        lines += [f"not checked: {what} ({times} times)" for what, times in self.unchecked.items()]
        lines += [str(each) for each in self.findings]
        return "\n".join(lines)

    def __repr__(self) -> str:
        total = self.violations.total()
        return f"<Report of {len(self.traces)} traces, {self.events} events, {total} violations>"


def demand_none(findings: Iterable[Finding]) -> None:
    """Raise `BrokenPromiseError` for the first finding, if there is one."""
    for each in findings:
        raise BrokenPromiseError(str(each))
