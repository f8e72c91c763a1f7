"""A bar for reads that take a while: on standard error of a terminal, or in a notebook."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

LEAST_BYTES = 1 << 20
"""Below that nobody waits long enough to want a bar."""


class ProgressBar:
    """What `read` tells its progress: ``bar(done_bytes, total_bytes)``. Use it in ``with``.

    It shows nothing where nobody looks: in a pipe, or for less than ``LEAST_BYTES``.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._shown: RichProgress | None = None
        self._task: TaskID | None = None

    def __repr__(self) -> str:
        state = "hidden" if self._shown is None else "shown"
        return f"<ProgressBar {self._title!r} {state}>"

    def __call__(self, done_bytes: int, total_bytes: int) -> None:
        """Show how far it is."""
        if total_bytes < LEAST_BYTES:
            return
        if self._shown is None:
            self._shown = _new_progress()
            self._shown.start()
            self._task = self._shown.add_task(self._title, total=total_bytes)
        if self._task is not None:
            self._shown.update(self._task, completed=done_bytes, total=total_bytes)

    def close(self) -> None:
        """Show it as it is now for the last time."""
        if self._shown is not None:
            self._shown.stop()


@contextmanager
def progress_bar(title: str) -> Iterator[ProgressBar]:
    """A bar, which stays where it is at the end."""
    bar = ProgressBar(title)
    try:
        yield bar
    finally:
        bar.close()


def _new_progress() -> RichProgress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not (console.is_terminal or console.is_jupyter),
    )
