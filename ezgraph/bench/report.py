"""The table of a run, for people and for machines."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from ezgraph._version import __version__
from ezgraph.bench.bare import zeromq_versions
from ezgraph.bench.rows import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from ezgraph.bench.rows import Row
    from ezgraph.bench.scale import Scale

PIPE_WIDTH = 200
_STYLES = {"pass": "green", "FAIL": "bold red"}


def verdict(row: Row) -> str:
    """Return ``pass``, ``FAIL``, or nothing where there is no goal."""
    return "" if row.passed is None else "pass" if row.passed else "FAIL"


def cells(row: Row, *, with_ezmsg: bool) -> list[str]:
    """Return the columns of a row."""
    found = [
        row.section,
        row.name,
        "failed" if row.measured is None else shown(row.measured, row.unit),
        "" if row.bare is None else shown(row.bare, row.unit),
        "" if row.ratio is None else f"{row.ratio:.2f}",
        row.goal.text if row.goal else "",
        verdict(row),
    ]
    return [*found, _ezmsg_cell(row)] if with_ezmsg else found


def _ezmsg_cell(row: Row) -> str:
    if row.ezmsg is None or isinstance(row.ezmsg, str):
        return row.ezmsg or ""
    return shown(row.ezmsg, row.unit)


def table(rows: Sequence[Row], *, with_ezmsg: bool, in_pipe: bool) -> Table:
    """Return all of it; in a pipe as Markdown, so that it can be pasted."""
    found = Table(box=box.MARKDOWN if in_pipe else box.SIMPLE_HEAD)
    columns = ["", "what", "measured", "bare", "ratio", "goal", "result"]
    right = {"measured", "bare", "ratio", "ezmsg"}
    for name in [*columns, "ezmsg"] if with_ezmsg else columns:
        found.add_column(name, justify="right" if name in right else "left", no_wrap=in_pipe)
    last = ""
    for row in rows:
        if last not in ("", row.section) and not in_pipe:
            found.add_section()
        last = row.section
        *texts, result = [Text(each) for each in cells(row, with_ezmsg=False)]
        result.style = _STYLES.get(result.plain, "")
        extra = [Text(_ezmsg_cell(row))] if with_ezmsg else []
        found.add_row(*texts, result, *extra)
    return found


def show(console: Console, rows: Sequence[Row], scale: Scale, *, quick: bool) -> None:
    """Print the table, what is to be said about single rows, a verdict, and the machine."""
    with_ezmsg = any(row.ezmsg is not None for row in rows)
    console.print(table(rows, with_ezmsg=with_ezmsg, in_pipe=not console.is_terminal))
    for row in rows:
        if row.note:
            console.print(f"{row.section}  {row.name}: {row.note}", highlight=False, style="dim")
    console.print(summary(rows, scale, quick=quick), highlight=False)
    console.print(machine_line(machine()), highlight=False)


def summary(rows: Sequence[Row], scale: Scale, *, quick: bool) -> str:
    """Return the verdict in a sentence."""
    judged = [row for row in rows if row.passed is not None]
    failed = [row for row in judged if not row.passed]
    text = f"{len(judged) - len(failed)} of {len(judged)} goals met, {scale.rounds} rounds"
    if failed:
        text += f"; not met: {'; '.join(f'{row.section} {row.name}' for row in failed)}"
    if quick:
        text += ". A quick look: small sizes and few rounds; only a full run counts"
    return f"{text}."


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    pyzmq, libzmq = zeromq_versions()
    return {
        "ezgraph": __version__,
        "python": platform.python_version(),
        "pyzmq": pyzmq,
        "libzmq": libzmq,
        "msgpack": _version("msgpack"),
        "ezmsg": _version("ezmsg"),
        "cores": _cores(),
        "cpu": _cpu(),
        "system": f"{platform.system()} {platform.release()}",
    }


def machine_line(found: dict[str, Any]) -> str:
    """Return it in one line."""
    return (
        f"Python {found['python']}, pyzmq {found['pyzmq']}, libzmq {found['libzmq']}, "
        f"msgpack {found['msgpack']}, {found['cores']} cores ({found['cpu']}), {found['system']}"
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cores() -> int:
    """Return how many this process may use."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


def _cpu() -> str:
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def write_json(path: Path, rows: Sequence[Row], scale: Scale, *, quick: bool) -> None:
    """Write everything that was measured."""
    found = {
        "machine": machine(),
        "quick": quick,
        "scale": asdict(scale),
        "passed": all(row.passed is not False for row in rows),
        "rows": [{**asdict(row), "passed": row.passed} for row in rows],
    }
    path.write_text(json.dumps(found, indent=2) + "\n")
