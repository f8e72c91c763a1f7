"""What ``settings history`` shows: the changes of one component, and numbers over time."""

from __future__ import annotations

import datetime as dt
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ezgraph.cli import as_json
from ezgraph.cli.component import (
    ABSENT,
    Step,
    dotted,
    entry_at,
    fetch,
    history,
    is_in,
    unknown_field,
)
from ezgraph.cli.guest import guest
from ezgraph.cli.paper import is_terminal, tell
from ezgraph.cli.plot import Points, is_moving, plot
from ezgraph.cli.words import inner, moment, who
from ezgraph.protocol.wiring import visible

if TYPE_CHECKING:
    from ezgraph.cli.options import Target
    from ezgraph.cli.paper import Paper
    from ezgraph.settings.columns import Path

_DRAWN_FIELDS = 4
_WIDEST = 100
_LARGEST = 2**63
_SHOWN_CHANGES = 10


@dataclass(frozen=True, slots=True)
class Past:
    """The changes of the settings at an address, or of one field."""

    address: str
    field: str | None
    steps: list[Step]

    def records(self) -> list[dict[str, Any]]:
        """Return everything known about each change."""
        return [
            {
                "seq": step.event.seq,
                "time": as_json.iso(step.event.wall_time),
                "event_type": step.body.event_type,
                "changed": {
                    dotted(path): {
                        name: value
                        for name, value in zip(("old", "new"), values, strict=True)
                        if value is not ABSENT
                    }
                    for path, values in step.changed(self.field).items()
                },
                "asked_by": step.body.asked_by,
                "source": step.event.source,
                "reason": step.reason,
            }
            for step in self._told()
        ]

    def _told(self) -> list[Step]:
        return [each for each in self.steps if self.field is None or each.changed(self.field)]

    def write(self, paper: Paper) -> None:
        """Write it for people; on a terminal with the numbers drawn above."""
        told = self._told()
        if is_terminal() and "utf" in (sys.stdout.encoding or "").lower():
            self._draw(paper)
        if not told:
            paper.line(("no changes", "dim"))
            return
        today = dt.datetime.now(dt.UTC).astimezone().date() if is_terminal() else None
        rows = [
            [
                str(step.event.seq),
                moment(step.event.wall_time, today=today),
                self._what(step),
                who(step.asker),
                visible(step.reason or ""),
            ]
            for step in told
        ]
        paper.table(["seq", "time", "change", "by", "because"], rows)

    def _what(self, step: Step) -> str:
        changed = step.changed(self.field)
        if step.is_removal:
            return "removed"
        if step.before is None:
            shown = [f"{_name(path)}{inner(new)}" for path, (_, new) in changed.items()]
        else:
            shown = [
                f"{_name(path)}{_text(old)} -> {_text(new)}" for path, (old, new) in changed.items()
            ]
        more = len(shown) - _SHOWN_CHANGES
        told = shown[:_SHOWN_CHANGES] + ([f"and {more} more"] if more > 0 else [])
        return ", ".join(told) or "the same again"

    def _draw(self, paper: Paper) -> None:
        moving = {path: points for path, points in self._numbers().items() if is_moving(points)}
        height = 7 if len(moving) == 1 else 3
        width = min(shutil.get_terminal_size().columns, _WIDEST)
        for path, points in list(moving.items())[:_DRAWN_FIELDS]:
            paper.line((dotted(path) or visible(self.address), "bold"))
            for line in plot(points, width=width - 1, height=height):
                paper.line((line, "cyan"))
            ends = [moment(each) for each in (points[0][0], points[-1][0])]
            paper.line((f"{ends[0]}  to  {ends[1]}", "dim"))
            paper.line(("", ""))
        if (more := len(moving) - _DRAWN_FIELDS) > 0:
            paper.line((f"and {more} more fields with numbers; name one to see it", "dim"))

    def _numbers(self) -> dict[Path, Points]:
        paths = dict.fromkeys(path for step in self.steps for path in step.now)
        found: dict[Path, Points] = {}
        for path in paths:
            if self.field is not None and not is_in(path, self.field):
                continue
            values = [step.now.get(path) for step in self.steps]
            numbers = [_number(each) for each in values]
            if any(each is not None for each in numbers):
                moments = [step.event.wall_time for step in self.steps]
                found[path] = sorted(zip(moments, numbers, strict=True), key=lambda each: each[0])
        return found


def _number(value: object) -> float | None:
    if type(value) is float:
        return value
    return float(value) if type(value) is int and abs(value) < _LARGEST else None


def _name(path: Path) -> str:
    return f"{dotted(path)} " if path else ""


def _text(value: object) -> str:
    return "none" if value is ABSENT else inner(value)


def read_past(broker: Target, address: str, field: str | None) -> Past:
    """Return the stored changes of the settings at an address.

    Raises:
        UnknownComponentError: there were never any.
        UnknownFieldError: they never had such a field.
    """
    with guest(broker) as session:
        steps = history(
            session,
            address,
            timeout_s=broker.timeout_s,
            on_floor=lambda floor: tell(
                f"what was before seq {floor:,} was compacted; the history begins there"
            ),
        )
        if not steps:
            entry_at(fetch(session, timeout_s=broker.timeout_s), address)
    names = dict.fromkeys(path for step in steps for path in step.now)
    if field is not None and steps and not any(is_in(path, field) for path in names):
        raise unknown_field(field, dict.fromkeys(map(dotted, names)))
    return Past(address, field, steps)
