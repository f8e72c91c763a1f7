"""``demo`` and ``bench``: ways into their rooms, which are loaded when they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    pace: Annotated[
        float,
        typer.Option(min=0.0, metavar="N", help="Stretch the pauses between steps; 0: none."),
    ] = 1.0,
    keep: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Keep journal and record there. Default: a temporary folder.",
            show_default=False,
        ),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Write lines, on a terminal as well.")
    ] = False,
) -> None:
    """Run a rig of four processes, break parts of it, and prove that no change was lost.

    Exit code 1 if the record differs from the journal. It needs the extra demo.
    """
    from ezgraph.demo.main import run_demo

    raise typer.Exit(run_demo(pace=pace, keep=keep, plain=True if plain else None))


def bench(
    only: Annotated[
        str,
        typer.Option(metavar="SECTIONS", help="Some of the sections a to u, such as: a,c."),
    ] = "",
    json_path: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", help="Write every figure there.", show_default=False
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="ezmsg", help="Measure that as well.", show_default=False),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small sizes and few rounds, for a first look.")
    ] = False,
    rounds: Annotated[
        int, typer.Option(min=1, metavar="N", help="How often each figure is taken.")
    ] = 5,
) -> None:
    """Measure the bus next to a bare echo and relay. Exit code 1 if a goal is missed."""
    from ezgraph.bench.main import run_bench

    sections = only.replace(",", " ").split()
    code = run_bench(
        only=sections, json_path=json_path, against=against, quick=quick, rounds=rounds
    )
    raise typer.Exit(code)
