"""Any value of the bus in JSON's own types: nothing is left out, nothing makes the JSON invalid.

Bytes become base64 text, arrays nested lists, NaN and infinities the texts ``NaN``, ``Infinity``
and ``-Infinity``, times ISO 8601, enum members their value, paths, ids and fingerprints text,
dataclasses and named tuples objects. Keys become text; two that would become the same text stay
two.
"""

from __future__ import annotations

import base64
import datetime as dt
import enum
import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.settings import EnumValue


def plain(value: Any) -> Any:  # noqa: ANN401 - one line per type
    """Return ``value`` in JSON's own types."""
    match value:
        case enum.Enum() | EnumValue():
            return plain(value.value)
        case None | bool():
            return value
        case int():
            return int(value)
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case float():
            return _float(float(value))
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode()
        case Mapping():
            return _object(value)
        case tuple() if hasattr(value, "_asdict"):
            return plain(value._asdict())
        case list() | tuple():
            return [plain(item) for item in value]
        case set() | frozenset():
            return sorted((plain(item) for item in value), key=repr)
        case Fingerprint():
            return str(value)
        case complex():
            return {"real": _float(value.real), "imag": _float(value.imag)}
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat()
        case dt.timedelta():
            return value.total_seconds()
        case _:
            return _composed(value)


def _composed(value: Any) -> Any:  # noqa: ANN401
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if hasattr(value, "dtype") and hasattr(value, "tolist"):  # an array, NumPy not imported
        listed = (value.astype(str) if value.dtype.kind == "M" else value).tolist()
        return plain(listed) if type(listed) is not type(value) else str(value)
    return str(value)


def _float(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _object(mapping: Mapping[Any, Any]) -> dict[str, Any]:
    taken = {key for key in mapping if isinstance(key, str)}
    named = {}
    for key, item in mapping.items():
        name = _key_text(key)
        if name != key:
            while name in taken:
                name += f" ({type(key).__name__})"
            taken.add(name)
        named[name] = plain(item)
    return named


def _key_text(key: object) -> str:
    plain_key = plain(key)
    return plain_key if isinstance(plain_key, str) else json.dumps(plain_key)
