"""Configuration: its keys as they are typed, its entries, and what a change of it is made of.

An entry has a *type* and a *key*. The type is one name (``active-flow``), the key one or more
(``("chunker", "default")``): any text that is not empty, within the limits of `ezgraph.names`. On
the bus both together are the key ``("config", type, name, name, …)``, under which each change of
the entry is published. ``("config", type)`` itself is where the schema of the type stands.

As text the names are joined with ``:``, as in ``chunker:default``. A ``:`` or ``%`` inside a name,
and what is not printable, is written as ``%XX`` for each byte of its UTF-8; so a text stands for
one key, and every key has a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ezgraph.errors import InvalidKeyError
from ezgraph.names import Key, check_key, topic_of
from ezgraph.protocol.key_text import escaped, unescaped
from ezgraph.protocol.patterns import NamePattern
from ezgraph.protocol.plain import plain

ROOM = "config"
ConfigKey = tuple[str, ...]
ConfigKeyLike = str | Sequence[str]


def config_key_text(key: Sequence[str]) -> str:
    """Return the names of a key as text: ``chunker:default``."""
    return ":".join(escaped(name, "%:") for name in key)


def parse_config_key(text: str) -> ConfigKey:
    """Return the key that a text stands for.

    Raises:
        InvalidKeyError: a name is empty, or there are too many.
    """
    names = tuple(unescaped(name) for name in text.split(":"))
    if "" in names:
        raise InvalidKeyError(
            f"configuration key {text!r} has an empty name; write chunker:default, and a ':' that "
            f"is part of a name as %3A"
        )
    return check_key(names)


def as_config_key(key: ConfigKeyLike) -> ConfigKey:
    """Return a key that is given as text, or as its names (which are taken as they are).

    Raises:
        InvalidKeyError: there is no name, or one is empty or no text.
    """
    found = parse_config_key(key) if isinstance(key, str) else check_key(key)
    if not found:
        raise InvalidKeyError("a configuration key has at least one name, such as 'chunker'")
    return found


def as_config_prefix(prefix: ConfigKeyLike) -> ConfigKey:
    """Return the beginning of keys: as `as_config_key`, or nothing, which is every key's."""
    return () if not prefix else as_config_key(prefix)


def as_config_match(match: ConfigKeyLike) -> list[NamePattern]:
    """Return which keys are meant: those with as many names, each of which matches.

    ``*`` is any name, and a name that ends in ``*`` is every name that begins so. In a text
    (``*:default``) a star that is meant as itself is written ``%2A``.

    Raises:
        InvalidKeyError: there is no name, or one is empty or no text.
    """
    is_text = isinstance(match, str)
    names = match.split(":") if isinstance(match, str) else check_key(match)
    if not names or "" in names:
        raise InvalidKeyError(f"pattern {match!r} has an empty name; '*' is any name")
    return [
        NamePattern(unescaped(text) if is_text else text, name.endswith("*"))
        for name in names
        for text in [name.removesuffix("*")]
    ]


def is_match(match: Sequence[NamePattern], key: Sequence[str]) -> bool:
    """Return whether a key has as many names as a pattern, and each matches."""
    return len(match) == len(key) and all(
        name.matches(part) for name, part in zip(match, key, strict=True)
    )


def bus_key(kind: str, key: Sequence[str] = ()) -> Key:
    """Return where an entry stands on the bus; without a key, where its type does.

    Raises:
        InvalidKeyError: a name is empty or no text, or the whole is too long.
    """
    found = check_key((ROOM, kind, *key))
    topic_of(found)
    return found


@dataclass(frozen=True, slots=True)
class ConfigPut:
    """The entry is to have this value; ``ephemeral``: for as long as the session lives."""

    type: str
    key: tuple[str, ...]
    value: Any
    ephemeral: bool = False


@dataclass(frozen=True, slots=True)
class ConfigDelete:
    """The entry is to be gone."""

    type: str
    key: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConfigAbsent:
    """Only if there is no such entry."""

    type: str
    key: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConfigPresent:
    """Only if there is such an entry."""

    type: str
    key: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConfigAtSeq:
    """Only if the entry was last put at ``seq``; 0: if there is none."""

    type: str
    key: tuple[str, ...]
    seq: int


@dataclass(frozen=True, slots=True)
class ConfigCreatedAt:
    """Only if the entry has been there since ``seq``, whatever was put there since."""

    type: str
    key: tuple[str, ...]
    seq: int


@dataclass(frozen=True, slots=True)
class ConfigHasValue:
    """Only if the entry has this value."""

    type: str
    key: tuple[str, ...]
    value: Any


ConfigCondition = ConfigAbsent | ConfigPresent | ConfigAtSeq | ConfigCreatedAt | ConfigHasValue


@dataclass(frozen=True, slots=True)
class ConfigEntry:
    """What a configuration key has, since the event ``seq``, which is its version.

    ``owner`` is the session that it ends with; None: it is persistent. ``author`` is who put it,
    in words, ``wall_time`` when, by the broker's clock in seconds since 1970. ``created_seq`` is
    since when there is such an entry: another put leaves it as it is.
    """

    type: str
    key: tuple[str, ...]
    value: Any
    seq: int
    owner: str | None
    author: str
    wall_time: float
    created_seq: int = 0

    @property
    def is_ephemeral(self) -> bool:
        """Whether it ends with a session."""
        return self.owner is not None

    @property
    def key_text(self) -> str:
        """The key as text: ``chunker:default``."""
        return config_key_text(self.key)

    def to_json(self) -> dict[str, Any]:
        """Return all of it in JSON's own types."""
        return {**plain(self), "key": list(self.key)}


