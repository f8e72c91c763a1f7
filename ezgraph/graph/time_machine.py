"""The rig at another time: which state it was in, and what has changed since.

Functions on an open session, from which `GraphContext` and its blocking twin make their methods.
"""

from __future__ import annotations

import datetime as dt
import math
import warnings
from numbers import Integral, Real
from typing import TYPE_CHECKING, TypeVar

from ezgraph.client.past import PastChunk, PastPull
from ezgraph.clock import Deadline
from ezgraph.errors import (
    AmbiguousTimeWarning,
    EzGraphError,
    InvalidValueError,
    MalformedMessageError,
)
from ezgraph.protocol.replies import CheckpointChunk, Frozen, SeqFound, StretchChunk
from ezgraph.protocol.stored_commands import FindSeq, Freeze

if TYPE_CHECKING:
    from ezgraph.graph.sessions import AnySession
    from ezgraph.protocol.commands import Command
    from ezgraph.state.graph import GraphState

T = TypeVar("T")
DEFAULT_GRAPH = "rig"
"""The name of a graph that nobody has named."""
When = int | float | dt.datetime
"""A seq, or a time: seconds since 1970 or a datetime, which without a zone is of this host's."""


async def state_at(session: AnySession, when: When, timeout: float) -> GraphState:  # noqa: ASYNC109
    """Return the state as it was at a seq or a time; see `GraphContext.at`."""
    deadline = Deadline(timeout)
    seq = await seq_at(session, when, deadline.left())
    pull = PastPull(seq)
    while (asked := pull.wants()) is not None:
        try:
            chunk = await _asked(session, asked, deadline.left())
        except EzGraphError as error:
            pull.take_error(error)
        else:
            pull.take(chunk)
    return pull.state()


async def _asked(session: AnySession, command: Command, timeout: float) -> PastChunk:  # noqa: ASYNC109
    reply = await session.call(command, timeout=timeout)
    if isinstance(reply, CheckpointChunk | StretchChunk):
        return reply
    raise MalformedMessageError(f"{type(command).__name__} was answered with {reply!r:.60}")


async def seq_at(session: AnySession, when: When, timeout: float) -> int:  # noqa: ASYNC109
    """Return the seq that ``when`` stands for; warn where it was that time more than once."""
    if (seq := _as_seq(when)) is not None:
        return seq
    reply = await session.call(FindSeq(seconds(when)), timeout=timeout)
    if not isinstance(reply, SeqFound):
        raise MalformedMessageError(f"FindSeq was answered with {reply!r:.60}")
    if reply.steps:
        seq, before, after = reply.steps[-1]
        warnings.warn(
            f"the broker's clock was set back by {before - after:g} s right before seq {seq}, so "
            f"it was {moment(seconds(when))} {len(reply.steps) + 1} times; seq {reply.seq} is the "
            f"last that was not later. Name a seq to mean another",
            AmbiguousTimeWarning,
            stacklevel=4,
        )
    return reply.seq


def is_when(given: object) -> bool:
    """Return whether it is of a type that stands for a seq or a time."""
    return isinstance(given, Real | dt.datetime) and not isinstance(given, bool)


def _as_seq(when: object) -> int | None:
    """Return a whole number, also one of NumPy's; None: it is none."""
    if isinstance(when, bool):
        return None
    return int(when) if isinstance(when, Integral) else None


async def freeze(
    session: AnySession,
    name: str,
    tag: str | None,
    reason: str,
    *,
    overwrite: bool,
    timeout: float,  # noqa: ASYNC109
) -> Frozen:
    """Store what is live as a snapshot; see `GraphContext.freeze`."""
    command = Freeze(name, tag, overwrite, reason or None)
    frozen = await session.call(command, timeout=timeout)
    if not isinstance(frozen, Frozen):
        raise MalformedMessageError(f"Freeze was answered with {frozen!r:.60}")
    return frozen


def seconds(when: object) -> float:
    """Return a time in seconds since 1970.

    Raises:
        InvalidValueError: it is no time.
    """
    if isinstance(when, dt.datetime):
        return when.timestamp()
    is_bool = isinstance(when, bool)
    if isinstance(when, Real) and not is_bool and math.isfinite(found := float(when)):
        return found
    raise InvalidValueError(
        f"{when!r:.60} is neither a seq nor a time: give a whole number for a seq, seconds since "
        f"1970 as a float, or a datetime"
    )


def moment(wall_time: float) -> str:
    """Return a time in words, in this host's zone; in seconds, where no calendar goes so far."""
    try:
        return dt.datetime.fromtimestamp(wall_time, dt.UTC).astimezone().isoformat(" ")
    except (OverflowError, OSError, ValueError):
        return f"{wall_time:g} s"
