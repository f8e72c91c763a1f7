"""The client's side of a lease: joining, requests in flight, resuming, giving up. Pure.

States::

    new ──start──▶ joining ──Welcome──▶ bound ◀──Welcome── resuming
                      │                   └─"unbound", silence─▶ ┘ │
                      └──refused──▶ lost ◀─────refused─────────────┘
    any ──close──▶ closed

* A request keeps its id until its reply or its deadline. It goes out when bound; it goes out
  again, under the same id, when a reply is overdue and whenever the connection is bound anew, so
  that the broker can tell a repetition from a second request.
* Reply ``unbound`` means that the broker does not know this connection: it was restarted, or the
  connection was. The core resumes its lease with token and last seq (a guest says HELLO again),
  and then repeats what is in flight.
* With several addresses it does the same, at the next one, when the broker has been silent for
  `SILENCE_S` although something is asked. (With keys also at the only one: ZeroMQ does not say that
  the broker has hung up on this key, and does not call again.) Joining tries one address after the
  other, in turn. The pauses grow from 0.25 s to 5 s, never beyond a third of the TTL, and are
  jittered, so that many clients that lost their broker together do not come back together.
* Joining with the token of a program that is gone takes its lease over. If that lease has ended,
  or is another cluster's, a lease of one's own is opened; `resumption` says what became of it.
  Ids on the wire go on above those of the program before: they are offset by a number that the
  broker tells, known before the first request is sent.
* A question (`QUESTIONS`) that a broker refuses because its journal failed, or too much is asked
  at the time, stays open until its deadline, and is asked again. A change is told so at once.
* Where the broker does not admit this client (`Handshake`), a first join fails at once, with the
  reason; a client that was in before goes on trying, and calls that meet their deadline say why.
* A lost lease stays lost: what was in flight, and every later request, gets the reason. One that
  is over while its goodbye is on its way was closed, not lost, whoever hears of its end first.

Joining and resuming use request id 0. ``now`` is monotonic seconds; ``jitter`` gives numbers from
0 to 1.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ezgraph.client.resumption import (
    Resumed,
    ResumeToken,
    Resumption,
    SessionExpired,
    WrongCluster,
)
from ezgraph.client.watch import Compacted
from ezgraph.errors import (
    BrokerUnreachableError,
    ContextClosedError,
    DeadlineError,
    EzGraphError,
    FloodError,
    NotAdmittedError,
    RestoreRefusedError,
    TagExistsError,
    from_code,
)
from ezgraph.protocol import PROTOCOL_VERSION
from ezgraph.protocol.commands import (
    Command,
    FindGraph,
    GetStatus,
    Goodbye,
    Hello,
    ListClients,
    ListConfigTypes,
    OpenSnapshot,
    OpenWatch,
    ReadConfig,
    ReadConfigSchema,
    ReadEvents,
    ReadSnapshot,
    Request,
    Resume,
    Shutdown,
    Sync,
    TakeOver,
)
from ezgraph.protocol.replies import Refusal, Reply, Welcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

JOIN_ID = 0
FIRST_RETRY_S = 0.5
LAST_RETRY_S = 4.0
JOIN_RETRY_S = 0.25
LAST_JOIN_RETRY_S = 5.0
SILENCE_S = 1.0
DEFAULT_TTL_S = 6.0
OVER = frozenset({"session_expired", "taken_over", "diverged"})
"""Refusals of a RESUME that end the lease for this program."""
QUESTIONS = (
    Sync,
    ListClients,
    GetStatus,
    OpenSnapshot,
    ReadSnapshot,
    ReadEvents,
    OpenWatch,
    ReadConfig,
    ListConfigTypes,
    ReadConfigSchema,
    FindGraph,
)
"""Commands that change nothing."""
_FATAL = OVER | {"wrong_cluster", "protocol_version", "invalid_command"}


class Handshake(enum.Enum):
    """How a connection to a broker failed before a word was said."""

    REFUSED = "the broker does not admit the key"
    MISMATCHED = "one of the two has keys and the other has not"
    BROKEN_OFF = "the broker broke it off"


class LeaseState(enum.Enum):
    """Where a client stands with the broker."""

    NEW = "new"
    JOINING = "joining"
    BOUND = "bound"
    RESUMING = "resuming"
    LOST = "lost"
    CLOSED = "closed"


@dataclass(slots=True)
class _Pending:
    command: Command
    started: float
    deadline: float
    retry_at: float
    pause_s: float = FIRST_RETRY_S
    attempts: int = 0
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Completion:
    """A request has its result: the reply, or the error that ends it."""

    request_id: int
    result: Reply | EzGraphError


class ClientCore:
    """What one client has asked and may still repeat."""

    def __init__(
        self,
        hello: Hello,
        addresses: Sequence[str],
        *,
        predecessor: ResumeToken | None = None,
        jitter: Callable[[], float] = lambda: 0.5,
        key_name: str | None = None,
    ) -> None:
        """``key_name``: what the key is called with which this client proves itself."""
        self.state = LeaseState.NEW
        self.welcome: Welcome | None = None
        self.error: EzGraphError | None = None
        self.resumption: Resumption | None = None
        self.last_seq = predecessor.seq if predecessor else 0
        self.dial = 0
        self.joins = 0
        self.outbox: list[Request] = []
        self.completions: list[Completion] = []
        self.hello = hello
        self._addresses = addresses
        self._predecessor = predecessor
        self._jitter = jitter
        self._pending: dict[int, _Pending] = {}
        self._last_id = 0
        self.id_offset = 0
        self._heard = 0.0
        self._join_at = 0.0
        self._join_pause_s = JOIN_RETRY_S
        self._join_tries = 0
        self._join_refusal: Refusal | None = None
        self._key_name = key_name
        self._handshake: Handshake | None = None
        self._was_silent = False

    def __repr__(self) -> str:
        return f"<ClientCore {self.state.value} in_flight={len(self._pending)}>"

    @property
    def address(self) -> str:
        """The address that is dialled now."""
        return self._addresses[self.dial % len(self._addresses)]

    # --- what the program asks ---

    def start(self, now: float) -> None:
        """Say HELLO."""
        self.state = LeaseState.JOINING
        self._join(now)

    def submit(self, command: Command, *, now: float, deadline: float) -> int:
        """Ask ``command``; return its request id. Its completion comes later, surely.

        Raises:
            EzGraphError: the lease is lost or closed; says why.
        """
        if self.state is LeaseState.CLOSED:
            raise ContextClosedError("this context is closed; open a new one")
        if self.error is not None:
            raise _again(self.error)
        self._last_id += 1
        request_id = self._last_id
        pending = _Pending(command, now, deadline, now)
        self._pending[request_id] = pending
        if self.state is LeaseState.BOUND:
            self._send(request_id, pending, now)
        return request_id

    def abandon(self, request_id: int) -> None:
        """Forget a request whose caller has gone."""
        self._pending.pop(request_id, None)

    def close(self) -> None:
        """Fail what is in flight; nothing can be asked any more."""
        self.state = LeaseState.CLOSED
        self._fail_all(ContextClosedError("this context was closed while the call waited"))

    # --- what arrives ---

    def receive(self, request_id: int, reply: Reply, *, now: float) -> None:
        """Take a reply."""
        self._heard = now
        if request_id == JOIN_ID:
            self._joined(reply, now)
            return
        if isinstance(reply, Refusal) and reply.code == "unbound":
            self._resume(now)
            return
        request_id -= self.id_offset
        if isinstance(reply, Refusal) and self._asks_again(request_id, reply):
            return
        if self._pending.pop(request_id, None) is None:
            return  # a reply to a repetition of what is answered already
        result: Reply | EzGraphError = reply
        if isinstance(reply, Refusal):
            result = error_of(reply)
        elif (seq := getattr(reply, "seq", 0)) > self.last_seq:
            self.last_seq = seq
        self.completions.append(Completion(request_id, result))

    def tick(self, now: float) -> None:
        """Repeat what is overdue, and give up what is past its deadline."""
        if self.state in (LeaseState.JOINING, LeaseState.RESUMING) and now >= self._join_at:
            self.dial += 1
            self._join(now)
        elif self.state is LeaseState.BOUND and self._is_silent(now):
            self._was_silent = True
            self.move_to((self.dial + 1) % len(self._addresses), now)
        for request_id, pending in list(self._pending.items()):
            if now >= pending.deadline:
                del self._pending[request_id]
                error = self._deadline_error(pending, now)
                self.completions.append(Completion(request_id, error))
            elif now >= pending.retry_at and self.state is LeaseState.BOUND:
                self._send(request_id, pending, now)

    def next_due(self) -> float | None:
        """Return when `tick` has something to do, at the earliest."""
        dues = [
            min(each.deadline, each.retry_at) if self.state is LeaseState.BOUND else each.deadline
            for each in self._pending.values()
        ]
        if self.state in (LeaseState.JOINING, LeaseState.RESUMING):
            dues.append(self._join_at)
        elif dues and self._heeds_silence:
            dues.append(self._silent_at())
        return min(dues, default=None)

    @property
    def is_joining(self) -> bool:
        """Whether it waits for a welcome."""
        return self.state in (LeaseState.JOINING, LeaseState.RESUMING)

    @property
    def joins_in_vain(self) -> bool:
        """Whether the connection in use may be dead: a join was repeated, or follows a silence."""
        return self.is_joining and (self._join_tries > 1 or self._was_silent)

    def handshake_failed(self, how: Handshake) -> None:
        """Take note that the broker did not let this client say a word."""
        self._handshake = how
        is_certain = how is not Handshake.BROKEN_OFF and len(self._addresses) == 1
        if is_certain and self.state is LeaseState.JOINING:
            self._lose(self._not_admitted(how))

    def move_to(self, index: int, now: float) -> None:
        """Resume at the address of that index, on a new connection."""
        if self.state is LeaseState.BOUND:
            self.dial = index
            self._resume(now)

    # --- inside ---

    def _asks_again(self, request_id: int, refusal: Refusal) -> bool:
        """Keep a question open that was refused for the moment only; return whether it was."""
        pending = self._pending.get(request_id)
        if pending is None or refusal.code not in ("journal_failed", "limit"):
            return False
        if not isinstance(pending.command, QUESTIONS):
            return False
        if refusal.code == "limit" and isinstance(pending.command, OpenWatch):
            return False  # there is no room for it, and none is to be expected soon
        pending.refusal = refusal.message
        return True

    def _is_silent(self, now: float) -> bool:
        """Return whether to join anew, elsewhere if there is an elsewhere: nothing is heard."""
        return bool(self._pending) and self._heeds_silence and now >= self._silent_at()

    @property
    def _heeds_silence(self) -> bool:
        """Whether a silent broker may be another one, or may have hung up for good."""
        return len(self._addresses) > 1 or self._key_name is not None

    def _silent_at(self) -> float:
        """Return when it is silence that the oldest request has got no answer."""
        oldest = next(iter(self._pending.values()))
        return max(self._heard, oldest.started) + SILENCE_S

    def _send(self, request_id: int, pending: _Pending, now: float) -> None:
        pending.attempts += 1
        pending.retry_at = now + pending.pause_s
        pending.pause_s = min(pending.pause_s * 2, LAST_RETRY_S)
        lowest_open = next(iter(self._pending))
        offset = self.id_offset
        self.outbox.append(Request(request_id + offset, lowest_open + offset, pending.command))

    def _join(self, now: float) -> None:
        self.joins += 1
        self._join_tries += 1
        self._join_at = now + self._join_pause_s * (0.5 + self._jitter())
        if self._join_tries % len(self._addresses) == 0:  # once around
            self._join_pause_s = min(self._join_pause_s * 2, self._longest_pause_s())
        self.outbox.append(Request(JOIN_ID, 0, self._join_command()))

    def _longest_pause_s(self) -> float:
        ttl_s = self.welcome.ttl_s if self.welcome else self.hello.ttl_s or DEFAULT_TTL_S
        return max(JOIN_RETRY_S, min(LAST_JOIN_RETRY_S, ttl_s / 3))

    def _join_command(self) -> Command:
        if self.welcome is None and (before := self._predecessor) is not None:
            return TakeOver(self.hello, before.client, before.token, before.cluster_id)
        if self.welcome is None or self.hello.kind == "guest":
            return self.hello
        welcome = self.welcome
        return Resume(
            PROTOCOL_VERSION,
            welcome.client,
            welcome.token,
            welcome.cluster_id,
            welcome.epoch,
            self.last_seq,
            self.hello.nonce,
            is_main=True,
        )

    def _resume(self, now: float) -> None:
        if self.state is not LeaseState.BOUND:
            return  # on its way already
        self.state = LeaseState.RESUMING
        self._join_pause_s = JOIN_RETRY_S
        self._join_tries = 0
        self._join(now)

    def _joined(self, reply: Reply, now: float) -> None:
        if isinstance(reply, Refusal) and reply.code == FloodError.code:
            self.lose(reply)  # said before it hangs up, whatever was asked
        if self.state not in (LeaseState.JOINING, LeaseState.RESUMING):
            return
        if isinstance(reply, Welcome):
            self._welcomed(reply, now)
        elif isinstance(reply, Refusal) and self._predecessor is not None and self.welcome is None:
            self._predecessor_refused(reply, now)
        elif isinstance(reply, Refusal) and self._is_final(reply):
            self.lose(reply)
        elif isinstance(reply, Refusal):
            self._join_refusal = reply  # asked again until the deadline, then named

    def _welcomed(self, welcome: Welcome, now: float) -> None:
        if self.welcome is not None or self._predecessor is not None:
            self._note_resumption(welcome)
        if self.welcome is None:
            self.id_offset = welcome.next_request_id - 1
        self._predecessor = None
        self.welcome = welcome
        self.state = LeaseState.BOUND
        self._join_refusal = self._handshake = None
        self._was_silent = False
        self.hello = replace(self.hello, cluster_id=welcome.cluster_id)
        self._end_shutdowns()
        for request_id, pending in self._pending.items():
            self._send(request_id, pending, now)

    def _end_shutdowns(self) -> None:
        """A shutdown is not repeated: the broker that answers now may be the next one."""
        asked = [n for n, p in self._pending.items() if p.attempts and type(p.command) is Shutdown]
        for request_id in asked:
            del self._pending[request_id]
            error = DeadlineError(
                f"the connection to {self.address} was cut after the broker was asked to stop; it "
                f"has stopped and was started again, or never heard of it: see `ezgraph status`"
            )
            self.completions.append(Completion(request_id, error))

    def _note_resumption(self, welcome: Welcome) -> None:
        client, after, head = welcome.client, self.last_seq, welcome.head
        if after + 1 < welcome.floor:
            self.resumption = Compacted(welcome.floor, None)
        else:
            self.resumption = Resumed(client, after, head)

    def _predecessor_refused(self, refusal: Refusal, now: float) -> None:
        """Its lease cannot be taken over: say why, and open one of our own."""
        if refusal.code == "wrong_cluster":
            self.resumption = WrongCluster(refusal.message)
        elif refusal.code in OVER:
            self.resumption = SessionExpired(refusal.message, refusal.lost)
        elif refusal.code in _FATAL:
            self.lose(refusal)
            return
        else:
            self._join_refusal = refusal
            return
        self._predecessor = None
        # The take-over may have been done, and its Welcome lost: its nonce may be spent.
        self.hello = replace(self.hello, nonce=f"{self.hello.nonce}-own")
        self._join(now)

    def _is_final(self, refusal: Refusal) -> bool:
        """Return whether a refusal ends it.

        It does not with several addresses, when another cluster answers at one of them; nor when
        it answers a repeated take-over, while our HELLO is on its way.
        """
        if refusal.code == "wrong_cluster" and len(self._addresses) > 1:
            return False
        is_late = self.welcome is None and isinstance(self.resumption, SessionExpired)
        return refusal.code in _FATAL and not (is_late and refusal.code in OVER)

    def lose(self, refusal: Refusal) -> None:
        """The lease is over: what waits and whatever is asked later is told why."""
        if any(isinstance(pending.command, Goodbye) for pending in self._pending.values()):
            self.close()  # its end was asked for; the answer is late, or lost
        else:
            self._lose(error_of(refusal))

    def _lose(self, error: EzGraphError) -> None:
        if self.error is None:
            self.state = LeaseState.LOST
            self.error = error
            self._fail_all(error)

    def _not_admitted(self, how: Handshake) -> NotAdmittedError:
        at, key = self.address, self._key_name
        if how is Handshake.REFUSED:
            return NotAdmittedError(
                f"the broker at {at} does not admit key {key!r}: it is not in its allow-list, or "
                f"was revoked; send what `ezgraph keys export {key}` says to whoever keeps that "
                f"broker, for `ezgraph keys trust`"
            )
        if how is Handshake.MISMATCHED and key is None:
            return NotAdmittedError(
                f"the broker at {at} admits only clients with keys; name yours with keys=, "
                f"EZGRAPH_KEYS or `ezgraph context` (`ezgraph keys new` makes one)"
            )
        if how is Handshake.MISMATCHED:
            return NotAdmittedError(
                f"the broker at {at} has no keys, and this client would speak to it only with "
                f"key {key!r}: nothing was sent. Start that broker with keys, or leave keys out "
                f"if you trust everybody on that network"
            )
        if key is None:
            return NotAdmittedError(
                f"whoever listens at {at} broke the connection off before a word was said "
                f"({self.joins} tries): a broker that admits only clients with keys (then name "
                f"yours with keys= or EZGRAPH_KEYS), or no broker at all"
            )
        return NotAdmittedError(
            f"the broker at {at} broke the connection off before a word was said ({self.joins} "
            f"tries): most likely it does not have the key that is pinned here for it. Compare "
            f"`ezgraph keys export` there with `ezgraph keys list` here; a pinned key that "
            f"changed without notice may be somebody else's broker"
        )

    def _fail_all(self, error: EzGraphError) -> None:
        self.completions += [Completion(request_id, _again(error)) for request_id in self._pending]
        self._pending.clear()

    def _deadline_error(self, pending: _Pending, now: float) -> DeadlineError:
        name, waited = type(pending.command).__name__, now - pending.started
        if self._handshake is not None:
            return self._not_admitted(self._handshake)
        if self._join_refusal is not None:
            return DeadlineError(
                f"the broker at {self.address} did not admit this client within {waited:.1f} s "
                f"({self.joins} tries): {self._join_refusal.message}"
            )
        if self.welcome is None:
            tried = ", ".join(self._addresses)
            return BrokerUnreachableError(
                f"no broker answered at {tried} within {waited:.1f} s ({self.joins} HELLOs sent); "
                f"start one with `ezgraph serve`, or check the address and EZGRAPH_ADDR"
            )
        if pending.refusal:
            return DeadlineError(
                f"{name} was not answered by {self.address} within {waited:.1f} s "
                f"({pending.attempts} attempts); it said: {pending.refusal}"
            )
        return DeadlineError(
            f"{name} got no answer from {self.address} within {waited:.1f} s "
            f"({pending.attempts} attempts, {self.state.value}); the broker is down, busy or cut "
            f"off: see `ezgraph status`. If it is down, the call may or may not have taken effect"
        )


def error_of(refusal: Refusal) -> EzGraphError:
    """Return the error that a refusal stands for, with what it carries."""
    error = from_code(refusal.code, refusal.message)
    if refusal.floor is not None:
        error.floor = refusal.floor  # type: ignore[attr-defined]
    if refusal.lost is not None:
        error.lost = refusal.lost  # type: ignore[attr-defined]
    if isinstance(error, TagExistsError):
        error.fingerprint = refusal.fingerprint or ""
    if isinstance(error, RestoreRefusedError):
        error.report = refusal.report
    return error


def _again(error: EzGraphError) -> EzGraphError:
    """Return the same error as a new object: one that was raised before carries its traceback."""
    fresh = type(error)(str(error))
    fresh.__dict__.update(error.__dict__)
    return fresh
