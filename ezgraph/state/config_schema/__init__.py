"""Does a value of a configuration type fit the JSON Schema that was set for the type?

The schema is JSON Schema 2020-12, in one document: nothing is ever fetched. It comes from one
client and the values from another, and the broker is one thread, so every judgement has a bound on
its steps (`steps.MAX_STEPS`); patterns are those of RE2, which take no longer than text times
pattern. A value that takes more steps does not fit; values of one command that take too many
together (`judged_together`) are refused. No clock is asked: the answer is the same on
any host, however busy.

A value is judged in its plain JSON form (`ezgraph.protocol.plain`): tuples and arrays are lists,
sets sorted lists, bytes base64 text, dates and times ISO 8601 text, spans of time seconds, enum
members their value, paths and UUIDs text. NaN and infinities are the texts ``NaN``, ``Infinity``
and ``-Infinity``, so no numbers.

Of the formats ``date-time``, ``date``, ``time``, ``uuid``, ``ipv4`` and ``ipv6`` are
judged; others are notes to the reader. ``$dynamicRef`` and drafts before 2020-12 are refused.

The validator (`jsonschema`, and RE2 for the patterns) is the extra ``jsonschema``, loaded on first
use. Two others were looked at: ``jsonschema-rs`` is some hundred times faster, but fetches what a
``$ref`` names unless told otherwise, and cannot be stopped: thirty ``allOf`` of two references each
keep it, and the interpreter's lock, for seconds.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ezgraph.errors import LimitError, UnsupportedError
from ezgraph.state.config_schema.steps import MAX_STEPS, MAX_STEPS_TOGETHER, Steps

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ezgraph.state.config_schema.judge import Judge

__all__ = ["Violation", "check_schema", "judged_together", "violation"]

_REMEMBERED = 64


_together: ContextVar[Steps | None] = ContextVar("_together", default=None)


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with a value: ``path`` is a JSON pointer into it, ``""`` the value itself."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"at {self.path}: {self.message}" if self.path else self.message


def check_schema(schema: object) -> None:
    """Return if values can be judged by this schema.

    Raises:
        InvalidSchemaError: they cannot; says what is wrong and where.
        UnsupportedError: the extra is not installed here; names it.
    """
    _make_judge(schema)


def violation(schema: Mapping[str, Any], value: object) -> Violation | None:
    """Return what is wrong with a value, or None: it fits.

    What is read from a schema is remembered by its identity, so it must not be changed.

    Raises:
        InvalidSchemaError: `check_schema` would not have let this schema pass.
        UnsupportedError: the extra is not installed here; names it.
        LimitError: within `judged_together`, all values together take too many steps.
    """
    together, judge = _together.get(), _judge(_ByIdentity(schema))
    if together is None:
        found = judge.finding(value)
    else:
        found = judge.finding(value, min(together.left, MAX_STEPS))
        together.left -= found.steps
        if together.left <= 0:
            raise LimitError(
                f"to judge these values by the schemas of their types takes more than "
                f"{MAX_STEPS_TOGETHER:,} steps, and would hold everybody up; share them between "
                f"several changes, or make the schema simpler"
            )
    return None if found.message is None else Violation(found.path, found.message)


@contextmanager
def judged_together() -> Iterator[None]:
    """Have all judgements within share one bound on their steps: one command's, however long it is.

    It can be a decorator, too.
    """
    before = _together.set(Steps(MAX_STEPS_TOGETHER))
    try:
        yield
    finally:
        _together.reset(before)


class _ByIdentity:
    """A schema that equals none but itself; while it is held, nothing else gets its identity."""

    __slots__ = ("schema",)

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = schema

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and other.schema is self.schema

    def __hash__(self) -> int:
        return id(self.schema)


@lru_cache(maxsize=_REMEMBERED)
def _judge(schema: _ByIdentity) -> Judge:
    return _make_judge(schema.schema)


def _make_judge(schema: object) -> Judge:
    try:
        from ezgraph.state.config_schema.judge import Judge
    except ImportError as error:
        raise UnsupportedError(
            f"values cannot be judged by a JSON Schema here: {error.name or error} is not "
            f"installed; where the broker runs: pip install 'ezgraph[jsonschema]'"
        ) from error
    return Judge(schema)
