"""Any value of the bus in JSON, such that it comes back as it was.

JSON's own values stand for themselves. Whatever JSON has no word for is an object with one member,
whose name begins with ``$``:

=================================  =============================================================
``{"$float": "NaN"}``              NaN, ``Infinity``, ``-Infinity``
``{"$bytes": "…"}``                bytes, base64
``{"$tuple": […]}``                tuple; likewise ``$set`` and ``$frozenset``, sorted by their JSON
``{"$map": [[key, value], …]}``    a mapping with keys that are no text, or begin with ``$``
``{"$complex": [real, imag]}``     complex
``{"$datetime": ["…", fold]}``     ISO 8601; likewise ``$date`` and ``$time``
``{"$timedelta": [d, s, us]}``     days, seconds, microseconds
``{"$uuid": "…"}``                 UUID
``{"$path": ["posix", "…"]}``      a path, or of ``windows``
``{"$enum": […]}``                 module, qualname, name, value; comes back as `EnumValue`
``{"$array": {…}}``                NumPy array: ``dtype``, ``shape``, ``order``, ``data`` (base64)
``{"$scalar": {…}}``               NumPy scalar: ``dtype``, ``data``
=================================  =============================================================

`ezgraph.protocol.plain` is for readers who want JSON's own types only, and loses these differences.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import enum
import json
import math
import pathlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from uuid import UUID

from ezgraph.errors import InvalidValueError, MalformedMessageError
from ezgraph.protocol import arrays
from ezgraph.protocol.settings import EnumValue

_AS_THEY_ARE = frozenset({type(None), bool, int, str})
_FLOATS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_MOMENTS: dict[str, Any] = {"datetime": dt.datetime, "date": dt.date, "time": dt.time}
_PATHS = {"posix": pathlib.PurePosixPath, "windows": pathlib.PureWindowsPath}


def to_tagged(value: Any) -> Any:  # noqa: ANN401 - one line per type
    """Return ``value`` in JSON's own types.

    Raises:
        InvalidValueError: it holds something that the bus does not carry.
    """
    kind = type(value)
    if kind in _AS_THEY_ARE:
        return value
    if kind is dict:
        return _mapping(value)
    match value:
        case enum.Enum():
            return _enum(kind.__module__, kind.__qualname__, value.name, value.value)
        case EnumValue():
            return _enum(value.module, value.qualname, value.name, value.value)
        case _ if _is_numpy(value):
            return _array(value)
        case None | bool() | str():
            return value
        case int():
            return int(value)
        case float():
            return float_json(value)
        case bytes() | bytearray() | memoryview():
            return {"$bytes": base64.b64encode(value).decode()}
        case Mapping():
            return _mapping(value)
        case list():
            return [to_tagged(item) for item in value]
        case tuple():
            return {"$tuple": [to_tagged(item) for item in value]}
        case frozenset():
            return {"$frozenset": _sorted(value)}
        case set():
            return {"$set": _sorted(value)}
        case _:
            return _composed(value)


def _composed(value: Any) -> Any:  # noqa: ANN401 - one line per type
    match value:
        case complex():
            return {"$complex": [float_json(value.real), float_json(value.imag)]}
        case dt.datetime() | dt.date() | dt.time():
            name = next(name for name, kind in _MOMENTS.items() if isinstance(value, kind))
            return {f"${name}": [value.isoformat(), getattr(value, "fold", 0)]}
        case dt.timedelta():
            return {"$timedelta": [value.days, value.seconds, value.microseconds]}
        case UUID():
            return {"$uuid": str(value)}
        case pathlib.PurePath():
            flavour = "windows" if isinstance(value, pathlib.PureWindowsPath) else "posix"
            return {"$path": [flavour, str(value)]}
        case _:
            raise InvalidValueError(
                f"a {type(value).__module__}.{type(value).__qualname__} is no value the bus "
                f"carries; give plain values, arrays, or their text"
            )


def _enum(module: str, qualname: str, name: str | None, value: object) -> dict[str, Any]:
    return {"$enum": [module, qualname, name, to_tagged(value)]}


def float_json(value: float) -> float | dict[str, str]:
    """Return a float as JSON has it."""
    if math.isfinite(value):
        return float(value)
    return {"$float": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}


def _mapping(value: Mapping[Any, Any]) -> dict[str, Any]:
    if all(isinstance(key, str) and not key.startswith("$") for key in value):
        return {key: to_tagged(item) for key, item in value.items()}
    return {"$map": [[to_tagged(key), to_tagged(item)] for key, item in value.items()]}


def _sorted(members: Iterable[object]) -> list[Any]:
    return sorted(map(to_tagged, members), key=lambda each: json.dumps(each, sort_keys=True))


def _is_numpy(value: object) -> bool:
    """Say whether it is an array or scalar; NumPy is not imported, for then it is none."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray | numpy.generic)


