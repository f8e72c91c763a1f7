"""What a flow is in the configuration: its keys, and the record that lists them. Pure.

A flow is started by one transaction, which puts its record, ``("flow", flow_id)``, and after it one
key for each variant, ``("active-flow", (processor, variant))``. All of them must have been absent,
so the transaction makes one event for each, numbered without a gap: the key at place ``i`` of the
record's list was created at the record's own ``created_seq + 1 + i``. A later put of another value
leaves a key's ``created_seq`` as it is; one that was deleted and put anew has another. So it can be
told for each key, whatever happened to its value, whether it is still the one that the start wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ezgraph.errors import InvalidCommandError, UnknownFlowError
from ezgraph.names import Key, check_key

ACTIVE_FLOW = "active-flow"
"""The type of the keys that processors watch."""
FLOW = "flow"
"""The type of the flows' records."""


@dataclass(frozen=True, slots=True)
class FlowRecord:
    """The keys of a flow, each ``(processor, variant)``, in the order they were put in."""

    flow_id: str
    keys: tuple[Key, ...]

    def to_value(self) -> dict[str, object]:
        """Return what is stored."""
        return {"keys": [list(key) for key in self.keys]}


def settings_of(variants: object) -> dict[Key, object]:
    """Return the value of each key, ``(processor, variant)``, that ``variants`` asks for.

    Raises:
        InvalidCommandError: it is not ``{processor: {variant: value}}``.
        InvalidKeyError: a processor or variant is not a non-empty text.
    """
    if not isinstance(variants, Mapping):
        raise _misshapen("variants", variants)
    found: dict[Key, object] = {}
    for processor, each in variants.items():
        if not isinstance(each, Mapping):
            raise _misshapen(f"what processor {processor!r} is to run", each)
        for variant, value in each.items():
            found[check_key((processor, variant))] = value
    return found


def _misshapen(what: str, given: object) -> InvalidCommandError:
    return InvalidCommandError(
        f"{what} is given as {type(given).__name__}; a flow is started with "
        f"{{processor: {{variant: {{'topics': …, 'parameters': …}}}}}}"
    )


def read_record(flow_id: str, value: object) -> FlowRecord:
    """Return the record that is stored as ``value``.

    Raises:
        UnknownFlowError: somebody else put something there that is no such record.
    """
    keys = value.get("keys") if isinstance(value, Mapping) else None
    if not isinstance(keys, Sequence) or isinstance(keys, str):
        raise _no_record(flow_id)
    found = []
    for key in keys:
        try:
            found.append(check_key(key))
        except ValueError as error:
            raise _no_record(flow_id) from error
    return FlowRecord(flow_id, tuple(found))


def _no_record(flow_id: str) -> UnknownFlowError:
    return UnknownFlowError(
        f"what stands under ({FLOW!r}, {flow_id!r}) was not written by start_flow: it does not "
        f"list the flow's keys; delete it and the keys of type {ACTIVE_FLOW!r} that go with it"
    )
