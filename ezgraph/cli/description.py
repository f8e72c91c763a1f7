"""What ``settings describe`` says: each field with what it takes, what it is, who set it when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ezgraph.cli import as_json
from ezgraph.cli.component import (
    ABSENT,
    Step,
    entry_at,
    fetch,
    history,
    schema_at,
    shown_form,
    unknown_field,
)
from ezgraph.cli.guest import ask, guest
from ezgraph.cli.typed import choice_text
from ezgraph.cli.words import age, inner, who
from ezgraph.protocol.commands import Heartbeat
from ezgraph.protocol.metadata import SettingsFieldMetadata, SettingsSchemaMetadata
from ezgraph.protocol.replies import Beat
from ezgraph.protocol.settings import SettingsEventType
from ezgraph.protocol.wiring import visible

if TYPE_CHECKING:
    from ezgraph.cli.options import Target
    from ezgraph.cli.paper import Paper
    from ezgraph.protocol.events import Source
    from ezgraph.state.graph import SettingEntry

_INDENT = 2


@dataclass(frozen=True, slots=True)
class FieldNow:
    """A field: what is known of it, what it is (or `ABSENT`), and the change that made it so.

    ``step`` is None where that change is not stored any more.
    """

    name: str
    known: SettingsFieldMetadata | None
    value: Any
    step: Step | None

    def limits(self) -> str:
        """Return what it takes: type, bounds or choices."""
        known = self.known
        if known is None:
            return ""
        is_literal = known.choices is not None and known.field_type.startswith("Literal[")
        parts = [] if is_literal else [known.field_type]
        unit = f" {known.unit}" if known.unit else ""
        if known.choices is not None:
            parts.append(" | ".join(map(choice_text, known.choices)) + unit)
        elif known.bounds is not None:
            low, high = ("" if each is None else f"{each:g}" for each in known.bounds)
            parts.append(f"{low}…{high}{unit}")
        elif unit:
            parts.append(f"in{unit}")
        if known.step is not None:
            parts.append(f"steps of {known.step:g}")
        if known.read_only:
            parts.append("read-only")
        parts.append("required" if known.required else f"default {inner(known.default)}")
        return visible(", ".join(parts))

    def record(self) -> dict[str, Any]:
        """Return everything known about it."""
        step = self.step
        changed = None if step is None else {
            "seq": step.event.seq,
            "time": as_json.iso(step.event.wall_time),
            "source": step.event.source,
            "asked_by": step.body.asked_by,
            "reason": step.reason,
        }
        return {
            **(as_json.plain(self.known) if self.known else {"name": self.name}),
            "is_set": self.value is not ABSENT,
            "value": None if self.value is ABSENT else self.value,
            "changed": changed,
        }


@dataclass(frozen=True, slots=True)
class Description:
    """The settings of a component, when the broker's wall clock was at ``wall_time``."""

    address: str
    entry: SettingEntry
    schema: SettingsSchemaMetadata | None
    run_by: Source | None
    floor: int | None
    wall_time: float
    fields: list[FieldNow]

    def record(self) -> dict[str, Any]:
        """Return everything known about it."""
        return {
            "address": self.address,
            "seq": self.entry.seq,
            "layer": self.entry.change.layer.value,
            "settings_type": self.schema.settings_type if self.schema else None,
            "run_by": self.run_by,
            "fields": [each.record() for each in self.fields],
        }

    def write(self, paper: Paper) -> None:
        """Write it for people."""
        kind = self.schema.settings_type if self.schema else "of a type that is not known"
        run_by = "nobody runs it" if self.run_by is None else f"run by {who(self.run_by)}"
        about = f"  {visible(kind)}, seq {self.entry.seq}; {run_by}"
        paper.line((visible(self.address), "bold"), (about, "dim"))
        names = max((len(visible(each.name)) for each in self.fields), default=0)
        values = min(24, max((len(self._now(each)) for each in self.fields), default=0))
        for each in self.fields:
            self._write_field(paper, each, names, values)
        if not self.fields:
            paper.line((f"  {inner(shown_form(self.entry.value))}", ""))

    def _now(self, each: FieldNow) -> str:
        if each.value is ABSENT:
            return "not set"
        unit = f" {each.known.unit}" if each.known and each.known.unit else ""
        return inner(each.value) + visible(unit)

    def _write_field(self, paper: Paper, each: FieldNow, names: int, values: int) -> None:
        pad = " " * _INDENT
        described = each.known.description if each.known else None
        paper.line(
            (f"{pad}{visible(each.name):<{names}}  ", "cyan"),
            (f"{self._now(each):<{values}}  ", "dim" if each.value is ABSENT else "bold"),
            middle=[(each.limits(), "")],
        )
        below = f"{pad}{'':<{names}}  "
        if described:
            paper.line((below + visible(described), "italic"))
        if each.value is not ABSENT:
            self._write_set(paper, each.step, below)

    def _write_set(self, paper: Paper, step: Step | None, below: str) -> None:
        if step is None:
            paper.line((f"{below}set before seq {self.floor or self.entry.seq}", "dim"))
            return
        ago = age(self.wall_time - step.event.wall_time)
        verb = "asked for by" if step.body.asked_by else "by"
        because = [(f"  because: {visible(step.reason)}", "italic")] if step.reason else []
        paper.line(
            (f"{below}set {ago} ago (seq {step.event.seq}) ", "dim"),
            middle=[(f"{verb} {who(step.asker)}", "dim")],
            end=because,
        )


def describe_component(broker: Target, address: str, field: str | None) -> Description:
    """Return what is known about the settings at an address, or about one field.

    Raises:
        UnknownComponentError: there are none.
        UnknownFieldError: there is no such field.
    """
    floors: list[int] = []
    with guest(broker) as session:
        beat = ask(session, Heartbeat(0.0), Beat, timeout_s=broker.timeout_s)
        state = fetch(session, timeout_s=broker.timeout_s)
        entry, schema = entry_at(state, address), schema_at(state, address)
        steps = history(
            session, address, timeout_s=broker.timeout_s, on_floor=floors.append
        )
    floor = floors[-1] if floors else None
    owner = state.unit_owner.get(address)
    process = state.processes.get(owner) if owner is not None else None
    fields = _fields(entry, schema, _last_steps(steps, entry.seq, floor))
    if field is not None:
        fields = [each for each in fields if each.name == field]
        if not fields:
            raise unknown_field(field, shown_form(entry.value))
    run_by = process.source if process is not None else None
    return Description(address, entry, schema, run_by, floor, beat.wall_time, fields)


def _fields(
    entry: SettingEntry, schema: SettingsSchemaMetadata | None, steps: dict[str, Step]
) -> list[FieldNow]:
    form = shown_form(entry.value)
    held = {str(name): value for name, value in form.items()} if isinstance(form, Mapping) else {}
    known = {each.name: each for each in schema.fields} if schema is not None else {}
    return [
        FieldNow(name, known.get(name), held.get(name, ABSENT), steps.get(name))
        for name in [*known, *(each for each in held if each not in known)]
    ]


def _last_steps(steps: list[Step], seq: int, floor: int | None) -> dict[str, Step]:
    """Return the last change of each field, up to ``seq``; those before the floor are not known."""
    last: dict[str, Step] = {}
    for step in steps:
        is_first = step.body.event_type is SettingsEventType.INITIAL_SETTINGS
        if step.event.seq > seq or (step.before is None and floor is not None and not is_first):
            continue
        for path in step.changed():
            last[str(path[0]) if path else ""] = step
    return last
