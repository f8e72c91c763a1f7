"""The verdict on a chaos run: what was done, and which promises were broken."""

from __future__ import annotations

import json
import re
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ezgraph.backends import Backend
from ezgraph.backends.sqlite import SQLiteBackend
from ezgraph.chaos.archive import differences
from ezgraph.chaos.schedule import Kind
from ezgraph.chaos.view import COUNTED
from ezgraph.errors import JournalError
from ezgraph.verify import Report, Tolerances, read_history, verify

if TYPE_CHECKING:
    from collections import Counter
    from pathlib import Path

    from ezgraph.chaos.view import View

_STALL_S = 1.5
"""How much later than promised something may come on a host that 20 clients keep busy."""

_SHOWN = 50
_ERROR = re.compile(r"^[ |+-]*([\w.]*(?:Error|Exception)\b(?! Group).*)$", re.MULTILINE)


@dataclass(frozen=True)
class Verdict:
    """What a run has shown: promises seen broken while it ran, and what the checker found."""

    seen: tuple[str, ...]
    report: Report
    counts: Counter[str]
    faults: Counter[Kind]
    seed: int
    elapsed_s: float

    @property
    def broken(self) -> list[str]:
        """Every broken promise, in words."""
        return [*self.seen, *map(str, self.report.findings)]

    @property
    def ok(self) -> bool:
        """Whether every promise was kept."""
        return not self.seen and self.report.ok

    def show(self, view: View) -> None:
        """Print what was done, what was checked, what was found; numbers in the last line."""
        done = [f"{kind.value} {self.faults[kind]}" for kind in Kind if self.faults[kind]]
        did = [f"{name} {self.counts[name]:,}" for name in COUNTED]
        for head, parts in (("done to them", done), ("done by them", did)):
            view.say("")
            view.say(f"{head}: {', '.join(parts)}")
        view.say("")
        for guarantee, name, checked, violations in self.report.rows():
            style = "red" if violations else "green" if checked else "dim"
            numbers = f"{checked:>10,} checked{violations:>8,} broken"
            view.say(f"{guarantee:<8}{name:<28}{numbers}", style)
        for what, times in self.report.unchecked.items():
            view.say(f"not checked: {what} ({times} times)", "dim")
        for each in self.broken[:_SHOWN]:
            view.say(f"  broken: {each}", "red")
        if len(self.broken) > _SHOWN:
            view.say(f"  … and {len(self.broken) - _SHOWN} more", "red")
        view.say(self.last_line(), "bold green" if self.ok else "bold red")

    def last_line(self) -> str:
        """Return the verdict in one line, with its numbers."""
        found = sum(self.report.violations.values()) + len(self.seen)
        head = "OK, every promise was kept" if self.ok else f"NOT OK, {found} broken promises"
        return (
            f"verdict: {head}: {self.faults.total()} faults of {len(self.faults)} kinds, "
            f"{self.counts['acknowledged']:,} of {self.counts['calls']:,} calls acknowledged, "
            f"{self.report.events:,} events in the journal, {self.counts['events']:,} delivered; "
            f"seed {self.seed}, {self.elapsed_s:.1f} s"
        )

    def write_json(self, *, kept: Path | None) -> None:
        """Print it as one JSON object, with the folder where the evidence is kept."""
        said = {**self.as_dict(), "kept": None if kept is None else str(kept)}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "ok": self.ok,
            "seed": self.seed,
            "elapsed_s": round(self.elapsed_s, 3),
            "broken": self.broken,
            "faults": {kind.value: self.faults[kind] for kind in Kind},
            "counts": dict(self.counts),
            "events": self.report.events,
            "checked": dict(self.report.checked),
            "violations": dict(self.report.violations),
            "unchecked": dict(self.report.unchecked),
        }


def judge(
    folder: Path,
    *,
    seen: list[str],
    counts: Counter[str],
    faults: Counter[Kind],
    seed: int,
    elapsed_s: float,
) -> Verdict:
    """Check the traces in ``folder`` against its journal, look through the logs; return it all."""
    traces = sorted((folder / "traces").iterdir())
    errors = [*_compare_journals(folder), *unexpected_errors(folder / "logs")]
    try:
        history = read_history(_url(folder / "archive.db"))
    except JournalError as error:
        errors.append(f"G4: {error}")
        report = Report()
    else:
        report = verify(traces, history, tolerances=Tolerances(stall_s=_STALL_S))
    return Verdict((*seen, *errors), report, counts, faults, seed, elapsed_s)


def _compare_journals(folder: Path) -> list[str]:
    """See whether the broker's journal, which it has compacted, is the end of the copy."""
    try:
        with ExitStack() as stack:
            readers = []
            for name in ("journal.db", "archive.db"):
                connection = stack.enter_context(Backend.from_url(_url(folder / name)).connect())
                readers.append(stack.enter_context(connection.open_reader()))
            return differences(*readers)
    except JournalError as error:
        return [f"G4: {error}"]


def _url(path: Path) -> str:
    return SQLiteBackend(path.absolute()).url


def unexpected_errors(logs: Path) -> list[str]:
    """Return a line for each log in which an error stands that nobody caught."""
    found = []
    for log in sorted(logs.glob("*.log")):
        text = log.read_text(errors="replace")
        times = text.count("Traceback (most recent call last)")
        if times:
            error = _ERROR.search(text)
            such = error[1] if error else "?"
            found.append(f"{log.stem} met {times} unexpected errors, such as {such}")
    return found
