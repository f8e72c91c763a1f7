"""Rules for changes of settings that are asked for from elsewhere. Pure.

A change is judged by the schema of the settings. Of a whole value only what differs from what the
settings are now is judged: read-only fields may be sent back as they were read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ezgraph.errors import InvalidCommandError, SettingsRefusedError
from ezgraph.state.schema_check import check_change
from ezgraph.state.schema_facts import is_array, is_same, shown

if TYPE_CHECKING:
    from ezgraph.protocol.commands import ChangeSettings
    from ezgraph.protocol.metadata import SettingsSchemaMetadata
    from ezgraph.protocol.settings import SettingsSnapshotValue

_MAX_DEPTH = 64


def refuse_unfit(
    command: ChangeSettings,
    now: SettingsSnapshotValue,
    schema: SettingsSchemaMetadata | None,
) -> None:
    """Refuse a change that does not fit the settings at its address.

    Raises:
        InvalidCommandError: it changes nothing at all, one field twice, or what is no field.
        SettingsRefusedError: a whole value lacks a field; or of a kind that says what does not fit.
    """
    if not command.changes and not command.whole:
        raise InvalidCommandError(
            f"a change of {command.address!r} that names no field; give at least one"
        )
    _refuse_overlaps(command)
    if schema is None:
        return
    changes: Mapping[str, object] = command.changes
    if command.whole:
        _refuse_lacking(command, schema)
        present = now.structured_value
        changes = dict(different(changes, {} if present is None else present))
    check_change(schema, changes)


def _refuse_overlaps(command: ChangeSettings) -> None:
    for path in command.changes:
        if not isinstance(path, str):  # the wire carries mappings with other keys too
            raise InvalidCommandError(
                f"a change of {command.address!r} names the field {path!r:.60}; fields are "
                f"named by text, `gain` or `notch.hz`"
            )
        above = path.rpartition(".")[0]
        while above:
            if above in command.changes:
                raise InvalidCommandError(
                    f"one change names {above!r} and also {path!r}, which is a part of it; give "
                    f"the one or the other"
                )
            above = above.rpartition(".")[0]


def _refuse_lacking(command: ChangeSettings, schema: SettingsSchemaMetadata) -> None:
    lacking = [
        field.name
        for field in schema.fields
        if field.name not in command.changes and not field.read_only
    ]
    if lacking:
        raise SettingsRefusedError(
            f"the new settings of {command.address!r} lack {shown(lacking)}; give all fields, or "
            f"change single ones (update_setting)"
        )


def different(
    wanted: Mapping[str, object], present: Mapping[str, object], above: str = "", depth: int = 0
) -> Iterator[tuple[str, object]]:
    """Yield what differs by dotted path, as deep as both have the same fields."""
    for name, value in wanted.items():
        path, before = f"{above}{name}", present.get(name, _ABSENT)
        if before is not _ABSENT and _is_unchanged(value, before):
            continue
        if _have_same_fields(value, before) and depth < _MAX_DEPTH:
            yield from different(value, before, f"{path}.", depth + 1)  # type: ignore[arg-type]
        else:
            yield path, value


_ABSENT = object()


def _have_same_fields(value: object, before: object) -> bool:
    if not isinstance(value, Mapping) or not isinstance(before, Mapping):
        return False
    return value.keys() == before.keys() and all(
        isinstance(name, str) and name and "." not in name for name in value
    )


def _is_unchanged(value: object, before: object) -> bool:
    if is_array(value) and is_array(before):
        return _contents(value) == _contents(before)
    if isinstance(value, Mapping) and isinstance(before, Mapping):
        return value.keys() == before.keys() and all(
            _is_unchanged(each, before[name]) for name, each in value.items()
        )
    if isinstance(value, list | tuple) and type(value) is type(before):
        return len(value) == len(before) and all(map(_is_unchanged, value, before))
    if is_array(value) or is_array(before):
        return False
    if value != value and before != before:  # not a number, and was none
        return True
    return type(value) is type(before) and is_same(value, before)


def _contents(array: object) -> tuple[object, object, bytes]:
    """Return what makes two arrays the same: type, shape, and the bytes."""
    return array.dtype, array.shape, array.tobytes()  # type: ignore[attr-defined]
