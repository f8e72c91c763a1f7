"""What an import is to do: decided against what is there, then done exactly so. Pure.

Each put has a condition: that the entry is still absent, or still that of the seq that was seen.
So an import that was looked at before (``--dry-run``), or that somebody comes in between of, does
what it said or is refused. Keys that a file does not name are left alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ezgraph.cli.configuration.layout import place_text
from ezgraph.errors import SchemaViolationError, UnsupportedError
from ezgraph.protocol.commands import ChangeConfig
from ezgraph.protocol.config import ConfigAbsent, ConfigAtSeq, ConfigPut
from ezgraph.state.config_schema import check_schema, violation
from ezgraph.state.config_values import is_same_value
from ezgraph.wire import values

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ezgraph.cli.configuration.layout import ConfigFile, Place
    from ezgraph.protocol.config import ConfigEntry

SEEDS = "ezgraph-seed"
"""The type of the records of what a broker was started with: one key for each content."""
MAX_PUTS = 1_000
MAX_BYTES = 2 << 20
"""Of one transaction. What fits is one; more is several, in the order of their keys."""


@dataclass(frozen=True, slots=True)
class Overwriting:
    """A value that is to take the place of another's."""

    value: Any
    before: ConfigEntry


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What an import puts, in the order of types and keys."""

    new: dict[Place, Any] = field(default_factory=dict)
    overwriting: dict[Place, Overwriting] = field(default_factory=dict)
    unchanged: list[Place] = field(default_factory=list)
    schemas: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Those that are to be set: others than now."""
    schemas_unchanged: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.new or self.overwriting or self.schemas)


def plan_import(
    file: ConfigFile,
    current: Mapping[Place, ConfigEntry],
    schemas: Mapping[str, dict[str, Any] | None],
) -> ImportPlan:
    """Return what has to be done so that all of a file is so; ``current`` and ``schemas`` are now.

    An ephemeral entry of the same value is overwritten: what is imported is there to stay.
    """
    plan = ImportPlan()
    for place, value in sorted(file.values.items(), key=lambda each: each[0]):
        held = current.get(place)
        if held is None:
            plan.new[place] = value
        elif held.owner is None and is_same_value(held.value, value):
            plan.unchanged.append(place)
        else:
            plan.overwriting[place] = Overwriting(value, held)
    for kind, schema in sorted(file.schemas.items()):
        if is_same_value(schemas.get(kind), schema):
            plan.schemas_unchanged.append(kind)
        else:
            plan.schemas[kind] = schema
    return plan


def refuse_violations(
    plan: ImportPlan,
    current: Mapping[Place, ConfigEntry],
    schemas: Mapping[str, dict[str, Any] | None],
) -> None:
    """Refuse what would break a schema once all is done, before any of it is.

    The broker refuses it too, but only when it comes to it. Without the validator's extra here that
    is left to the broker.

    Raises:
        SchemaViolationError: a value does not fit; says which, and where.
        InvalidSchemaError: values cannot be judged by a schema.
    """
    to_come = {place: entry.value for place, entry in current.items()}
    to_come |= plan.new | {place: each.value for place, each in plan.overwriting.items()}
    judged = {**schemas, **plan.schemas}
    try:
        for each in plan.schemas.values():
            check_schema(each)
        for place, value in to_come.items():
            schema = judged.get(place[0])
            found = None if schema is None else violation(schema, value)
            if found is not None:
                raise SchemaViolationError(
                    f"{place_text(place)} does not fit the schema of its type: {found}; nothing "
                    f"was imported"
                )
    except UnsupportedError:
        return


def transactions(
    plan: ImportPlan, reason: str | None, last: Sequence[ConfigPut] = ()
) -> Iterator[ChangeConfig]:
    """Yield the commands that put what a plan says, none larger than one transaction may be.

    ``last`` is put in the last of them, which is there then.
    """
    puts: list[ConfigPut] = []
    conditions: list[ConfigAbsent | ConfigAtSeq] = []
    size_bytes = 0
    for place in sorted({*plan.new, *plan.overwriting}):
        over = plan.overwriting.get(place)
        value = plan.new[place] if over is None else over.value
        own_bytes = len(values.pack(value))
        if puts and (len(puts) >= MAX_PUTS or size_bytes + own_bytes > MAX_BYTES):
            yield ChangeConfig(puts, [], [*conditions], reason)
            puts, conditions, size_bytes = [], [], 0
        puts.append(ConfigPut(*place, value))
        conditions.append(
            ConfigAbsent(*place) if over is None else ConfigAtSeq(*place, over.before.seq)
        )
        size_bytes += own_bytes
    if puts or last:
        yield ChangeConfig([*puts, *last], [], [*conditions], reason)
