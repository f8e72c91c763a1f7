"""What a rig makes: artifacts, the partitions they consist of, and who produces them from what.

All are values: compared by content, hashable, checked when made (`InvalidValueError` says which
part will not do, and why). Credentials in a URL are no part of where something is: they are
replaced by ``***`` when a value is made, so they are neither shown nor stored.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from ezgraph.errors import InvalidValueError
from ezgraph.protocol.fingerprints import Fingerprint, digest, named
from ezgraph.protocol.json_form import JsonForm, JsonValue, Misfit
from ezgraph.protocol.tagged import from_tagged, to_tagged
from ezgraph.protocol.urls import without_credentials

MOST_NAME_BYTES = 255
MOST_KEY_BYTES = 1024
_KEY_VALUES = (str, int, float, bool, bytes, dt.date, dt.time, dt.timedelta, UUID, type(None))


def check_name(name: object, what: str) -> str:
    """Return ``name`` if it can name something that is stored.

    Raises:
        InvalidValueError: it is empty, no text, too long, or has control characters.
    """
    if not isinstance(name, str) or not name:
        raise InvalidValueError(f"{name!r:.60} cannot name {what}: give a non-empty text")
    if not name.isprintable():
        raise InvalidValueError(
            f"{name!r:.60} cannot name {what}: it has characters that cannot be shown"
        )
    if (size := len(name.encode())) > MOST_NAME_BYTES:
        raise InvalidValueError(
            f"{name[:40]!r}… cannot name {what}: it has {size} bytes, and {MOST_NAME_BYTES} are "
            f"allowed; shorten it"
        )
    return name


def checked_plain(value: object, what: str) -> Any:  # noqa: ANN401
    """Return a copy of a value that the bus carries, without credentials in its texts.

    Raises:
        InvalidValueError: it holds something that the bus does not carry.
    """
    try:
        to_tagged(value)
    except (InvalidValueError, RecursionError) as error:
        raise InvalidValueError(f"{what}: {error}") from error
    return _cleaned(value)


def _cleaned(value: Any) -> Any:  # noqa: ANN401
    match value:
        case str():
            return without_credentials(value)
        case Mapping():
            return {key: _cleaned(item) for key, item in value.items()}
        case list():
            return [_cleaned(item) for item in value]
        case tuple():
            return tuple(_cleaned(item) for item in value)
        case _:
            return value


class PartitionKey(Mapping[str, Any]):
    """Which partition: a value for each field, as in ``PartitionKey(day="2026-11-22", run=3)``.

    A mapping that cannot be changed and can be a key itself. Values are text, numbers, bytes,
    dates, times, UUIDs, booleans or None; those of different types differ (``1``, ``True``). The
    empty key is that of data that is not partitioned.
    """

    __slots__ = ("_fields", "text")
    text: str
    """The key as JSON, fields in order: each key has one such text."""
    _fields: dict[str, Any]

    def __init__(
        self,
        key: Mapping[str, Any] | Iterable[tuple[str, Any]] = (),
        **fields: Any,  # noqa: ANN401
    ) -> None:
        if isinstance(key, PartitionKey) and not fields:
            self._fields, self.text = key._fields, key.text
            return
        self._fields = dict(sorted(_key_fields(key, fields).items()))
        self.text = _key_text(self._fields)

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PartitionKey):
            return self.text == other.text
        if not isinstance(other, Mapping):
            return NotImplemented
        try:
            return self.text == PartitionKey(other).text
        except InvalidValueError:  # it can be no key at all
            return False

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self._fields.items())
        return f"PartitionKey({shown})"

    @classmethod
    def from_text(cls, text: str) -> PartitionKey:
        """Return the key with this `text`; raises ValueError if there is none."""
        return cls(from_tagged(json.loads(text)))

    @classmethod
    def __json_form__(cls) -> JsonForm:
        def read(spelled: Any) -> PartitionKey:  # noqa: ANN401
            if not isinstance(spelled, Mapping):
                raise Misfit(f"expected the fields of a partition key, got {spelled!r:.60}")
            try:
                return cls(from_tagged(dict(spelled)))
            except ValueError as error:
                raise Misfit(str(error)) from error

        return JsonForm(lambda key: to_tagged(key._fields), read, lambda _: {"type": "object"})


def _key_fields(key: object, named_fields: dict[str, Any]) -> dict[str, Any]:
    try:
        found: dict[str, Any] = {**dict(key), **named_fields}  # type: ignore[call-overload]
    except (TypeError, ValueError) as error:
        raise InvalidValueError(
            f"{key!r:.60} is no partition key: give a mapping of field to value, such as "
            f"{{'day': '2026-11-22', 'run': 3}}"
        ) from error
    for name, value in found.items():
        check_name(name, "a field of a partition key")
        _check_key_value(name, value)
    return found


def _check_key_value(name: str, value: object) -> None:
    if not isinstance(value, _KEY_VALUES) or (isinstance(value, float) and math.isnan(value)):
        raise InvalidValueError(
            f"field {name!r} of a partition key is {value!r:.60} ({type(value).__name__}); it must "
            f"be a text, number (not NaN), bytes, date, time, UUID, boolean or None"
        )


def _key_text(fields: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(to_tagged(fields), separators=(",", ":"), ensure_ascii=False)
        size = len(text.encode())
    except (InvalidValueError, UnicodeEncodeError) as error:
        raise InvalidValueError(f"this is no partition key: {error}") from error
    if size > MOST_KEY_BYTES:
        raise InvalidValueError(
            f"a partition key of {size} bytes, beginning {text[:40]}; {MOST_KEY_BYTES} are allowed"
        )
    return text


InputFingerprints = Mapping[PartitionKey, Fingerprint]
"""Of each partition asked for, what its inputs must have been."""


def input_filter(given: Mapping[Any, Fingerprint]) -> dict[PartitionKey, Fingerprint]:
    """Return a filter by partition key; keys may also be given as pairs of field and value.

    Raises:
        InvalidValueError: a key is no partition key, or a value no fingerprint.
    """
    if not isinstance(given, Mapping):
        raise InvalidValueError(
            f"{given!r:.60} is no filter: give a mapping of PartitionKey to Fingerprint"
        )
    found = {PartitionKey(key): value for key, value in given.items()}
    for key, value in found.items():
        check_fingerprint(value, f"the input fingerprint of {key!r}")
    return found


def check_fingerprint(value: object, what: str) -> Fingerprint:
    """Return ``value`` if it is a fingerprint, or the one that its text shows.

    Raises:
        InvalidValueError: it is neither.
    """
    if isinstance(value, str):
        return Fingerprint.from_hex(value)
    if not isinstance(value, Fingerprint):
        raise InvalidValueError(f"{what} is {value!r:.60}; give a Fingerprint")
    return value


def _set(value: object, **fields: object) -> None:
    """Set fields of a frozen value while it is being made."""
    for name, each in fields.items():
        object.__setattr__(value, name, each)


@dataclass(frozen=True, slots=True)
class Artifact(JsonValue):
    """Data of one kind, wherever it is: a recording, a table, a model.

    ``type`` (what the data is), ``format`` (how it is written) and ``storage`` (where: a path or
    URL, with its fields as ``{day}`` if one likes) are text or a mapping of plain values; artifacts
    with the same ``storage`` share their partitions. ``annotations`` are what people say of it,
    ``statistics`` what was measured.
    """

    key: str
    type: str | dict[str, Any] = ""
    format: str | dict[str, Any] = ""
    storage: str | dict[str, Any] = ""
    annotations: dict[str, Any] = field(default_factory=dict)
    statistics: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name(self.key, "an artifact")
        for name in ("type", "format", "storage"):
            _set(self, **{name: _text_or_mapping(self.key, name, getattr(self, name))})
        for name in ("annotations", "statistics"):
            _set(self, **{name: _mapping(self.key, name, getattr(self, name))})

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of all of it."""
        return _fingerprint(self)

    @property
    def storage_fingerprint(self) -> Fingerprint:
        """The fingerprint of where its partitions are."""
        return Fingerprint.of(self.storage, "ezgraph.storage")

    def __hash__(self) -> int:
        return hash(self.fingerprint)


