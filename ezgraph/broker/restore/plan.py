"""What it takes to bring a rig back to a snapshot of it, and what stands in the way. Pure.

A plan is made against the state as it is, and says everything: what of the wiring and the
configuration changes at once (event bodies), which settings their owners are to be asked for, what
others hold or does not fit (`cannot`), and what stays as it is because nobody can bring it back
from outside: components, which programs register, and fields that only show something.

Whose is what:

* What the snapshot has and the rig has not becomes persistent: the session that held it is gone.
  An entry of the configuration that the asker holds stays theirs.
* What the rig has and the snapshot has not goes if it is persistent or the asker's. What another
  session holds is in the way.
* Settings are their owners'. They are *owed*: journaled as wanted, handed to the owner, and true
  when it reports them. Where no process runs the unit, the next one that does is handed them.

A restore settles what earlier ones still owe: it is wanted no longer, or owed anew.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ezgraph.broker.rules_config import bring_back
from ezgraph.broker.rules_graph import check_topics, describe_owner
from ezgraph.broker.rules_settings import different
from ezgraph.errors import EzGraphError, InvalidKeyError, ReadOnlyFieldError
from ezgraph.names import topic_of
from ezgraph.protocol.config import ROOM as CONFIG
from ezgraph.protocol.config import config_key_text, parse_config_key
from ezgraph.protocol.events import (
    Body,
    ConfigValueDeleted,
    ConfigValueSet,
    EdgeConnected,
    EdgeDisconnected,
)
from ezgraph.protocol.fingerprints import canonical
from ezgraph.protocol.snapshot import Edge
from ezgraph.state.content import settings_at
from ezgraph.state.schema_check import check_change

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any
    from uuid import UUID

    from ezgraph.broker.rules_config import ValueChecks
    from ezgraph.config import Limits
    from ezgraph.names import Key
    from ezgraph.protocol.fingerprint_tree import Slot
    from ezgraph.protocol.graph_content import GraphContent
    from ezgraph.protocol.metadata import SettingsSchemaMetadata
    from ezgraph.protocol.settings import SettingsSnapshotValue
    from ezgraph.state.graph import GraphState

_SHOWN = 5
_SHOWN_NAME = 40


def _may_all(_verb: str, _key: Key) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks: the session whose things are theirs (None: a guest), and what their key allows."""

    session: str | None = None
    may: Callable[[str, Key], bool] = _may_all


class InTheWay(NamedTuple):
    """What cannot be brought back, why, and whose it is ("": nobody's)."""

    what: str
    why: str
    whose: str = ""


class SettingsWanted(NamedTuple):
    """Settings that are to be others: ``changes`` by dotted path, ``whole``: all fields there are.

    ``owner`` is the process that runs the unit; None: nobody. ``base_seq`` is that of the settings
    which it was compared with; 0: there are none.
    """

    address: str
    value: SettingsSnapshotValue
    changes: dict[str, Any]
    whole: bool
    owner: UUID | None
    base_seq: int


