"""The checker: traces against a history, every guarantee, every violation. Pure.

Records are taken trace by trace, in order (`one_trace`); what needs the state at some seq is
asked on one way through the history at the end (`states`), and what depends on other traces'
notes is decided then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezgraph.verify.endings import (
    EndingCheck,
    Faults,
    LeaseSeen,
)
from ezgraph.verify.findings import JOURNAL, Report
from ezgraph.verify.one_trace import Evidence, Tolerances, TraceCheck
from ezgraph.verify.ownership import OwnershipCheck
from ezgraph.verify.states import StateQuestions, walk
from ezgraph.verify.structure import check_numbers, check_transactions

if TYPE_CHECKING:
    from collections.abc import Callable

    from ezgraph.verify.history import History

class Checker:
    """Several traces and one history; ``report`` is what comes of it."""

    def __init__(self, history: History, tolerances: Tolerances | None = None) -> None:
        self.history = history
        self.tolerances = tolerances or Tolerances()
        self.report = Report(events=len(history.events))
        self._questions = StateQuestions(history, self.report.unchecked)
        self._evidence = Evidence(history, self.tolerances, self.report, self._questions)
        walls = (event.wall_time for event in history.events)
        self._evidence.horizon = max(walls, default=0.0)
        self._traces: list[TraceCheck] = []

    def __repr__(self) -> str:
        return f"<Checker {len(self._traces)} traces, {self.history!r}>"

    def begin(self, name: str) -> TraceCheck:
        """Return what takes the records of the next trace."""
        trace = TraceCheck(self._evidence, name)
        self._traces.append(trace)
        return trace

    def finish(self, on_progress: Callable[[int], None] = lambda _: None) -> Report:
        """Check what needs all of it, and return the report."""
        report, history = self.report, self.history
        if history.is_absent:
            self._without_journal()
            return report
        report.checked["G1"] += len(history.events)
        report.checked[JOURNAL] += 1
        report.extend(check_numbers(history))
        report.extend(check_transactions(history))
        report.checked["G3"] += sum(e.seq == e.txn_last for e in history.events)
        ownership = OwnershipCheck()
        report.extend(walk(history, self._questions, ownership, on_progress))
        report.checked["G7"] += ownership.endings
        faults = Faults(self._evidence.faults)
        self._check_late(faults)
        self._check_endings(faults)
        return report

    def _without_journal(self) -> None:
        """Traces alone show their own order, and how calls ended."""
        for guarantee in ("G2", "G3", "G4", "G5", "G7", "G10"):
            self.report.checked.pop(guarantee, None)
        self.report.unchecked["G2, G3, G4, G5, G7, G10: no journal was given"] += 1
        self._check_late(Faults(self._evidence.faults))

    def _check_late(self, faults: Faults) -> None:
        stall_s = self.tolerances.stall_s
        for trace in self._traces:
            pid = trace.header.pid if trace.header else None
            for late in trace.late:
                since = late.asked_wall
                stopped_s = faults.stopped_s(pid, since, since + late.until - late.asked)
                if late.until > late.deadline + stall_s + stopped_s:
                    self.report.add(late.finding)

    def _check_endings(self, faults: Faults) -> None:
        report = self.report
        check = EndingCheck(
            self.history,
            faults,
            self._evidence.horizon,
            self.tolerances.stall_s,
            report.checked,
            report.unchecked,
        )
        last: dict[str, LeaseSeen] = {}
        for trace in self._traces:
            for lease in trace.leases:
                last[lease.client] = lease  # who took it over last answers for it
        for lease in last.values():
            report.extend(check.check(lease))
