"""Processes beside the measuring one, which are asked and answer in lines of JSON.

A child says one line when it is ready, then answers each line it is asked with one line, and ends
when its standard input does, so none outlives its parent.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Self

from ezgraph.errors import DeadlineError, EzGraphError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from types import TracebackType

ANSWER_S = 60.0
_END_S = 5.0


class Child:
    """One child: ``python -m module arguments``. Several can be started before one is heard."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._name = " ".join([module, *arguments])
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._said: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<Child {self._name} pid={self._process.pid} code={self._process.poll()}>"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def said(self) -> dict[str, Any]:
        """What it said when it was ready; waits for that."""
        if self._said is None:
            self._said = self.hear()
        return self._said

    def ask(self, **request: object) -> dict[str, Any]:
        """Return its answer.

        Raises:
            DeadlineError: there was none in a minute.
            EzGraphError: it failed, or has ended.
        """
        self.tell(**request)
        return self.hear()

    def tell(self, **request: object) -> None:
        """Send it a request and go on; `hear` the answer later."""
        if not self.said or self._process.stdin is None:
            raise EzGraphError(f"{self!r} takes no requests")
        self._process.stdin.write(json.dumps(request) + "\n")

    def hear(self) -> dict[str, Any]:
        """Return its next line; raises as `ask` does."""
        out = self._process.stdout
        if out is None or not select.select([out], [], [], ANSWER_S)[0]:
            raise DeadlineError(f"{self!r} did not answer within {ANSWER_S:g} s")
        line = out.readline()
        if not line:
            raise EzGraphError(f"{self!r} ended without an answer; its error stands above")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise EzGraphError(f"{self!r} failed: {answer['error']}")
        return answer

    def close(self) -> None:
        """End its standard input and wait for its end; kill it if it does not."""
        process = self._process
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def ask_all(children: Sequence[Child], **request: object) -> list[dict[str, Any]]:
    """Ask all at once, and return the answers in order."""
    for child in children:
        child.tell(**request)
    return [child.hear() for child in children]


# --- inside a child ---


def be(main: Coroutine[Any, Any, None]) -> None:
    """Run the child; if it fails, say why instead of the next answer."""
    try:
        asyncio.run(main)
    except (EzGraphError, OSError, ExceptionGroup) as error:
        first: BaseException = error
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        say(error=f"{type(first).__name__}: {first}")
        sys.exit(1)


def say(**what: object) -> None:
    """Say one line to the parent."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def answer(answerer: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]) -> None:
    """Answer the parent's lines until there are no more."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        say(**await answerer(json.loads(line)))


def end_with_parent() -> None:
    """End this process, whatever it does, when its standard input ends."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
