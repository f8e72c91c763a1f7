"""A JSON Schema as it came, made into one that values are judged by.

It is copied word for word, and only words that we know: what a copy does not hold, the validator
cannot act on (a ``$schema`` below the root would make it go on with other, unbounded words). Each
``$ref`` becomes the schema it refers to, so nothing is ever looked up, let alone fetched.

Refused is what has no meaning here: references to other documents, dynamic references, schemas
within the schema that are documents of their own, other drafts, references that lead back to
themselves without going into the value, and more than can be judged in bounded time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from ezgraph.errors import InvalidSchemaError
from ezgraph.state.config_schema.forms import Array, Object, identity, short, shown
from ezgraph.state.config_schema.patterns import Pattern, PatternError

MAX_NODES = 10_000
MAX_SCHEMAS = 1_000
MAX_DEPTH = 64
MAX_TEXT = 256 * 1024
MAX_PATTERNS = 200
MAX_INSTRUCTIONS = 50_000
"""Of all patterns together; each character of a text can cost as many."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_ONE = frozenset({
    "additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then",
    "unevaluatedItems", "unevaluatedProperties",
})  # fmt: skip
_MANY = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_NAMED = frozenset({"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"})
_SAME_VALUE = frozenset({"allOf", "anyOf", "oneOf", "not", "if", "then", "else"})
_FACTS = frozenset({
    "const", "dependentRequired", "enum", "exclusiveMaximum", "exclusiveMinimum", "format",
    "maxContains", "maxItems", "maxLength", "maxProperties", "maximum", "minContains", "minItems",
    "minLength", "minProperties", "minimum", "multipleOf", "pattern", "required", "type",
    "uniqueItems",
})  # fmt: skip
_ANY_VALUE = frozenset({"const", "default", "enum", "examples"})
_REFUSED = {
    "$dynamicRef": "dynamic references are not supported; use $ref",
    "$recursiveRef": "recursive references are those of an older draft; use $ref",
}
_TYPES = 7

Schema = Object | bool


class Choices(Array):
    """What an ``enum`` or ``const`` allows, and the identity of each."""

    __slots__ = ("identities",)

    def __init__(self, choices: list[Any]) -> None:
        super().__init__(map(short, choices))
        self.identities = frozenset(map(identity, choices))


def read_schema(given: object) -> Object:
    """Return what values are judged by.

    Raises:
        InvalidSchemaError: it is no schema, or none that can be judged by; says what and where.
    """
    if not isinstance(given, Mapping):
        raise InvalidSchemaError(
            f"a schema is a mapping such as {{'type': 'object'}}, not {type(given).__name__}; "
            f"give None to have no schema"
        )
    _check_size(given)
    reader = _Reader()
    root = reader.read("", given)
    reader.resolve()
    if not isinstance(root, Object):  # a mapping is never read as true or false
        raise TypeError(root)
    return root


# --- sizes ---


def _check_size(given: object) -> None:
    nodes = text = 0
    level: list[tuple[str, Any]] = [("", given)]
    for _ in range(MAX_DEPTH):
        below: list[tuple[str, Any]] = []
        for place, node in level:
            nodes += 1
            text += len(node) if isinstance(node, str) else 0
            _check_json(place, node)
            below.extend(_inside(place, node))
            if nodes + len(below) > MAX_NODES or text > MAX_TEXT:
                raise InvalidSchemaError(
                    f"the schema is too large: more than {MAX_NODES:,} values or {MAX_TEXT:,} "
                    f"characters of text; make it smaller, or split the type"
                )
        level = below
        if not level:
            return
    raise _error(level[0][0], f"it is nested deeper than {MAX_DEPTH}; flatten it, or use $ref")


def _inside(place: str, node: object) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        yield from ((f"{place}/{step(name)}", item) for name, item in node.items())
    elif isinstance(node, list | tuple):
        yield from ((f"{place}/{index}", item) for index, item in enumerate(node))


