"""``demo`` and ``bench``: thin ways into their rooms."""

from __future__ import annotations

import typer


def demo() -> None:
    """Run a rig of four processes."""
    raise typer.Exit(1)


def bench() -> None:
    """Measure."""
    raise typer.Exit(1)
