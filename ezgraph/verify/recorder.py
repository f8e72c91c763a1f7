"""`Recorder`: writes down all that a program's clients ask, are told and are given.

It gives a `GraphContext` sessions whose engines report what passes through them::

    with Recorder("rig.trace") as recorder:
        async with GraphContext(address, session_factory=recorder.session) as context:
            ...

The program runs as before; what is written is checked later by ``ezgraph verify``.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from collections import deque
from functools import partial
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ezgraph._version import __version__
from ezgraph.client import aio, blocking
from ezgraph.client.engine import ClientEngine
from ezgraph.client.identity import hello
from ezgraph.client.replica import Replica
from ezgraph.client.shell import Shell
from ezgraph.client.watch import Compacted, Phase, Progress, Watch
from ezgraph.clock import Clock, SystemClock
from ezgraph.config import DEFAULT_TIMEOUT_S
from ezgraph.errors import EzGraphError
from ezgraph.protocol.commands import Goodbye
from ezgraph.protocol.replies import ChangeReply, EventRange
from ezgraph.verify.calls import shown
from ezgraph.verify.effects import CHANGES
from ezgraph.verify.records import (
    FORMAT,
    Answered,
    Asked,
    Began,
    Body,
    Bound,
    Cancelled,
    Ended,
    Fault,
    Fingerprinted,
    Given,
    Header,
    Joining,
    Left,
    Lost,
    Noted,
    Progressed,
    Reached,
    Renewed,
    Repeated,
    Returned,
    Skipped,
    Unwatched,
    Watched,
)
from ezgraph.verify.trace_file import TraceWriter
from ezgraph.wire import codec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from types import TracebackType

    from ezgraph.client.engine import Feed, Result, Transport
    from ezgraph.config import Address
    from ezgraph.protocol.commands import Command, Hello
    from ezgraph.protocol.events import Event
    from ezgraph.protocol.replies import Reply
    from ezgraph.state.graph import GraphState

log = logging.getLogger(__name__)

FINGERPRINT_EVERY_S = 0.5
_FINGERPRINT_SHARE = 0.05
_DIGEST_BYTES = 8


def digest_of(event: Event) -> str:
    """Return the digest by which a trace knows an event."""
    return digest(codec.encode_event(event).event)


def digest(encoded: bytes) -> str:
    """Return the digest of an event's encoding."""
    return blake2b(encoded, digest_size=_DIGEST_BYTES).hexdigest()


class Recorder:
    """One process's trace. Thread-safe; a child made by fork writes nothing into it.

    A replica's fingerprint costs as much as its state is big: it is written every half second at
    most, and so that it takes less than a twentieth of the time.

    Args:
        path: the file, which must not exist yet.
        program: the name it is listed under; None: the script's.
        clock: what time it is; None: this machine's.

    Raises:
        ConfigError: the file exists, or cannot be made.
    """

    def __init__(
        self, path: str | Path, *, program: str | None = None, clock: Clock | None = None
    ) -> None:
        self.path = Path(path)
        self.clock = clock or SystemClock()
        self.sessions = count(1)
        self.watches = count(1)
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._failed = False
        header = Header(
            format=FORMAT,
            trace=secrets.token_hex(4),
            version=__version__,
            program=hello("guest", program=program).program,
            pid=self._pid,
            host=socket.gethostname(),
            clock=type(self.clock).__name__,
            boot=_boot(),
        )
        mono, wall = self.clock.monotonic(), self.clock.wall()
        self._writer: TraceWriter | None = TraceWriter(self.path, header, mono=mono, wall=wall)
        self.engine_class: type[RecordingEngine] = type(
            "RecordingEngine", (RecordingEngine,), {"recorder": self}
        )

    def __repr__(self) -> str:
        return f"<Recorder {self.path} {'open' if self._writer else 'closed'}>"

    def session(self, addresses: Sequence[Address], **options: Any) -> RecordingSession:  # noqa: ANN401
        """Return an asyncio session; this is the ``session_factory`` of a `GraphContext`."""
        return RecordingSession(addresses, recorder=self, **options)

    def blocking_session(
        self, addresses: Sequence[Address], **options: Any  # noqa: ANN401
    ) -> RecordingBlockingSession:
        """Return a blocking session; this is the ``session_factory`` of the blocking twins."""
        return RecordingBlockingSession(addresses, recorder=self, **options)

    def note(self, fault: Fault, *, pid: int | None = None) -> None:
        """Write down what is done to a process (None: to all of them), or to the broker.

        The first note in any of the traces tells the checker that all faults are noted.
        """
        self.write(Noted(fault, pid))

    def write(self, body: Body) -> None:
        """Append a record, with the time."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            if self._writer is None or self._failed:
                return
            try:
                self._writer.write(body, mono=self.clock.monotonic(), wall=self.clock.wall())
            except OSError:
                self._failed = True  # the program goes on; the trace has no end record
                log.exception("the trace ends here: path=%s", self.path)

    def close(self) -> None:
        """Write the end record and close the file. May be called twice."""
        self.write(Ended())
        with self._lock:
            writer, self._writer = self._writer, None
            if writer is not None:
                writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _boot() -> str:
    """Return what names this run of the host, where the system says so."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