def _check_json(place: str, node: object) -> None:
    if isinstance(node, Mapping):
        odd = next((name for name in node if not isinstance(name, str)), None)
        if odd is not None:
            raise _error(place, f"the name {odd!r} is no text")
    elif isinstance(node, float) and not math.isfinite(node):
        raise _error(place, f"{node!r} is no JSON number")
    elif node is not None and not isinstance(node, bool | int | float | str | list | tuple):
        raise _error(place, f"a {type(node).__name__} is no JSON value; give text, numbers, lists")


def step(name: object) -> str:
    """Return one step of a JSON pointer."""
    return str(name).replace("~", "~0").replace("/", "~1")


def _error(place: str, why: str) -> InvalidSchemaError:
    where = f"at {place!r}" if place else "at its root"
    return InvalidSchemaError(f"the schema cannot be used: {where} {why}")


# --- words ---


class _Reader:
    """Reads one document: the schemas in it by where they stand, and what refers to what."""

    def __init__(self) -> None:
        self.places: dict[str, Schema] = {}
        self.references: list[tuple[str, Object, str]] = []
        self.patterns: list[Pattern] = []

    def read(self, place: str, given: object) -> Schema:
        if isinstance(given, bool):
            self._keep(place, given, place)
            return given
        if not isinstance(given, Mapping):
            raise _error(place, f"{shown(given)} is no schema; give a mapping, true or false")
        schema = Object()
        self._keep(place, schema, place)
        _check_words(place, given)
        for word, wanted in given.items():
            where = f"{place}/{step(word)}"
            if word in _ONE:
                schema[word] = self.read(where, wanted)
            elif word in _MANY:
                schema[word] = self._many(where, wanted)
            elif word in _NAMED:
                schema[word] = self._named(where, word, wanted)
            elif word in _FACTS:
                schema[word] = self._fact(where, word, wanted)
            elif word == "$ref":
                self.references.append((where, schema, wanted))
            elif word in ("$anchor", "$dynamicAnchor"):
                self._keep(f"#{wanted}", schema, where)
        return schema

    def _keep(self, place: str, schema: Schema, where: str) -> None:
        if place in self.places:
            raise _error(where, f"the anchor {place[1:]!r} is there already")
        if len(self.places) >= MAX_SCHEMAS:
            raise InvalidSchemaError(
                f"the schema has more than {MAX_SCHEMAS:,} schemas in it; share them with $ref"
            )
        self.places[place] = schema

    def _many(self, place: str, wanted: Any) -> Array:  # noqa: ANN401
        return Array(self.read(f"{place}/{index}", each) for index, each in enumerate(wanted))

    def _named(self, place: str, word: str, wanted: Any) -> Any:  # noqa: ANN401
        read = {name: self.read(f"{place}/{step(name)}", each) for name, each in wanted.items()}
        if word == "patternProperties":
            return [
                (self._pattern(f"{place}/{step(text)}", text), each) for text, each in read.items()
            ]
        return Object({short(name): each for name, each in read.items()})

    def _fact(self, place: str, word: str, wanted: Any) -> Any:  # noqa: ANN401
        match word:
            case "enum":
                return Choices([short(each) for each in wanted])
            case "const":
                return Choices([short(wanted)])
            case "pattern":
                return self._pattern(place, wanted)
            case _:
                return short(wanted)

    def _pattern(self, place: str, text: str) -> Pattern:
        try:
            self.patterns.append(Pattern(text))
        except PatternError as error:
            raise _error(
                place,
                f"the pattern {shown(text)} cannot be used: {error}. Patterns are those of RE2 "
                f"(no look-around, no back references), whose time is bounded",
            ) from error
        size = sum(each.size for each in self.patterns)
        if len(self.patterns) > MAX_PATTERNS or size > MAX_INSTRUCTIONS:
            raise _error(
                place,
                f"there are more patterns than the {MAX_PATTERNS} allowed, or larger ones "
                f"({size:,} instructions of {MAX_INSTRUCTIONS:,}); make them fewer and shorter",
            )
        return self.patterns[-1]

    def resolve(self) -> None:
        """Put what is referred to in the place of each reference."""
        for where, schema, target in self.references:
            schema["$ref"] = self._target(where, target)
        for place, each in self.places.items():
            if isinstance(each, Object):
                _check_no_loop(place, each)

    def _target(self, where: str, target: str) -> Schema:
        if not target.startswith("#"):
            raise _error(
                where, f"{target!r} lies outside; nothing is fetched: put it under $defs here"
            )
        place = target[1:] if target[1:2] in ("", "/") else target
        found = self.places.get(_percent_decoded(place))
        if found is None:
            raise _error(where, f"{target!r} refers to no schema in this document")
        return found


