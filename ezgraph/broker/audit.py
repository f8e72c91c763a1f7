"""Which refusals are written into history, and how often. Pure.

Whoever was refused by a key or a role, or was cut off, stands in the log beside what was done. So
that nobody fills the journal by being refused, the first of a kind is written at once, the others
of the next `REPEAT_S` seconds are counted and written as one; all of them share a budget per
second, and what does not fit into it is counted as well. A kind is who, what and why.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ezgraph.protocol.events import AccessRefused, Source

REPEAT_S = 10.0
PER_S = 5.0
BURST = 40.0
MAX_KINDS = 1_000
_MAX_MESSAGE = 500


@dataclass(slots=True)
class _Kind:
    refused: AccessRefused
    source: Source
    quiet_until: float
    waiting: int


class Audit:
    """The refusals of one broker run."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str, str], _Kind] = {}
        self._budget, self._budget_at = BURST, 0.0

    def __repr__(self) -> str:
        return f"<Audit kinds={len(self._kinds)}>"

    def __len__(self) -> int:
        return len(self._kinds)

    def note(self, refused: AccessRefused, source: Source, now: float) -> None:
        """Take note of a refusal."""
        kind = refused.who, refused.what, refused.code
        if kind not in self._kinds and len(self._kinds) >= MAX_KINDS:
            kind = "others", "", refused.code
            refused = replace(refused, who="others", what="")
        known = self._kinds.get(kind)
        if known is None:
            message = refused.message[:_MAX_MESSAGE]
            refused = replace(refused, message=message)
            known = self._kinds[kind] = _Kind(refused, source, now, 0)
        known.waiting += refused.count

    def next_due(self) -> float | None:
        """Return when there is something to write, at the earliest."""
        dues = [kind.quiet_until for kind in self._kinds.values() if kind.waiting]
        if not dues:
            return None
        return max(min(dues), self._budget_at + max(0.0, 1.0 - self._budget) / PER_S)

    def due(self, now: float) -> list[tuple[AccessRefused, Source]]:
        """Return what is to be written now, once."""
        if not self._kinds:
            return []
        self._budget = min(BURST, self._budget + (now - self._budget_at) * PER_S)
        self._budget_at = now
        found = []
        for name, kind in list(self._kinds.items()):
            if now < kind.quiet_until:
                continue
            if not kind.waiting:
                del self._kinds[name]
            elif self._budget >= 1.0:
                self._budget -= 1.0
                found.append((replace(kind.refused, count=kind.waiting), kind.source))
                kind.waiting, kind.quiet_until = 0, now + REPEAT_S
        return found
