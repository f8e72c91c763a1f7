"""Rules for the configuration: one transaction of puts and deletes, and the schemas. Pure.

A transaction is decided against the state before it: its conditions first, then each put and delete
(no key comes twice). What asks for what is there already makes no event. What it puts must fit the
limits and the schema of its type; else all of it is refused.

What only bytes and a validator can tell, how large a value is and whether it fits a schema, is
asked of `ValueChecks`, which the broker is given.
"""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, assert_never

from ezgraph.errors import (
    EzGraphError,
    InvalidCommandError,
    InvalidKeyError,
    LimitError,
    PreconditionFailedError,
    SchemaViolationError,
)
from ezgraph.protocol.config import (
    ConfigAbsent,
    ConfigAtSeq,
    ConfigCreatedAt,
    ConfigHasValue,
    ConfigPresent,
    ConfigPut,
    bus_key,
    config_key_text,
)
from ezgraph.protocol.events import Body, ConfigSchemaSet, ConfigValueDeleted, ConfigValueSet
from ezgraph.protocol.fingerprints import canonical
from ezgraph.state.config_schema import Violation, check_schema, judged_together, violation
from ezgraph.state.config_values import is_deeper_than, is_same_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ezgraph.config import Limits
    from ezgraph.names import Key
    from ezgraph.protocol.commands import ChangeConfig, SetConfigSchema
    from ezgraph.protocol.config import ConfigCondition
    from ezgraph.state.config import ConfigState, HeldEntry

_SHOWN_CHARACTERS = 200
_SHOWN_VIOLATIONS = 3
_brief = reprlib.Repr()
_brief.maxdict = _brief.maxlist = _brief.maxtuple = 8
_brief.maxstring = _brief.maxother = 100


@dataclass(frozen=True, slots=True)
class ValueChecks:
    """What is asked about values. ``size_bytes``: what one takes up, encoded.

    ``check_schema`` and ``violation`` are those of `ezgraph.state.config_schema`.
    """

    size_bytes: Callable[[object], int] = lambda value: len(canonical(value))
    check_schema: Callable[[object], None] = check_schema
    violation: Callable[[Mapping[str, Any], object], Violation | None] = violation


@judged_together()
def change(
    config: ConfigState,
    command: ChangeConfig,
    session: str | None,
    *,
    limits: Limits,
    checks: ValueChecks,
) -> tuple[Body, ...]:
    """Decide on one transaction; ``session`` is whose its ephemeral entries will be.

    Raises:
        InvalidCommandError: a key outside the grammar, or twice; ephemeral entries without a
            session.
        PreconditionFailedError: a condition does not hold; says which, and what is there.
        LimitError: too much in one value, or altogether.
        SchemaViolationError: a value does not fit the schema of its type.
    """
    _refuse_malformed(command)
    for condition in command.conditions:
        _refuse_unmet(condition, config.get(condition.type, condition.key))
    puts = [each for put in command.puts for each in _put(config, put, session, limits, checks)]
    deletes = [
        ConfigValueDeleted(each.type, each.key, held.owner)
        for each in command.deletes
        if (held := config.get(each.type, each.key)) is not None
    ]
    _refuse_overfull(config, puts, deletes, session, limits)
    return (*deletes, *puts)


def _put(
    config: ConfigState,
    put: ConfigPut,
    session: str | None,
    limits: Limits,
    checks: ValueChecks,
) -> Iterable[ConfigValueSet]:
    """Return what a put makes true, if it is not so already."""
    owner = _owner(put, session)
    held = config.get(put.type, put.key)
    if held is not None and held.owner == owner and is_same_value(held.value, put.value):
        return ()
    if is_deeper_than(put.value, limits.max_config_depth):
        raise LimitError(
            f"the value of {_named(put)} is nested deeper than {limits.max_config_depth}, the "
            f"limit of this broker (max_config_depth); flatten it"
        )
    size_bytes = checks.size_bytes(put.value)
    if size_bytes > limits.max_config_value_bytes:
        raise LimitError(
            f"the value of {_named(put)} takes {size_bytes} bytes, and one may take "
            f"{limits.max_config_value_bytes} here (max_config_value_bytes); keep what is large in "
            f"a file, and where it is in the configuration"
        )
    schema = config.schemas.get(put.type)
    if schema is not None and (found := checks.violation(schema, put.value)) is not None:
        raise SchemaViolationError(
            f"the value of {_named(put)} does not fit the schema of its type: {_told(found)}; put "
            f"one that does, or change the schema",
            type=put.type,
            path=found.path,
        )
    created_seq = held.created_seq if held is not None else 0
    return (ConfigValueSet(put.type, put.key, put.value, owner, size_bytes, created_seq),)


