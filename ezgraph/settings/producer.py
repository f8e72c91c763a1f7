"""Every change of settings on the bus as a message of its own, from a start that is whole.

::

    absent ──joined──▶ comparing ──snapshot──▶ following ──event──▶ …
      ▲                    ▲                       │
      │                    └──history is gone──────┤
      └────────────── broker not heard ────────────┘

The producer has no task of its own: all this happens in `PipelineSettingsProducer.produce`, while
somebody waits for the next event. In between the session only collects what arrives, up to 20,000
events; then it stops reading, and what came meanwhile is read from the journal later.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Collection  # noqa: TC003 - the types of settings are read at run time
from typing import Literal

from ezgraph.client import aio
from ezgraph.client.broker_choice import Broker, KeysLike, choose_broker
from ezgraph.client.clock_offset import WINDOW, BrokerClock, RoundTrip
from ezgraph.client.core import LeaseState
from ezgraph.client.watch import Compacted, Progress
from ezgraph.clock import Clock, SystemClock
from ezgraph.config import AddressesLike  # noqa: TC001 - as above
from ezgraph.errors import (
    ConfigError,
    ContextClosedError,
    DeadlineError,
    EzGraphError,
    ForbiddenError,
    InvalidCommandError,
    JournalError,
    LimitError,
    NotAdmittedError,
    SessionError,
    WrongClusterError,
)
from ezgraph.protocol.commands import Heartbeat
from ezgraph.protocol.events import Event
from ezgraph.protocol.replies import Beat
from ezgraph.protocol.settings import SettingsEventType
from ezgraph.settings.base import Settings
from ezgraph.settings.pipeline import (
    DEFAULT_TABLE_NAME,
    INIT_FINAL_COMPONENT_ADDRESS,
    PipelineSettingsEvent,
    PipelineSettingsEventType,
)
from ezgraph.settings.scope import Scope, Stamp, Told

log = logging.getLogger(__name__)

FIRST_OPEN_S = 1.0
OPEN_S = 10.0
FETCH_S = 30.0
BEAT_EVERY_S = 2.0
BEAT_S = 3.0
FIRST_PAUSE_S = 0.25
LAST_PAUSE_S = 5.0
PATIENCE_S = 10.0
_BURST = 64  # events given without a look at what else the event loop has to do
_PASSING = (
    DeadlineError,
    SessionError,
    WrongClusterError,
    JournalError,
    LimitError,
    InvalidCommandError,  # the snapshot gave way to newer ones, time and again
)
"""What may be over when it is tried again; anything else is told to the caller."""
_KINDS = {
    SettingsEventType.INITIAL_SETTINGS: PipelineSettingsEventType.INITIAL,
    SettingsEventType.SETTINGS_UPDATED: PipelineSettingsEventType.UPDATED,
    SettingsEventType.SETTINGS_REMOVED: PipelineSettingsEventType.REMOVED,
}


class PipelineSettingsProducerSettings(Settings):
    """What a producer tells of, and where it finds it.

    ``scope_components``: these addresses only; None: any. ``scope="session"``: only the components
    of the session that holds the address ``session_of``, whichever that is at the time; so that
    pipelines side by side do not mix. ``graph_address`` is as in `GraphContext`.
    """

    target_table: str = DEFAULT_TABLE_NAME
    scope_components: Collection[str] | None = None
    scope: Literal["all", "session"] = "all"
    session_of: str | None = None
    graph_address: AddressesLike | None = None

    def __post_init__(self) -> None:
        if self.scope not in ("all", "session"):
            raise ConfigError(f"scope {self.scope!r} is neither 'all' nor 'session'")
        if (self.scope == "session") != (self.session_of is not None):
            raise ConfigError(
                f"scope={self.scope!r} with session_of={self.session_of!r}: a session is followed "
                f"by scope='session' together with an address it holds in session_of"
            )
        if isinstance(self.scope_components, str):
            raise ConfigError(
                f"scope_components={self.scope_components!r} is one text; give a list of addresses"
            )


class PipelineSettingsProducer:
    """An async iterator of `PipelineSettingsEvent`: what there is, then every change of it.

    It begins with one INITIAL for each component in scope, sorted by address, as they were at one
    seq; each has the seq, time and session of its last change. Then comes the sentinel (INITIAL of
    `INIT_FINAL_COMPONENT_ADDRESS`, with that seq), also when there were none. Then every change in
    scope after that seq, once, in order of seq: INITIAL for a component that is registered (again)
    or comes into scope, REMOVED for one that leaves, UPDATED for any other.

    ``timestamp`` is when the broker stored the change, on this host's monotonic clock: measured on
    round trips, so that neither wall clock matters (`clock_uncertainty_s`). What the broker stored
    in a run that was over before this producer first heard it is dated by the broker's wall clock.

    Where there is no broker, it warns once and goes on trying; when it is there (again) it goes on
    after the last change it gave. If the history in between is gone by then (compacted, another
    journal, an older backup), what was missed comes as the differences that the new snapshot
    shows: of each component its last change only, and REMOVED, at the snapshot's seq and with the
    present time, for those that are gone. A warning says so.

    Where the key's role reads only a part, the rest is not told. When the role changes, what may be
    read from then on comes as INITIAL, and what may not any more as REMOVED, like what enters and
    leaves the scope, with a warning.

    Nothing is dropped when the consumer is slow: up to 20,000 events wait here, the others in the
    journal. A cancelled ``anext`` or `produce` loses nothing. Use it from one event loop.

    Args:
        settings: what to tell of.
        keys: the key pair to prove itself with, as in `GraphContext`.
        clock: what ``timestamp`` is in seconds of; None: `time.monotonic`.
    """

    def __init__(
        self,
        settings: PipelineSettingsProducerSettings | None = None,
        *,
        keys: KeysLike | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings or PipelineSettingsProducerSettings()
        self._keys = keys
        self._clock = clock or SystemClock()
        self._turn = asyncio.Lock()
        self._session: aio.Session | None = None
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        """Know nothing yet."""
        chosen = self.settings
        self._scope = Scope(chosen.scope_components, chosen.session_of)
        self._broker: Broker | None = None
        self._broker_clock = BrokerClock()
        self._stopping = asyncio.Event()
        self._told: deque[Told] = deque()
        self._sentinel_seq: int | None = None
        self._latest_initial = -math.inf
        self._started = False
        self._must_compare = True
        self._cluster_id: str | None = None
        self._reads: list[str] | None = None
        self._seq = 0
        self._subscription: aio.Subscription | None = None
        self._transaction: list[Event] = []
        self._is_joined = False
        self._missed: str | None = None
        self._open_s, self._pause_s = FIRST_OPEN_S, FIRST_PAUSE_S
        self._try_at = -math.inf
        self._beat_at = -math.inf
        self._given = 0

    def __repr__(self) -> str:
        if self._closed:
            state = "closed"
        elif self._session is None or not self._is_joined or self._missed:
            state = "waiting for a broker"
        else:
            state = "following" if self._subscription is not None else "comparing"
        at = self._session.address if self._session else self.settings.graph_address or "default"
        return (
            f"<PipelineSettingsProducer {at} {state} seq={self._seq} components={len(self._scope)} "
            f"ready={len(self._told)}>"
        )

    @property
    def clock_uncertainty_s(self) -> float:
        """How far timestamps may be from the truth just now; infinite before the first broker."""
        return self._broker_clock.uncertainty_s(self._clock.monotonic())

    def __aiter__(self) -> PipelineSettingsProducer:
        return self

    async def __anext__(self) -> PipelineSettingsEvent:
        """Return the next event; wait for it."""
        try:
            return await self.produce()
        except ContextClosedError:
            if self._closed:
                raise StopAsyncIteration from None
            raise

    async def produce(self) -> PipelineSettingsEvent:
        """Return the next event; wait for it.

        Raises:
            ContextClosedError: the producer was closed.
            ConfigError: the address or the key is none.
            ForbiddenError: the key's role reads no settings; or none of ``scope_components``; or,
                for ``scope="session"``, not who holds ``session_of``. Called again, it looks
                whether the role has changed.
        """
        async with self._turn:
            self._given += 1
            if self._given % _BURST == 0:
                await asyncio.sleep(0)
            while True:
                self._refuse_closed()
                began = self._stopping
                try:
                    if (event := await self._next()) is not None:
                        return event
                except ForbiddenError:
                    if self._stopping is began and not began.is_set():
                        self._drop_session()  # the next call asks again what the role reads
                        self._try_at = self._clock.monotonic() + self._pause_s
                    raise
                except _PASSING as error:
                    if self._stopping is began and not began.is_set():
                        self._miss(error)

    async def reset(self, settings: PipelineSettingsProducerSettings | None = None) -> None:
        """Begin again with INITIALs, by other settings if there are any.

        What was not given yet is forgotten. Somebody who waits goes on waiting.
        """
        self._refuse_closed()
        if settings is not None:
            self.settings = settings
        session = self._let_go()
        self._begin()
        if session is not None:
            await session.close()

    async def close(self) -> None:
        """End; who waits is told so. May be called again."""
        self._closed = True
        if (session := self._let_go()) is not None:
            await session.close()

    # --- one step at a time ---

    async def _next(self) -> PipelineSettingsEvent | None:
        """Return what is there, else do the next thing to get more."""
        if self._told or self._sentinel_seq is not None:
            return await self._give()
        if self._session is None or not self._is_joined:
            await self._join()
        elif self._must_compare or self._reads_otherwise(self._session):
            await self._compare(self._session)
        elif self._subscription is None:
            prefix = () if self._scope.follows_session else ("settings",)
            self._subscription = self._session.watch(prefix, self._seq)
        else:
            await self._follow(self._session, self._subscription)
        return None

    async def _join(self) -> None:
        """Open a session, in good time after the one before."""
        pause_s = self._try_at - self._clock.monotonic()
        if pause_s > 0 and await self._is_stopped_within(pause_s):
            return
        if self._broker is None:
            self._broker = choose_broker(self.settings.graph_address, self._keys)
        self._try_at = self._clock.monotonic() + self._pause_s
        self._session = session = aio.Session(
            self._broker.addresses, kind="guest", patience_s=PATIENCE_S, keys=self._broker.keys
        )
        try:
            await session.open(timeout=self._open_s)
            for _ in range(WINDOW):
                await self._beat(session)
        except BaseException:
            session.abandon()
            raise
        if session is not self._session:
            session.abandon()  # closed or reset meanwhile
            return
        self._joined(session)

    def _joined(self, session: aio.Session) -> None:
        cluster_id = session.welcome.cluster_id if session.welcome is not None else None
        if self._cluster_id not in (None, cluster_id):
            log.warning(
                "the broker keeps another journal now, what changed comes as differences "
                "address=%s cluster=%s before=%s", session.address, cluster_id, self._cluster_id,
            )
            self._must_compare = True
        self._cluster_id = cluster_id
        self._is_joined = True
        self._found(session)

    async def _compare(self, session: aio.Session) -> None:
        """Take a snapshot: the start, or what stands for history that is gone."""
        self._check_role(session)
        rooms = ["settings", "component"] if self._scope.follows_session else ["settings"]
        live = await session.fetch_live(rooms, timeout=FETCH_S)
        if session is not self._session:
            return
        if self._started:
            self._told.extend(self._scope.compare(live.events, live.seq))
        else:
            self._told.extend(self._scope.start(live.events))
            self._sentinel_seq = live.seq
        self._started, self._must_compare, self._seq = True, False, live.seq
        self._transaction.clear()

    def _reads_otherwise(self, session: aio.Session) -> bool:
        """Return whether the key's role reads something else than when it was compared last."""
        welcome = session.welcome
        return welcome is not None and welcome.reads != self._reads

    def _check_role(self, session: aio.Session) -> None:
        """See whether what is to be told may be read; say so where it is another part than before.

        The comparison that follows tells what has come into sight, and what has gone out of it.
        """
        reads = session.welcome.reads if session.welcome is not None else None
        if self._started and reads != self._reads:
            log.warning(
                "the key's role reads another part now, what came and went comes as differences "
                "address=%s after_seq=%s reads=%s", session.address, self._seq, reads or "all",
            )
        self._reads, self._must_compare = reads, True
        if reads is None:
            return
        unreadable = self._scope.check_readable(reads)
        if unreadable:
            log.warning("not told, as the key's role does not read it: %s", ", ".join(unreadable))

    async def _follow(self, session: aio.Session, subscription: aio.Subscription) -> None:
        """Take the next item, or a beat when it is time for one."""
        now = self._clock.monotonic()
        if now >= self._beat_at:
            await self._look(session)
            return
        try:
            async with asyncio.timeout(self._beat_at - now):
                item = await anext(subscription)
        except (TimeoutError, StopAsyncIteration) as error:
            if isinstance(error, EzGraphError):
                raise
            return
        if subscription is self._subscription:
            self._take(item)

    def _take(self, item: object) -> None:
        if isinstance(item, Compacted):
            log.warning(
                "history is gone, what changed since comes as differences after_seq=%s floor=%s",
                self._seq, item.floor,
            )
            self._must_compare = True
        elif isinstance(item, Progress):  # what came is whole
            self._take_transaction()
            self._seq = max(self._seq, item.seq)
        elif isinstance(item, Event) and item.seq > self._seq:
            if self._transaction and item.txn_first != self._transaction[0].txn_first:
                self._take_transaction()
            self._transaction.append(item)
            if item.seq == item.txn_last or not self._scope.follows_session:
                self._take_transaction()

    def _take_transaction(self) -> None:
        transaction, self._transaction = self._transaction, []
        if transaction:
            self._told.extend(self._scope.take(transaction))
            self._seq = transaction[-1].seq

    # --- events and their times ---

    async def _give(self) -> PipelineSettingsEvent:
        """Return the first of what is to be told, when its time is known."""
        if not self._told:
            return self._sentinel()
        told, stamp = self._told[0], self._told[0].stamp
        if (
            stamp is not None
            and self._session is not None
            and self._broker_clock.must_hear(told.seq, stamp.wall_time, stamp.mono_time)
        ):
            await self._look(self._session)
        if not self._told or self._told[0] is not told:
            raise ContextClosedError("this producer was closed or reset while it waited")
        self._told.popleft()
        time = self._time_of(told.seq, stamp)
        if self._sentinel_seq is not None:
            self._latest_initial = max(self._latest_initial, time)
        return PipelineSettingsEvent(
            seq=told.seq,
            timestamp=time,
            component_address=told.address,
            event_type=_KINDS[told.event_type],
            repr_value=told.value.repr_value,
            structured_value=told.value.structured_value,
            source_session_id=told.session_id,
            table_name=self.settings.target_table,
        )

    def _sentinel(self) -> PipelineSettingsEvent:
        seq, self._sentinel_seq = self._sentinel_seq, None
        time = self._latest_initial
        return PipelineSettingsEvent(
            seq=seq or 0,
            timestamp=time if math.isfinite(time) else self._clock.monotonic(),
            component_address=INIT_FINAL_COMPONENT_ADDRESS,
            event_type=PipelineSettingsEventType.INITIAL,
            repr_value="",
            table_name=self.settings.target_table,
        )

    def _time_of(self, seq: int, stamp: Stamp | None) -> float:
        if stamp is None:
            return self._clock.monotonic()
        return self._broker_clock.local(seq, stamp.wall_time, stamp.mono_time)

    async def _beat(self, session: aio.Session) -> None:
        """Ask the broker for its clocks."""
        sent = self._clock.monotonic()
        beat = await session.call(Heartbeat(0.0), timeout=BEAT_S)
        received = self._clock.monotonic()
        if isinstance(beat, Beat) and session is self._session:
            trip = RoundTrip(sent, received, beat.mono_time)
            self._broker_clock.hears(trip, wall_time=beat.wall_time, head=beat.head)
        self._beat_at = received + BEAT_EVERY_S

    async def _look(self, session: aio.Session) -> None:
        """Take a beat; if there is none, say so, and leave it to the subscription to give up."""
        try:
            await self._beat(session)
        except DeadlineError as error:
            self._beat_at = self._clock.monotonic() + BEAT_EVERY_S
            self._warn(error)
        else:
            if session is self._session:
                self._found(session)

    # --- a broker that is not there ---

    def _miss(self, error: EzGraphError) -> None:
        """Let the session go; another one is opened after a pause."""
        self._warn(error)
        self._drop_session()
        self._open_s = OPEN_S
        self._try_at = self._clock.monotonic() + self._pause_s
        self._pause_s = min(self._pause_s * 2, LAST_PAUSE_S)

    def _warn(self, error: EzGraphError) -> None:
        why = "not admitted" if isinstance(error, NotAdmittedError) else "no broker"
        if self._missed != why:
            self._missed = why
            log.warning("%s, trying on after_seq=%s: %s", why, self._seq, error)

    def _found(self, session: aio.Session) -> None:
        self._open_s, self._pause_s = OPEN_S, FIRST_PAUSE_S
        if self._missed is not None:
            self._missed = None
            log.warning("the broker is there address=%s after_seq=%s", session.address, self._seq)

    def _let_go(self) -> aio.Session | None:
        """Have whatever waits look again; return the session, if it is to be closed."""
        self._stopping.set()
        session = self._session
        if session is not None and session.state is not LeaseState.BOUND:
            self._drop_session()
            return None
        self._session, self._subscription = None, None
        return session

    def _drop_session(self) -> None:
        session, self._session, self._subscription = self._session, None, None
        self._is_joined = False
        self._transaction.clear()
        if session is not None:
            session.abandon()

    async def _is_stopped_within(self, pause_s: float) -> bool:
        try:
            async with asyncio.timeout(pause_s):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True

    def _refuse_closed(self) -> None:
        if self._closed:
            raise ContextClosedError("this producer is closed; make another one")
