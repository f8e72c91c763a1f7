"""Patterns that take time as the text times the pattern, whatever they are: those of RE2.

Python's own ``re`` can take years over ``(a+)+$``. RE2 knows no look-around and no back references;
a schema that uses them is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import re2

if TYPE_CHECKING:
    from ezgraph.state.config_schema.steps import Steps

MAX_PATTERN = 1_000
_MAX_MEMORY = 1 << 18
_WORK_OF_A_STEP = 300
"""Instructions times characters; 10 ns each at the worst."""


class PatternError(ValueError):
    """The text is no pattern of RE2; says why."""


class Pattern:
    """A pattern, searched for anywhere in a text as JSON Schema has it."""

    __slots__ = ("_found", "size", "text")

    def __init__(self, text: str) -> None:
        if len(text) > MAX_PATTERN:
            raise PatternError(f"it has {len(text)} characters; at most {MAX_PATTERN} are allowed")
        self.text = text
        """As it was given."""
        options = re2.Options()
        options.max_mem = _MAX_MEMORY
        options.log_errors = False
        try:
            self._found = re2.compile(text, options)
        except re2.error as error:
            why = error.args[0]
            raise PatternError(why.decode() if isinstance(why, bytes) else str(why)) from error
        self.size = int(self._found.programsize)
        """In instructions; a search takes at most these times the characters."""

    def is_in(self, text: str, steps: Steps) -> bool:
        """Return whether it is found in a text."""
        steps.spend(len(text) * self.size // _WORK_OF_A_STEP)
        return self._found.search(text) is not None

    def __repr__(self) -> str:
        return repr(self.text)
