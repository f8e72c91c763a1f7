"""Values of the configuration in JSON without loss: what JSON has not is marked. Pure.

==================================  =============================================================
``{"$float": "nan"}``               a float that is not finite: ``nan``, ``inf`` or ``-inf``
``{"$bytes": "YWJj"}``              bytes, in base64
``{"$tuple": [1, 2]}``              a tuple
``{"$packed": "xwQ..."}``           anything else (times, sets, arrays, mappings whose names are not
                                    texts, ...): as it is on the wire, in base64
==================================  =============================================================

A mapping that looks like a mark is packed, so that each form means one value.
"""

from __future__ import annotations

import base64
import binascii
import math
from typing import Any

from ezgraph.errors import ConfigError, MalformedMessageError
from ezgraph.wire import values

MARKS = ("$float", "$bytes", "$tuple", "$packed")
_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def marked(value: Any) -> Any:  # noqa: ANN401
    """Return a value in JSON's own types, from which `unmarked` makes the same value."""
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if kind is bytes:
        return {"$bytes": _base64(value)}
    if kind is list:
        return [marked(item) for item in value]
    if kind is tuple:
        return {"$tuple": [marked(item) for item in value]}
    if kind is dict and _mark_of(value) is None and all(type(name) is str for name in value):
        return {name: marked(item) for name, item in value.items()}
    return {"$packed": _base64(values.pack(value))}


def unmarked(form: Any, where: str = "") -> Any:  # noqa: ANN401
    """Return the value that a form with marks stands for.

    Raises:
        ConfigError: a mark stands for nothing; says where.
    """
    if isinstance(form, list):
        return [unmarked(item, f"{where}[{index}]") for index, item in enumerate(form)]
    if not isinstance(form, dict):
        return form
    mark = _mark_of(form)
    if mark is None:
        return {name: unmarked(item, f"{where}.{name}") for name, item in form.items()}
    try:
        return _meaning(mark, form[mark], where)
    except (KeyError, TypeError, ValueError, binascii.Error, MalformedMessageError) as error:
        raise ConfigError(
            f"{where or 'the value'}: {form!r:.80} stands for no value: {error}"
        ) from error


def _mark_of(form: dict[Any, Any]) -> str | None:
    return next((each for each in MARKS if each in form), None) if len(form) == 1 else None


def _meaning(mark: str, content: Any, where: str) -> Any:  # noqa: ANN401
    match mark:
        case "$float":
            return _FLOATS[content]
        case "$bytes":
            return _from_base64(content)
        case "$tuple":
            if not isinstance(content, list):
                raise TypeError("it has no list")
            return tuple(unmarked(content, where))
        case _:
            return values.unpack(_from_base64(content))


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _from_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