def _owner(put: ConfigPut, session: str | None) -> str | None:
    if put.ephemeral and session is None:
        raise InvalidCommandError(
            f"{_named(put)} is to be ephemeral, and only a session has entries that end with it; "
            f"use a GraphContext, or put it persistently"
        )
    return session if put.ephemeral else None


def release_config(config: ConfigState, session_id: str) -> list[Body]:
    """Return the events that remove what a session owns."""
    return [
        ConfigValueDeleted(kind, tuple(key), session_id)
        for kind, *key in config.of_session(session_id)
    ]


class BroughtBack(NamedTuple):
    """What it takes for the configuration to be what it was, and what stands in the way.

    ``unfit``: type and key of what cannot be there, and why. ``held``: of what the session named
    beside it holds.
    """

    bodies: list[ConfigValueSet | ConfigValueDeleted]
    unfit: list[tuple[Key, str]]
    held: list[tuple[Key, str]]


@judged_together()
def bring_back(
    config: ConfigState,
    wanted: Mapping[Key, object],
    changed: Iterable[Key],
    session: str | None,
    *,
    limits: Limits,
    checks: ValueChecks,
) -> BroughtBack:
    """Return what makes the entries those that are ``wanted``, by ``(type, *key)``, and no others.

    ``changed`` are those that are not as they are to be, or not there. What ``session`` holds stays
    its own; all else that is put is persistent.
    """
    found = BroughtBack([], [], [])
    puts: list[ConfigValueSet] = []
    deletes: list[ConfigValueDeleted] = []
    for key in config.entries.keys() - wanted.keys():
        entry = config.entries[key]
        if entry.owner not in (None, session):
            found.held.append((key, str(entry.owner)))
        else:
            deletes.append(ConfigValueDeleted(key[0], key[1:], entry.owner))
    for key in sorted(changed):
        held = config.entries.get(key)
        if held is not None and held.owner not in (None, session):
            found.held.append((key, str(held.owner)))
            continue
        is_own = held is not None and held.owner is not None
        try:
            _check_key(key[0], key[1:])
            put = ConfigPut(key[0], key[1:], wanted[key], ephemeral=is_own)
            puts += _put(config, put, session, limits, checks)
        except EzGraphError as error:
            found.unfit.append((key, str(error)))
    try:
        _refuse_overfull(config, puts, deletes, session, limits)
    except EzGraphError as error:
        found.unfit.append(((), str(error)))
    found.bodies[:] = [*sorted(deletes, key=lambda each: (each.type, each.key)), *puts]
    return found


# --- what is refused ---


def _refuse_malformed(command: ChangeConfig) -> None:
    for kind, key in dict.fromkeys((each.type, each.key) for each in command.operations):
        _check_key(kind, key)
    seen: set[tuple[str, Key]] = set()
    for change in command.changes:
        if (change.type, change.key) in seen:
            raise InvalidCommandError(
                f"{_named(change)} is changed twice in one transaction; say once what it is to be"
            )
        seen.add((change.type, change.key))


def _check_key(kind: str, key: Key) -> None:
    if not key:
        raise InvalidCommandError(
            f"a key of type {kind!r} without a name; give at least one, such as 'chunker'"
        )
    try:
        bus_key(kind, key)
    except InvalidKeyError as error:
        raise InvalidCommandError(f"configuration key {_text(kind, key)}: {error}") from error


def _refuse_unmet(condition: ConfigCondition, held: HeldEntry | None) -> None:
    match condition:
        case ConfigAbsent():
            is_met, expected = held is None, "to be absent"
        case ConfigPresent():
            is_met, expected = held is not None, "to be there"
        case ConfigAtSeq(seq=seq):
            is_met = (held.seq if held is not None else 0) == seq
            expected = f"to be that of seq {seq}" if seq else "to be absent"
        case ConfigCreatedAt(seq=seq):
            is_met = held is not None and held.created_seq == seq
            expected = f"to be there since seq {seq}"
        case ConfigHasValue():
            is_met = held is not None and is_same_value(held.value, condition.value)
            expected = f"to be {_cut(condition.value)}"
        case _:
            assert_never(condition)
    if is_met:
        return
    there = "it is absent"
    if held is not None:
        there = f"it is {_cut(held.value)} since seq {held.seq}"
    raise PreconditionFailedError(
        f"{_named(condition)} was expected {expected}, and {there}; nothing was changed: read it "
        f"again, and decide anew"
    )


