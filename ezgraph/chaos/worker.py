"""One client of a chaos run, as a process: ``python -m ezgraph.chaos.worker PARENT JSON``.

Standard input takes orders, one per line: ``quiet`` (change nothing more), ``reach N`` (have
everything up to seq N), ``leave``. Standard output says, in lines of JSON, how much was done, the
phase that is reached, and each promise that only this client can see broken.

A lease that is lost (the process was stopped for too long, its cable pulled) is no failure: the
client says so, opens a new one and declares its part again.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from ezgraph import sync
from ezgraph.chaos import guard
from ezgraph.chaos.forms import settled
from ezgraph.chaos.roles import ROLES, Role
from ezgraph.client.resumption import ResumeToken
from ezgraph.errors import (
    DeadlineError,
    EzGraphError,
    JournalFailedError,
    RefusedError,
    SessionError,
)
from ezgraph.graph.context import GraphContext
from ezgraph.graph.process import ProcessControlClient
from ezgraph.graph.service import GraphService
from ezgraph.keys.keyring import shown_keys
from ezgraph.verify.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ezgraph.names import Key

REPORT_S = 0.5
SETTLE_S = 25.0
_TIMEOUTS_S = (1.5, 4.0, 10.0)
_RETRY_S = 0.2


@dataclass(frozen=True)
class Job:
    """What the runner asks of this process; times in seconds. ``keys``: see `shown_keys`."""

    name: str
    role: str
    address: str
    trace: str
    seed: str
    ttl_s: float
    rate: float
    token: str | None = None
    keys: Sequence[str] = ()


class Worker:
    """A client and what it has done so far."""

    def __init__(self, job: Job, recorder: Recorder, say: Callable[..., None]) -> None:
        self.job = job
        self._recorder = recorder
        self.rng = random.Random(job.seed)
        self.counts: Counter[str] = Counter()
        self.quiet = asyncio.Event()
        self.goal_known = asyncio.Event()
        self.positions: dict[Key, int] = {}
        self.ctx: Any = None
        self._lost = False
        self._token = ResumeToken.parse(job.token) if job.token else None
        self._goal = 0
        self._reached = False
        self._leave: Callable[[], object] = list
        self._is_leaving = False
        self._role: Role = ROLES[job.role]
        self._say = say

    def __repr__(self) -> str:
        return f"<Worker {self.job.name} {self.ctx!r} {dict(self.counts)}>"

    # --- for the roles ---

    async def ask(self, name: str, *arguments: object, **options: object) -> Any:  # noqa: ANN401
        """Do one call and count how it ended; None when it was refused or came too late.

        ``name`` is the method's, with dots where it is one of a part: ``config.put``.
        """
        self.counts["calls"] += 1
        timeout = self.rng.choice(_TIMEOUTS_S)
        try:
            call = attrgetter(name)(self.ctx)(*arguments, **options, timeout=timeout)
            result = await settled(call)
        except RefusedError as error:
            self.counts["refused"] += 1
            self.counts[f"refused: {error.code}"] += 1
        except JournalFailedError:
            self.counts["failed journals"] += 1
            await asyncio.sleep(_RETRY_S)
        except DeadlineError:
            self.counts["timeouts"] += 1
        else:
            self.counts["acknowledged"] += 1
            return result
        return None

    async def pause(self) -> None:
        """Let some time go, or end at once when all are to be quiet."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.rng.expovariate(self.job.rate)):
                await self.quiet.wait()

    async def until_goal(self) -> int:
        """Return the seq up to which everything must have come, when it is known."""
        await self.goal_known.wait()
        return self._goal

    async def be_quiet(self) -> None:
        """Say that this client changes nothing more, and wait for the goal."""
        self._say(phase="quiet")
        await self.goal_known.wait()

    def broken(self, promise: str) -> None:
        """Say that a promise was broken."""
        self.counts["broken promises"] += 1
        self._say(broken=promise)

    # --- orders ---

    def obey(self, order: str) -> None:
        """Take an order; called in the event loop."""
        match order.split():
            case ["quiet"]:
                self.quiet.set()
            case ["reach", seq]:
                self._goal = int(seq)
                self.goal_known.set()
                asyncio.get_running_loop().call_later(SETTLE_S, self._say_late)
            case ["leave"]:
                self._is_leaving = True
                self._leave()
            case _:
                self.broken(f"{self.job.name} was given the order {order!r}")

    # --- the life of a client ---

    async def live(self) -> None:
        """Join, play the role, declare again whenever the lease is lost; until told to leave."""
        self._leave = _canceller()
        self._report()
        try:
            await self._play()
            self._reached = True
            self._say(phase="reached")
            await asyncio.Event().wait()
        finally:
            await self._close()
            self._say_counts()

    async def _play(self) -> None:
        while not await self._play_once():
            if self._is_leaving:  # a group that fails as it is cancelled says only that it failed
                raise asyncio.CancelledError
            await asyncio.sleep(_RETRY_S)

    async def _play_once(self) -> bool:
        """Play until the goal is reached; False: try again, on a new lease if this one is lost."""
        again = False
        try:
            await self._open()
            await self._role.play(self)
        except* SessionError:
            again = self._lost = True
            self.counts["leases lost"] += 1
        except* JournalFailedError:
            again = True
            self.counts["failed journals"] += 1
            await self._close()
        except* DeadlineError:
            again = True
            self.counts["timeouts"] += 1
        return not again

    async def _open(self) -> None:
        if self.ctx is None:
            await self._join()
        elif self._lost:
            await self._declare_again()

    async def _join(self) -> None:
        token, self._token = self._token, None
        ctx = self._new_context(token)
        if self._role.client != "service":
            self.counts["calls"] += 1
            await settled(ctx.connect() if self._role.client == "process" else ctx.open())
            self.counts["acknowledged"] += 1
            self._has_lease(ctx)
            if token is not None and ctx.resume_token.client == token.client:
                self.counts["leases taken over"] += 1
        self.ctx, self._lost = ctx, False

    async def _declare_again(self) -> None:
        self.counts["calls"] += 1
        try:
            await settled(self.ctx.redeclare())
        except RefusedError:  # somebody else has an address by now, or an edge closes a loop
            self.counts["refused"] += 1
        else:
            self.counts["acknowledged"] += 1
        self.counts["declared again"] += 1
        self._has_lease(self.ctx)
        self._lost = False

    def _has_lease(self, ctx: Any) -> None:  # noqa: ANN401 - of any form
        self.counts["leases"] += 1
        self._say(token=str(ctx.resume_token))

    def _new_context(self, token: ResumeToken | None) -> Any:  # noqa: ANN401
        job, role, recorder = self.job, self._role, self._recorder
        session = recorder.blocking_session if role.blocks else recorder.session
        keys = shown_keys(job.address, job.keys)
        options: dict[str, Any] = {
            "keys": keys,
            "ttl_s": job.ttl_s,
            "program": job.name,
            "resume": token,
            "session_factory": session,
        }
        match role.client:
            case "service":
                return GraphService(job.address, keys=keys, session_factory=recorder.session)
            case "process":
                process = sync.ProcessControlClient if role.blocks else ProcessControlClient
                return process(job.address, **options)
            case _:
                context = sync.GraphContext if role.blocks else GraphContext
                return context(job.address, replica=role.mirrors, **options)

    async def _close(self) -> None:
        ctx, self.ctx = self.ctx, None
        if ctx is not None and self._role.client != "service":
            await settled(ctx.close())

    def _say_late(self) -> None:
        if not self._reached:
            self.broken(
                f"G2: {self.job.name} has not everything up to seq {self._goal} after "
                f"{SETTLE_S:g} s; it is at {self.positions}"
            )

    def _report(self) -> None:
        self._say_counts()
        asyncio.get_running_loop().call_later(REPORT_S, self._report)

    def _say_counts(self) -> None:
        self._say(counts=dict(self.counts))


def _canceller() -> Callable[[], object]:
    task = asyncio.current_task()
    return task.cancel if task is not None else list


def _listen(loop: asyncio.AbstractEventLoop, worker: Worker) -> None:
    with open(0, closefd=False, buffering=1) as orders:
        for line in orders:
            loop.call_soon_threadsafe(worker.obey, line.strip())


def _say(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def _work(job: Job) -> None:
    with Recorder(job.trace, program=job.name) as recorder:
        worker = Worker(job, recorder, _say)
        loop = asyncio.get_running_loop()
        threading.Thread(target=_listen, args=(loop, worker), daemon=True).start()
        with suppress(asyncio.CancelledError):  # told to leave
            await worker.live()


def main(arguments: list[str]) -> int:
    """Play the role; 1 when it failed in a way that no fault explains."""
    parent, job = int(arguments[0]), Job(**json.loads(arguments[1]))
    guard.die_with_parent(parent)
    code = 0
    try:
        asyncio.run(_work(job))
    except* EzGraphError as group:
        code = 1
        _say(broken=f"{job.name} ended with {_first(group)!r}")
    return code


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
