"""What happens in the demo, step by step, and what each step has shown, from what was seen.

A step ends when its effect was seen on the bus, never after a while. ``pace`` only stretches the
pauses in between, for a person to follow; at 0 there are none.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ezgraph.demo.record import is_recorded
from ezgraph.demo.roles import DETECTOR, FILTER, RECORDER, SOURCE
from ezgraph.demo.verdict import compare, read_journal
from ezgraph.errors import EzGraphError
from ezgraph.protocol.events import SettingsChanged
from ezgraph.protocol.settings import SettingsEventType

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from ezgraph.demo.rig import Rig
    from ezgraph.demo.roles import Role
    from ezgraph.demo.verdict import Verdict
    from ezgraph.demo.view import View
    from ezgraph.protocol.events import Event


@dataclass(frozen=True)
class Step:
    """A headline, why it matters, and what is done; that returns what it has shown."""

    title: str
    why: str
    act: Callable[[Story], Awaitable[str]]


class Story:
    """The demo's course on one rig, and at its end the ``verdict``.

    ``before_verdict`` gets the record's path before it is judged; tests spoil it there.
    """

    def __init__(
        self,
        rig: Rig,
        view: View,
        *,
        pace: float,
        before_verdict: Callable[[Path], None] | None = None,
    ) -> None:
        self.rig = rig
        self.verdict: Verdict | None = None
        self.before_verdict = before_verdict
        self._view = view
        self._pace = pace

    def __repr__(self) -> str:
        return f"<Story pace={self._pace:g} {self.rig!r}>"

    async def tell(self) -> None:
        """Go through all steps."""
        for number, step in enumerate(STEPS):
            self._view.begin(number)
            shown = await step.act(self)
            if self.verdict is None or self.verdict.ok:
                self._view.done(number, shown)
            else:
                self._view.failed(number, shown)
            await self.breathe(0.8)

    async def breathe(self, seconds: float) -> None:
        """Give a person time to look."""
        await asyncio.sleep(seconds * self._pace)

    def doing(self, text: str) -> None:
        """Say what is being done now."""
        self._view.doing(text)

    @staticmethod
    def expect(holds: bool, what: str) -> None:  # noqa: FBT001 - reads as an assertion
        """Raise `EzGraphError` unless ``what`` holds."""
        if not holds:
            raise EzGraphError(f"the demo found a promise broken: {what}")

    # --- what is on the bus ---

    def setting(self, role: Role, name: str) -> object:
        """Return what the bus has as a setting of a role; None if it has none."""
        entry = self.rig.state.settings.get(role.address)
        form = entry.value.structured_value if entry else None
        return form.get(name) if form else None

    def wired(self, role: Role) -> bool:
        """Return whether all edges of a role are there."""
        return all(edge in self.rig.state.dag.edge_owners for edge in role.edges)

    def present(self, role: Role) -> bool:
        """Return whether a role is on the bus with all that belongs to it."""
        state = self.rig.state
        return (
            role.address in state.components and role.address in state.unit_owner
        ) and self.wired(role)

    def absent(self, role: Role) -> bool:
        """Return whether nothing of a role is left on the bus."""
        state = self.rig.state
        return (
            role.address not in state.components
            and role.address not in state.unit_owner
            and role.address not in state.settings
            and not any(edge in state.dag.edge_owners for edge in role.edges)
        )

    async def set(self, role: Role, **changes: float) -> Event:
        """Have a role change settings; return the event that says so."""
        before = self.rig.state.seq
        await self.rig.roles[role.name].order(**changes)
        await self.seen(role, **changes)
        return next(
            event
            for event in self.rig.events
            if event.seq > before and event.key == ("settings", role.address)
        )

    async def seen(self, role: Role, **changes: float) -> None:
        """Wait until the bus has these settings."""
        await self.rig.until(
            lambda: all(self.setting(role, name) == value for name, value in changes.items()),
            f"{role.address} reports {changes}",
        )

    async def heard(self, role: Role, word: str, value: object, what: str) -> None:
        """Wait until a role has said so on its standard output."""
        said = self.rig.roles[role.name].said
        await self.rig.until(lambda: said.get(word) == value, what)

    async def recorded_through(self, seq: int) -> None:
        """Wait until the recorder has written everything up to a seq."""
        events = [event for event in self.rig.events if event.seq <= seq]
        last = max(event.seq for event in events if is_recorded(event))
        said = self.rig.roles["recorder"].said
        await self.rig.until(
            lambda: int(said.get("seq", 0)) >= last, f"the recorder has written seq {last}"
        )


async def start_broker(story: Story) -> str:
    """Step: the broker."""
    rig = story.rig
    await rig.start_broker()
    return f"it listens on {rig.ctx.address}"


async def start_roles(story: Story) -> str:
    """Step: the four processes join."""
    rig = story.rig
    for role in (SOURCE, FILTER, DETECTOR, RECORDER):
        await rig.start(role.name)
    await rig.until(
        lambda: all(story.present(role) for role in (SOURCE, FILTER, DETECTOR, RECORDER)),
        "all four units and their edges are on the bus",
    )
    await story.heard(DETECTOR, "beats", 3, "the detector finds the heart beats")
    state = rig.state
    return (
        f"{len(state.components)} units, {len(state.dag.edge_owners)} edges, "
        f"{state.seq} events so far"
    )


async def change_settings(story: Story) -> str:
    """Step: settings change while everything runs."""
    story.doing("filter: cutoff_hz 40 to 15; the hum goes, but do the peaks survive?")
    await story.breathe(0.5)
    cutoff = await story.set(FILTER, cutoff_hz=15.0)
    await story.heard(DETECTOR, "beats", 0, "the detector loses the heart beats")
    await story.breathe(1.5)
    story.doing("detector: no beats since then! threshold 150 to 60")
    threshold = await story.set(DETECTOR, threshold=60.0)
    await story.heard(DETECTOR, "beats", 3, "the detector finds the heart beats again")
    return f"beats lost by seq {cutoff.seq}, found by seq {threshold.seq}"


async def kill_recorder(story: Story) -> str:
    """Step: the recorder is killed, misses changes, and gets them when it is back."""
    rig = story.rig
    recorder = rig.roles["recorder"]
    await story.recorded_through(rig.state.seq)
    await rig.kill("recorder")
    story.doing("the recorder is dead; three settings change while nobody records")
    await story.breathe(0.6)
    await story.set(FILTER, gain=2.0)
    await story.set(DETECTOR, threshold=120.0)
    await story.set(DETECTOR, refractory_s=0.3)
    missed_through = rig.state.seq
    await story.breathe(0.8)

    story.doing("a new recorder starts; its file says after which number to resume")
    await rig.start("recorder")
    await story.recorded_through(missed_through)
    resumed_after = int(recorder.said["resumed_after"])
    await rig.until(
        lambda: (
            story.present(RECORDER)
            and story.setting(RECORDER, "resumed_after_seq") == resumed_after
        ),
        "the recorder is on the bus again",
    )
    missed = [
        event
        for event in rig.events
        if resumed_after < event.seq <= missed_through and is_recorded(event)
    ]
    return f"resumed after seq {resumed_after}, got the {len(missed)} it had missed"


async def kill_filter(story: Story) -> str:
    """Step: the filter is killed; what it owned goes, and comes back with it."""
    rig = story.rig
    before = rig.state.seq
    await rig.kill("filter")
    story.doing("the filter is dead, its connections closed; in 0.7 s what it owned goes")
    await rig.until(lambda: story.absent(FILTER), "the killed filter is off the bus")
    gone = [event for event in rig.events if event.seq > before]
    edges = sum(event.kind == "EdgeDisconnected" for event in gone)
    story.expect(edges == len(FILTER.edges), f"each edge of the filter goes once, not {edges}x")
    removals = sum(_removes_settings(event, FILTER) for event in gone)
    story.expect(removals == 1, f"the filter's settings go with one event, not {removals}")
    story.doing("its edges and settings are gone, each with an event; a new filter starts")
    await story.breathe(1.5)

    await rig.start("filter")
    await rig.until(lambda: story.present(FILTER), "the filter is on the bus again")
    return f"{edges} edges and its settings went, and are back"


def _removes_settings(event: Event, role: Role) -> bool:
    body = event.body
    return (
        isinstance(body, SettingsChanged)
        and body.address == role.address
        and body.event_type is SettingsEventType.SETTINGS_REMOVED
    )


async def kill_broker(story: Story) -> str:
    """Step: the broker is killed and goes on from its journal."""
    rig = story.rig
    await story.recorded_through(rig.state.seq)
    head, sessions = rig.state.seq, len(rig.state.sessions) + len(rig.state.processes)
    ended_before = _ends(rig)
    rig.kill_broker()
    story.doing("no broker; the filter is told to change its cutoff nevertheless")
    await rig.roles["filter"].order(cutoff_hz=20.0)  # waits in the filter, and is repeated
    await story.breathe(1.5)

    story.doing("a new broker opens the journal; everybody comes back by itself")
    await rig.start_broker()
    await story.seen(FILTER, cutoff_hz=20.0)
    await story.set(SOURCE, speed=2.0)
    await story.set(DETECTOR, threshold=60.0)
    await story.heard(DETECTOR, "beats", 3, "the detector finds the heart beats")
    await rig.until_resumed()
    await story.recorded_through(rig.state.seq)
    times = sum(
        event.seq > head and event.key == ("settings", FILTER.address) for event in rig.events
    )
    story.expect(times == 1, f"a change made without a broker arrives once, not {times}x")
    lost = _ends(rig) - ended_before
    story.expect(lost == 0, f"all {sessions} leases outlive the broker, {lost} did not")
    numbers = [event.seq for event in rig.events]
    story.expect(numbers == list(range(1, len(numbers) + 1)), "numbers go on without a hole")
    return f"went on at seq {head + 1}, all {sessions} leases resumed"


def _ends(rig: Rig) -> int:
    return sum(event.kind in ("SessionClosed", "ProcessClosed") for event in rig.events)


async def stop_all(story: Story) -> str:
    """Step: everybody leaves, the recorder last."""
    rig = story.rig
    for name in ("source", "filter", "detector", "recorder"):
        await rig.roles[name].finish()
    await rig.until(
        lambda: not rig.state.dag.edge_owners and not rig.state.settings,
        "nothing is left on the bus",
    )
    await rig.leave()
    rig.stop_broker()
    return "nothing is left on the bus"


async def compare_both(story: Story) -> str:
    """Step: the verdict."""
    if story.before_verdict is not None:
        story.before_verdict(story.rig.record)
    lines = story.rig.record.read_text(encoding="utf-8").splitlines()
    verdict = story.verdict = compare(read_journal(story.rig.journal), lines)
    if verdict.ok:
        return f"{verdict.recorded} of {verdict.expected} equal"
    return f"the record differs from the journal: {verdict.differences[0]}"


STEPS = (
    Step(
        "Start a broker",
        "It numbers every change, and stores it before it answers.",
        start_broker,
    ),
    Step(
        "Start source, filter, detector, recorder",
        "Each is a program of its own, and registers its unit, settings and edges.",
        start_roles,
    ),
    Step(
        "Change settings while all runs",
        "Everybody sees every change: the detector follows the filter's settings.",
        change_settings,
    ),
    Step(
        "kill -9 the recorder, change settings, start it",
        "A watcher that was away asks for what came after its last number.",
        kill_recorder,
    ),
    Step(
        "kill -9 the filter, start it",
        "What a program owns ends with it, each removal an event: no ghosts in the wiring.",
        kill_filter,
    ),
    Step(
        "kill -9 the broker, start it on its journal",
        "What was acknowledged is in the journal; sessions and numbers go on.",
        kill_broker,
    ),
    Step(
        "Stop everything",
        "A clean close removes at once what the program owned, with events.",
        stop_all,
    ),
    Step(
        "Compare the record with the journal",
        "Each settings and topology event must be in the file: once, in order, equal.",
        compare_both,
    ),
)
