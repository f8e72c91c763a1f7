"""Section l: what it costs to ask a role, for every command, and a read scope, for every event.

*Cold* is a key that was not asked for before: a role remembers the latest thousands of answers.
"""

from __future__ import annotations

import gc
import time
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING

from ezgraph.bench.rows import US, Row, alone, at_most
from ezgraph.protocol.patterns import parse_pattern
from ezgraph.protocol.roles import OPERATOR, ReadScope, Role, normal, owner_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ezgraph.bench.scale import Scale
    from ezgraph.bench.workbench import Progress
    from ezgraph.names import Key

_PATTERNS = 20
_CHECKS = 2_000
_GOAL = at_most(2.0, "µs")


def judge(scale: Scale, progress: Progress) -> Iterator[Row]:
    """Measure section l."""
    progress("l: checks of roles and read scopes")
    roles = {"operator": OPERATOR, "owner:RIG": owner_of("RIG"), "of 20 patterns": _custom()}
    for name, role in roles.items():
        warm = [_time_of(role.may, _same()) for _ in range(scale.rounds)]
        yield alone("l", f"a check of role {name}, warm", "µs", warm, goal=_GOAL)
        cold = [_time_of(role.may, _others()) for _ in range(scale.rounds)]
        yield alone("l", f"a check of role {name}, cold", "µs", cold, goal=_GOAL)
    scope = ReadScope(1, normal(_custom().grants["connect"]))

    def has(_verb: str, key: Key) -> bool:
        return scope.has(key)

    for name, keys in (("the same key", _same), ("other keys", _others)):
        times = [_time_of(has, keys()) for _ in range(scale.rounds)]
        yield alone("l", f"a read scope of 20 patterns, {name}", "µs", times, goal=_GOAL)


def _custom() -> Role:
    """A role whose last pattern is the one that matches."""
    patterns = [parse_pattern(f"edge/*/LAB{number}%2F*") for number in range(_PATTERNS - 1)]
    patterns.append(parse_pattern("edge/*/RIG%2F*"))
    return Role("custom", MappingProxyType({"connect": tuple(patterns)}))


def _same() -> Iterator[Key]:
    while True:
        yield ("edge", "CAMERA/OUT", "RIG/IN")


_numbers = count()


def _others() -> Iterator[Key]:
    for number in _numbers:
        yield ("edge", f"CAMERA/{number}", "RIG/IN")


def _time_of(check: Callable[[str, Key], bool], keys: Iterator[Key]) -> float:
    """Return the time of one check, in µs, without that of making its key."""
    asked = [next(keys) for _ in range(_CHECKS)]
    gc.collect()
    begin = time.perf_counter()
    for key in asked:
        check("connect", key)
    return (time.perf_counter() - begin) / _CHECKS * US
