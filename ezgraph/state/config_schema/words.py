"""The words of JSON Schema 2020-12, each with a bound on what it costs.

Most are the validator's own, counted and stopped at their first error. Ours are those whose cost
nobody could count from outside (patterns, ``uniqueItems``, ``unevaluatedProperties``), whose answer
depends on what else is installed (``format``), or that would look something up (``$ref``).
``multipleOf`` is ours as well: 0.3 is a multiple of 0.1, in decimals as they are written.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any
from uuid import UUID

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import create

from ezgraph.state.config_schema.forms import identity, shown
from ezgraph.state.config_schema.steps import current

if TYPE_CHECKING:
    from ezgraph.state.config_schema.document import Choices
    from ezgraph.state.config_schema.patterns import Pattern

Errors = Iterable[ValidationError]
Word = Callable[[Any, Any, Any, Any], Errors | None]

_LISTED = 5
_LONGEST_FORMATTED = 1_000
_STEPS_OF_AN_ERROR = 3
"""An error costs that much to make, also one that an alternative makes good."""


# --- words of ours: (validator, what the schema wants, the value, the schema) ---


def _ref(validator: Any, target: Any, value: Any, _: Any) -> Errors:  # noqa: ANN401
    return validator.descend(value, target)  # type: ignore[no-any-return]


def _enum(_: Any, choices: Choices, value: Any, __: Any) -> Errors:  # noqa: ANN401
    if identity(value, current.get()) not in choices.identities:
        listed = ", ".join(map(shown, choices[:_LISTED]))
        more = f", ... {len(choices)} in all" if len(choices) > _LISTED else ""
        yield ValidationError(f"{value!r} is not one of [{listed}{more}]")


def _const(_: Any, choices: Choices, value: Any, __: Any) -> Errors:  # noqa: ANN401
    if identity(value, current.get()) not in choices.identities:
        yield ValidationError(f"{value!r} is not {shown(choices[0])}, the one value allowed")


def _multiple_of(validator: Any, unit: Any, value: Any, _: Any) -> Errors:  # noqa: ANN401
    if validator.is_type(value, "number") and (_exact(value) / _exact(unit)).denominator != 1:
        yield ValidationError(f"{value!r} is not a multiple of {unit!r}")


def _exact(number: float) -> Fraction:
    return Fraction(number) if isinstance(number, int) else Fraction(repr(number))


def _unique_items(validator: Any, wanted: Any, value: Any, _: Any) -> Errors:  # noqa: ANN401
    if not wanted or not validator.is_type(value, "array"):
        return
    current.get().spend(len(value) // 2)
    first: dict[str, int] = {}
    for index, item in enumerate(value):
        before = first.setdefault(identity(item, current.get()), index)
        if before != index:
            yield ValidationError(f"items {before} and {index} are equal: {shown(item)}")
            return


def _pattern(validator: Any, pattern: Pattern, value: Any, _: Any) -> Errors:  # noqa: ANN401
    if validator.is_type(value, "string") and not pattern.is_in(value, current.get()):
        yield ValidationError(f"{value!r} does not match the pattern {pattern!r}")


def _format(validator: Any, form: str, value: Any, _: Any) -> Errors:  # noqa: ANN401
    reads = _FORMATS.get(form)
    if reads is None or not validator.is_type(value, "string"):
        return
    if len(value) > _LONGEST_FORMATTED or not _is_read(reads, str(value)):
        yield ValidationError(f"{value!r} is not of the format {form!r}")


def _is_read(reads: Callable[[str], object], text: str) -> bool:
    try:
        reads(text)
    except ValueError:
        return False
    return True


def _date_time(text: str) -> None:
    dt.datetime.fromisoformat(text)
    if len(text) <= len("2026-01-01"):
        raise ValueError(text)  # a day, without a time


_FORMATS: dict[str, Callable[[str], object]] = {
    "date-time": _date_time,
    "date": dt.date.fromisoformat,
    "time": dt.time.fromisoformat,
    "ipv4": ipaddress.IPv4Address,
    "ipv6": ipaddress.IPv6Address,
    "uuid": UUID,
}
"""Those that are judged; all others are notes to the reader, as the standard has it."""


def _pattern_properties(validator: Any, patterns: Any, value: Any, _: Any) -> Errors:  # noqa: ANN401
    if not validator.is_type(value, "object"):
        return
    steps = current.get()
    for pattern, schema in patterns:
        steps.spend(len(value))
        for name, item in value.items():
            if pattern.is_in(name, steps):
                yield from validator.descend(item, schema, path=name)


def _additional_properties(validator: Any, wanted: Any, value: Any, schema: Any) -> Errors:  # noqa: ANN401
    if not validator.is_type(value, "object"):
        return
    named = _names_of_own(schema, value)
    yield from _others(validator, "additionalProperties", wanted, value, named)


def _unevaluated_properties(validator: Any, wanted: Any, value: Any, schema: Any) -> Errors:  # noqa: ANN401
    if not validator.is_type(value, "object"):
        return
    own = {word: each for word, each in schema.items() if word != "unevaluatedProperties"}
    evaluated = _evaluated_names(validator, value, own)
    yield from _others(validator, "unevaluatedProperties", wanted, value, evaluated)


def _others(validator: Any, word: str, wanted: Any, value: Any, judged: set[str]) -> Errors:  # noqa: ANN401
    """Judge the members that no other word has judged."""
    current.get().spend(len(value))
    others = [name for name in value if name not in judged]
    if wanted is False and others:
        listed = ", ".join(map(shown, others[:_LISTED]))
        more = f" and {len(others) - _LISTED} more" if len(others) > _LISTED else ""
        yield ValidationError(f"{listed}{more} may not be there ({word} is false)")
        return
    for name in others:
        yield from validator.descend(value[name], wanted, path=name)


def _unevaluated_items(validator: Any, wanted: Any, value: Any, schema: Any) -> Errors:  # noqa: ANN401
    if not validator.is_type(value, "array"):
        return
    own = {word: each for word, each in schema.items() if word != "unevaluatedItems"}
    evaluated = _evaluated_items(validator, value, own)
    current.get().spend(len(value))
    for index, item in enumerate(value):
        if index not in evaluated:
            yield from validator.descend(item, wanted, path=index)


# --- what other words have judged ---


def _names_of_own(schema: Any, value: Any) -> set[str]:  # noqa: ANN401
    """Return the members that ``properties`` and ``patternProperties`` name."""
    steps = current.get()
    steps.spend(1 + len(value) // 8)
    named = {name for name in value if name in schema.get("properties", ())}
    for pattern, _ in schema.get("patternProperties", ()):
        steps.spend(len(value))
        named.update(name for name in value if pattern.is_in(name, steps))
    return named


def _evaluated_names(validator: Any, value: Any, schema: Any) -> set[str]:  # noqa: ANN401
    if "additionalProperties" in schema or "unevaluatedProperties" in schema:
        return set(value)
    names = _names_of_own(schema, value)
    for each in _holding(validator, value, schema):
        with current.get():
            names |= _evaluated_names(validator, value, each)
    return names


def _evaluated_items(validator: Any, value: Any, schema: Any) -> set[int]:  # noqa: ANN401
    steps = current.get()
    steps.spend(1 + len(value) // 8)
    if "items" in schema or "unevaluatedItems" in schema:
        return set(range(len(value)))
    indexes = set(range(len(schema.get("prefixItems", ()))))
    if "contains" in schema:
        held = validator.evolve(schema=schema["contains"])
        steps.spend(len(value))
        indexes.update(index for index, item in enumerate(value) if held.is_valid(item))
    for each in _holding(validator, value, schema):
        with steps:
            indexes |= _evaluated_items(validator, value, each)
    return indexes


def _holding(validator: Any, value: Any, schema: Any) -> Iterator[Any]:  # noqa: ANN401
    """Yield the schemas that a schema applies to the same value, and that the value fits."""

    def fits(each: Any) -> bool:  # noqa: ANN401
        current.get().spend(1)
        return bool(validator.evolve(schema=each).is_valid(value))

    held = [schema["$ref"]] if "$ref" in schema else []
    for word in ("allOf", "anyOf", "oneOf"):
        held.extend(schema.get(word, ()))
    for name, each in schema.get("dependentSchemas", {}).items():
        held.extend([each] if name in value else [])
    if "if" in schema:
        branch = "then" if fits(schema["if"]) else "else"
        held.extend(schema[word] for word in ("if", branch) if word in schema)
    yield from (each for each in held if isinstance(each, dict) and fits(each))


# --- all of them, counted ---


def _counted(judge: Word, cost: Callable[[Any, Any], int]) -> Word:
    """Return a word that spends steps, and stops at its first error: one is all we tell."""

    def judged(validator: Any, wanted: Any, value: Any, schema: Any) -> Errors:  # noqa: ANN401
        steps = current.get()
        steps.spend(1 + cost(wanted, value))
        with steps:
            error = next(iter(judge(validator, wanted, value, schema) or ()), None)
        if error is None:
            return ()
        steps.spend(_STEPS_OF_AN_ERROR)
        return (error,)

    return judged


def _once(_: Any, __: Any) -> int:  # noqa: ANN401
    return 0


def _for_each_wanted(wanted: Any, _: Any) -> int:  # noqa: ANN401
    return len(wanted) * _STEPS_OF_AN_ERROR  # each may be ``false``


def _for_some_wanted(wanted: Any, _: Any) -> int:  # noqa: ANN401
    return len(wanted) // 8  # mostly one look into a mapping


def _for_each_item(_: Any, value: Any) -> int:  # noqa: ANN401
    return len(value) if isinstance(value, dict | list) else 0


def _for_dependent(wanted: Any, _: Any) -> int:  # noqa: ANN401
    return sum(map(len, wanted.values())) // 8


_THEIRS: dict[str, Callable[[Any, Any], int]] = {
    "allOf": _for_each_wanted,
    "anyOf": _for_each_wanted,
    "contains": _for_each_item,
    "dependentRequired": _for_dependent,
    "dependentSchemas": _for_each_wanted,
    "exclusiveMaximum": _once,
    "exclusiveMinimum": _once,
    "if": _once,
    "items": _for_each_item,
    "maxItems": _once,
    "maxLength": _once,
    "maxProperties": _once,
    "maximum": _once,
    "minItems": _once,
    "minLength": _once,
    "minProperties": _once,
    "minimum": _once,
    "not": _once,
    "oneOf": _for_each_wanted,
    "prefixItems": _for_each_wanted,
    "properties": _for_some_wanted,
    "propertyNames": _for_each_item,
    "required": _for_some_wanted,
    "type": _once,
}
_OURS: dict[str, Word] = {
    "$ref": _ref,
    "additionalProperties": _additional_properties,
    "const": _const,
    "enum": _enum,
    "format": _format,
    "multipleOf": _multiple_of,
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "unevaluatedItems": _unevaluated_items,
    "unevaluatedProperties": _unevaluated_properties,
    "uniqueItems": _unique_items,
}

Validator = create(
    meta_schema=Draft202012Validator.META_SCHEMA,
    validators={
        word: _counted(Draft202012Validator.VALIDATORS[word], cost)
        for word, cost in _THEIRS.items()
    }
    | {word: _counted(judge, _once) for word, judge in _OURS.items()},
    type_checker=Draft202012Validator.TYPE_CHECKER,
)
"""Judges by schemas that `read_schema` made, within the steps of `current`."""