def _percent_decoded(fragment: str) -> str:
    head, *rest = fragment.encode().split(b"%")
    decoded = [head]
    for part in rest:
        try:
            decoded.append(bytes.fromhex(part[:2].decode("ascii")) + part[2:])
        except ValueError:
            decoded.append(b"%" + part)
    return b"".join(decoded).decode(errors="replace")


def _check_words(place: str, given: Mapping[str, Any]) -> None:
    """Refuse words that are misused, all that stands here but not the schemas within it."""
    for word, why in _REFUSED.items():
        if word in given:
            raise _error(f"{place}/{word}", why)
    if place and (odd := next((word for word in ("$schema", "$id") if word in given), None)):
        raise _error(f"{place}/{odd}", "only the whole schema may have it: it is one document")
    if str(given.get("$schema", DIALECT)).removesuffix("#") != DIALECT:
        raise _error("/$schema", f"{shown(given['$schema'])} is not known; it must be {DIALECT!r}")
    _check_lists(place, given)
    flat = {word: _flat(word, wanted) for word, wanted in given.items() if word != "$schema"}
    try:
        Draft202012Validator.check_schema(flat, format_checker=None)
    except SchemaError as error:
        below = "".join(f"/{step(each)}" for each in error.path)
        raise _error(f"{place}{below}", error.message[:300]) from error


def _check_lists(place: str, given: Mapping[str, Any]) -> None:
    """Refuse lists of names that are none, before the validator compares each with each."""
    for word in ("type", "required"):
        names = given.get(word)
        if isinstance(names, list | tuple):
            if not all(isinstance(each, str) for each in names):
                raise _error(f"{place}/{word}", "it must be a list of texts")
            if word == "type" and len(names) > _TYPES:
                raise _error(f"{place}/{word}", f"there are {_TYPES} types, not {len(names)}")
    dependent = given.get("dependentRequired")
    for name, names in dependent.items() if isinstance(dependent, Mapping) else ():
        _check_lists(f"{place}/dependentRequired/{step(name)}", {"required": names})


def _flat(word: str, wanted: Any) -> Any:  # noqa: ANN401
    """Return what a word has, ``true`` for the schemas in it: they are read later."""
    if word in _ANY_VALUE:
        return [] if isinstance(wanted, list | tuple) else None
    if word in _ONE and isinstance(wanted, Mapping):
        return True
    if word in _MANY and isinstance(wanted, list | tuple):
        return Array(True if isinstance(each, Mapping) else short(each) for each in wanted)
    if word in _NAMED and isinstance(wanted, Mapping):
        return Object(
            (short(name), True if isinstance(each, Mapping) else short(each))
            for name, each in wanted.items()
        )
    return short(wanted)


# --- loops ---


def _check_no_loop(place: str, start: Object) -> None:
    """Refuse a schema that is applied to a value because it is applied to that value."""
    seen: set[int] = set()
    waiting = list(_same_value(start))
    while waiting:
        schema = waiting.pop()
        if schema is start:
            raise _error(place, "it refers to itself without going into the value: it never ends")
        if id(schema) not in seen:
            seen.add(id(schema))
            waiting.extend(_same_value(schema))


def _same_value(schema: Object) -> Iterator[Object]:
    """Yield the schemas that are applied to the same value as this one."""
    found: list[Any] = [schema.get("$ref"), *schema.get("dependentSchemas", {}).values()]
    for word in _SAME_VALUE & schema.keys():
        found.extend(schema[word] if word in _MANY else [schema[word]])
    yield from (each for each in found if isinstance(each, Object))
