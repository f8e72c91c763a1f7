"""A bar is shown of long reads where somebody looks, and nowhere else."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import numpy as np

from ezgraph.nodes import ArrayNode
from ezgraph.nodes.progress_bar import LEAST_BYTES, progress_bar

if TYPE_CHECKING:
    import pytest


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_a_terminal(patch: pytest.MonkeyPatch) -> Terminal:
    """Have standard error be a terminal; pytest puts its own there before each test."""
    patch.setenv("TERM", "xterm")
    patch.delenv("NO_COLOR", raising=False)
    found = Terminal()
    patch.setattr(sys, "stderr", found)
    return found


def test_a_long_read_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    array = np.zeros(3 * LEAST_BYTES, dtype="u1")
    node = ArrayNode(array, chunks=(LEAST_BYTES,))

    assert node.read(progress=True).nbytes == array.nbytes

    assert "ArrayNode uint8" in terminal.getvalue()
    assert "3.0/3.0 MiB" in terminal.getvalue()


def test_what_is_named_as_markup_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    with progress_bar("[red]evil[/red]") as bar:
        bar(1, LEAST_BYTES)

    assert "[red]evil[/red]" in terminal.getvalue()


def test_a_short_read_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    ArrayNode(np.zeros(1_000)).read(progress=True)

    assert terminal.getvalue() == ""


def test_in_a_pipe_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    ArrayNode(np.zeros(LEAST_BYTES)).read(progress=True)

    assert capsys.readouterr() == ("", "")


def test_no_progress_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    ArrayNode(np.zeros(LEAST_BYTES)).read(progress=False)

    assert terminal.getvalue() == ""