@dataclass(slots=True)
class RestorePlan:
    """What a restore changes. ``bodies`` are of the wiring and the configuration, in order.

    ``settled`` are the addresses where something is owed that is wanted no longer. ``forbidden`` is
    what the asker's role does not grant.
    """

    bodies: list[Body] = field(default_factory=list)
    settings: list[SettingsWanted] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)
    cannot: list[InTheWay] = field(default_factory=list)
    forbidden: list[str] = field(default_factory=list)
    not_restored: list[tuple[str, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Return whether there is anything to do."""
        return bool(self.bodies or self.settings or self.settled)

    def mark(self) -> bytes:
        """Return what is equal for plans that do the same, and ask the same of the same."""
        asked = [(each.address, each.changes, each.whole, each.owner) for each in self.settings]
        return canonical([self.bodies, asked, self.settled, self.cannot, self.forbidden])

    @property
    def edges_added(self) -> list[Edge]:
        """The edges that are not there."""
        return sorted(
            Edge(each.from_topic, each.to_topic)
            for each in self.bodies
            if isinstance(each, EdgeConnected)
        )

    @property
    def edges_removed(self) -> list[Edge]:
        """The edges that are there and not in the snapshot."""
        return sorted(
            {
                Edge(each.from_topic, each.to_topic)
                for each in self.bodies
                if isinstance(each, EdgeDisconnected)
            }
        )

    @property
    def config_set(self) -> list[Key]:
        """Type and key of the entries that get another value."""
        return [(e.type, *e.key) for e in self.bodies if isinstance(e, ConfigValueSet)]

    @property
    def config_deleted(self) -> list[Key]:
        """Type and key of the entries that go."""
        return [(e.type, *e.key) for e in self.bodies if isinstance(e, ConfigValueDeleted)]


def plan_restore(
    state: GraphState, graph: GraphContent, asker: Asker, *, limits: Limits, checks: ValueChecks
) -> RestorePlan:
    """Return what it takes for ``state`` to be as ``graph`` again."""
    plan = RestorePlan()
    changed = _Changed.of(graph.differing(state.content.tree()))
    _plan_edges(plan, state, graph, asker, limits)
    _plan_config(plan, state, graph, changed.config, asker, limits, checks)
    _plan_settings(plan, state, graph, changed.settings, asker)
    _note_components(plan, state, graph, changed.components)
    _bound(plan, limits)
    return plan


class _Changed(NamedTuple):
    """What of a snapshot is not as it was: addresses, and entries by ``(type, *key)``."""

    components: set[str]
    settings: set[str]
    config: set[Key]

    @classmethod
    def of(cls, slots: set[Slot]) -> _Changed:
        found = cls(set(), set(), set())
        for slot in slots:
            match slot:
                case ("component", address):
                    found.components.add(address)
                case ("settings", address):
                    found.settings.add(address)
                case ("config", kind, text):
                    with suppress(InvalidKeyError):  # that is told by itself
                        found.config.add((kind, *parse_config_key(text)))
                case _:
                    pass
        return found


def _bound(plan: RestorePlan, limits: Limits) -> None:
    """Keep it to what one transaction may hold everybody up with; else ask nobody anything."""
    count = len(plan.bodies) + len(plan.settings)
    if count > limits.max_restored_changes:
        why = (
            f"there would be {count}, and one restore may make {limits.max_restored_changes} here "
            f"(max_restored_changes)"
        )
        plan.cannot.append(InTheWay("so many changes", why))
        plan.settings.clear()


def _is_allowed(plan: RestorePlan, asker: Asker, verb: str, key: Key) -> bool:
    if asker.may(verb, key):
        return True
    plan.forbidden.append(f"{verb} {'/'.join(key)}")
    return False


# --- wiring ---


def _plan_edges(
    plan: RestorePlan, state: GraphState, graph: GraphContent, asker: Asker, limits: Limits
) -> None:
    """First what goes, then what comes: so there is no loop in between either."""
    owners, wanted = state.dag.edge_owners, graph.topology
    for edge in sorted(owners.keys() - wanted):
        _plan_removal(plan, state, edge, asker)
    missing = sorted(wanted - owners.keys())
    if missing and (loop := _loop_in(wanted)) is not None:
        plan.cannot.append(InTheWay("the wiring of the snapshot", loop))
        return
    for start, end in missing:
        if not _is_allowed(plan, asker, "connect", ("edge", start, end)):
            continue
        try:
            check_topics(start, end)
        except EzGraphError as error:
            plan.cannot.append(InTheWay(_edge(start, end), str(error)))
        else:
            plan.bodies.append(EdgeConnected(start, end, None, topology_changed=True))
    held = state.dag.count_of(None) + len(missing)
    if missing and held > limits.max_persistent_edges:
        plan.cannot.append(
            InTheWay(
                f"{len(missing)} edges",
                f"there would be {held} persistent edges, and there may be "
                f"{limits.max_persistent_edges} here (max_persistent_edges)",
            )
        )


def _plan_removal(
    plan: RestorePlan, state: GraphState, edge: tuple[str, str], asker: Asker
) -> None:
    holders = sorted(state.dag.edge_owners[edge], key=lambda owner: owner or "")
    others = [owner for owner in holders if owner not in (None, asker.session)]
    if others:
        whose = ", ".join(describe_owner(state, owner) for owner in others)
        why = "the snapshot does not have this edge, and another session holds it"
        plan.cannot.append(InTheWay(_edge(*edge), why, whose))
    elif _is_allowed(plan, asker, "connect", ("edge", *edge)):
        last = len(holders) - 1
        plan.bodies += [
            EdgeDisconnected(*edge, owner, topology_changed=number == last)
            for number, owner in enumerate(holders)
        ]


def _loop_in(edges: set[Edge]) -> str | None:
    """Return why this wiring cannot be had, if somebody wrote one that has a loop."""
    incoming, following = Counter(end for _, end in edges), defaultdict(list)
    for start, end in edges:
        following[start].append(end)
    free = [start for start in following if start not in incoming]
    while free:
        for end in following.pop(free.pop(), ()):
            incoming[end] -= 1
            if not incoming[end]:
                free.append(end)
    left = sorted(following)
    return f"there is a loop through {', '.join(left[:_SHOWN])}" if left else None


def _edge(start: str, end: str) -> str:
    return f"edge {start} -> {end}"


# --- configuration ---


def _plan_config(
    plan: RestorePlan,
    state: GraphState,
    graph: GraphContent,
    changed: set[Key],
    asker: Asker,
    limits: Limits,
    checks: ValueChecks,
) -> None:
    for (kind, text), why in graph.unreadable.items():
        plan.cannot.append(InTheWay(f"config {kind} {text}", why))
    found = bring_back(
        state.config, graph.config, changed, asker.session, limits=limits, checks=checks
    )
    for body in found.bodies:
        if _is_allowed(plan, asker, "config", (CONFIG, body.type, *body.key)):
            plan.bodies.append(body)
    for key, why in found.unfit:
        plan.cannot.append(InTheWay(_entry(key), why))
    for key, owner in found.held:
        why = "the snapshot has it otherwise, and another session holds this entry"
        plan.cannot.append(InTheWay(_entry(key), why, describe_owner(state, owner)))


def _entry(key: Key) -> str:
    if not key:
        return "the configuration as a whole"
    return f"config {key[0]} {config_key_text(key[1:])}"


# --- settings ---


def _plan_settings(
    plan: RestorePlan, state: GraphState, graph: GraphContent, changed: set[str], asker: Asker
) -> None:
    for address in sorted(changed | (state.owed.keys() & graph.settings.keys())):
        try:
            topic_of(("settings", address))
        except EzGraphError as error:
            plan.cannot.append(InTheWay(f"settings {address}", str(error)))
            continue
        wanted = _wanted(plan, state, address, graph.settings[address])
        if wanted is not None and _is_allowed(plan, asker, "set", ("settings", address)):
            plan.settings.append(wanted)
    again = {each.address for each in plan.settings}
    plan.settled += sorted(state.owed.keys() - again)
    for address in sorted(state.settings.keys() - graph.settings.keys()):
        plan.not_restored.append((f"settings {address}", "the snapshot has none here"))


def _wanted(
    plan: RestorePlan, state: GraphState, address: str, value: SettingsSnapshotValue
) -> SettingsWanted | None:
    """Return what is to be asked of the owner at an address; None: nothing can, or is to be."""
    what, owner = f"settings {address}", state.unit_owner.get(address)
    now, entry = settings_at(state, address), state.settings.get(address)
    schema = schema_at(state, address)
    change = change_towards(now, value, schema)
    whose = "" if owner is None else describe_process(state, owner)
    if change is None:
        why = "they are opaque bytes or text, which nobody can set from outside"
        plan.cannot.append(InTheWay(what, why, whose))
        return None
    if change.read_only:
        fields = ", ".join(change.read_only)
        plan.not_restored.append((what, f"{fields}: its owner shows it, and nobody sets it"))
    if change.stays:
        plan.not_restored.append((what, f"{', '.join(change.stays)}: not in the snapshot"))
    if change.unfit:
        plan.cannot.append(InTheWay(what, "; ".join(change.unfit), whose))
        return None
    is_left = bool(change.read_only or change.stays) and not change.changes
    if is_left and address not in state.owed:
        return None
    base_seq = 0 if entry is None else entry.seq
    return SettingsWanted(address, value, change.changes, change.whole, owner, base_seq)


class ChangeTowards(NamedTuple):
    """What makes settings what they are to be; ``whole``: ``changes`` are all fields.

    ``read_only`` fields differ, and cannot be set; ``stays``: fields that the wanted ones lack.
    ``unfit``: why other fields cannot be what they were.
    """

    changes: dict[str, Any]
    whole: bool = False
    read_only: tuple[str, ...] = ()
    stays: tuple[str, ...] = ()
    unfit: tuple[str, ...] = ()


def change_towards(
    now: SettingsSnapshotValue | None,
    wanted: SettingsSnapshotValue,
    schema: SettingsSchemaMetadata | None,
) -> ChangeTowards | None:
    """Return what turns the settings ``now`` into those ``wanted``; None: nobody could say.

    Where there are none now, or none with fields, all that may be set is set.
    """
    target = fields_of(wanted)
    if target is None:
        return None
    present = None if now is None else fields_of(now)
    odd, others = _odd(target), _odd(present or {})
    if (odd and canonical(odd) != canonical(others)) or (others and others.keys() != odd.keys()):
        names = ", ".join(repr(name)[:_SHOWN_NAME] for name in [*odd, *others][:_SHOWN])
        return ChangeTowards({}, unfit=(f"{names}: no names by which a field can be set",))
    target = {name: value for name, value in target.items() if name not in odd}
    schema = schema or wanted.settings_schema
    stays = tuple(str(name) for name in present or () if name not in target and name not in odd)
    if schema is None:  # a mapping of anything: it can also lose fields
        is_whole = bool(stays)
        if is_whole and odd:
            return ChangeTowards({}, unfit=(f"{', '.join(stays)}: nobody can take away a field",))
        changes = target if is_whole or present is None else dict(different(target, present))
        return ChangeTowards(dict(changes), is_whole)
    fit, read_only, unfit = _judged(schema, different(target, present or {}))
    return ChangeTowards(fit, read_only=read_only, stays=stays, unfit=unfit)


def _odd(fields: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return the fields whose names lead nowhere as a dotted path."""
    return {
        name: value
        for name, value in fields.items()
        if not isinstance(name, str) or not name or "." in name
    }


def _judged(
    schema: SettingsSchemaMetadata, changes: Iterable[tuple[str, object]]
) -> tuple[dict[str, object], tuple[str, ...], tuple[str, ...]]:
    """Return which changes fit, which are of fields that are only shown, and why others do not."""
    found = dict(changes)
    with suppress(EzGraphError):
        check_change(schema, found)
        return found, (), ()
    fit: dict[str, object] = {}
    read_only, unfit = [], []
    for path, value in found.items():
        try:
            check_change(schema, {path: value})
        except ReadOnlyFieldError:
            read_only.append(path)
        except EzGraphError as error:
            unfit.append(str(error))
        else:
            fit[path] = value
    return fit, tuple(read_only), tuple(unfit)


def fields_of(value: SettingsSnapshotValue) -> Mapping[str, Any] | None:
    """Return settings as fields, if they have any."""
    shown = value.structured_value
    if shown is None and isinstance(value.repr_value, dict):
        shown = value.repr_value
    return shown


def schema_at(state: GraphState, address: str) -> SettingsSchemaMetadata | None:
    """Return what the settings at an address are judged by."""
    entry, component = state.settings.get(address), state.components.get(address)
    if entry is not None and entry.value.settings_schema is not None:
        return entry.value.settings_schema
    return None if component is None else component.metadata.settings_schema


def describe_process(state: GraphState, process_id: UUID) -> str:
    """Return who a process is, for a person."""
    process = state.processes.get(process_id)
    if process is None:
        return f"process {process_id}"
    source = process.source
    return f"process {process_id} ({source.program} on {source.host}, pid {source.pid})"


# --- components ---


def _note_components(
    plan: RestorePlan, state: GraphState, graph: GraphContent, changed: set[str]
) -> None:
    """Say which programs would have to be started, or ended, or be what they were."""
    there, then = state.components, graph.components
    for address in sorted(then - there.keys()):
        why = "it is gone: its program registers it when it is started"
        plan.not_restored.append((f"component {address}", why))
    for address in sorted(there.keys() - then):
        session = describe_owner(state, there[address].session_id)
        why = f"the snapshot does not have it; it goes with {session}"
        plan.not_restored.append((f"component {address}", why))
    for address in sorted(changed & there.keys()):
        why = "its program registered it otherwise than it was"
        plan.not_restored.append((f"component {address}", why))
