r"""Files of configuration: what they say, in the layout of today or the one before. Pure.

The **new layout** is what `written` makes and ``ezgraph config export`` writes::

    {"ezgraph_config": 1,
     "values": {"active-flow": {"chunker:default": {"topics": {}}}},
     "schemas": {"active-flow": {"type": "object"}}}

with values that JSON has not marked as in `ezgraph.cli.configuration.marks`. ``values`` alone,
without the head and without marks, is read too: ``{"active-flow": {"chunker:default": {...}}}``.

The **old layout** has one blob of all variants for each processor, a mapping or the JSON text of
one; the whole may stand under ``config``::

    {"version": 7, "config": {"active-flow": {"chunker": "{\"default\": {...}}"}}}

Which types are so is not to be seen from a value: `BLOB_TYPES`, and those that are named. In these
a key of one name is a blob, which is split; a key of more names is one variant, as in the new
layout. A file with both is refused: it was put together by accident. In all other types both
layouts are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ezgraph.cli.configuration.document import parse_json
from ezgraph.cli.configuration.marks import marked, unmarked
from ezgraph.errors import ConfigError, InvalidKeyError, MalformedMessageError
from ezgraph.protocol.config import ConfigKey, bus_key, config_key_text, parse_config_key
from ezgraph.wire import values

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ezgraph.protocol.config import ConfigEntry

HEAD = "ezgraph_config"
VERSION = 1
BLOB_TYPES = ("active-flow", "flows-active")

Place = tuple[str, ConfigKey]


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What a file says: values by type and key, and the schemas of types."""

    values: dict[Place, Any]
    schemas: dict[str, dict[str, Any]]
    blobs: int = 0
    """How many blobs of the old layout were split."""

    @property
    def kinds(self) -> list[str]:
        """The types that it says something of, in order."""
        return sorted({kind for kind, _ in self.values} | self.schemas.keys())


def written(entries: Iterable[ConfigEntry], schemas: Mapping[str, Any]) -> dict[str, Any]:
    """Return entries and schemas in the new layout, in order of types and keys."""
    by_type: dict[str, dict[str, Any]] = {}
    for entry in sorted(entries, key=lambda each: (each.type, each.key)):
        by_type.setdefault(entry.type, {})[entry.key_text] = marked(entry.value)
    return {HEAD: VERSION, "values": by_type, "schemas": dict(sorted(schemas.items()))}


def read_layout(document: object, where: str, blob_types: Iterable[str] = ()) -> ConfigFile:
    """Return what a document says; ``where`` names it, ``blob_types`` are further such types.

    Raises:
        ConfigError: it is of neither layout, or of both, or a key or value is none; says where.
    """
    whole = _mapping(document, where)
    if HEAD in whole:
        return _read_new(whole, where)
    if "config" in whole:
        others = whole.keys() - {"config", "version"}
        if others:
            raise ConfigError(
                f"{where} mixes layouts: all of the old one stands under 'config', and beside it "
                f"is {min(map(str, others))!r}; make two files of it"
            )
        return _read_types(whole["config"], f"{where}: config", {*BLOB_TYPES, *blob_types})
    return _read_types(whole, where, {*BLOB_TYPES, *blob_types})


def _mapping(found: object, where: str) -> Mapping[str, Any]:
    if not isinstance(found, Mapping):
        raise ConfigError(f"{where} should be a mapping of names, and is {_shown(found)}")
    odd = next((name for name in found if not isinstance(name, str)), None)
    if odd is not None:
        raise ConfigError(f"{where}: the name {odd!r} is no text; put it in quotes")
    return found


