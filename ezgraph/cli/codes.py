"""Exit codes, and which error means which."""

from __future__ import annotations

from ezgraph.errors import (
    AddressInUseError,
    ConfigError,
    DeadlineError,
    EzGraphError,
    InvalidKeyError,
    JournalError,
)

OK = 0
REFUSED = 1
USAGE = 2
NO_BROKER = 3
CANNOT_SERVE = 4
INTERRUPTED = 130


def code_of(error: EzGraphError) -> int:
    """Return the exit code that an error stands for."""
    match error:
        case ConfigError() | InvalidKeyError():
            return USAGE
        case DeadlineError():
            return NO_BROKER
        case JournalError() | AddressInUseError():
            return CANNOT_SERVE
        case _:
            return REFUSED
