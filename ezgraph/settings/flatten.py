"""Settings as columns of a table: dotted names, and values that a cell can hold.

These functions keep the exact output that recordings made elsewhere have under the same names, and
so they lose what such columns lose: mixed lists become text, two addresses can share a name, NaN is
no JSON. What the bus itself keeps and sends is in `ezgraph.settings.exact` and
`ezgraph.settings.columns`.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from enum import Enum
from typing import Any

from ezgraph.settings.base import is_settings

_UNSAFE = re.compile(r"[^0-9A-Za-z_]+")
_WILL_NOT_FIT = (TypeError, ValueError, OverflowError)
"""What NumPy raises for items that make no array."""


def flatten_ez_settings(settings: object, prefix: str = "") -> dict[str, Any]:
    """Return the leaves of a settings object as ``{"<ClassName>.<field>": value}``.

    Fields that are settings objects, dataclasses or mappings are taken apart; lists are leaves.
    ``prefix`` stands in place of the class's name.
    """
    start = prefix or type(settings).__name__
    flat: dict[str, Any] = {}
    for name, value in vars(settings).items():
        flat |= _flatten(value, f"{start}.{name}")
    return flat


def _flatten(value: Any, prefix: str) -> dict[str, Any]:  # noqa: ANN401
    if is_settings(value):
        return flatten_ez_settings(value, prefix)
    value = _taken_apart(value)
    if not isinstance(value, Mapping):
        return {prefix or "value": value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flatten(item, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _taken_apart(value: Any) -> Any:  # noqa: ANN401
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def flatten_component_settings(address: str, value: object) -> dict[str, Any]:
    """Return the settings of a component as ``{column name: cell}``, both sanitized.

    ``value`` is a settings object, anything with a ``structured_value`` or ``repr_value`` (such as
    a `SettingsSnapshotValue`), a dataclass, a mapping, or a single value. A wrapper without any
    structure gives one column with its text.
    """
    return {
        sanitize_settings_column_name(f"{address}.{name}"): sanitize_settings_value(item)
        for name, item in _flatten_wrapped(value).items()
    }


def _flatten_wrapped(value: object) -> dict[str, Any]:
    if is_settings(value):
        return flatten_ez_settings(value)
    form = getattr(value, "structured_value", None)
    shown = getattr(value, "repr_value", None)
    if form is not None:
        return _flatten(form, "")
    if isinstance(shown, dict):
        return _flatten(shown, "")
    if hasattr(value, "structured_value") or hasattr(value, "repr_value"):
        return {"value": str(value) if shown is None else str(shown)}
    return _flatten(value, "")


def sanitize_settings_column_name(name: str) -> str:
    """Return ``name`` as a table can have it: letters, digits, ``_`` and ``.``, no digit first."""
    safe = _UNSAFE.sub(".", name).strip("_") or "setting"
    return f"setting_{safe}" if safe[0].isdigit() else safe


def sanitize_settings_value(value: Any) -> Any:  # noqa: ANN401 - one line per kind
    """Return ``value`` as a cell can hold it: a plain scalar, text, or an array."""
    if value is None:
        return "None"
    if isinstance(value, Enum):
        return sanitize_settings_value(value.value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if (numpy := sys.modules.get("numpy")) is not None:  # a value of a module not loaded is none
        if isinstance(value, numpy.generic):
            return value.item()
        if isinstance(value, numpy.ndarray):
            return value if value.dtype != object else _sanitize_sequence(value.tolist())
    if isinstance(value, bool | int | float | str | bytes):
        return value
    value = _taken_apart(value)
    if isinstance(value, Mapping):
        return _as_json({str(key): sanitize_settings_value(item) for key, item in value.items()})
    if isinstance(value, set | frozenset):
        return _sanitize_sequence(sorted(value, key=repr))
    if isinstance(value, Sequence) and not isinstance(value, bytearray):
        return _sanitize_sequence(value)
    try:
        return json.dumps(value)
    except TypeError:
        return str(value)


def _sanitize_sequence(items: Sequence[Any]) -> Any:  # noqa: ANN401
    import numpy as np

    cells = [sanitize_settings_value(item) for item in items]
    try:
        array = np.asarray(cells)
    except _WILL_NOT_FIT:
        return _as_json(cells)
    if array.dtype != object:
        return array
    if all(isinstance(cell, str) for cell in cells):
        return np.asarray(cells, dtype=str)
    if all(isinstance(cell, bytes) for cell in cells):
        return np.asarray(cells, dtype="S")
    try:
        stacked = np.stack(cells)
    except _WILL_NOT_FIT:
        return _as_json(cells)
    return stacked if stacked.dtype != object else _as_json(cells)


def _as_json(cells: object) -> str:
    return json.dumps(cells, default=str)
