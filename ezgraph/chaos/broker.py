"""The broker of a chaos run: ``python -m ezgraph.chaos.broker PARENT JSON``, on its journal.

One in a hundred of its publications, events and notes alike, is dropped, as a full queue would:
on one host the system's own buffers are too big for a queue to fill up in a few seconds.

History goes only when the run has copied it (`ezgraph.chaos.archive`): on a host that is very busy
the copy may lag by more events than the broker keeps. Until then compaction waits for its next
turn.
"""

from __future__ import annotations

import json
import logging
import random
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ezgraph.broker import process
from ezgraph.chaos import guard
from ezgraph.chaos.archive import copied_through
from ezgraph.config import BrokerConfig, Limits, Retention, parse_address
from ezgraph.errors import EzGraphError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ezgraph.broker.service import BrokerService

    Message = list[bytes]

_HIGH_WATER_MARK = 200
_LOST_SHARE = 0.01


def main(arguments: list[str]) -> int:
    """Serve until a signal ends it; 4 when it cannot start, or its journal fails."""
    parent, options = int(arguments[0]), json.loads(arguments[1])
    guard.die_with_parent(parent)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    try:
        process.serve(broker_config(options), partial(_begin, Path(options["archive"])))
    except EzGraphError as error:
        logging.getLogger(__name__).error("broker ends: %s", error)  # noqa: TRY400 - one line
        return 4
    return 0


def broker_config(options: dict[str, Any]) -> BrokerConfig:
    """Return the configuration that the options of the runner stand for."""
    return BrokerConfig(
        address=parse_address(options["address"]),
        events_port=options["events_port"],
        backend=options["backend"],
        ttl_s=options["ttl_s"],
        checkpoint_events=options["checkpoint_events"],
        retention=Retention(
            events=options["kept_events"], max_pinned_events=options["pinned_events"]
        ),
        limits=Limits(high_water_mark=_HIGH_WATER_MARK),
        key=options.get("key"),
        trusted=options.get("trusted"),
    )


def lose_some(
    publications: Callable[[], list[Message]], rng: random.Random, lost: Callable[[int], None]
) -> Callable[[], list[Message]]:
    """Return what publishes the same, but for one in a hundred; ``lost`` hears how many."""

    def some() -> list[Message]:
        found = publications()
        kept = [each for each in found if rng.random() >= _LOST_SHARE]
        if len(kept) < len(found):
            lost(len(found) - len(kept))
        return kept

    return some


class FloorDue(Protocol):
    """`ezgraph.broker.compaction.Compaction.floor_due`."""

    def __call__(self, *, now: float, wall: float) -> int | None:
        """Return the new floor when history may go."""
        ...


def keep_what_is_not_copied(floor_due: FloorDue, copied: Callable[[], int]) -> FloorDue:
    """Return what lets history go only where it is ``copied`` through the last seq that goes."""

    def due(*, now: float, wall: float) -> int | None:
        floor = floor_due(now=now, wall=wall)
        return None if floor is None or copied() < floor - 1 else floor

    return due


def _begin(archive: Path, service: BrokerService) -> None:
    engine, rng = service.engine, random.Random()
    losing = lose_some(engine.publications, rng, lambda count: _say(lost=count))
    engine.publications = losing  # type: ignore[method-assign]
    compaction = engine._compaction  # noqa: SLF001 - as it is nobody else's business
    keeping = keep_what_is_not_copied(compaction.floor_due, lambda: copied_through(archive))
    compaction.floor_due = keeping  # type: ignore[method-assign]
    _say(ports=[service.address.port if service.address else 0, engine.core.events_ports[0]])


def _say(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
