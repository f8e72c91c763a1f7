"""A JSON or YAML document, from bytes that anybody may have written. Pure.

Told is every way in which it can be wrong, with the line where there is one. Refused is what would
mean less than it says: a name twice in one mapping, a second document in one file, and in JSON what
is no number.

YAML is read by its core schema (1.2), so that plain texts mean the same as in JSON and nothing
else: ``on``, ``no`` and ``2026-05-01`` are texts, ``010`` is ten. An alias stands for a copy of
what it names, and the copies count: aliases of aliases cannot make a small file a large value.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

from ezgraph.errors import ConfigError
from ezgraph.extras import extra

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_BYTES = 64 << 20
MAX_NODES = 2_000_000
MAX_DEPTH = 128


def parse_document(raw: bytes, where: str) -> Any:  # noqa: ANN401
    """Return the value that a document has; ``where`` names it in what is raised.

    A name that ends in ``.json`` says it is JSON, one in ``.yaml`` or ``.yml`` that it is YAML.
    Otherwise what begins with ``{`` or ``[`` is JSON.

    Raises:
        ConfigError: it is too large, no UTF-8, or wrong; says where.
        MissingExtraError: it is YAML, and the extra for it is not installed.
    """
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{where} has {len(raw):,} bytes; at most {MAX_BYTES:,} are read")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where} is not UTF-8 text, from byte {error.start} on") from error
    name = where.lower()
    is_yaml = name.endswith((".yaml", ".yml"))
    if name.endswith(".json") or (not is_yaml and text.lstrip()[:1] in ("{", "[")):
        return parse_json(text, where)
    return _parse_yaml(text, where)


# --- JSON ---


def parse_json(text: str, where: str) -> Any:  # noqa: ANN401
    """Return the value that a JSON text has.

    Raises:
        ConfigError: it has none; says where.
    """
    try:
        return json.loads(
            text, object_pairs_hook=_object, parse_constant=_no_number, parse_float=_float
        )
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{where} is no JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from error
    except RecursionError:
        raise ConfigError(f"{where} is nested too deep to be read; flatten it") from None
    except ValueError as error:
        raise ConfigError(f"{where} cannot be read: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) < len(pairs):
        name, times = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the name {name!r} is there {times} times in one mapping; keep one")
    return read


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no JSON; write {{'$float': {text!r}}} in a file of the new layout")


def _float(text: str) -> float:
    number = float(text)
    if number in (float("inf"), -float("inf")):
        raise ValueError(f"the number {text[:40]} is too large for a float")
    return number


# --- YAML ---


def _parse_yaml(text: str, where: str) -> Any:  # noqa: ANN401
    yaml = extra("yaml", "yaml", "reading YAML")
    try:
        _check_extent(yaml, text)
        return yaml.load(text, Loader=_loader(yaml))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f": line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        problem = error.problem or error.context
        raise ConfigError(f"{where} is no YAML that is read here{place}: {problem}") from error
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ConfigError(f"{where} cannot be read: {error}") from error


def _check_extent(yaml: Any, text: str) -> None:  # noqa: ANN401
    """Refuse a document that is too deep or too large with all its aliases written out.

    Before anything is made of it: aliases cost nothing until they are merged, or sent.
    """
    weights: dict[str, int | None] = {}
    open_nodes: list[tuple[str | None, int]] = [(None, 0)]
    documents = 0
    for event in yaml.parse(text, Loader=_parser(yaml)):
        match event:
            case yaml.DocumentStartEvent():
                documents += 1
            case yaml.AliasEvent():
                if weights.get(event.anchor, 0) is None:
                    raise _wrong(yaml, event, f"*{event.anchor} stands within what it names")
                _weigh(yaml, event, open_nodes, weights.get(event.anchor) or 1)
            case yaml.CollectionStartEvent():
                if event.anchor is not None:
                    weights[event.anchor] = None  # open
                open_nodes.append((event.anchor, 1))
            case yaml.CollectionEndEvent():
                anchor, weight = open_nodes.pop()
                _end(weights, anchor, weight)
                _weigh(yaml, event, open_nodes, weight)
            case yaml.ScalarEvent():
                _end(weights, event.anchor, 1)
                _weigh(yaml, event, open_nodes, 1)
            case _:
                pass
        if len(open_nodes) > MAX_DEPTH:
            raise _wrong(yaml, event, f"it is nested deeper than {MAX_DEPTH}; flatten it")
        if documents > 1:
            raise _wrong(yaml, event, "a second document begins; a file has one")


def _end(weights: dict[str, int | None], anchor: str | None, weight: int) -> None:
    if anchor is not None:
        weights[anchor] = weight


def _weigh(yaml: Any, event: Any, nodes: list[tuple[str | None, int]], weight: int) -> None:  # noqa: ANN401
    anchor, so_far = nodes[-1]
    nodes[-1] = (anchor, so_far + weight)
    if so_far + weight > MAX_NODES:
        raise _wrong(
            yaml, event, f"it has more than {MAX_NODES:,} values, with its aliases written out"
        )


def _wrong(yaml: Any, event: Any, problem: str) -> Exception:  # noqa: ANN401
    error: Exception = yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
    return error


def _parser(yaml: Any) -> Any:  # noqa: ANN401
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


_CORE: Iterable[tuple[str, str, str]] = (
    ("null", r"(?:~|null|Null|NULL|)", "~nN\0"),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)", "tTfF"),
    ("int", r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)", "-+0123456789"),
    (
        "float",
        r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
)
"""What plain texts are, their beginnings with it: the core schema, and merges."""


@cache
def _loader(yaml: Any) -> Any:  # noqa: ANN401
    """Return a safe loader that reads the core schema, and refuses a name that comes twice."""

    class Loader(_parser(yaml)):  # type: ignore[misc]
        yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:  # noqa: ANN401
            if isinstance(node, yaml.MappingNode):
                _refuse_twice(yaml, node)
            return super().construct_mapping(node, deep)

    for name, pattern, first in _CORE:
        whole = re.compile(rf"{pattern}\Z")
        firsts = ["" if each == "\0" else each for each in first]
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{name}", whole, firsts)
    Loader.add_constructor("tag:yaml.org,2002:int", _integer)
    return Loader


def _integer(loader: Any, node: Any) -> int:  # noqa: ANN401
    text = loader.construct_scalar(node)
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def _refuse_twice(yaml: Any, node: Any) -> None:  # noqa: ANN401
    seen: set[tuple[str, str]] = set()
    for name, _ in node.value:
        if isinstance(name, yaml.ScalarNode) and name.tag != "tag:yaml.org,2002:merge":
            if (name.tag, name.value) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the name {name.value!r} is there twice", name.start_mark
                )
            seen.add((name.tag, name.value))
