"""Restores under way: from the snapshot that is read to the one transaction. Pure.

States of a restore::

    being read ─▶ owners are asked ─▶ decided: done, or refused; of a dry run: told
        └─▶ refused      └─ the plan is another one by now ─▶ they are asked again, once

Phase one has no effect: every owner whose settings are to be others is asked whether it would take
them (`Routing.check`). Only if nothing is in the way and all of them agree is there a phase two:
one transaction with the wiring, the configuration, and what is *owed* to each owner from then on.
Each is handed what it is owed, and settles it by reporting it; who ended in between is handed it by
whoever registers the unit next, also after a restart of the broker. An owner that refuses what it
had agreed to settles it too, and the reason is in the journal.

What is decided on must be what the owners were asked. So where the rig has changed meanwhile, the
plan is made anew; if it is another one, they are asked again, and the second time it is refused.

A restore that is asked for again while it is under way is the same one.
"""

from __future__ import annotations

import reprlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ezgraph.broker.restore.plan import Asker, RestorePlan, describe_process, plan_restore
from ezgraph.broker.restore.transaction import done_report, restored_bodies
from ezgraph.broker.routes import CheckSettings, owed_id
from ezgraph.broker.routing import Addressed, take_all
from ezgraph.errors import (
    EzGraphError,
    ForbiddenError,
    InvalidCommandError,
    LimitError,
    RestoreRefusedError,
    StaleWriteError,
)
from ezgraph.protocol.config import config_key_text
from ezgraph.protocol.events import Body, ProcessUnitsChanged, SettingsSettled, Source
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.replies import Refusal, RestoreReport
from ezgraph.state.content import touched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any
    from uuid import UUID

    from ezgraph.broker.connections import Descriptor
    from ezgraph.broker.leases import Lease, Leases
    from ezgraph.broker.routing import Heard, Routing
    from ezgraph.broker.rules_config import ValueChecks
    from ezgraph.config import Limits
    from ezgraph.protocol.commands import Command
    from ezgraph.protocol.events import Event
    from ezgraph.protocol.graph_content import GraphContent
    from ezgraph.protocol.replies import Reply
    from ezgraph.protocol.roles import Identity
    from ezgraph.protocol.stored_commands import Restore
    from ezgraph.state.graph import GraphState

    CameOn = tuple[bytes, Descriptor | None]

_SHOWN = 20
_ROUNDS = 2
_TOLD_BYTES = 1_000
_brief = reprlib.Repr()
_UNREAD = Fingerprint.empty()
_BROKER = Source(program="ezgraph broker")
_STILL_OWED = frozenset({"owner_gone", "owner_silent", "change_overdue"})
"""What settings that are owed outlast; any other refusal settles them."""


class Transact(Protocol):
    """Numbers bodies as one transaction, and makes it true."""

    def __call__(
        self,
        bodies: Sequence[Body],
        source: Source,
        request_id: int | None,
        *,
        now: float,
        wall: float,
    ) -> tuple[Event, ...]:
        """Return its events."""
        ...


class Refused(Protocol):
    """Writes a refusal down, and remembers it."""

    def __call__(
        self,
        lease: Lease,
        identity: Identity | None,
        request_id: int,
        command: Command,
        error: EzGraphError,
        now: float,
    ) -> Refusal:
        """Return it as who asked may see it."""
        ...


@dataclass(slots=True, eq=False)
class Restoring:
    """One restore under way. ``came_on``: the connection its answer goes to, and its descriptor.

    ``source`` is who asks, with the reason they gave. ``waiting`` has the address of each check
    that was not answered yet, ``vetoed`` who did not agree: the address, by whom, why.
    """

    client: str
    request_id: int
    came_on: CameOn
    command: Restore
    source: Source
    identity: Identity | None
    asker: Asker
    deadline: float
    graph: GraphContent | None = None
    fingerprint: Fingerprint = _UNREAD
    plan: RestorePlan = field(default_factory=RestorePlan)
    mark: bytes = b""
    round: int = 0
    waiting: dict[str, str] = field(default_factory=dict)
    vetoed: list[tuple[str, str, str]] = field(default_factory=list)
    is_touched: bool = False

    @property
    def is_ready(self) -> bool:
        """Whether there is nothing to wait for any more."""
        return self.graph is not None and not self.waiting


