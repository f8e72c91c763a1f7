"""What a person sees of a chaos run: a live picture on a terminal, or lines."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter, deque
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ezgraph.chaos.proxy import GOOD
from ezgraph.chaos.schedule import BROKER_KINDS, CABLE_KINDS, Kind
from ezgraph.clock import SystemClock

if TYPE_CHECKING:
    from types import TracebackType

    from ezgraph.chaos.rig import Rig, Slot
    from ezgraph.clock import Clock

MIN_WIDTH, MIN_HEIGHT = 76, 22
"""A terminal smaller than this gets lines."""

COUNTED = (
    "calls",
    "acknowledged",
    "refused",
    "timeouts",
    "failed journals",
    "leases",
    "leases lost",
    "leases taken over",
    "declared again",
    "events",
    "notes of progress",
    "publications lost on the way",
    "snapshots in place of history",
    "compacted answers",
    "fingerprints compared",
)
"""What the clients count, in the order in which it is shown."""

_REDRAW_S = 0.2
_LINES_KEPT = 200
_LEFT = 44


class View(ABC):
    """Told what happens. Use it with ``with``."""

    def __init__(self, console: Console, *, for_s: float, clock: Clock | None = None) -> None:
        self.console = console
        self.for_s = for_s
        self.done: Counter[Kind] = Counter()
        self._clock = clock or SystemClock()
        self._started = self._clock.monotonic()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} after {self.elapsed_s:.1f} of {self.for_s:g} s>"

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return self._clock.monotonic() - self._started

    def begin(self) -> None:
        """The time runs from now on."""
        self._started = self._clock.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return

    def attach(self, rig: Rig) -> None:  # noqa: B027 - not every view looks
        """Look at this rig from now on."""

    @abstractmethod
    def happened(self, text: str, style: str = "") -> None:
        """This was done just now."""

    def fault(self, kind: Kind, text: str) -> None:
        """A fault begins."""
        self.done[kind] += 1
        self.happened(text, _style(kind))

    def say(self, text: str, style: str = "") -> None:
        """Print a line as it is."""
        self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def _style(kind: Kind) -> str:
    if kind in BROKER_KINDS:
        return "bold red"
    return "yellow" if kind in CABLE_KINDS else "magenta"


class SilentView(View):
    """Shows nothing; for machines that read the result."""

    def happened(self, text: str, style: str = "") -> None:
        """Show nothing."""


class PlainView(View):
    """Lines, in the order in which things happen."""

    def happened(self, text: str, style: str = "") -> None:
        """Print it."""
        self.say(f"{self.elapsed_s:6.1f} s  {text}", style)


class LiveView(View):
    """A picture of the rig that follows what happens."""

    def __init__(self, console: Console, *, for_s: float, clock: Clock | None = None) -> None:
        super().__init__(console, for_s=for_s, clock=clock)
        self._rig: Rig | None = None
        self._lines: deque[Text] = deque(maxlen=_LINES_KEPT)
        self._live = Live(self, console=console, screen=True, auto_refresh=False)
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        """Take the second screen, and draw on it while the running event loop runs."""
        self._live.start()
        self._redraw()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Go back to the first screen."""
        if self._timer is not None:
            self._timer.cancel()
        self._live.stop()

    def attach(self, rig: Rig) -> None:
        """Look at this rig from now on."""
        self._rig = rig

    def happened(self, text: str, style: str = "") -> None:
        """Add it to the list."""
        line = Text(f"{self.elapsed_s:6.1f} s  ", style="dim", no_wrap=True, overflow="ellipsis")
        self._lines.append(line.append(text, style=style or "default"))

    def _redraw(self) -> None:
        self._live.refresh()
        self._timer = asyncio.get_running_loop().call_later(_REDRAW_S, self._redraw)

    # --- the picture ---

    def __rich__(self) -> RenderableType:
        """Return the picture, for the terminal's present size."""
        left, right, picture = Layout(size=_LEFT), Layout(), Layout()
        left.split_column(
            Layout(self._counts_panel(), size=len(COUNTED) + 2), Layout(self._faults_panel())
        )
        clients = (len(self._rig.slots) + 1) // 2 if self._rig else 0
        clients = min(clients + 2, (self.console.height - 2) // 2)
        right.split_column(
            Layout(self._rig_panel(), size=clients), Layout(self._lines_panel(clients))
        )
        middle = Layout()
        middle.split_row(left, right)
        picture.split_column(Layout(self._headline(), size=2), middle)
        return picture

    def _headline(self) -> RenderableType:
        left_s = max(0.0, self.for_s - self.elapsed_s)
        broken = len(self._rig.broken) if self._rig else 0
        broker = self._rig.broker_state if self._rig else ""
        bar = ProgressBar(self.for_s, min(self.elapsed_s, self.for_s), width=self.console.width)
        text = Text.assemble(
            (" ezgraph chaos ", "bold reverse"),
            (f" {left_s:4.0f} s left  " if left_s else " the end: healing, catching up  ", "bold"),
            "broker ",
            (broker, "green" if broker == "running" else "bold red"),
            "   broken promises ",
            (str(broken), "bold red" if broken else "green"),
        )
        return Group(text, bar)

    def _counts_panel(self) -> Panel:
        counts = self._rig.counts if self._rig else Counter()
        table = _two_columns()
        for name in COUNTED:
            table.add_row(name, f"{counts[name]:,}")
        return Panel(table, title="[bold]what the clients did[/bold]", title_align="left")

    def _faults_panel(self) -> Panel:
        table = _two_columns()
        for kind in Kind:
            times = self.done[kind]
            table.add_row(Text(kind.value, _style(kind) if times else "dim"), str(times or ""))
        return Panel(table, title="[bold]what was done to them[/bold]", title_align="left")

    def _rig_panel(self) -> Panel:
        table = Table.grid(padding=(0, 2))
        for _ in range(2):
            table.add_column(no_wrap=True, overflow="ellipsis")
        slots = self._rig.slots if self._rig else []
        half = (len(slots) + 1) // 2
        for number in range(half):
            table.add_row(*[_describe(slot) for slot in slots[number::half]])
        title = "[bold]the clients[/bold] (~connections in its cable)"
        return Panel(table, title=title, title_align="left")

    def _lines_panel(self, rows_above: int) -> Panel:
        room = max(1, self.console.height - 2 - rows_above - 2)
        lines = list(self._lines)[-room:]
        title = "[bold]what was just done[/bold]"
        return Panel(Group(*lines), title=title, title_align="left")


def _two_columns() -> Table:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(justify="right", no_wrap=True, min_width=2)
    return table


def _describe(slot: Slot) -> Text:
    child = slot.child
    text = Text(f"{slot.name:<22.22}", no_wrap=True, overflow="ellipsis")
    if child is None or not child.alive:
        return text.append("gone", "red")
    text.append("stopped" if child.is_stopped else slot.phase or "busy", _state_style(slot))
    if slot.cable is not None:
        bad = slot.cable.faults != GOOD
        text.append(f" ~{slot.cable.links}", "bold yellow" if bad else "dim")
    return text


def _state_style(slot: Slot) -> str:
    if slot.child is not None and slot.child.is_stopped:
        return "yellow"
    return "cyan" if slot.phase else "green"
