"""Starting a flow is one transaction of clean puts, stopping it one of clean deletes."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from ezgraph.clock import Deadline
from ezgraph.config import DEFAULT_TIMEOUT_S
from ezgraph.errors import (
    FlowExistsError,
    PreconditionFailedError,
    UnknownFlowError,
    VariantTakenError,
)
from ezgraph.flows.base import config_of
from ezgraph.flows.record import ACTIVE_FLOW, FLOW, FlowRecord, read_record, settings_of
from ezgraph.names import check_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ezgraph.flows.base import Bus, Config, Transaction
    from ezgraph.names import Key
    from ezgraph.protocol.config import ConfigEntry


async def start_flow(
    bus: Bus,
    flow_id: str,
    variants: Mapping[str, Mapping[str, object]],
    *,
    reason: str | None = None,
    timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
) -> int:
    """Start a flow: give each processor its variants, all at once; return the seq reached.

    The flow stays until `stop_flow`, also when this session ends. Just the processors named hear
    of it, each of its own variants.

    Args:
        bus: a `GraphContext`, or its ``config``.
        flow_id: any text.
        variants: ``{processor: {variant: {"topics": …, "parameters": …}}}``; a value may be
            anything that a configuration key can hold.
        reason: why, in free text, for the log.
        timeout: in seconds.

    Raises:
        FlowExistsError: it runs already; says since when, and who started it.
        VariantTakenError: a processor has such a variant already. A variant belongs to one flow:
            what several flows share (a service that all of them use) is a flow of its own.
    """
    config, deadline = config_of(bus), Deadline(timeout)
    settings = settings_of(variants)
    record = FlowRecord(check_key((flow_id,))[0], tuple(settings))
    try:
        async with config.txn(reason=reason, timeout=deadline.left()) as txn:
            txn.require_absent(FLOW, (flow_id,))
            txn.put(FLOW, (flow_id,), record.to_value())
            for key, value in settings.items():
                txn.require_absent(ACTIVE_FLOW, key)
                txn.put(ACTIVE_FLOW, key, value)
    except PreconditionFailedError as error:
        raise await _why_not(config, record, error, deadline) from error
    return _seq_of(txn)


async def stop_flow(
    bus: Bus,
    flow_id: str,
    *,
    reason: str | None = None,
    timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
) -> int:
    """Stop a flow: take away every key that its start put, and only those; return the seq reached.

    A key is taken away also if its value was changed since. One that was deleted meanwhile, and
    put anew by somebody else, is theirs and stays.

    Raises:
        UnknownFlowError: it does not run: never started, or stopped already.
    """
    config, deadline = config_of(bus), Deadline(timeout)
    name = check_key((flow_id,))
    entry = await _record_of(config, name, deadline)
    written = _written(entry)  # as far as we know, all of it is still there
    while True:
        try:
            async with config.txn(reason=reason, timeout=deadline.left()) as txn:
                txn.require_seq(FLOW, name, entry.seq)
                txn.delete(FLOW, name)
                for key, created_seq in written.items():
                    txn.require_created(ACTIVE_FLOW, key, created_seq)
                    txn.delete(ACTIVE_FLOW, key)
        except PreconditionFailedError:
            entry = await _record_of(config, name, deadline)
            written = await _still_there(config, _written(entry), deadline)
        else:
            return _seq_of(txn)


def _seq_of(txn: Transaction) -> int:
    if txn.result is None:
        raise AssertionError("a block that ended well has sent its transaction")
    return txn.result.seq


async def _record_of(config: Config, name: Key, deadline: Deadline) -> ConfigEntry:
    entry = await config.entry(FLOW, name, timeout=deadline.left())
    if entry is None:
        raise UnknownFlowError(
            f"no flow {name[0]!r} runs: it was never started, or has been stopped; those that run "
            f"are the keys of type {FLOW!r}"
        )
    return entry


def _written(entry: ConfigEntry) -> dict[Key, int]:
    """Return the keys that a flow's start put, each with the seq at which it came to be."""
    record = read_record(entry.key[0], entry.value)
    return {key: entry.created_seq + 1 + place for place, key in enumerate(record.keys)}


async def _still_there(
    config: Config, written: Mapping[Key, int], deadline: Deadline
) -> dict[Key, int]:
    """Return those keys that have been there ever since; others were deleted since."""
    found: dict[Key, int] = {}
    for processor in dict.fromkeys(key[0] for key in written):
        async for entry in config.scan(ACTIVE_FLOW, (processor,), timeout=deadline.left()):
            if written.get(entry.key) == entry.created_seq:
                found[entry.key] = entry.created_seq
    return found


async def _why_not(
    config: Config, record: FlowRecord, error: PreconditionFailedError, deadline: Deadline
) -> FlowExistsError | VariantTakenError:
    """Return why a flow could not be started."""
    flow_id, taken = record.flow_id, set(record.keys)
    async for entry in config.scan(FLOW, timeout=deadline.left()):
        if entry.key == (flow_id,):
            return FlowExistsError(
                f"flow {flow_id!r} runs already, since {_since(entry)}; stop it first, or choose "
                f"another id"
            )
        both = {key: seq for key, seq in _listed(entry).items() if key in taken}
        if there := await _still_there(config, both, deadline):
            processor, variant = min(there)
            return VariantTakenError(
                f"flow {flow_id!r} was not started: processor {processor!r} runs variant "
                f"{variant!r} for flow {entry.key[0]!r}, since {_since(entry)}; stop that flow, or "
                f"choose another variant"
            )
    return VariantTakenError(
        f"flow {flow_id!r} was not started: {error}. No flow that you may see has that key, so it "
        f"was put by itself: delete it, or choose another variant"
    )


def _listed(entry: ConfigEntry) -> dict[Key, int]:
    try:
        return _written(entry)
    except UnknownFlowError:
        return {}  # no record of ours


def _since(entry: ConfigEntry) -> str:
    moment = dt.datetime.fromtimestamp(entry.wall_time, dt.UTC)
    return f"seq {entry.created_seq} ({moment:%Y-%m-%d %H:%M:%S} UTC), started by {entry.author}"
