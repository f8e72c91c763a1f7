"""A broker as a process: ``python -m ezgraph.broker '{"address": …}'``.

It says where it listens in one JSON line on standard output (or what went wrong), serves until
SIGTERM, SIGINT or the end of standard input (its starter is gone), and exits 0; 1 after an error.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from ezgraph.broker.process import serve
from ezgraph.config import BrokerConfig, Limits, Retention, parse_address
from ezgraph.errors import EzGraphError

if TYPE_CHECKING:
    from ezgraph.broker.service import BrokerService


def main() -> int:
    """Serve; return the exit code."""
    config = config_of(json.loads(sys.argv[1]))
    try:
        serve(config, _ready)
    except EzGraphError as error:
        _say({"code": error.code, "message": str(error)})
        return 1
    return 0


def config_of(given: dict[str, Any]) -> BrokerConfig:
    """Return the configuration that a starter has written down."""
    parsed = {
        "address": parse_address(given["address"]),
        "retention": Retention(**given.get("retention", {})),
        "limits": Limits(**given.get("limits", {})),
    }
    return BrokerConfig(**{**given, **parsed})


def _ready(service: BrokerService) -> None:
    _say({"address": str(service.address), "pid": os.getpid()})
    threading.Thread(target=_stop_at_end_of_input, args=(service,), daemon=True).start()


def _say(what: dict[str, object]) -> None:
    try:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        """The starter is gone: nobody to tell, and its end of our input ends us."""


def _stop_at_end_of_input(service: BrokerService) -> None:
    while os.read(0, 4096):
        pass
    service.stop()


if __name__ == "__main__":
    sys.exit(main())
