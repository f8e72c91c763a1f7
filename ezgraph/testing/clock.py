"""A clock that moves when it is told to."""

from __future__ import annotations

START_WALL_S = 1_700_000_000.0


class ManualClock:
    """An `ezgraph.clock.Clock`; both readings stand still between calls of `advance`."""

    def __init__(self, *, monotonic: float = 0.0, wall: float = START_WALL_S) -> None:
        self._monotonic = monotonic
        self._wall = wall

    def __repr__(self) -> str:
        return f"<ManualClock {self._monotonic:.6f} s>"

    def monotonic(self) -> float:
        """Return the seconds it was moved by, from its start."""
        return self._monotonic

    def wall(self) -> float:
        """Return seconds since 1970."""
        return self._wall

    def advance(self, seconds: float) -> None:
        """Move both readings forward."""
        if seconds < 0:
            raise ValueError(f"a monotonic clock does not go back {-seconds} s")
        self._monotonic += seconds
        self._wall += seconds

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an administrator would."""
        self._wall += seconds
