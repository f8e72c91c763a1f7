"""Was every promise kept? Traces of client programs, compared with the journal.

* `Recorder` writes a trace of what a program asks, is told and is given.
* `read_history` reads a journal, `verify` compares: each violation of G1 to G10 is a `Finding`.

The traces' records are in `ezgraph.verify.records`, their file format in
`ezgraph.verify.trace_file`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ezgraph.verify.findings import Finding, Report
    from ezgraph.verify.history import History
    from ezgraph.verify.one_trace import Tolerances
    from ezgraph.verify.reading import read_history, verify
    from ezgraph.verify.recorder import Recorder
    from ezgraph.verify.records import Fault

__all__ = [
    "Fault",
    "Finding",
    "History",
    "Recorder",
    "Report",
    "Tolerances",
    "read_history",
    "verify",
]

_HOME = {
    "Fault": "records",
    "Finding": "findings",
    "History": "history",
    "Recorder": "recorder",
    "Report": "findings",
    "Tolerances": "one_trace",
    "read_history": "reading",
    "verify": "reading",
}


def __getattr__(name: str) -> object:
    """Load a part when it is first named: who records does not check."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"ezgraph.verify.{_HOME[name]}"), name)
