"""The processes of a chaos run: started, listened to, given orders, stopped and killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ezgraph.errors import DeadlineError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_KILLED_S = 10.0


class Child:
    """One process: ``python -m module PARENT JSON``; what it says comes as JSON, line by line.

    ``may_end``: its end is wanted; else ``on_end`` hears of a child that failed.
    """

    def __init__(
        self,
        name: str,
        log: Path,
        *,
        on_said: Callable[[Child, dict[str, Any]], None],
        on_end: Callable[[Child], None],
    ) -> None:
        self.name = name
        self.may_end = False
        self.is_stopped = False
        self._log = log
        self._on_said = on_said
        self._on_end = on_end
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Child {self.name} pid={self.pid} code={self.code}>"

    @property
    def pid(self) -> int | None:
        """Its process id, also after its end."""
        return self._process.pid if self._process else None

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.returncode if self._process else None

    @property
    def alive(self) -> bool:
        """Whether it is there."""
        return self._process is not None and self._process.returncode is None

    async def start(self, module: str, given: dict[str, Any], tasks: asyncio.TaskGroup) -> None:
        """Start it; ``tasks`` holds the one that listens to it."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", module, str(os.getpid()), json.dumps(given)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is the run's business alone
            )
        self._listening = tasks.create_task(self._listen(self._process))

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        if process.stdout is None:
            return
        async for line in process.stdout:
            with suppress(json.JSONDecodeError):  # killed within a line
                self._on_said(self, json.loads(line))
        await process.wait()
        self._on_end(self)

    def order(self, text: str) -> None:
        """Give it an order; one that has ended hears nothing."""
        if self._process is not None and self._process.stdin is not None and self.alive:
            self._process.stdin.write(text.encode() + b"\n")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; SIGSTOP and SIGCONT are remembered."""
        if self._process is not None and self.alive:
            self.is_stopped = number is signal.SIGSTOP
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def kill(self) -> None:
        """Kill it, stopped or not, and return when it has ended."""
        self.may_end = True
        self.signal(signal.SIGKILL)
        await self.ended(_KILLED_S)

    async def ended(self, within_s: float) -> int | None:
        """Return its exit code when it has ended and all it said was heard.

        Raises:
            DeadlineError: it has not in that time.
        """
        if self._listening is None:
            return self.code
        done, _ = await asyncio.wait([self._listening], timeout=within_s)
        if not done:
            raise DeadlineError(
                f"{self.name} (pid {self.pid}) did not end within {within_s:g} s; see {self._log}"
            )
        return self.code

    def last_words(self) -> str:
        """Return the last line of its log that says anything."""
        lines = [line for line in self._log.read_text(errors="replace").splitlines()
                 if line.strip(" |+-")]
        return lines[-1] if lines else f"{self._log.name} is empty"
