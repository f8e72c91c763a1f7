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
