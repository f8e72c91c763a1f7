"""The client's side of a lease: joining, requests in flight, resuming, giving up. Pure.

States::

    new ──start──▶ joining ──Welcome──▶ bound ◀──Welcome── resuming
                      │                   └──"unbound"───────▶ ┘ │
                      └──refused──▶ lost ◀─────refused───────────┘
    any ──close──▶ closed

* A request keeps its id until its reply or its deadline. It goes out when bound; it goes out
  again, under the same id, when a reply is overdue and whenever the connection is bound anew, so
  that the broker can tell a repetition from a second request.
* Reply ``unbound`` means that the broker does not know this connection: it was restarted, or the
  connection was. The core resumes its lease with token and last seq (a guest says HELLO again),
  and then repeats what is in flight.
* A lost lease stays lost: what was in flight, and every later request, gets the reason.

Joining and resuming use request id 0. ``now`` is monotonic seconds.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ezgraph.errors import (
    BrokerUnreachableError,
    ContextClosedError,
    DeadlineError,
    EzGraphError,
    from_code,
)
from ezgraph.protocol import PROTOCOL_VERSION
from ezgraph.protocol.commands import Command, Hello, Request, Resume
from ezgraph.protocol.replies import Refusal, Reply, Welcome

if TYPE_CHECKING:
    from collections.abc import Sequence

JOIN_ID = 0
FIRST_RETRY_S = 0.5
LAST_RETRY_S = 4.0
JOIN_RETRY_S = 0.25
_FATAL = frozenset(
    {"session_expired", "wrong_cluster", "protocol_version", "diverged", "invalid_command"}
)


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


@dataclass(frozen=True, slots=True)
class Completion:
    """A request has its result: the reply, or the error that ends it."""

    request_id: int
    result: Reply | EzGraphError


class ClientCore:
    """What one client has asked and may still repeat."""

    def __init__(self, hello: Hello, addresses: Sequence[str]) -> None:
        self.state = LeaseState.NEW
        self.welcome: Welcome | None = None
        self.error: EzGraphError | None = None
        self.last_seq = 0
        self.dial = 0
        self.joins = 0
        self.outbox: list[Request] = []
        self.completions: list[Completion] = []
        self._hello = hello
        self._addresses = addresses
        self._pending: dict[int, _Pending] = {}
        self._last_id = 0
        self._join_at = 0.0
        self._join_pause_s = JOIN_RETRY_S
        self._join_refusal: Refusal | None = None

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
            raise type(self.error)(str(self.error))
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
        if request_id == JOIN_ID:
            self._joined(reply, now)
            return
        if isinstance(reply, Refusal) and reply.code == "unbound":
            self._resume(now)
            return
        if self._pending.pop(request_id, None) is None:
            return  # a reply to a repetition of what is answered already
        result: Reply | EzGraphError = reply
        if isinstance(reply, Refusal):
            result = _error_of(reply)
        elif (seq := getattr(reply, "seq", 0)) > self.last_seq:
            self.last_seq = seq
        self.completions.append(Completion(request_id, result))

    def tick(self, now: float) -> None:
        """Repeat what is overdue, and give up what is past its deadline."""
        if self.state in (LeaseState.JOINING, LeaseState.RESUMING) and now >= self._join_at:
            self.dial += len(self._addresses) > 1 and self.joins % 2 == 0
            self._join(now)
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
        return min(dues, default=None)

    # --- inside ---

    def _send(self, request_id: int, pending: _Pending, now: float) -> None:
        pending.attempts += 1
        pending.retry_at = now + pending.pause_s
        pending.pause_s = min(pending.pause_s * 2, LAST_RETRY_S)
        lowest_open = next(iter(self._pending))
        self.outbox.append(Request(request_id, lowest_open, pending.command))

    def _join(self, now: float) -> None:
        self.joins += 1
        self._join_at = now + self._join_pause_s
        self._join_pause_s = min(self._join_pause_s * 2, LAST_RETRY_S)
        self.outbox.append(Request(JOIN_ID, 0, self._join_command()))

    def _join_command(self) -> Command:
        if self.welcome is None or self._hello.kind == "guest":
            return self._hello
        welcome = self.welcome
        return Resume(
            PROTOCOL_VERSION,
            welcome.client,
            welcome.token,
            welcome.cluster_id,
            welcome.epoch,
            self.last_seq,
        )

    def _resume(self, now: float) -> None:
        if self.state is not LeaseState.BOUND:
            return  # on its way already
        self.state = LeaseState.RESUMING
        self._join_pause_s = JOIN_RETRY_S
        self._join(now)

    def _joined(self, reply: Reply, now: float) -> None:
        if self.state not in (LeaseState.JOINING, LeaseState.RESUMING):
            return
        if isinstance(reply, Welcome):
            self.welcome = reply
            self.state = LeaseState.BOUND
            self._join_refusal = None
            self._hello = replace(self._hello, cluster_id=reply.cluster_id)
            for request_id, pending in self._pending.items():
                self._send(request_id, pending, now)
        elif isinstance(reply, Refusal) and reply.code in _FATAL:
            self.state = LeaseState.LOST
            self.error = _error_of(reply)
            self._fail_all(self.error)
        elif isinstance(reply, Refusal):
            self._join_refusal = reply  # asked again until the deadline, then named

    def _fail_all(self, error: EzGraphError) -> None:
        self.completions += [Completion(request_id, error) for request_id in self._pending]
        self._pending.clear()

    def _deadline_error(self, pending: _Pending, now: float) -> DeadlineError:
        name, waited = type(pending.command).__name__, now - pending.started
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
        return DeadlineError(
            f"{name} got no answer from {self.address} within {waited:.1f} s "
            f"({pending.attempts} attempts, {self.state.value}); the broker is down, busy or cut "
            f"off: see `ezgraph status`. If it is down, the call may or may not have taken effect"
        )


def _error_of(refusal: Refusal) -> EzGraphError:
    error = from_code(refusal.code, refusal.message)
    if refusal.floor is not None:
        error.floor = refusal.floor  # type: ignore[attr-defined]
    return error