class _Tap(deque[Any]):
    """What is at hand for a watcher's consumer; says what is taken."""

    def __init__(self, taken: Callable[[Any, int], None]) -> None:
        super().__init__()
        self._taken = taken

    def popleft(self) -> Any:  # noqa: ANN401
        """Remove and return the first item."""
        item = super().popleft()
        self._taken(item, len(self))
        return item


class _Watching:
    """Writes down one watcher; ``replica`` is who consumes it, if it is one."""

    def __init__(
        self, recorder: Recorder, session: int, watch: Watch, replica: Replica | None
    ) -> None:
        self.replica = replica
        self._recorder = recorder
        self._session = session
        self._number = next(recorder.watches)
        self._watch = watch
        self._began = False
        self._over = False
        self._shown = 0
        self._next_fingerprint = 0.0
        after, self._write = watch.start, recorder.write
        prefix, is_replica = list(watch.prefix), replica is not None
        self._write(Watched(session, self._number, prefix, after, is_replica))
        watch.ready = _Tap(self._taken)

    def _taken(self, item: Any, left: int) -> None:  # noqa: ANN401
        number = self._number
        if not self._began:
            self._began = True
            self._write(Began(number, self._watch.start))
        if isinstance(item, Progress):
            self._write(Progressed(number, item.seq, left))
        elif isinstance(item, Compacted):
            state: GraphState | None = item.snapshot
            epoch, fingerprint = (0, "") if state is None else (state.epoch, state.fingerprint())
            shown = (epoch, item.seq, item.floor, fingerprint)
            self._write(Skipped(number, *shown, item.diverged, left))
        else:
            key = "/".join(item.key)
            stamp = digest_of(item)
            self._write(Given(number, item.epoch, item.seq, item.kind, key, stamp, left))
        if self._watch.phase is Phase.FAILED:
            self._over_if_empty()

    def _over_if_empty(self) -> None:
        """A watcher that has failed still gives what it has."""
        if not self._watch.ready:
            self.over()

    def stirred(self) -> None:
        """Something was given to a replica, or the watcher has failed."""
        if self._watch.phase is Phase.FAILED:
            self._over_if_empty()
        elif self._recorder.clock.monotonic() >= self._next_fingerprint:
            self._show_fingerprint()

    def _show_fingerprint(self) -> None:
        replica = self.replica
        if replica is None or replica.seq == self._shown or self._watch.error is not None:
            return
        clock = self._recorder.clock
        began = clock.monotonic()
        state = replica.state
        fingerprint = state.fingerprint()
        self._shown = state.seq
        now = clock.monotonic()
        pause = max(FINGERPRINT_EVERY_S, (now - began) / _FINGERPRINT_SHARE)
        self._next_fingerprint = now + pause
        shown = (state.epoch, state.seq, fingerprint)
        self._write(Fingerprinted(self._session, "replica", *shown))

    def over(self) -> None:
        """It ends here."""
        if self._over:
            return
        self._over = True
        error = self._watch.error
        if error is None:
            self._show_fingerprint()
            self._write(Unwatched(self._number))
        else:
            self._write(Unwatched(self._number, error.code, str(error)))


