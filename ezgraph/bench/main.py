"""`run_bench`: measure the sections asked for, show the table, tell whether the goals are met."""

from __future__ import annotations

import logging
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ezgraph.bench import against_ezmsg, report
from ezgraph.bench.catchup import catch_up
from ezgraph.bench.commands import many_in_flight, one_in_flight
from ezgraph.bench.curve import keep_pace
from ezgraph.bench.entries import read_and_put
from ezgraph.bench.fanout import fan_out
from ezgraph.bench.flooded import be_flooded, knock
from ezgraph.bench.flows import start_flows
from ezgraph.bench.footprint import weigh
from ezgraph.bench.nodes import read_nodes
from ezgraph.bench.remote import change_settings
from ezgraph.bench.restart import restart
from ezgraph.bench.roles import judge
from ezgraph.bench.rows import Row
from ezgraph.bench.scale import Scale, full
from ezgraph.bench.scale import quick as quick_scale
from ezgraph.bench.scopes import publish_in_scopes
from ezgraph.bench.sessions import end_sessions, hold_sessions
from ezgraph.bench.snapshots import take_snapshots
from ezgraph.bench.time_machine import keep_the_past
from ezgraph.bench.watched import publish_beside_watches
from ezgraph.bench.wiring import build_graphs
from ezgraph.errors import ConfigError, EzGraphError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from ezgraph.bench import workbench

Section: TypeAlias = "Callable[[Scale, workbench.Progress], Iterable[Row]]"

log = logging.getLogger(__name__)

SECTIONS: dict[str, Section] = {
    "a": one_in_flight,
    "b": many_in_flight,
    "c": fan_out,
    "d": catch_up,
    "e": build_graphs,
    "f": take_snapshots,
    "g": weigh,
    "h": hold_sessions,
    "i": end_sessions,
    "j": restart,
    "k": keep_pace,
    "l": judge,
    "m": knock,
    "n": be_flooded,
    "o": publish_in_scopes,
    "p": change_settings,
    "q": start_flows,
    "r": read_and_put,
    "s": publish_beside_watches,
    "t": read_nodes,
    "u": keep_the_past,
}
_FAILURES = (EzGraphError, OSError, ValueError, ExceptionGroup, subprocess.CalledProcessError)


def run_bench(
    *,
    only: Sequence[str] = (),
    json_path: Path | None = None,
    against: str | None = None,
    quick: bool = False,
    rounds: int = 5,
) -> int:
    """Measure, print the table, and return 0 if every goal is met, else 1.

    Args:
        only: sections to measure, those of `SECTIONS`; none: all of them.
        json_path: a file for everything that was measured.
        against: ``"ezmsg"``: measure its GraphServer as well, where there is a counterpart.
        quick: small sizes and few rounds, for a first look.
        rounds: how often each figure is taken; five at least for figures that count.

    Raises:
        ConfigError: there is no such section, or nothing to compare with under that name.
        MissingExtraError: the package to compare with is not installed.
    """
    return run(
        quick_scale(rounds) if quick else full(rounds),
        only=only,
        json_path=json_path,
        against=against,
        quick=quick,
        console=_console(),
    )


def run(
    scale: Scale,
    *,
    only: Sequence[str] = (),
    json_path: Path | None = None,
    against: str | None = None,
    quick: bool = False,
    console: Console,
) -> int:
    """Do what `run_bench` says, at any scale and on any console."""
    sections = _chosen(only)
    _check(scale, against)
    with _progress(len(sections) * (2 if against else 1)) as (progress, finish_one):
        rows: list[Row] = []
        for name in sections:
            rows += measure(name, SECTIONS[name], scale, progress)
            finish_one()
        if against:
            for name in sections:
                rows = against_ezmsg.add_figures(rows, name, scale, progress)
                finish_one()
    report.show(console, rows, scale, quick=quick)
    if json_path is not None:
        report.write_json(json_path, rows, scale, quick=quick)
    return 0 if all(row.passed is not False for row in rows) else 1


def measure(
    name: str, section: Section, scale: Scale, progress: workbench.Progress
) -> list[Row]:
    """Return a section's rows. If it fails, those it had, and one that says why."""
    rows: list[Row] = []
    try:
        rows.extend(section(scale, progress))
    except _FAILURES as error:
        log.debug("section failed name=%s", name, exc_info=True)
        note = f"{type(error).__name__}: {error}"
        rows.append(Row(name, f"section {name}", "s", None, note=note))
    return rows


def _chosen(only: Sequence[str]) -> list[str]:
    wanted = [part.strip() for each in only for part in each.split(",") if part.strip()]
    if unknown := [each for each in wanted if each not in SECTIONS]:
        raise ConfigError(f"no section {', '.join(unknown)}: there are {', '.join(SECTIONS)}")
    return [each for each in SECTIONS if not wanted or each in wanted]


def _check(scale: Scale, against: str | None) -> None:
    if scale.rounds < 1:
        raise ConfigError(f"{scale.rounds} rounds: at least one is needed, five for real figures")
    if against not in (None, "ezmsg"):
        raise ConfigError(f"nothing to compare with under the name {against!r}: give 'ezmsg'")
    if against:
        against_ezmsg.require()


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=report.PIPE_WIDTH)


@contextmanager
def _progress(steps: int) -> Iterator[tuple[workbench.Progress, Callable[[], None]]]:
    """A bar on a terminal, drawn when something new begins and by no thread; none in a pipe."""
    console = Console(stderr=True)
    with Progress(
        BarColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=console,
        auto_refresh=False,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("", total=steps)

        def begin(what: str) -> None:
            bar.update(task, description=what, refresh=True)

        yield begin, lambda: bar.update(task, advance=1, refresh=True)
