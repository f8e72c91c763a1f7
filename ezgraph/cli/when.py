"""A point in the history as it is typed: a seq, or a time."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ezgraph.errors import ConfigError

if TYPE_CHECKING:
    from ezgraph.protocol.events import Event

_AGO = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_SECONDS = (86400, 3600, 60, 1)


@dataclass(frozen=True, slots=True)
class When:
    """One of the two: ``seq``, or ``wall_time`` in seconds since 1970."""

    seq: int | None = None
    wall_time: float | None = None

    def is_before(self, event: Event) -> bool:
        """Return whether ``event`` came later than this."""
        return self.comes_before(event.seq, event.wall_time)

    def comes_before(self, seq: int, wall_time: float) -> bool:
        """Return whether what has this seq and time came later than this."""
        if self.seq is not None:
            return seq > self.seq
        return self.wall_time is None or wall_time > self.wall_time


def parse_when(typed: str, *, now: float) -> When:
    """Return the seq or time that ``typed`` names; times without a zone are of this host's.

    Raises:
        ConfigError: it is neither.
    """
    if typed.isdecimal():
        return When(seq=int(typed))
    ago = _AGO.fullmatch(typed)
    if ago is not None and any(ago.groups()):
        spans = (float(part or 0) * each for part, each in zip(ago.groups(), _SECONDS, strict=True))
        return When(wall_time=now - sum(spans))
    today = dt.datetime.fromtimestamp(now, dt.UTC).astimezone().date()
    for text in (typed, f"{today}T{typed}"):
        try:
            return When(wall_time=dt.datetime.fromisoformat(text).astimezone().timestamp())
        except ValueError:
            continue
    raise ConfigError(
        f"{typed!r} is neither a seq nor a time; say 812, 14:03, 2026-11-22, "
        f"2026-11-22T14:03:22 or 10m (ago)"
    )
