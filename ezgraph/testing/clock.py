"""A clock that moves when it is told to, and clocks that follow it badly."""

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

    def advance_to(self, monotonic: float) -> None:
        """Move both readings forward until `monotonic` shows exactly this."""
        self.advance(monotonic - self._monotonic)
        self._monotonic = monotonic

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an administrator would."""
        self._wall += seconds


class HostClock:
    """The clock of one host: it follows ``base``, but began elsewhere, and runs fast or slow.

    ``rate`` 1.1: it shows eleven seconds while ten go by. `base_time` and `own_time` translate
    monotonic readings. Its wall clock is set by `step_wall` alone.
    """

    def __init__(
        self,
        base: ManualClock,
        *,
        rate: float = 1.0,
        offset_s: float = 0.0,
        wall_offset_s: float = 0.0,
    ) -> None:
        self._base = base
        self._rate = rate
        self._offset_s = offset_s
        self._wall_offset_s = wall_offset_s

    def __repr__(self) -> str:
        return f"<HostClock {self.monotonic():.6f} s, rate {self._rate:g}>"

    def monotonic(self) -> float:
        """Return seconds from a start of its own."""
        return self._base.monotonic() * self._rate + self._offset_s

    def wall(self) -> float:
        """Return what this host believes are seconds since 1970."""
        return self._base.wall() + self._wall_offset_s

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an administrator would."""
        self._wall_offset_s += seconds

    def own_time(self, base_time: float) -> float:
        """Return what this clock shows when the base shows ``base_time``."""
        return base_time * self._rate + self._offset_s

    def base_time(self, own_time: float) -> float:
        """Return what the base shows when this clock shows ``own_time``."""
        return (own_time - self._offset_s) / self._rate
