"""Any value of the bus as JSON (`ezgraph.protocol.plain`); events and snapshots as objects."""

from __future__ import annotations

import datetime as dt
import json
import sys
from dataclasses import fields
from typing import TYPE_CHECKING

from ezgraph.protocol.plain import plain

if TYPE_CHECKING:
    from ezgraph.protocol.events import Event
    from ezgraph.protocol.snapshot import GraphSnapshot

__all__ = ["dumps", "event", "iso", "plain", "snapshot"]


def dumps(value: object, *, indent: int | None = None) -> str:
    """Return ``value`` as JSON text, in ASCII where the output cannot take more."""
    in_ascii = "utf" not in (sys.stdout.encoding or "").lower()
    return json.dumps(plain(value), indent=indent, ensure_ascii=in_ascii, allow_nan=False)


def iso(wall_time: float) -> str:
    """Return a wall time as ISO 8601 in UTC, to the microsecond; of no year: in seconds."""
    try:
        return dt.datetime.fromtimestamp(wall_time, dt.UTC).isoformat(timespec="microseconds")
    except (OverflowError, OSError, ValueError):
        return f"{wall_time:g} s"


def event(each: Event) -> dict[str, object]:
    """Return an event as one object: its head, its ``source`` and its ``body``."""
    return {"seq": each.seq, "time": iso(each.wall_time), "kind": each.kind, **plain(each)}


def snapshot(taken: GraphSnapshot) -> dict[str, object]:
    """Return a snapshot as one object; edges and configuration are lists, as keys are pairs."""
    whole = {each.name: getattr(taken, each.name) for each in fields(taken)}
    edges = [
        {"from_topic": edge.from_topic, "to_topic": edge.to_topic, "owners": owners}
        for edge, owners in taken.edge_owners.items()
    ]
    del whole["edge_owners"]
    if taken.config is not None:
        whole["config"] = [
            entry.to_json() for entries in taken.config.values() for entry in entries.values()
        ]
    head = {name: whole.pop(name) for name in ("seq", "epoch", "paused")}
    return {**head, "edges": edges, **whole}
