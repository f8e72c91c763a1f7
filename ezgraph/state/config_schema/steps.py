"""The bound on the work of one judgement: steps, not seconds, so that it is the same everywhere."""

from __future__ import annotations

from contextvars import ContextVar

MAX_STEPS = 50_000
MAX_STEPS_TOGETHER = 500_000
"""Of all values that one command has judged: about a second."""
MAX_DEPTH = 200
"""Words within words; each takes some three frames of Python's thousand."""


class TooMuchError(Exception):
    """The steps are used up, or words stand too deep within words."""


class Steps:
    """What one judgement may still do; entered once for each word that is judged within another.

    A step is some 2 µs of work: one word of a schema applied to one part of a value.
    """

    __slots__ = ("depth", "left")

    def __init__(self, left: int = MAX_STEPS) -> None:
        self.left = left
        self.depth = 0

    def spend(self, steps: int) -> None:
        """Take steps off.

        Raises:
            TooMuchError: there are not so many left.
        """
        self.left -= steps
        if self.left < 0:
            raise TooMuchError

    def __enter__(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooMuchError

    def __exit__(self, *_: object) -> None:
        self.depth -= 1

    def __repr__(self) -> str:
        return f"<Steps left={self.left} depth={self.depth}>"


current: ContextVar[Steps] = ContextVar("current")
"""Those of the judgement under way: the validator hands its words nothing of ours."""
