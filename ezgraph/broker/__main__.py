"""A broker as a process: ``python -m ezgraph.broker '{"address": …}'``.

It says where it listens in one JSON line on standard output (or what went wrong), serves until
SIGTERM, SIGINT or the end of standard input (its starter is gone), and exits 0; 1 after an error.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

from ezgraph.backends.base import Backend
from ezgraph.broker.service import BrokerService
from ezgraph.config import BrokerConfig, parse_address
from ezgraph.errors import EzGraphError

if TYPE_CHECKING:
    from types import FrameType


def main() -> int:
    """Serve; return the exit code."""
    given = json.loads(sys.argv[1])
    config = BrokerConfig(**{**given, "address": parse_address(given["address"])})
    try:
        with Backend.from_url(config.backend).connect() as connection:
            service = BrokerService(config, connection.open_journal())
            try:
                address = service.bind()
            except BaseException:
                service.close()
                raise
            _stop_on_signals(service)
            _say({"address": str(address), "pid": os.getpid()})
            threading.Thread(target=_stop_at_end_of_input, args=(service,), daemon=True).start()
            service.run()
    except EzGraphError as error:
        _say({"code": error.code, "message": str(error)})
        return 1
    return 0


def _say(what: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _stop_on_signals(service: BrokerService) -> None:
    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a handler's form
        service.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


def _stop_at_end_of_input(service: BrokerService) -> None:
    while os.read(0, 4096):
        pass
    service.stop()


if __name__ == "__main__":
    sys.exit(main())
