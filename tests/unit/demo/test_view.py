from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from ezgraph.demo.record import is_recorded, line_of
from ezgraph.demo.rig import Rig
from ezgraph.demo.story import STEPS
from ezgraph.demo.verdict import compare
from ezgraph.demo.view import MIN_HEIGHT, MIN_WIDTH, LiveView, PlainView, View

if TYPE_CHECKING:
    from pathlib import Path

    from ezgraph.protocol.events import Event


@dataclass
class StandingClock:
    now: float = 100.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


def console_of(width: int, height: int) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=width, height=height, force_terminal=False), out


def fed(view: View, folder: Path, history: list[Event]) -> Rig:
    """A rig that has seen ``history``, and a view that was told of it."""
    rig = Rig(folder, on_event=view.event, on_change=view.changed)
    view.attach(rig)
    view.begin(0)
    view.doing("this is being done")
    for event in history:
        view.event(event, rig.state)
        rig.state.apply(event)
    view.done(0, "this was shown")
    return rig


def test_plain_lines_tell_steps_events_and_outcomes_in_order(
    tmp_path: Path, history: list[Event]
) -> None:
    console, out = console_of(80, 24)

    fed(PlainView(console, StandingClock()), tmp_path, history)

    text = out.getvalue()
    wanted = [
        f"step 1 of {len(STEPS)}: {STEPS[0].title}",
        "→ this is being done",
        "seq    1 + demo-filter opens a session, lease 2 s",
        "seq    2 + edge ECG/SOURCE/SIGNAL → ECG/FILTER/INPUT",
        "seq    4 + demo-filter runs ECG/FILTER",
        "seq    6 ~ settings ECG/FILTER: cutoff_hz 40 → 15",
        "✓ step 1: this was shown",
    ]
    positions = [text.find(line) for line in wanted]
    assert -1 not in positions, text
    assert positions == sorted(positions)


@pytest.mark.parametrize(("width", "height"), [(MIN_WIDTH, MIN_HEIGHT), (80, 24), (120, 40)])
def test_the_picture_fits_the_terminal_and_shows_wiring_settings_and_events(
    tmp_path: Path, history: list[Event], width: int, height: int
) -> None:
    console, out = console_of(width, height)
    view = LiveView(console, StandingClock())
    fed(view, tmp_path, history)

    console.print(view, end="")

    lines = out.getvalue().splitlines()
    text = "\n".join(lines)
    assert len(lines) <= height
    assert all(len(line.rstrip()) <= width for line in lines)
    assert "SOURCE ──▶ FILTER ··· DETECTOR ··· RECORDER" in text
    assert "cutoff_hz 20" in text
    assert "   7 ~ settings ECG/FILTER: cutoff_hz 15 → 20" in text
    assert f"step 1 of {len(STEPS)}: {STEPS[0].title}" in text
    assert "→ this is being done" in text
    assert "✓ this was shown" in text


def test_a_failed_step_is_crossed_and_not_ticked(tmp_path: Path, history: list[Event]) -> None:
    console, out = console_of(120, 40)
    plain, live = PlainView(console, StandingClock()), LiveView(console, StandingClock())
    for view in (plain, live):
        fed(view, tmp_path, history)
        view.failed(0, "this was wrong")

    console.print(live, end="")

    assert out.getvalue().count("✗ this was wrong") == 2  # the step's panel, and the list
    assert "✗ step 1: this was wrong" in out.getvalue()


def test_one_difference_is_not_called_differences(history: list[Event]) -> None:
    console, out = console_of(80, 24)
    lines = [line_of(event) for event in history if is_recorded(event)]

    PlainView(console, StandingClock()).verdict(compare(history, lines[1:]), kills=0)

    assert "NOT OK, 1 difference: the record has 4 lines" in out.getvalue()


def test_the_last_line_of_the_verdict_has_the_numbers(tmp_path: Path, history: list[Event]) -> None:
    console, out = console_of(80, 24)
    lines = [line_of(event) for event in history if is_recorded(event)]

    PlainView(console, StandingClock()).verdict(compare(history, lines), kills=3)

    assert out.getvalue().splitlines()[-1] == (
        "verdict: OK, nothing lost: 3 settings and 2 topology events, all 5 recorded once, "
        "in order, equal to the journal: 7 events, seq 1 to 7; 3 kills, 0.0 s"
    )


def test_a_bad_verdict_lists_its_differences_and_counts_those_it_leaves_out(
    history: list[Event],
) -> None:
    console, out = console_of(80, 24)
    verdict = compare(history, ["no event"] * 20)

    PlainView(console, StandingClock()).verdict(verdict, kills=0)

    lines = out.getvalue().splitlines()
    assert "differs: seq 2 (EdgeConnected) is in the journal and not in the record" in lines[0]
    assert lines[-2] == "  … and 15 more"
    assert lines[-1].startswith("verdict: NOT OK, 25 differences: the record has 20 lines for")
