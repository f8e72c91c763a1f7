"""Any value of the bus as JSON: nothing is left out, nothing makes the JSON invalid.

Bytes become base64 text, arrays lists, NaN and infinities the texts ``NaN``, ``Infinity`` and
``-Infinity``, times ISO 8601, enum members their value or name, dataclasses objects.
"""

from __future__ import annotations

import base64
import datetime as dt
import enum
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from ezgraph.protocol.events import Event
    from ezgraph.protocol.snapshot import GraphSnapshot


def dumps(value: object, *, indent: int | None = None) -> str:
    """Return ``value`` as JSON text, in ASCII where the output cannot take more."""
    in_ascii = "utf" not in (sys.stdout.encoding or "").lower()
    return json.dumps(plain(value), indent=indent, ensure_ascii=in_ascii, allow_nan=False)


def plain(value: Any) -> Any:  # noqa: ANN401
    """Return ``value`` in JSON's own types."""
    match value:
        case None | bool() | int():
            return int(value) if isinstance(value, enum.IntEnum) else value
        case enum.Enum():
            return plain(value.value)
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case float():
            return _float(float(value))
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode()
        case Mapping():
            return {_name(key): plain(item) for key, item in value.items()}
        case tuple() if hasattr(value, "_asdict"):
            return plain(value._asdict())
        case list() | tuple():
            return [plain(item) for item in value]
        case set() | frozenset():
            return sorted((plain(item) for item in value), key=repr)
        case complex():
            return {"real": _float(value.real), "imag": _float(value.imag)}
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat()
        case dt.timedelta():
            return value.total_seconds()
        case UUID() | PurePath():
            return str(value)
        case _:
            return _composed(value)


def _composed(value: Any) -> Any:  # noqa: ANN401
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if hasattr(value, "dtype") and hasattr(value, "tolist"):  # an array, NumPy not imported
        listed = value.tolist()
        return plain(listed) if type(listed) is not type(value) else str(value)
    return str(value)


def _float(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _name(key: object) -> str:
    plain_key = plain(key)
    return plain_key if isinstance(plain_key, str) else json.dumps(plain_key)


def iso(wall_time: float) -> str:
    """Return a wall time as ISO 8601 in UTC, to the microsecond."""
    return dt.datetime.fromtimestamp(wall_time, dt.UTC).isoformat(timespec="microseconds")


def event(each: Event) -> dict[str, object]:
    """Return an event as one object: its head, its ``source`` and its ``body``."""
    return {"seq": each.seq, "time": iso(each.wall_time), "kind": each.kind, **plain(each)}


def snapshot(taken: GraphSnapshot) -> dict[str, object]:
    """Return a snapshot as one object; edges are a list, as JSON has no pairs for keys."""
    whole = {each.name: getattr(taken, each.name) for each in fields(taken)}
    edges = [
        {"from_topic": edge.from_topic, "to_topic": edge.to_topic, "owners": owners}
        for edge, owners in taken.edge_owners.items()
    ]
    del whole["edge_owners"]
    head = {name: whole.pop(name) for name in ("seq", "epoch", "paused")}
    return {**head, "edges": edges, **whole}
