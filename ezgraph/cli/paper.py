"""Where output goes: a terminal (colour, width) or a pipe (plain, whole lines).

Rich is loaded for a terminal only, so that commands in scripts start quickly.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

_LEAST_MIDDLE = 30

Part = tuple[str, str]
"""Some text and its style in Rich's words; the style is dropped in a pipe."""


class Paper(Protocol):
    """What a command writes on."""

    @property
    def width(self) -> int | None:
        """How many characters a line has; None: as many as it takes."""
        ...

    def line(
        self, *parts: Part, middle: Sequence[Part] = (), end: Sequence[Part] = ()
    ) -> None:
        """Write one line; a terminal cuts it to its width, and what is in the ``middle`` first."""
        ...

    def table(
        self, heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()
    ) -> None:
        """Write rows in columns; those in ``right`` are aligned there. The first one is a name."""
        ...


class Pipe:
    """Plain text."""

    width = None

    def line(
        self, *parts: Part, middle: Sequence[Part] = (), end: Sequence[Part] = ()
    ) -> None:
        """Write one whole line."""
        say("".join(text for text, _ in (*parts, *middle, *end)).rstrip())

    def table(
        self, heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()
    ) -> None:
        """Write columns two spaces apart."""
        widths = [max(len(row[n]) for row in (heads, *rows)) for n in range(len(heads))]
        for row in (heads, *rows):
            cells = [
                cell.rjust(width) if n in right else cell.ljust(width)
                for n, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            say("  ".join(cells).rstrip())


class Terminal:
    """Rich's console."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @property
    def width(self) -> int:
        """How many characters a line has."""
        return self._console.width

    def line(
        self, *parts: Part, middle: Sequence[Part] = (), end: Sequence[Part] = ()
    ) -> None:
        """Write one line, cut to the width."""
        from rich.text import Text

        text, inner, tail = (Text.assemble(*each) for each in (parts, middle, end))
        room = self._console.width - text.cell_len - tail.cell_len
        if inner.cell_len > room:
            inner.truncate(max(room, _LEAST_MIDDLE), overflow="ellipsis")
        text.append_text(inner).append_text(tail)
        self._console.print(text, no_wrap=True, overflow="ellipsis", highlight=False)

    def table(
        self, heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()
    ) -> None:
        """Write a table."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            show_edge=False,
            header_style="bold",
            border_style="dim",
        )
        for number, head in enumerate(heads):
            justify: Literal["left", "right"] = "right" if number in right else "left"
            is_name = number == 0
            table.add_column(head, justify=justify, overflow="fold", no_wrap=is_name)
        for row in rows:
            table.add_row(*map(Text, row))
        self._console.print(table)


@cache
def paper() -> Paper:
    """Return what standard output is."""
    if not is_terminal():
        return Pipe()
    from rich.console import Console

    return Terminal(Console(highlight=False, markup=False, emoji=False))


def is_terminal() -> bool:
    """Return whether somebody looks at standard output as it comes."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def say(text: str) -> None:
    """Write a line to standard output at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def tell(text: str) -> None:
    """Write a line for people to standard error at once."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
