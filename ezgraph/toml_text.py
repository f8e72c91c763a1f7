"""TOML: read with every way it can be wrong told, and written so that it reads back equal. Pure.

`tomllib` is quick for what people write, but not for all that is valid: it takes minutes, and all
memory, for one key of thousands of dotted parts, and ends in a `RecursionError` for deep brackets.
So what is read is bounded first, and nothing but the error asked for comes out.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ezgraph.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

MAX_BYTES = 1 << 20
MAX_DOTTED_PARTS = 32

Scalar = str | bool | int | datetime
Table = Mapping[str, "Scalar | list[str] | Table"]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_PART = r"""(?:[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')"""
# A key begins behind none of these, so each run of characters is looked at once.
_TOO_DOTTED = re.compile(
    rf"""(?<![\w"'\\-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{MAX_DOTTED_PARTS}}}"""
)
_SHORT = {"\\": "\\\\", '"': '\\"', "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


def parse_toml(
    raw: bytes, where: str, *, error: type[ConfigError] = ConfigError
) -> dict[str, Any]:
    """Return the table that a file has; ``where`` names the file in what is raised.

    Raises:
        ConfigError: it is too large, no UTF-8, or no TOML; or the kind of it that is asked for. It
            quotes nothing and has no cause, as a document may have secrets.
    """
    if len(raw) > MAX_BYTES:
        raise error(f"{where} has {len(raw)} bytes; at most {MAX_BYTES} are read")
    try:
        text = raw.decode()
    except UnicodeDecodeError as wrong:
        raise error(f"{where} is not UTF-8 text, from byte {wrong.start} on") from None
    if found := _TOO_DOTTED.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise error(f"{where} has a key of more than {MAX_DOTTED_PARTS} parts in line {line}")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise error(f"{where} is no valid TOML: brackets are nested too deep") from None
    except (ValueError, OverflowError) as wrong:
        raise error(f"{where} is no valid TOML: {wrong}") from None


def unknown_field(where: str, spelled: str, known: Collection[str]) -> str:
    """Return the sentence about a field that nobody asked for, with the nearest that is known."""
    hint = nearest(spelled, known)
    return f"{where} has the unknown field {spelled!r}{hint} Known are {', '.join(known)}"


def nearest(spelled: str, known: Collection[str]) -> str:
    """Return "; did you mean …?", where something is near, and a full stop where nothing is."""
    near = difflib.get_close_matches(spelled[:100], known, n=1)
    return f"; did you mean {near[0]!r}?" if near else "."


def dump_toml(table: Table) -> str:
    """Return ``table`` as TOML text: values first, then the tables in it, each under its head.

    Raises:
        ConfigError: a text has lone surrogates, which no file can hold.
    """
    return "".join(f"{line}\n" for line in _lines(table, ()))


def _lines(table: Table, path: tuple[str, ...]) -> Iterator[str]:
    inner = {name: value for name, value in table.items() if isinstance(value, Mapping)}
    if path and (not inner or len(inner) < len(table)):
        yield f"[{'.'.join(map(_key, path))}]"
    for name, value in table.items():
        if not isinstance(value, Mapping):
            yield f"{_key(name)} = {_value(value)}"
    for name, value in inner.items():
        yield from _lines(value, (*path, name))


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _quoted(name)


def _value(value: Scalar | list[str]) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case str():
            return _quoted(value)
        case list():
            return f"[{', '.join(map(_quoted, value))}]"


def _quoted(text: str) -> str:
    return f'"{"".join(map(_character, text))}"'


def _character(each: str) -> str:
    if each in _SHORT:
        return _SHORT[each]
    if each.isprintable():
        return each
    code = ord(each)
    if 0xD800 <= code < 0xE000:
        raise ConfigError(f"a text has the lone surrogate U+{code:04X}, which no file can hold")
    return f"\\u{code:04X}" if code < 1 << 16 else f"\\U{code:08X}"
