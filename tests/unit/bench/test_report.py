"""The table in a pipe and on a terminal, the JSON file, and the closing lines."""

from __future__ import annotations

import json
from io import StringIO
from typing import TYPE_CHECKING

from rich.console import Console

from ezgraph.bench import report
from ezgraph.bench.rows import Row, alone, at_most, compared
from ezgraph.bench.scale import Scale

if TYPE_CHECKING:
    from pathlib import Path

SCALE = Scale(rounds=5)


def printed(rows: list[Row], *, terminal: bool = False, quick: bool = False) -> str:
    console = Console(file=StringIO(), width=200, force_terminal=terminal)
    report.show(console, rows, SCALE, quick=quick)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def rows() -> list[Row]:
    return [
        compared("a", "one in flight", "/s", [500.0], [1000.0]),
        alone("g", "start-up", "ms", [300.0], goal=at_most(200, "ms"), note="a word"),
    ]


def test_in_a_pipe_the_table_is_markdown_without_colour() -> None:
    text = printed(rows())

    assert "\x1b" not in text
    cells = [[each.strip() for each in line.split("|")] for line in text.splitlines()]
    assert ["", "a", "one in flight", "500/s", "1,000/s", "0.50", "", "", ""] in cells
    assert ["", "g", "start-up", "300.0 ms", "", "", "≤ 200.0 ms", "FAIL", ""] in cells


def test_on_a_terminal_it_has_colour() -> None:
    assert "\x1b[" in printed(rows(), terminal=True)


def test_the_closing_lines_count_the_goals_name_what_failed_and_the_machine() -> None:
    text = printed(rows())

    *_, verdict, machine = text.splitlines()
    assert "0 of 1 goals met" in verdict
    assert "g start-up" in verdict
    assert "libzmq" in machine
    assert "cores" in machine


def test_a_quick_run_says_that_it_does_not_count() -> None:
    assert "only a full run counts" in printed(rows(), quick=True)
    assert "only a full run counts" not in printed(rows())


def test_ezmsg_has_a_column_only_if_it_was_measured() -> None:
    with_ezmsg = [alone("a", "x", "/s", [1.0]), Row("a", "y", "/s", 2.0, ezmsg="—")]

    assert "ezmsg" in printed(with_ezmsg)
    assert "ezmsg" not in printed(rows())


def test_the_json_file_has_every_row_with_its_samples_and_verdict(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"

    report.write_json(path, rows(), SCALE, quick=False)

    found = json.loads(path.read_text())
    assert found["passed"] is False
    assert [row["passed"] for row in found["rows"]] == [None, False]
    assert found["rows"][0]["samples"] == [500.0]
    assert found["rows"][1]["goal"]["most"] == 200
    assert found["scale"]["rounds"] == 5
