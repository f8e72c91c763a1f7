"""Who gets a lease, and who gets one back. Pure.

A lease has one *holder*: the program whose HELLO opened it, or the last one that took it over with
its token. The holder is journaled, as a digest of the program's nonce (which is a secret like the
token), so that after a restart

* a repeated HELLO opens no second lease, and
* a program that was stopped and goes on cannot act beside its successor.

A holder is *spent* when its lease has ended or was taken over, and its client had shown that it
knew of the lease: a repetition of its HELLO that comes late must open nothing.

The token is a keyed hash of the client id, and of the key its client has, with the cluster's
secret; the digest of a nonce has the key in it too. So neither is worth anything to another key.
"""

from __future__ import annotations

import hmac
import math
from collections import OrderedDict
from dataclasses import replace
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from ezgraph._version import __version__
from ezgraph.broker.ended import EndedLeases
from ezgraph.broker.leases import Answers, Lease, Leases
from ezgraph.broker.restore.transaction import reports_in
from ezgraph.broker.routes import asker_of
from ezgraph.errors import (
    DivergedError,
    InvalidCommandError,
    LimitError,
    ProtocolVersionError,
    SessionExpiredError,
    SessionTakenOverError,
    WrongClusterError,
)
from ezgraph.protocol import PROTOCOL_VERSION
from ezgraph.protocol.events import (
    EndReason,
    PartitionsWritten,
    ProcessOpened,
    ProcessTakenOver,
    RecordingWritten,
    SessionOpened,
    SessionTakenOver,
    SettingsChanged,
    SnapshotFrozen,
    Source,
    TagSet,
    in_words,
)
from ezgraph.protocol.fingerprints import canonical
from ezgraph.protocol.listing import SnapshotInfo
from ezgraph.protocol.replies import (
    Done,
    Frozen,
    PartitionsStored,
    RecordingStored,
    RestoreReport,
    SettingsSet,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ezgraph.config import BrokerConfig
    from ezgraph.ids import IdSource
    from ezgraph.protocol.commands import Hello, Resume, TakeOver
    from ezgraph.protocol.events import Event
    from ezgraph.protocol.replies import Answered, Reply
    from ezgraph.protocol.roles import Identity
    from ezgraph.state.graph import GraphState, ProcessEntry, SessionEntry

_SPENT_HOLDERS = 10_000
_ABSENT_GUESTS = 1_000
_GUEST = "guest-"
_MAX_TEXT = 255


class ForeignTokenError(SessionExpiredError):
    """Somebody showed a token that is not theirs; they are told what an expired session is told."""


class Cluster(NamedTuple):
    """Which history this broker keeps, and the secret its tokens are made with."""

    cluster_id: str
    secret: bytes

    def __repr__(self) -> str:
        return f"Cluster({self.cluster_id!r})"


class Admission:
    """The leases, their holders, and what is remembered of those that ended."""

    def __init__(
        self,
        cluster: Cluster,
        config: BrokerConfig,
        ids: IdSource,
        epoch_ends: Mapping[int, int],
    ) -> None:
        """``epoch_ends``: the last seq of each epoch before the present one."""
        self.leases = Leases()
        self.ended = EndedLeases()
        self._cluster = cluster
        self._config = config
        self._ids = ids
        self._epoch_ends = dict(epoch_ends)
        self._by_holder: dict[str, Lease] = {}
        self._of_key: dict[str, set[str]] = {}
        self._spent: OrderedDict[str, None] = OrderedDict()
        self._absent: OrderedDict[str, Answers] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Admission leases={len(self.leases)} spent={len(self._spent)}>"

    def token(self, client: str, public: str | None = None) -> bytes:
        """Return what shows, together with the key ``public``, that one is this client."""
        named = _with_key(client, public)
        return blake2b(named, key=self._cluster.secret, digest_size=32).digest()

    def ticket_secret(self, name: str, owner: str, incarnation: str) -> bytes:
        """Return what one host's tickets are made with; the same also after a restart."""
        named = canonical(["ezgraph.tickets", name, owner, incarnation])
        return blake2b(named, key=self._cluster.secret, digest_size=32).digest()

    # --- HELLO ---

    def known(self, hello: Hello, public: str | None = None) -> Lease | None:
        """Return the lease that this HELLO has opened already; None: it may open one."""
        self._check_version(hello.protocol)
        self._check_cluster(hello.cluster_id)
        if hello.ttl_s is not None and not math.isfinite(hello.ttl_s):
            raise InvalidCommandError(f"a TTL of {hello.ttl_s} s; give a number of seconds")
        if hello.kind not in {"session", "process", "guest"}:
            raise InvalidCommandError(
                f"HELLO of kind {hello.kind!r}; it is session, process or guest"
            )
        _check_texts(hello)
        holder = holder_of(hello.nonce, public)
        if holder in self._spent:
            raise SessionExpiredError("the lease that this HELLO opened has ended; open a new one")
        known = self._by_holder.get(holder)
        if known is None:
            self._refuse_too_many(public)
        return known

    def _refuse_too_many(self, public: str | None) -> None:
        limits = self._config.limits
        if len(self.leases) >= limits.max_leases:
            raise LimitError(
                f"{len(self.leases)} leases are open, the limit of this broker (max_leases); "
                f"close some, or raise the limit"
            )
        if public is None:
            return
        own = len(self._of_key.get(public, ()))
        if own >= limits.max_leases_per_key:
            raise LimitError(
                f"this key has {own} leases open, as many as one may have here "
                f"(max_leases_per_key); close some, or raise the limit"
            )

    def open(
        self, hello: Hello, *, head: int, now: float, identity: Identity | None = None
    ) -> Lease:
        """Return a new lease for who said this HELLO."""
        limits = self._config.limits
        ttl_s = self._config.ttl_s if hello.ttl_s is None else hello.ttl_s
        ttl_s = min(max(ttl_s, limits.min_ttl_s), limits.max_ttl_s)
        public = identity.public if identity else None
        holder = holder_of(hello.nonce, public)
        session_id = process_id = None
        if hello.kind == "process":
            process_id = self._ids.process_id()
            client = str(process_id)
        elif hello.kind == "session":
            client = session_id = self._ids.session_id()
        else:
            client = _GUEST + holder  # the same for a repeated HELLO, also after a restart
            ttl_s = limits.guest_ttl_s
        source = replace(
            _source_of(hello, identity),
            session_id=session_id,
            process_id=process_id,
            client=client,
        )
        lease = Lease(client, hello.kind, source, ttl_s, now, now, holder, head, public=public)
        lease.answers = self._absent.pop(client, lease.answers)
        self.leases.add(lease)
        self._count(lease, public)
        self._by_holder[holder] = lease
        return lease

    def _count(self, lease: Lease, public: str | None) -> None:
        lease.public = public
        if public is not None:
            self._of_key.setdefault(public, set()).add(lease.client)

    # --- coming back ---

    def resumed(
        self, resume: Resume, *, epoch: int, head: int, public: str | None = None
    ) -> Lease:
        """Return the lease that a client comes back to, if it is still its holder."""
        self._check_version(resume.protocol)
        self._check_cluster(resume.cluster_id)
        lease = self._shown(resume.client, resume.token, public)
        if resume.nonce and lease.holder and lease.holder != holder_of(resume.nonce, public):
            raise _taken_over(lease)
        self._refuse_diverged(resume, epoch, head)
        lease.is_held = True
        return lease

    def inherited(self, command: TakeOver, public: str | None = None) -> Lease:
        """Return the lease that a program takes over; `change_holder` makes it the holder."""
        self._check_version(command.hello.protocol)
        self._check_cluster(command.cluster_id)
        _check_texts(command.hello)
        lease = self._shown(command.client, command.token, public)
        if lease.kind != command.hello.kind or lease.kind == "guest":
            raise InvalidCommandError(
                f"lease {lease.client} is a {lease.kind}'s, and is not taken over by a "
                f"{command.hello.kind}: sessions and process clients are, each by its own kind"
            )
        holder = holder_of(command.hello.nonce, public)
        if holder != lease.holder and holder in self._spent:
            raise _taken_over(lease)  # by a successor of this one: it comes late, or again
        return lease

    def change_holder(
        self, lease: Lease, hello: Hello, identity: Identity | None = None
    ) -> None:
        """Give a lease to the program that said ``hello``."""
        self._by_holder.pop(lease.holder, None)
        self._spend(lease.holder)
        lease.holder = holder_of(hello.nonce, identity.public if identity else None)
        self._by_holder[lease.holder] = lease
        before = lease.source
        lease.source = replace(
            _source_of(hello, identity),
            session_id=before.session_id,
            process_id=before.process_id,
            client=before.client,
        )

    def _shown(self, client: str, token: bytes, public: str | None) -> Lease:
        """Return the lease that a token belongs to."""
        if not hmac.compare_digest(token, self.token(client, public)):
            raise ForeignTokenError(
                f"the token does not belong to lease {client}"
                f"{' and this key' if public else ''}; open a new context"
            )
        lease = self.leases.get(client)
        if lease is not None:
            self._count(lease, public)
            return lease
        lost = self.ended.get(client)
        what = "what it owned is gone"
        if lost is not None:
            what = f"({lost.reason.value}, at seq {lost.seq}) lost {lost}"
        raise SessionExpiredError(
            f"lease {client} has ended: {what}; open a new session and declare it again, "
            f"with redeclare() in one call",
            lost=lost,
        )

    def _refuse_diverged(self, resume: Resume, epoch: int, head: int) -> None:
        end = head if resume.epoch == epoch else self._epoch_ends.get(resume.epoch, -1)
        if resume.seq > end:
            raise DivergedError(
                f"the client has seen seq {resume.seq} of epoch {resume.epoch}, which in this "
                f"history ends at {max(end, 0)} (now epoch {epoch}, seq {head}): a "
                f"backup was restored; take a snapshot, and declare anew with redeclare()"
            )

    def _check_version(self, version: int) -> None:
        if version != PROTOCOL_VERSION:
            raise ProtocolVersionError(
                f"the client speaks protocol {version}, this broker (ezgraph {__version__}) "
                f"speaks {PROTOCOL_VERSION}; install the same ezgraph on both"
            )

    def _check_cluster(self, cluster_id: str | None) -> None:
        if cluster_id not in (None, self._cluster.cluster_id):
            raise WrongClusterError(
                f"the client belongs to cluster {cluster_id}, this broker keeps "
                f"{self._cluster.cluster_id}: another journal, or a new memory:// broker; "
                f"open a new context to join it"
            )

    # --- the end ---

    def end(self, lease: Lease, reason: EndReason) -> None:
        """Forget a lease, but not that it was there."""
        self.leases.remove(lease.client)
        self._by_holder.pop(lease.holder, None)
        if lease.public is not None:
            own = self._of_key.get(lease.public, set())
            own.discard(lease.client)
            if not own:
                self._of_key.pop(lease.public, None)
        if lease.kind == "guest" and reason is not EndReason.CLOSED:
            self._keep_answers(lease)
        elif lease.is_held:
            self._spend(lease.holder)

    def _keep_answers(self, guest: Lease) -> None:
        """A guest that was cut off says HELLO again, and repeats what was not answered."""
        if len(guest.answers):
            self._absent[guest.client] = guest.answers
            self._forget_absent()

    def _forget_absent(self) -> None:
        while len(self._absent) > _ABSENT_GUESTS:
            self._absent.popitem(last=False)

    def _spend(self, holder: str) -> None:
        self._spent[holder] = None
        if len(self._spent) > _SPENT_HOLDERS:
            self._spent.popitem(last=False)

    # --- a restart ---

    def restore(
        self,
        state: GraphState,
        history: Sequence[Event],
        answered: Iterable[Answered],
        *,
        now: float,
    ) -> None:
        """Give every open session and process of the state one fresh TTL.

        ``history`` are the latest events and ``answered`` is what the checkpoint before them kept;
        what their requests caused is remembered again.
        """
        for session_id, session in state.sessions.items():
            self._restore_lease("session", session_id, session, now)
        for process_id, process in state.processes.items():
            self._restore_lease("process", str(process_id), process, now)
        for kept in answered:
            if (answers := self._answers_of(kept.client)) is not None:
                answers.restore(kept)
        for event in history:
            self._restore_asked(event)
            client = event.source.client
            if client is None or event.request_id is None:
                continue
            if (answers := self._answers_of(client)) is not None:
                reply = told_by(event, answers.known(event.request_id))
                answers.remember(event.request_id, reply, first=event.txn_first)
            self._forget_absent()
        for begun, report in reports_in(history):
            answers = self._answers_of(begun.source.client or "")
            if answers is None or begun.request_id is None:
                continue
            if not isinstance(answers.known(begun.request_id), RestoreReport):  # it says less
                answers.remember(begun.request_id, report, first=begun.txn_first)
        self.ended.restore(history)
        self._restore_spent(history)

    def _restore_asked(self, event: Event) -> None:
        """Remember what was answered to who had asked for the change that an event is."""
        body = event.body
        if not isinstance(body, SettingsChanged) or body.answers is None:
            return
        asker = asker_of(body.answers)
        if asker is not None and (answers := self._answers_of(asker.client)) is not None:
            answers.remember(asker.request_id, SettingsSet(event.seq, body.value))

    def _restore_lease(
        self, kind: str, client: str, entry: SessionEntry | ProcessEntry, now: float
    ) -> None:
        lease = Lease(client, kind, entry.source, entry.ttl_s, now, now, entry.holder)
        self.leases.add(lease)
        if lease.holder:
            self._by_holder[lease.holder] = lease

    def _answers_of(self, client: str) -> Answers | None:
        """Return where to remember what a client was answered before; None: it is gone."""
        lease = self.leases.get(client)
        if lease is not None:
            return lease.answers
        if client.startswith(_GUEST):
            return self._absent.setdefault(client, Answers())
        return None

    def _restore_spent(self, history: Sequence[Event]) -> None:
        """Spend who held a lease and does no more, as far as that was used for anything."""
        used = {event.source.client for event in history if event.request_id is not None}
        for event in history:
            match event.body:
                case SessionTakenOver(holder=holder) | ProcessTakenOver(holder=holder):
                    is_used = True
                case SessionOpened(holder=holder) | ProcessOpened(holder=holder):
                    is_used = event.source.client in used
                case _:
                    continue
            if is_used and holder not in self._by_holder:
                self._spend(holder)

    def answered(self) -> list[Answered]:
        """Return which requests may still be repeated, for a checkpoint to keep."""
        held = [(lease.client, lease.answers) for lease in self.leases]
        return [
            answers.export(client)
            for client, answers in (*held, *self._absent.items())
            if answers.next_id > 1
        ]


def told_by(event: Event, before: Reply | None) -> Reply:
    """Return what was answered to the request that an event tells of, as far as that shows.

    ``before`` is what the events before it in its transaction, or a checkpoint, told.
    """
    body, seq = event.body, event.txn_last
    match body:
        case SnapshotFrozen():
            author = in_words(event.source)
            place = body.at_epoch, body.at_seq, body.at_time, body.reason, event.wall_time, author
            tag = before.tag if isinstance(before, Frozen) else None
            return Frozen(seq, SnapshotInfo(body.name, body.fingerprint, *place), tag)
        case TagSet() if isinstance(before, Frozen):
            return replace(before, tag=body.tag)
        case PartitionsWritten():
            return PartitionsStored(seq, body.count)
        case RecordingWritten():
            return RecordingStored(seq, body.number, body.first_written, body.author)
        case _ if isinstance(before, RestoreReport):
            return before
        case _:
            return Done(seq)


def holder_of(nonce: str, public: str | None = None) -> str:
    """Return what stands for the program with ``nonce`` and a key, without giving them away."""
    return blake2b(_with_key(nonce, public), digest_size=8).hexdigest()


def _with_key(text: str, public: str | None) -> bytes:
    return (text if public is None else f"{text}\0{public}").encode(errors="surrogatepass")


def _check_texts(hello: Hello) -> None:
    """What a client says of itself is in every event it causes: it may not be long."""
    for name in ("nonce", "program", "host", "login"):
        length = len(getattr(hello, name))
        if length > _MAX_TEXT:
            raise InvalidCommandError(
                f"HELLO with a {name} of {length} characters; at most {_MAX_TEXT} are allowed"
            )


def _taken_over(lease: Lease) -> SessionTakenOverError:
    source = lease.source
    return SessionTakenOverError(
        f"{source.program} on {source.host} (pid {source.pid}) took lease {lease.client} over "
        f"with its token, and goes on with what it owns; this program's hold on it is over: "
        f"open a new context"
    )


def _source_of(hello: Hello, identity: Identity | None) -> Source:
    return Source(
        program=hello.program,
        host=hello.host,
        pid=hello.pid,
        login=hello.login,
        key_name=identity.name if identity else None,
    )