def _read_new(whole: Mapping[str, Any], where: str) -> ConfigFile:
    if whole[HEAD] != VERSION:
        raise ConfigError(
            f"{where} is of version {whole[HEAD]!r}, and this ezgraph reads {VERSION}; upgrade it"
        )
    if "config" in whole:
        raise ConfigError(f"{where} mixes layouts: {HEAD!r} is of the new one, 'config' of the old")
    unknown = whole.keys() - {HEAD, "values", "schemas"}
    if unknown:
        raise ConfigError(f"{where}: {min(unknown)!r} is unknown; there are 'values', 'schemas'")
    found: dict[Place, Any] = {}
    for place, form, at in _entries(whole.get("values", {}), f"{where}: values"):
        _add(found, place, unmarked(form, str(at)), at)
    schemas = _mapping(whole.get("schemas", {}), f"{where}: schemas")
    return ConfigFile(
        found,
        {
            _type(kind, f"{where}: schemas"): dict(_mapping(schema, f"{where}: schemas: {kind}"))
            for kind, schema in schemas.items()
        },
    )


def _read_types(types: object, where: str, blob_types: set[str]) -> ConfigFile:
    found: dict[Place, Any] = {}
    blob: _At | None = None
    variant: _At | None = None
    blobs = 0
    for (kind, key), value, at in _entries(types, where):
        if kind not in blob_types:
            _add(found, (kind, key), value, at)
            continue
        if len(key) > 1:
            variant = variant or at
            _add(found, (kind, key), value, at)
        else:
            blob, blobs = blob or at, blobs + 1
            for name, each in _variants(value, at).items():
                _add(found, _place(kind, (*key, name), at), each, at)
        if blob is not None and variant is not None:
            raise ConfigError(
                f"{where} mixes layouts: {blob.below(where)} is a blob of all variants, of the old "
                f"one, and {variant.below(where)} is one variant, of the new; make two files of it"
            )
    return ConfigFile(found, {}, blobs)


def _variants(value: object, at: _At) -> Mapping[str, Any]:
    """Return the variants that a blob has, by name."""
    blob = parse_json(value, f"{at} (a blob of variants)") if isinstance(value, str) else value
    if not isinstance(blob, Mapping):
        raise ConfigError(f"{at} should be a blob of variants by name, and is {_shown(blob)}")
    return _mapping(blob, str(at))


# --- keys and values, told where ---


@dataclass(frozen=True, slots=True)
class _At:
    """Where in a file something stands."""

    where: str
    kind: str
    key: str

    def below(self, where: str) -> str:
        return str(self).removeprefix(f"{where}: ")

    def __str__(self) -> str:
        return f"{self.where}: {self.kind}: {self.key}"


def _entries(types: object, where: str) -> Iterable[tuple[Place, Any, _At]]:
    for kind, keys in _mapping(types, where).items():
        for text, value in _mapping(keys, f"{where}: {kind}").items():
            at = _At(where, kind, text)
            try:
                key = parse_config_key(text)
            except InvalidKeyError as error:
                raise ConfigError(f"{at}: {error}") from error
            yield _place(kind, key, at), value, at


def _place(kind: str, key: ConfigKey, at: object) -> Place:
    try:
        bus_key(kind, key)
    except InvalidKeyError as error:
        raise ConfigError(f"{at}: {error}") from error
    return kind, key


def _type(kind: str, where: str) -> str:
    return _place(kind, (), where)[0]


def _add(found: dict[Place, Any], place: Place, value: object, at: _At) -> None:
    """Note a value that the bus can carry, of a key that has none yet."""
    if place in found:
        raise ConfigError(
            f"{at}: {place_text(place)!r} has a value in this file already, by another spelling "
            f"of its key; keep one"
        )
    try:
        values.pack(value)
    except MalformedMessageError as error:
        raise ConfigError(f"{at}: {error}") from error
    found[place] = value


def _shown(found: object) -> str:
    return f"{found!r:.60} ({type(found).__name__})"


def place_text(place: Place) -> str:
    """Return a type and a key as people read them: ``active-flow chunker:default``."""
    kind, key = place
    return f"{kind} {config_key_text(key)}"