def _text_or_mapping(key: str, name: str, value: object) -> Any:  # noqa: ANN401
    if not isinstance(value, str | Mapping):
        raise InvalidValueError(
            f"{name} of artifact {key!r} is {value!r:.60} ({type(value).__name__}); give a text, "
            f"or a mapping of plain values"
        )
    return checked_plain(value, f"{name} of artifact {key!r}")


def _mapping(key: str, name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(each, str) for each in value):
        raise InvalidValueError(
            f"{name} of artifact {key!r} are {value!r:.60}; give a mapping of names to plain values"
        )
    found: dict[str, Any] = checked_plain(value, f"{name} of artifact {key!r}")
    return found


@dataclass(frozen=True, slots=True, init=False)
class Partition(JsonValue):
    """One part of an artifact's data: a file, a table's partition, a day.

    ``content_fingerprint`` is that of the data itself; left out, it is made when the partition is
    written. ``input_fingerprint`` is that of what it was made from. ``location`` is a path or URL.
    """

    key: PartitionKey = field(default_factory=PartitionKey)
    content_fingerprint: Fingerprint = Fingerprint.empty()  # noqa: RUF009 - it is frozen
    input_fingerprint: Fingerprint = Fingerprint.empty()  # noqa: RUF009
    location: str = ""
    nbytes: int | None = None

    def __init__(
        self,
        key: Mapping[str, Any] | Iterable[tuple[str, Any]] = (),
        content_fingerprint: Fingerprint | str = Fingerprint.empty(),  # noqa: B008 - it is frozen
        input_fingerprint: Fingerprint | str = Fingerprint.empty(),  # noqa: B008
        location: str = "",
        nbytes: int | None = None,
    ) -> None:
        """Check everything; the fields of the key may be given as a mapping or as pairs."""
        key = PartitionKey(key)
        _set(
            self,
            key=key,
            content_fingerprint=check_fingerprint(
                content_fingerprint, f"the content fingerprint of {key!r}"
            ),
            input_fingerprint=check_fingerprint(
                input_fingerprint, f"the input fingerprint of {key!r}"
            ),
            location=_location(key, location),
            nbytes=_nbytes(key, nbytes),
        )

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of all that is said of it."""
        parts = (
            self.key.text,
            self.content_fingerprint.digest,
            self.input_fingerprint.digest,
            self.location,
            self.nbytes,
        )
        return Fingerprint.of(parts, "ezgraph.parted")


def _location(key: PartitionKey, given: object) -> str:
    if not isinstance(given, str):
        raise InvalidValueError(f"location of {key!r} is {given!r:.60}; give a path or URL as text")
    return without_credentials(given)


def _nbytes(key: PartitionKey, given: object) -> int | None:
    if given is None or (type(given) is int and given >= 0):
        return given
    raise InvalidValueError(
        f"nbytes of {key!r} is {given!r:.60}; give how many bytes there are, or None"
    )


StoragePartitions = tuple[Partition, ...]
"""Partitions in order of their keys."""


@dataclass(frozen=True, slots=True, init=False)
class Producer(JsonValue):
    """What makes the artifacts ``outputs`` from the artifacts ``inputs``, by their keys."""

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    version: str = ""

    def __init__(
        self,
        inputs: Iterable[str | Artifact] = (),
        outputs: Iterable[str | Artifact] = (),
        version: str = "",
    ) -> None:
        """Check everything; artifacts may be given themselves."""
        _set(
            self,
            inputs=_artifact_keys("inputs", inputs),
            outputs=_artifact_keys("outputs", outputs),
            version=_version(version),
        )

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of all of it."""
        return _fingerprint(self)


def _version(given: object) -> str:
    if not isinstance(given, str):
        raise InvalidValueError(
            f"version of a producer is {given!r:.60}; give it as text, such as '1.2.0'"
        )
    return given


def _artifact_keys(name: str, given: object) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InvalidValueError(
            f"{name} of a producer are {given!r:.60}; give a sequence of artifact keys"
        )
    keys = [each.key if isinstance(each, Artifact) else each for each in given]
    return tuple(check_name(each, f"an artifact ({name} of a producer)") for each in keys)


def _fingerprint(value: object) -> Fingerprint:
    return Fingerprint(digest("ezgraph.value", named(value)))
