"""What a person sees of the demo: a live picture on a terminal, or lines.

A view is told what happens; it asks nobody and decides nothing. `LiveView` draws on the
terminal's second screen, and leaves a short report on the first when it is over.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ezgraph.clock import SystemClock
from ezgraph.demo.roles import ROLES
from ezgraph.demo.story import STEPS
from ezgraph.demo.wording import changed_fields, describe, show_value
from ezgraph.protocol.events import SettingsChanged

if TYPE_CHECKING:
    from types import TracebackType

    from ezgraph.clock import Clock
    from ezgraph.demo.rig import Rig
    from ezgraph.demo.verdict import Verdict
    from ezgraph.demo.wording import Wording
    from ezgraph.protocol.events import Event
    from ezgraph.state.graph import GraphState

MIN_WIDTH, MIN_HEIGHT = 76, 22
"""A terminal smaller than this gets lines."""

_WIDE, _TALL = 110, 34
_WIDE_ROWS, _NARROW_ROWS = 2 * len(STEPS) + 2, 12
_REDRAW_S = 0.1
_HOT_S = 2.0
_EVENTS_KEPT = 60
_DIFFERENCES_SHOWN = 10
_STYLES = {"+": "green", "-": "red", "~": "yellow"}


class View(ABC):
    """Told what happens. Use it with ``with``."""

    def __init__(self, console: Console, clock: Clock | None = None) -> None:
        self.console = console
        self._clock = clock or SystemClock()
        self._started = self._clock.monotonic()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} after {self.elapsed_s:.1f} s>"

    @property
    def elapsed_s(self) -> float:
        """Seconds since the view was made."""
        return self._clock.monotonic() - self._started

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return

    @abstractmethod
    def attach(self, rig: Rig) -> None:
        """Look at this rig from now on."""

    @abstractmethod
    def begin(self, number: int) -> None:
        """Step ``number`` (from 0) begins."""

    @abstractmethod
    def doing(self, text: str) -> None:
        """This is being done now."""

    @abstractmethod
    def done(self, number: int, shown: str) -> None:
        """Step ``number`` is done and has shown this."""

    @abstractmethod
    def failed(self, number: int, shown: str) -> None:
        """Step ``number`` is over, and what it has shown is not as it must be."""

    @abstractmethod
    def event(self, event: Event, before: GraphState) -> None:
        """An event has arrived; ``before`` is the state without it."""

    @abstractmethod
    def changed(self) -> None:
        """Something about a process changed."""

    def say(self, text: str, style: str = "") -> None:
        """Print a line as it is."""
        self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    def verdict(self, verdict: Verdict, *, kills: int) -> None:
        """Print the verdict after so many kills; its last line has the numbers."""
        for difference in verdict.differences[:_DIFFERENCES_SHOWN]:
            self.say(f"  differs: {difference}", "red")
        if (more := len(verdict.differences) - _DIFFERENCES_SHOWN) > 0:
            self.say(f"  … and {more} more", "red")
        line = verdict_line(verdict, kills=kills, elapsed_s=self.elapsed_s)
        self.say(line, "bold green" if verdict.ok else "bold red")


def verdict_line(verdict: Verdict, *, kills: int, elapsed_s: float) -> str:
    """Return the verdict in one line, with its numbers."""
    numbers = f"seq {verdict.first_seq} to {verdict.last_seq}"
    journal = f"journal: {verdict.journal_events} events, {numbers}"
    kinds = f"{verdict.settings} settings and {verdict.topology} topology events"
    if verdict.ok:
        return (
            f"verdict: OK, nothing lost: {kinds}, all {verdict.recorded} recorded once, in order, "
            f"equal to the {journal}; {kills} kills, {elapsed_s:.1f} s"
        )
    return (
        f"verdict: NOT OK, {count_differences(verdict)}: the record has "
        f"{verdict.recorded} lines for {kinds} ({journal}); {kills} kills, {elapsed_s:.1f} s"
    )


def count_differences(verdict: Verdict) -> str:
    """Return the number of differences in words."""
    count = len(verdict.differences)
    return "1 difference" if count == 1 else f"{count} differences"


class PlainView(View):
    """Lines, in the order in which things happen."""

    def __init__(self, console: Console, clock: Clock | None = None) -> None:
        super().__init__(console, clock)
        self._rig: Rig | None = None
        self._shown: dict[str, str] = {}

    def attach(self, rig: Rig) -> None:
        """Look at this rig from now on."""
        self._rig = rig

    def begin(self, number: int) -> None:
        """Print the headline."""
        step = STEPS[number]
        self.say("")
        self.say(f"step {number + 1} of {len(STEPS)}: {step.title}", "bold")
        self.say(f"  {step.why}", "dim")

    def doing(self, text: str) -> None:
        """Print what is being done."""
        self._line(f"→ {text}", "bold cyan")

    def done(self, number: int, shown: str) -> None:
        """Print what was shown."""
        self.say(f"  ✓ step {number + 1}: {shown}", "green")

    def failed(self, number: int, shown: str) -> None:
        """Print what was shown, as a failure."""
        self.say(f"  ✗ step {number + 1}: {shown}", "red")

    def event(self, event: Event, before: GraphState) -> None:
        """Print the event."""
        mark, text = describe(event, before)
        self._line(f"seq {event.seq:>4} {mark} {text}", _STYLES[mark])

    def changed(self) -> None:
        """Print what is new about the processes."""
        rig = self._rig
        if rig is None:
            return
        news = {"broker": f"{rig.broker_state}{_pid(rig.server.pid if rig.server else None)}"}
        for name, role in rig.roles.items():
            news[name] = f"{role.state}{_pid(role.pid)}"
            if name in ("filter", "detector") and "shows" in role.said:
                news[f"{name} computes"] = str(role.said["shows"])
        for name, text in news.items():
            if not text.startswith("not started") and self._shown.get(name) != text:
                self._line(f"{name}: {text}")
        self._shown = news

    def _line(self, text: str, style: str = "") -> None:
        self.say(f"  {self.elapsed_s:5.1f} s  {text}", style)


def _pid(pid: int | None) -> str:
    return "" if pid is None else f" (pid {pid})"


class LiveView(View):
    """A picture of the rig that follows what happens."""

    def __init__(self, console: Console, clock: Clock | None = None) -> None:
        super().__init__(console, clock)
        self._rig: Rig | None = None
        self._step = 0
        self._shown: dict[int, Text] = {}
        self._events: deque[tuple[int, Wording]] = deque(maxlen=_EVENTS_KEPT)
        self._hot: dict[tuple[str, str], float] = {}
        self._doing = ""
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
        """Go back to the first screen and leave the report there."""
        if self._timer is not None:
            self._timer.cancel()
        self._live.stop()
        self.say("ezgraph demo", "bold")
        for number, step in enumerate(STEPS):
            if number in self._shown:
                self.console.print(Text(step.title, "bold"))
                self.console.print(Text("  ") + self._shown[number])

    def attach(self, rig: Rig) -> None:
        """Look at this rig from now on."""
        self._rig = rig

    def begin(self, number: int) -> None:
        """Mark the step as the present one."""
        self._step, self._doing = number, ""

    def doing(self, text: str) -> None:
        """Show what is being done."""
        self._doing = text

    def done(self, number: int, shown: str) -> None:
        """Tick the step off."""
        self._shown[number] = Text.assemble(("✓ ", "green"), shown)

    def failed(self, number: int, shown: str) -> None:
        """Cross the step."""
        self._shown[number] = Text.assemble(("✗ ", "red"), (shown, "red"))

    def event(self, event: Event, before: GraphState) -> None:
        """Add the event to the list."""
        self._events.append((event.seq, describe(event, before)))
        if isinstance(event.body, SettingsChanged):
            for name in changed_fields(event.body, before):
                self._hot[event.body.address, name] = self.elapsed_s

    def changed(self) -> None:
        """Nothing to do: the next picture shows it."""

    def _redraw(self) -> None:
        self._live.refresh()
        self._timer = asyncio.get_running_loop().call_later(_REDRAW_S, self._redraw)

    # --- the picture ---

    def __rich__(self) -> RenderableType:
        """Return the picture, for the terminal's present size."""
        picture = Layout()
        middle = Layout(name="middle")
        if self._is_wide():
            middle.split_row(Layout(self._steps(), ratio=6), Layout(self._rig_panel(), ratio=7))
            middle.size = _WIDE_ROWS
        else:
            middle.update(self._rig_panel())
            middle.size = _NARROW_ROWS
        picture.split_column(
            Layout(self._headline(), size=1), Layout(self._now(), size=5), middle, self._log_panel()
        )
        return picture

    def _is_wide(self) -> bool:
        return self.console.width >= _WIDE and self.console.height >= _TALL

    def _headline(self) -> Text:
        rig = self._rig
        seq = rig.state.seq if rig else 0
        return Text.assemble(
            (" ezgraph demo ", "bold reverse"),
            (f" {self.elapsed_s:4.1f} s  seq {seq}  ", "bold"),
            "a real ECG, four processes and a broker",
        )

    def _now(self) -> Panel:
        step = STEPS[self._step]
        shown = self._shown.get(self._step)
        return Panel(
            Group(
                Text(step.why, style="italic"),
                Text(f"→ {self._doing}" if self._doing else "", style="cyan"),
                shown or Text(),
            ),
            title=f"[bold]step {self._step + 1} of {len(STEPS)}: {step.title}[/bold]",
            title_align="left",
            border_style="cyan",
        )

    def _steps(self) -> Panel:
        lines: list[Text] = []
        for number, step in enumerate(STEPS):
            if number in self._shown:
                lines.append(Text(step.title))
                lines.append(Text("  ") + self._shown[number])
            elif number == self._step:
                lines.append(Text.assemble((step.title, "bold cyan")))
                lines.append(Text("  …", style="cyan"))
            else:
                lines.append(Text(step.title, style="dim"))
        for line in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
        return Panel(Group(*lines), title="[bold]what happens[/bold]", title_align="left")

    def _rig_panel(self) -> Panel:
        if self._rig is None:
            return Panel("")
        gap = [Text()] if self._is_wide() else []
        return Panel(
            Group(
                self._processes(self._rig),
                *gap,
                self._wiring(self._rig),
                *gap,
                self._settings(self._rig),
            ),
            title="[bold]the rig[/bold]",
            title_align="left",
        )

    def _processes(self, rig: Rig) -> Table:
        table = Table.grid(padding=(0, 1))
        for width in (8, 11, 7):
            table.add_column(width=width, no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis")
        broker_pid = str(rig.server.pid or "") if rig.server else ""
        where = f"{rig.server.config.address}, {rig.journal.name}" if rig.server else ""
        table.add_row("broker", _state(rig.broker_state), broker_pid, where)
        for name, role in rig.roles.items():
            waits = "waits for the old lease to run out" if "waits" in role.said else ""
            shows = role.said.get("shows") or waits
            says = shows if role.alive else ""
            pid = str(role.pid) if role.pid and role.alive else ""
            table.add_row(name, _state(role.state), pid, str(says))
        return table

    @staticmethod
    def _wiring(rig: Rig) -> Text:
        """The chain of units; what is not on the bus is dim, and a missing edge is a gap."""
        state = rig.state
        names = list(ROLES)
        text = Text("wiring   ", no_wrap=True)
        for position, name in enumerate(names):
            role = ROLES[name]
            there = role.address in state.components
            text.append(name.upper(), style="bold" if there else "dim red")
            if position + 1 < len(names):
                following = ROLES[names[position + 1]].address
                wired = any(
                    start.startswith(f"{role.address}/") and end.startswith(f"{following}/")
                    for start, end in state.dag.edge_owners
                )
                text.append(" ──▶ " if wired else " ··· ", style="green" if wired else "red")
        return text

    def _settings(self, rig: Rig) -> Table:
        table = Table.grid(padding=(0, 1))
        table.add_column(width=12, no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis")
        for role in ROLES.values():
            entry = rig.state.settings.get(role.address)
            if entry is None:
                table.add_row(Text(role.address, style="dim"), Text("no settings", style="dim red"))
                continue
            text = Text()
            for name, value in (entry.value.structured_value or {}).items():
                hot = self.elapsed_s - self._hot.get((role.address, name), -_HOT_S) < _HOT_S
                text.append(f"{name} ", style="dim")
                text.append(f"{show_value(value)}  ", style="bold yellow" if hot else "")
            table.add_row(role.address, text)
        return table

    def _log_panel(self) -> Panel:
        used = 6 + (_WIDE_ROWS if self._is_wide() else _NARROW_ROWS)
        room = max(1, self.console.height - used - 2)
        lines = [
            Text.assemble(
                (f"{seq:>4} ", "bold"),
                (f"{wording.mark} {wording.text}", _STYLES[wording.mark]),
                no_wrap=True,
                overflow="ellipsis",
            )
            for seq, wording in list(self._events)[-room:]
        ]
        title = "[bold]the journal: every change, numbered and stored[/bold]"
        return Panel(Group(*lines), title=title, title_align="left")


def _state(state: str) -> Text:
    style = {"running": "green", "not started": "dim", "ended": "dim"}.get(state)
    if style is None:
        style = "bold red" if state == "killed" or state.startswith("failed") else "yellow"
    return Text(state, style=style, no_wrap=True, overflow="ellipsis")
