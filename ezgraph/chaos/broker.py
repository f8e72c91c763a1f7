"""The broker of a chaos run: ``python -m ezgraph.chaos.broker PARENT JSON``, on its journal.

One in a hundred of its publications, events and notes alike, is dropped, as a full queue would:
on one host the system's own buffers are too big for a queue to fill up in a few seconds.
"""

from __future__ import annotations

import json
import logging
import random
import sys
from typing import TYPE_CHECKING, Any

from ezgraph.broker import process
from ezgraph.chaos import guard
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
        process.serve(broker_config(options), _begin)
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


def _begin(service: BrokerService) -> None:
    engine, rng = service.engine, random.Random()
    losing = lose_some(engine.publications, rng, lambda count: _say(lost=count))
    engine.publications = losing  # type: ignore[method-assign]
    _say(ports=[service.address.port if service.address else 0, engine.core.events_ports[0]])


def _say(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
