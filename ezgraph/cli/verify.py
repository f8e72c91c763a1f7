"""``ezgraph verify``: was every promise kept, as traces and the journal show it?"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from ezgraph.cli import codes
from ezgraph.cli.options import JsonOption
from ezgraph.cli.paper import is_terminal, paper, say, tell
from ezgraph.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ezgraph.cli.paper import Part
    from ezgraph.verify import Finding, History, Report

    OnProgress = Callable[[str, int, int], None]

_SHOWN = 20
_STALL_S = 0.5


def verify(
    traces: Annotated[
        list[Path],
        typer.Argument(
            metavar="TRACE...",
            help="Files that ezgraph.testing.Recorder wrote, one for each process.",
            show_default=False,
        ),
    ],
    journal: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|URL",
            help="The journal of the broker they talked to: rig.db, or sqlite:///rig.db. It may be "
            "in use; it is read as it is when this begins. Without it little can be checked.",
            show_default=False,
        ),
    ] = None,
    stall: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0.0,
            help="How long this machine may keep a program from running; it is allowed on top of "
            "each deadline and each time bound.",
        ),
    ] = _STALL_S,
    as_json: JsonOption = False,
) -> None:
    """Compare what programs saw with the journal: every violation of G1 to G10.

    Ends with 0 if there is none, 1 if there are some, 2 if a trace or the journal is unusable.
    """
    from ezgraph.verify import Tolerances
    from ezgraph.verify import verify as verify_traces

    with _progress() as on_progress:
        history = _read(journal, on_progress)
        tolerances = Tolerances(stall_s=stall)
        report = verify_traces(traces, history, tolerances=tolerances, on_progress=on_progress)
    if as_json:
        _write_json(report, history)
    else:
        _write(report, history)
    raise typer.Exit(codes.OK if report.ok else codes.REFUSED)


def _read(journal: str | None, on_progress: OnProgress) -> History:
    from ezgraph.verify import History, read_history

    if journal is None:
        return History.absent()
    if "://" not in journal:
        journal = f"sqlite:///{quote(os.path.expanduser(journal))}"
    try:
        return read_history(journal, on_progress=on_progress)
    except JournalError as error:
        tell(f"ezgraph: {error}")
        raise typer.Exit(codes.USAGE) from error


# --- the report ---


def _write(report: Report, history: History) -> None:
    out = paper()
    _write_traces(report)
    out.line()
    rows = [
        (guarantee, name, f"{times:,}", f"{bad:,}" if bad else "-")
        for guarantee, name, times, bad in report.rows()
    ]
    out.table(("guarantee", "", "checked", "violations"), rows, right=(2, 3))
    if report.unchecked:
        out.line()
        out.line(("Not checked", "bold"))
        for what, times in report.unchecked.items():
            _write_whole(f"{times:>8,}  {what}", style="dim", indent=10)
    for guarantee in dict.fromkeys(each.guarantee for each in report.findings):
        out.line()
        _write_findings(report, guarantee)
    out.line()
    out.line(*_verdict(report, history))


def _write_traces(report: Report) -> None:
    rows = [
        (each.name, each.program, f"{each.records:,}", f"{each.calls:,}", f"{each.items:,}",
         each.ending)
        for each in report.traces
    ]
    heads = ("trace", "program", "records", "calls", "items", "")
    paper().table(heads, rows, right=(2, 3, 4))


def _write_findings(report: Report, guarantee: str) -> None:
    out, total = paper(), report.violations[guarantee]
    found = [each for each in report.findings if each.guarantee == guarantee]
    out.line((f"{guarantee}: {total:,} violation{'s' * (total > 1)}", "bold red"))
    for each in found[:_SHOWN]:
        _write_whole(f"  {_text(each)}", style="", indent=4)
    if total > _SHOWN:
        out.line((f"  and {total - _SHOWN:,} more; --json writes {len(found):,} of them", "dim"))


def _text(finding: Finding) -> str:
    from ezgraph.verify.findings import shown_seqs

    text = finding.what
    if finding.expected or finding.found:
        text += f": expected {finding.expected}, found {finding.found}"
    if finding.seqs:
        text += f" (seq {shown_seqs(finding.seqs)})"
    return f"{text}  [{finding.place}]"


def _write_whole(text: str, *, style: str, indent: int) -> None:
    """A terminal cuts lines to its width; these are broken instead."""
    lines = [text]
    if is_terminal():
        width = shutil.get_terminal_size().columns
        lines = textwrap.wrap(text, width, subsequent_indent=" " * indent) or lines
    for line in lines:
        paper().line((line, style))


def _verdict(report: Report, history: History) -> list[Part]:
    count = len(report.traces)
    seen = f"{count} trace{'s' * (count != 1)} against {len(history.events):,} events"
    if report.ok:
        return [("Every promise was kept", "bold green"), (f", as far as checked: {seen}.", "")]
    total = report.violations.total()
    return [(f"{total:,} violation{'s' * (total > 1)}", "bold red"), (f" in {seen}.", "")]


def _write_json(report: Report, history: History) -> None:
    from ezgraph.cli import as_json

    say(as_json.dumps({
        "ok": report.ok,
        "cluster_id": history.cluster_id,
        "events": len(history.events),
        "floor": None if history.is_absent else history.floor,
        "head": None if history.is_absent else history.head,
        "guarantees": [
            {"guarantee": guarantee, "name": name, "checked": times, "violations": bad}
            for guarantee, name, times, bad in report.rows()
        ],
        "unchecked": dict(report.unchecked),
        "traces": report.traces,
        "findings": report.findings,
    }, indent=2))


# --- progress ---


@contextmanager
def _progress() -> Iterator[OnProgress]:
    """Show what is done on a terminal; a pipe is told nothing."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=None)

        def show(what: str, done: int, total: int) -> None:
            bars.update(task, description=what, completed=done, total=total or None)

        yield show