class Restores:
    """All restores under way."""

    def __init__(
        self,
        state: GraphState,
        routing: Routing,
        leases: Leases,
        limits: Limits,
        checks: ValueChecks,
        *,
        transact: Transact,
        refused: Refused,
        identity_of: Callable[[str], Identity | None],
    ) -> None:
        """``transact`` makes bodies true, and ``refused`` a refusal known, as for any command.

        ``identity_of`` says who has a key now.
        """
        self._state = state
        self._routing = routing
        self._leases = leases
        self._limits = limits
        self._checks = checks
        self._transact = transact
        self._refused = refused
        self._identity_of = identity_of
        self._under_way: dict[tuple[str, int], Restoring] = {}
        self._by_check: dict[str, Restoring] = {}

    def __repr__(self) -> str:
        return f"<Restores under_way={len(self)} asking={len(self._by_check)}>"

    def __len__(self) -> int:
        return len(self._under_way)

    # --- one comes, and goes ---

    def again(self, client: str, request_id: int, came_on: CameOn) -> bool:
        """Heed a repetition; return whether it is one of a restore that is under way."""
        restore = self._under_way.get((client, request_id))
        if restore is not None:
            restore.came_on = came_on
        return restore is not None

    def is_under_way(self, client: str, request_id: int) -> bool:
        """Return whether a request is being worked on."""
        return (client, request_id) in self._under_way

    def begin(self, restore: Restoring) -> None:
        """Take one up; its snapshot is read next.

        Raises:
            InvalidCommandError: it names no snapshot, or two.
            LimitError: too many are under way.
        """
        command = restore.command
        if (command.tag is None) == (command.fingerprint is None):
            raise InvalidCommandError(
                f"a restore of {command.name!r} is to one snapshot: give its tag, or its "
                f"fingerprint"
            )
        own = Counter(each.client for each in self._under_way.values())[restore.client]
        for count, limit, name in (
            (own, self._limits.max_restores_per_client, "max_restores_per_client"),
            (len(self), self._limits.max_restores, "max_restores"),
        ):
            if count >= limit:
                raise LimitError(
                    f"{count} restores are under way, as many as may be here ({name}); wait for "
                    f"them"
                )
        self._under_way[restore.client, restore.request_id] = restore

    def drop(self, client: str, request_id: int) -> Restoring | None:
        """Forget one; what its owners were asked counts for nothing."""
        restore = self._under_way.pop((client, request_id), None)
        if restore is not None:
            self._withdraw(restore)
        return restore

    def ended(self, client: str) -> None:
        """A lease is over: what it has asked for is not done."""
        for whose, request_id in [key for key in self._under_way if key[0] == client]:
            self.drop(whose, request_id)

    def _withdraw(self, restore: Restoring) -> None:
        for named in restore.waiting:
            self._by_check.pop(named, None)
            self._routing.withdraw(named)
        restore.waiting.clear()

    # --- asking ---

    def read(self, client: str, request_id: int, graph: GraphContent) -> None:
        """The snapshot was read: plan, and ask the owners."""
        restore = self._under_way.get((client, request_id))
        if restore is not None:
            self._plan(restore, graph)
            self._ask(restore)
            restore.graph, restore.fingerprint = graph, graph.fingerprint

    def _plan(self, restore: Restoring, graph: GraphContent) -> None:
        restore.plan = plan_restore(
            self._state, graph, restore.asker, limits=self._limits, checks=self._checks
        )
        restore.mark, restore.is_touched = restore.plan.mark(), False

    def _ask(self, restore: Restoring) -> None:
        restore.round += 1
        restore.vetoed.clear()
        if restore.plan.forbidden:
            return
        state, command = self._state, restore.command
        whose = f"{state.epoch} {state.seq} {restore.client} {restore.request_id} {restore.round}"
        for number, each in enumerate(restore.plan.settings):
            if each.owner is None:
                continue
            named = f"check {whose} {number}"
            restore.waiting[named] = each.address
            self._by_check[named] = restore
            asked = CheckSettings(
                each.address,
                each.changes,
                each.whole,
                each.base_seq,
                command.reason,
                command.timeout_s,
            )
            self._routing.check(named, asked, restore.source, str(each.owner), restore.deadline)

    def _hear(self, heard: Heard) -> None:
        """An owner has answered a check, or will not any more."""
        restore = self._by_check.pop(heard.route.id, None)
        if restore is None:
            return
        address = restore.waiting.pop(heard.route.id)
        if isinstance(heard.reply, Refusal):
            owner = next(e.owner for e in restore.plan.settings if e.address == address)
            by = "" if owner is None else describe_process(self._state, owner)
            restore.vetoed.append((address, by, heard.reply.message))

    def touch(self, body: Body) -> None:
        """Take note that an event was applied; some plans may be others by now."""
        if touched(body) or isinstance(body, ProcessUnitsChanged):
            for each in self._under_way.values():
                each.is_touched = True

    def unread(self, client: str, request_id: int, error: EzGraphError, now: float) -> None:
        """The snapshot could not be read, or not be compared; who asked is told."""
        restore, lease = self.drop(client, request_id), self._leases.get(client)
        if restore is not None and lease is not None:
            self._refuse(lease, restore, error, now)

    # --- deciding ---

    @property
    def has_work(self) -> bool:
        """Whether `decide` has something to do."""
        return bool(self._routing.heard) or any(e.is_ready for e in self._under_way.values())

    def decide(self, *, now: float, wall: float) -> Iterator[tuple[Event, ...]]:
        """Decide on restores whose owners have been heard; yield the transactions.

        What who asked is told, and what owners are handed, is outgoing then.
        """
        for heard in take_all(self._routing.heard):
            if isinstance(heard.route.command, CheckSettings):
                self._hear(heard)
            elif (settled := self._not_taken(heard)) is not None:
                yield self._transact((settled,), _BROKER, None, now=now, wall=wall)
        for restore in [each for each in self._under_way.values() if each.is_ready]:
            lease = self._leases.get(restore.client)
            if lease is None:
                continue
            try:
                is_settled = self._is_settled(restore)
            except EzGraphError as error:
                self.unread(restore.client, restore.request_id, error, now)
                continue
            if is_settled and (events := self._restore(lease, restore, now, wall)):
                yield events

    def _not_taken(self, heard: Heard) -> Body | None:
        """Return what becomes true when an owner has refused what it is owed."""
        address, reply = str(heard.route.line), heard.reply
        owed = self._state.owed.get(address)
        if owed is None or owed_id(owed) != heard.route.id:
            return None
        if not isinstance(reply, Refusal) or reply.code in _STILL_OWED:
            return None
        return SettingsSettled(address, why_not=reply.message)

    def _is_settled(self, restore: Restoring) -> bool:
        graph = restore.graph
        if graph is not None and restore.is_touched and not restore.command.dry_run:
            mark = restore.mark
            self._plan(restore, graph)
            if restore.mark != mark and restore.round < _ROUNDS:
                self._ask(restore)
            elif restore.mark != mark:
                restore.round += 1
        if restore.waiting:
            return False
        self.drop(restore.client, restore.request_id)
        return True

    def _restore(
        self, lease: Lease, restore: Restoring, now: float, wall: float
    ) -> tuple[Event, ...]:
        report = self._report(restore)
        if report.dry_run:
            self._answer(restore, report)
            return ()
        try:
            self._refuse_impossible(restore, report)
        except EzGraphError as error:
            self._refuse(lease, restore, error, now)
            return ()
        events: tuple[Event, ...] = ()
        if restore.plan:
            source, request_id = restore.source, restore.request_id
            bodies = restored_bodies(restore.plan, report, source, self._state.seq + 1)
            events = self._transact(bodies, source, request_id, now=now, wall=wall)
            report = done_report(report, events[-1].seq)
        lease.answers.remember(restore.request_id, report)
        self._answer(restore, report)
        for address in report.owed:
            self._routing.hand_owed(address)
        return events

    def _refuse(
        self, lease: Lease, restore: Restoring, error: EzGraphError, now: float
    ) -> None:
        identity, command = restore.identity, restore.command
        refusal = self._refused(lease, identity, restore.request_id, command, error, now)
        self._answer(restore, refusal)

    def _answer(self, restore: Restoring, reply: Reply) -> None:
        peer, descriptor = restore.came_on
        self._routing.outgoing.append(Addressed(peer, restore.request_id, reply, descriptor))

    def _refuse_impossible(self, restore: Restoring, report: RestoreReport) -> None:
        """Refuse what cannot be done, just before it would be.

        Raises:
            ForbiddenError: the role of who asks does not grant all of it.
            RestoreRefusedError: others, or what does not fit, are in the way; names all of it.
            StaleWriteError: the rig changes all the time.
        """
        plan, identity = restore.plan, restore.identity
        if identity is not None and self._identity_of(identity.public) != identity:
            raise ForbiddenError(
                f"the role of key {identity.name!r} was changed while the owners of the rig were "
                f"asked, and nothing was restored: ask again"
            )
        if plan.forbidden and identity is not None:
            raise _forbidden(identity, plan.forbidden)
        if restore.round > _ROUNDS:
            raise StaleWriteError(
                f"the rig has changed twice while its owners were asked whether it may be restored "
                f"to {_named(restore.command)}, and nothing was: ask again when it is quiet"
            )
        if report.cannot or report.vetoed:
            raise RestoreRefusedError(_in_the_way(restore.command, report), report=report)

    def _told(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Return what a report tells of new values: of large ones the beginning of their text."""
        return {
            path: value if self._checks.size_bytes(value) <= _TOLD_BYTES else _brief.repr(value)
            for path, value in changes.items()
        }

    def _report(self, restore: Restoring) -> RestoreReport:
        """Return what a restore changes, as of the present seq."""
        plan, command = restore.plan, restore.command
        cannot = [(each.what, each.why, each.whose) for each in plan.cannot]
        if restore.identity is not None and plan.forbidden:
            why = str(_forbidden(restore.identity, plan.forbidden))
            cannot += [(each, why, "") for each in plan.forbidden]
        return RestoreReport(
            seq=self._state.seq,
            name=command.name,
            fingerprint=restore.fingerprint,
            dry_run=command.dry_run,
            edges_added=plan.edges_added,
            edges_removed=plan.edges_removed,
            settings=[
                (each.address, self._told(each.changes), _id_of(each.owner))
                for each in plan.settings
            ],
            config_set=[(kind, config_key_text(key)) for kind, *key in plan.config_set],
            config_deleted=[(kind, config_key_text(key)) for kind, *key in plan.config_deleted],
            not_restored=plan.not_restored,
            cannot=cannot,
            vetoed=sorted(restore.vetoed),
            tag=command.tag,
        )


def _id_of(owner: UUID | None) -> str | None:
    return None if owner is None else str(owner)


def _forbidden(identity: Identity, lacking: list[str]) -> ForbiddenError:
    shown = ", ".join(lacking[:_SHOWN]) + (", …" if len(lacking) > _SHOWN else "")
    return ForbiddenError(
        f"key {identity.name!r} (role {identity.role}) may not {shown}, which this restore would "
        f"do; ask whoever keeps this broker's allow-list for a role that does"
    )


def _named(command: Restore) -> str:
    at = f"@{command.tag}" if command.tag is not None else f" {command.fingerprint}"
    return f"{command.name}{at}"


def _in_the_way(command: Restore, report: RestoreReport) -> str:
    told = [f"{what}: {why}{_of(whose)}" for what, why, whose in report.cannot]
    told += [f"settings {address}: {why}{_of(by)}" for address, by, why in report.vetoed]
    more = f"; and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    return (
        f"{_named(command)} was not restored, and nothing was changed; in the way: "
        f"{'; '.join(told[:_SHOWN])}{more}"
    )


def _of(whose: str) -> str:
    return f" ({whose})" if whose else ""

