"""Where time comes from. Shells hold a `Clock`; cores get its readings as arguments."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two readings: one that only goes forward, one that people read."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start; comparable within one process only."""
        ...

    def wall(self) -> float:
        """Return seconds since 1970 (UTC); may step."""
        ...


class SystemClock:
    """The clocks of this machine."""

    def monotonic(self) -> float:
        """Return `time.monotonic`."""
        return time.monotonic()

    def wall(self) -> float:
        """Return `time.time`."""
        return time.time()  # noqa: TID251 - the one place that may ask


class Deadline:
    """A time limit of ``timeout`` seconds for several steps together; it begins when it is made."""

    def __init__(self, timeout: float, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._at = self._clock.monotonic() + timeout

    def __repr__(self) -> str:
        return f"<Deadline in {self.left():.3f} s>"

    def left(self) -> float:
        """Return how many seconds are left; a moment at least, so that what is there is taken."""
        return max(0.001, self._at - self._clock.monotonic())
