"""Questions about meta: ``(meta.subject == "rat 7") & (meta.rate_hz > 1000)``. Pure.

A question is a tree of lists, which travels as it is and is judged where the nodes are, by
`matches` and nothing else. Something that is not there is neither equal nor unequal to anything,
so ``meta.x != 3`` finds only nodes that have an ``x``; ``~(meta.x == 3)`` finds the others too.
"""

from __future__ import annotations

import operator
import reprlib
from typing import TYPE_CHECKING, Any

from ezgraph.errors import NodeRequestError

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_PARTS = 200
MAX_DEPTH = 20

_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "contains": operator.contains,
}
_ABSENT = object()


class Query:
    """A question; put them together with ``&``, ``|`` and ``~``."""

    __slots__ = ("spelled",)

    def __init__(self, spelled: list[Any]) -> None:
        self.spelled = spelled

    def __repr__(self) -> str:
        return f"<Query {self.spelled!r}>"

    def __and__(self, other: Query) -> Query:
        return Query(["and", self.spelled, other.spelled])

    def __or__(self, other: Query) -> Query:
        return Query(["or", self.spelled, other.spelled])

    def __invert__(self) -> Query:
        return Query(["not", self.spelled])

    def __bool__(self) -> bool:
        raise NodeRequestError(
            f"{self!r} is a question, not an answer: join questions with & | ~, not and, or, not"
        )


class MetaPath:
    """A place in the meta of nodes; comparing it makes a question."""

    __slots__ = ("_path",)

    def __init__(self, path: tuple[str | int, ...] = ()) -> None:
        self._path = path

    def __repr__(self) -> str:
        return f"<meta{''.join(f'[{each!r}]' for each in self._path)}>"

    def __getattr__(self, name: str) -> MetaPath:
        if name.startswith("__"):  # what Python and notebooks look for
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str | int) -> MetaPath:
        return MetaPath((*self._path, name))

    def _compared(self, how: str, value: object) -> Query:
        return Query([how, list(self._path), value])

    def __eq__(self, value: object) -> Query:  # type: ignore[override]
        return self._compared("==", value)

    def __ne__(self, value: object) -> Query:  # type: ignore[override]
        return self._compared("!=", value)

    def __lt__(self, value: object) -> Query:
        return self._compared("<", value)

    def __le__(self, value: object) -> Query:
        return self._compared("<=", value)

    def __gt__(self, value: object) -> Query:
        return self._compared(">", value)

    def __ge__(self, value: object) -> Query:
        return self._compared(">=", value)

    def contains(self, value: object) -> Query:
        """Ask whether a text, list, set or mapping there has ``value`` in it."""
        return self._compared("contains", value)

    def exists(self) -> Query:
        """Ask whether there is anything at this place."""
        return Query(["exists", list(self._path), None])

    __hash__ = None  # type: ignore[assignment]


meta = MetaPath()
"""The meta of whatever node is looked at."""


def check_query(spelled: object) -> list[Any] | None:
    """Return a question from the wire.

    Raises:
        NodeRequestError: it is none, or larger than any person asks.
    """
    if spelled is None:
        return None
    left = MAX_PARTS
    level = [spelled]
    for _ in range(MAX_DEPTH):
        left -= len(level)
        level = [part for each in level for part in _checked_parts(each)]
        if not level:
            break
    if level or left < 0:
        raise NodeRequestError(
            f"a query of more than {MAX_PARTS} parts or {MAX_DEPTH} levels; ask for less at once"
        )
    return spelled  # type: ignore[return-value]


def _checked_parts(spelled: object) -> list[object]:
    """Return the questions in a question."""
    match spelled:
        case ["and" | "or", first, second]:
            return [first, second]
        case ["not", first]:
            return [first]
        case [str(how), list(path), _] if how in _COMPARISONS or how == "exists":
            if all(type(step) in (str, int) for step in path):
                return []
        case _:
            pass
    raise NodeRequestError(f"{reprlib.repr(spelled)} is no query; make one as in meta.x == 3")


def matches(spelled: list[Any] | None, held: object) -> bool:
    """Return whether meta fits a checked question; None fits all."""
    match spelled:
        case None:
            return True
        case ["and", first, second]:
            return matches(first, held) and matches(second, held)
        case ["or", first, second]:
            return matches(first, held) or matches(second, held)
        case ["not", first]:
            return not matches(first, held)
        case [how, path, value]:
            return _fits(how, _at(held, path), value)
        case _:
            return False


def _at(held: Any, path: list[str | int]) -> Any:  # noqa: ANN401
    for step in path:
        try:
            held = held[step]
        except (KeyError, IndexError, TypeError):
            return _ABSENT
    return held


def _fits(how: str, found: Any, value: Any) -> bool:  # noqa: ANN401
    if found is _ABSENT or how == "exists":
        return found is not _ABSENT
    try:
        return bool(_COMPARISONS[how](found, value))
    except (TypeError, ValueError):  # of types that do not compare, or arrays of several items
        return False