class RecordingEngine(ClientEngine):
    """A `ClientEngine` that writes down what passes through it."""

    recorder: ClassVar[Recorder]

    def __init__(
        self,
        hello: Hello,
        addresses: Sequence[Address],
        transport: Transport,
        clock: Clock,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(hello, addresses, transport, clock, **options)
        self.number = next(self.recorder.sessions)
        self._joining = Joining(self.number, hello.kind, hello.program, [*map(str, addresses)])
        self._welcome: object = None
        self._lost = False
        self._sent: set[int] = set()
        self._by_program: dict[int, int] = {}
        self._snapshots = count(-1, -1)
        self._for_watcher = False
        self._watching: dict[Feed, _Watching] = {}

    # --- its lease ---

    def start(self) -> None:
        """Say HELLO."""
        self._write(self._joining)
        super().start()

    def _write(self, body: Body) -> None:
        self.recorder.write(body)

    def flush(self) -> None:
        """Send what is to be sent, and report what is complete."""
        core = self.core
        if core.welcome is not self._welcome or core.error is not None:
            self._note_lease()
        for request in core.outbox:
            if request.request_id in self._sent:
                call = request.request_id - core.id_offset
                self._write(Repeated(self.number, call))
            elif request.request_id:
                self._sent.add(request.request_id)
        super().flush()

    def _note_lease(self) -> None:
        core, welcome, number = self.core, self.core.welcome, self.number
        if welcome is not None and welcome is not self._welcome:
            resumed, self._welcome = self._welcome is not None, welcome
            history = (welcome.cluster_id, welcome.epoch, welcome.head, welcome.floor)
            lease = (welcome.ttl_s, resumed, core.id_offset)
            self._write(Bound(number, welcome.client, *history, *lease))
        if core.error is not None and not self._lost:
            self._lost = True
            self._write(Lost(number, core.error.code, str(core.error)))

    def close(self) -> None:
        """Fail everything that waits."""
        for each in self._watching.values():
            each.over()
        super().close()
        self._write(Left(self.number))

    # --- its calls ---

    def program_asks(self, command: Command) -> None:
        """Say that ``command``, which is submitted next, is one that the program asks itself."""
        self._by_program[id(command)] = 0

    def program_is_told(self, command: Command, reply: Reply | None) -> None:
        """Say that the program gets the reply to such a command, or an error."""
        call, replica = self._by_program.pop(id(command), 0), self.replica
        if replica is None or isinstance(command, Goodbye):
            return
        if isinstance(reply, ChangeReply):
            self._write(Returned(self.number, call, reply.seq, replica.seq))

    def submit(
        self, command: Command, *, deadline: float, on_result: Callable[[Result], None]
    ) -> int:
        """Ask ``command``."""
        call = 0

        def take(result: Result) -> None:
            self._sent.discard(call + self.core.id_offset)
            self._write(self._answered(call, result))
            on_result(result)

        call = super().submit(command, deadline=deadline, on_result=take)
        by_program = id(command) in self._by_program
        if by_program:
            self._by_program[id(command)] = call
        timeout_s = round(deadline - self._clock.monotonic(), 6)
        name, kept = type(command).__name__, isinstance(command, CHANGES | Goodbye)
        about = (name, shown(command), timeout_s, by_program)
        self._write(Asked(self.number, call, *about, command if kept else None))
        return call

    def _answered(self, call: int, result: Result) -> Answered:
        if isinstance(result, EzGraphError):
            return Answered(self.number, call, code=result.code, message=str(result))
        seq = result.through if isinstance(result, EventRange) else getattr(result, "seq", None)
        return Answered(self.number, call, type(result).__name__, seq)

    def pull_snapshot(
        self,
        rooms: list[str],
        deadline: float,
        on_state: Callable[[GraphState | EzGraphError, int], None],
        *,
        at_least: int | None = None,
    ) -> None:
        """Fetch the state (or only some rooms of it)."""
        call, by_program = next(self._snapshots), not self._for_watcher
        timeout_s = round(deadline - self._clock.monotonic(), 6)
        self._write(Asked(self.number, call, "Snapshot", " ".join(rooms), timeout_s, by_program))

        def take(state: GraphState | EzGraphError, floor: int) -> None:
            if isinstance(state, EzGraphError):
                self._write(Answered(self.number, call, code=state.code, message=str(state)))
            else:
                self._write(Answered(self.number, call, "Snapshot", state.seq))
                if by_program and not rooms:
                    shown = (state.epoch, state.seq, state.fingerprint())
                    self._write(Fingerprinted(self.number, "snapshot", *shown))
            on_state(state, floor)

        super().pull_snapshot(rooms, deadline, take, at_least=at_least)

    def _pull_for(self, feed: Feed) -> None:
        self._for_watcher = True
        try:
            super()._pull_for(feed)
        finally:
            self._for_watcher = False

    def abandon(self, request_id: int) -> None:
        """Forget a request whose caller has gone."""
        self._write(Cancelled(self.number, request_id))
        super().abandon(request_id)

    # --- its watchers ---

    def open_feed(self, watch: Watch, on_ready: Callable[[], None]) -> Feed:
        """Feed ``watch`` from now on."""
        consumer = getattr(on_ready, "__self__", None)
        replica = consumer if isinstance(consumer, Replica) else None
        watching = _Watching(self.recorder, self.number, watch, replica)
        if replica is not None:
            reach = partial(self._reach, replica, replica.reach)
            replica.reach = reach  # type: ignore[method-assign]

        def ready() -> None:
            on_ready()
            watching.stirred()

        feed = super().open_feed(watch, ready)
        self._watching[feed] = watching
        return feed

    def close_feed(self, feed: Feed) -> None:
        """Feed it no longer."""
        if (watching := self._watching.pop(feed, None)) is not None:
            watching.over()
        super().close_feed(feed)

    @property
    def replica(self) -> Replica | None:
        """The replica that this session feeds, if it feeds one."""
        return next((each.replica for each in self._watching.values() if each.replica), None)

    async def _reach(
        self,
        replica: Replica,
        reach: Callable[..., Awaitable[Replica]],
        seq: int,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
    ) -> Replica:
        code = None
        try:
            return await reach(seq, timeout=timeout)
        except BaseException as error:
            code = getattr(error, "code", "cancelled")
            raise
        finally:
            self._write(Reached(self.number, seq, replica.seq, code))


class _Recorded(Shell):
    """What both recording sessions do."""

    def __init__(
        self, addresses: Sequence[Address], *, recorder: Recorder, **options: Any  # noqa: ANN401
    ) -> None:
        super().__init__(addresses, **options)
        self.engine_class = recorder.engine_class

    async def call(self, command: Command, *, timeout: float = DEFAULT_TIMEOUT_S) -> Reply:  # noqa: ASYNC109
        """Return the broker's reply."""
        engine, reply = self._engine, None
        if isinstance(engine, RecordingEngine):
            engine.program_asks(command)
        try:
            reply = await super().call(command, timeout=timeout)  # type: ignore[safe-super]
        finally:
            if isinstance(engine, RecordingEngine):
                engine.program_is_told(command, reply)
        return reply

    def _main_loop_age_s(self) -> float:
        age_s, engine = super()._main_loop_age_s(), self._engine
        if isinstance(engine, RecordingEngine):
            engine.recorder.write(Renewed(engine.number, round(age_s, 6)))
        return age_s


class RecordingSession(_Recorded, aio.Session):
    """An asyncio session that writes down what it does."""


class RecordingBlockingSession(_Recorded, blocking.Session):
    """A blocking session that writes down what it does."""