def _refuse_overfull(
    config: ConfigState,
    puts: list[ConfigValueSet],
    deletes: list[ConfigValueDeleted],
    session: str | None,
    limits: Limits,
) -> None:
    """Refuse to have more than there may be; less than before is never refused."""
    changes: list[ConfigValueSet | ConfigValueDeleted] = [*puts, *deletes]
    before = [config.get(each.type, each.key) for each in changes]
    there = [each for each in before if each is not None]
    grown = len(puts) - len(there)
    if grown > 0 and len(config) + grown > limits.max_config_entries:
        raise LimitError(
            f"the configuration has {len(config)} entries, and may have "
            f"{limits.max_config_entries} here (max_config_entries); delete some first"
        )
    more_bytes = sum(p.value_bytes for p in puts) - sum(h.change.value_bytes for h in there)
    if more_bytes > 0 and config.size_bytes + more_bytes > limits.max_config_bytes:
        raise LimitError(
            f"the values of the configuration take {config.size_bytes} bytes, and may take "
            f"{limits.max_config_bytes} here (max_config_bytes); delete some first"
        )
    if session is None:
        return
    own = sum(p.owner is not None for p in puts) - sum(h.owner == session for h in there)
    if own > 0 and config.count_of(session) + own > limits.max_config_entries_per_lease:
        raise LimitError(
            f"this session owns {config.count_of(session)} entries, and one may own "
            f"{limits.max_config_entries_per_lease} here (max_config_entries_per_lease); put some "
            f"persistently, or in another session"
        )


# --- schemas ---


@judged_together()
def set_schema(
    config: ConfigState, command: SetConfigSchema, *, limits: Limits, checks: ValueChecks
) -> tuple[Body, ...]:
    """Decide that values of a type are judged by a schema from now on, or by none.

    Raises:
        InvalidCommandError: the type lies outside the grammar.
        InvalidSchemaError: it is no schema that values can be judged by.
        LimitError: it is too large, or there are too many, or too many entries to judge.
        SchemaViolationError: entries that are there do not fit; names the first few.
        UnsupportedError: this broker has no validator.
    """
    kind, schema = command.type, command.schema
    try:
        bus_key(kind)
    except InvalidKeyError as error:
        raise InvalidCommandError(f"type of configuration {kind[:60]!r}: {error}") from error
    if schema is None:
        return (ConfigSchemaSet(kind, None),) if kind in config.schemas else ()
    if kind in config.schemas and is_same_value(config.schemas[kind], schema):
        return ()
    _refuse_large_schema(config, kind, schema, limits, checks)
    checks.check_schema(schema)
    _refuse_unfit_entries(config, kind, schema, limits, checks)
    return (ConfigSchemaSet(kind, schema),)


def _refuse_large_schema(
    config: ConfigState, kind: str, schema: object, limits: Limits, checks: ValueChecks
) -> None:
    size_bytes = checks.size_bytes(schema)
    if size_bytes > limits.max_config_schema_bytes:
        raise LimitError(
            f"the schema of {kind!r} takes {size_bytes} bytes, and one may take "
            f"{limits.max_config_schema_bytes} here (max_config_schema_bytes); make it shorter"
        )
    if kind not in config.schemas and len(config.schemas) >= limits.max_config_schemas:
        raise LimitError(
            f"{len(config.schemas)} types of configuration have a schema, as many as may here "
            f"(max_config_schemas); take some away first"
        )


def _refuse_unfit_entries(
    config: ConfigState,
    kind: str,
    schema: Mapping[str, Any],
    limits: Limits,
    checks: ValueChecks,
) -> None:
    unfit: list[str] = []
    for count, key in enumerate(config.keys_under((kind,)), 1):
        if count > limits.max_config_judged:
            raise LimitError(
                f"{kind!r} has more than {limits.max_config_judged} entries, and to judge them all "
                f"would hold everybody up (max_config_judged); set a schema before they are put"
            )
        found = checks.violation(schema, config.entries[key].value)
        if found is not None:
            unfit.append(f"{config_key_text(key[1:])!r}: {_told(found)}")
        if len(unfit) > _SHOWN_VIOLATIONS:
            break
    if unfit:
        more = ", and there are more" if len(unfit) > _SHOWN_VIOLATIONS else ""
        raise SchemaViolationError(
            f"entries of type {kind!r} do not fit this schema: "
            f"{'; '.join(unfit[:_SHOWN_VIOLATIONS])}{more}; change them first, or the schema"
        )


# --- words ---


def _named(what: ConfigPut | ConfigCondition | Any) -> str:  # noqa: ANN401 - whatever has a key
    return f"configuration {_text(what.type, what.key)}"


def _text(kind: str, key: Key) -> str:
    text = f"{kind!r} {config_key_text(key)!r}"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _told(found: Violation) -> str:
    where = found.path or "the value itself"
    return f"{where}: {found.message}"


def _cut(value: object) -> str:
    shown = _brief.repr(value)  # it may be as large as a frame
    return shown if len(shown) <= _SHOWN_CHARACTERS else f"{shown[:_SHOWN_CHARACTERS]}…"
