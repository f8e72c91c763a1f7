"""A command of ``ezgraph`` that goes on until Ctrl-C, and its lines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph import GraphServer

WAIT_S = 30.0


class Watching:
    """A watch in a process, and its lines."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def line(self) -> str:
        """Return the next line; an empty one when there is none in time."""
        assert self._process.stdout is not None
        timer = threading.Timer(WAIT_S, self._process.kill)
        timer.start()
        try:
            return self._process.stdout.readline()
        finally:
            timer.cancel()
            timer.join()

    def event(self) -> Any:
        """Return the next line as an event."""
        return json.loads(self.line())

    def interrupt(self) -> tuple[int, str]:
        """Press Ctrl-C; return the exit code and what stood on standard error."""
        assert self._process.stderr is not None
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(WAIT_S), self._process.stderr.read()


@contextmanager
def watching(server: GraphServer, *words: str) -> Iterator[Watching]:
    """Run a command on a broker, in a process of its own."""
    command = [sys.executable, "-m", "ezgraph", "-a", str(server.address), *words]
    environment = {name: value for name, value in os.environ.items() if name != "EZGRAPH_ADDR"}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=environment,
    ) as process:
        try:
            yield Watching(process)
        finally:
            process.kill()