def _array(value: Any) -> dict[str, Any]:  # noqa: ANN401
    try:
        dtype = arrays.spell_dtype(value.dtype)
    except TypeError as error:
        raise InvalidValueError(str(error)) from error
    if isinstance(value, sys.modules["numpy"].generic):
        return {"$scalar": {"dtype": dtype, "data": base64.b64encode(value.tobytes()).decode()}}
    order = arrays.order_of(value)
    data = base64.b64encode(value.tobytes(order)).decode()
    return {"$array": {"dtype": dtype, "shape": list(value.shape), "order": order, "data": data}}


# --- and back ---


def from_tagged(spelled: Any) -> Any:  # noqa: ANN401
    """Return the value that `to_tagged` has spelled.

    Raises:
        MalformedMessageError: it spells none.
    """
    if isinstance(spelled, list):
        return [from_tagged(item) for item in spelled]
    if not isinstance(spelled, dict):
        return spelled
    if len(spelled) == 1:
        ((name, content),) = spelled.items()
        if name.startswith("$"):
            return _tagged(name, content)
    return {key: from_tagged(item) for key, item in spelled.items()}


def _tagged(name: str, content: Any) -> Any:  # noqa: ANN401
    read = _READERS.get(name)
    if read is None:
        raise MalformedMessageError(
            f"{name!r} is no kind of value that this ezgraph knows; known are "
            f"{', '.join(_READERS)}",
            unknown=True,
        )
    try:
        return read(content)
    except MalformedMessageError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
        raise MalformedMessageError(f"{name!r} spells no value: {error}") from error


def _read_bytes(content: str) -> bytes:
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error as error:
        raise MalformedMessageError(f"bytes that are no base64: {error}") from error


def _read_moment(kind: Any) -> Callable[[Any], Any]:  # noqa: ANN401
    def read(content: list[Any]) -> Any:  # noqa: ANN401
        text, fold = content
        moment = kind.fromisoformat(text)
        return moment.replace(fold=fold) if fold else moment

    return read


def _read_map(content: list[Any]) -> dict[Any, Any]:
    return {from_tagged(key): from_tagged(item) for key, item in content}


def _read_array(content: dict[str, Any]) -> Any:  # noqa: ANN401
    raw = _read_bytes(content["data"])
    return arrays.read_array(content["dtype"], content["shape"], content["order"], raw)


def _read_enum(content: list[Any]) -> EnumValue:
    module, qualname, name, value = content
    return EnumValue(module, qualname, name, from_tagged(value))


_READERS: dict[str, Callable[[Any], Any]] = {
    "$float": lambda content: _FLOATS[content],
    "$bytes": _read_bytes,
    "$tuple": lambda content: tuple(map(from_tagged, content)),
    "$set": lambda content: set(map(from_tagged, content)),
    "$frozenset": lambda content: frozenset(map(from_tagged, content)),
    "$map": _read_map,
    "$complex": lambda content: complex(*map(from_tagged, content)),
    "$datetime": _read_moment(dt.datetime),
    "$date": _read_moment(dt.date),
    "$time": _read_moment(dt.time),
    "$timedelta": lambda content: dt.timedelta(*content),
    "$uuid": lambda content: UUID(content),
    "$path": lambda content: _PATHS[content[0]](content[1]),
    "$enum": _read_enum,
    "$array": _read_array,
    "$scalar": lambda content: arrays.read_scalar(content["dtype"], _read_bytes(content["data"])),
}
