"""Going back to a snapshot on the running rig, as both forms of a context do it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from ezgraph.client.watch import Compacted
from ezgraph.clock import Deadline
from ezgraph.errors import (
    DeadlineError,
    EzGraphError,
    InvalidCommandError,
    InvalidValueError,
    MalformedMessageError,
    UnknownSnapshotError,
    UnknownTagError,
)
from ezgraph.names import key_of
from ezgraph.protocol.commands import ChangeConfig, Disconnect
from ezgraph.protocol.config import ConfigDelete, ConfigPut, parse_config_key
from ezgraph.protocol.events import Event, SettingsOwed, SettingsSettled
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.graphs import Snapshot
from ezgraph.protocol.listing import SnapshotInfo
from ezgraph.protocol.replies import RestoreReport, StoredPage
from ezgraph.protocol.stored_commands import Listed, ReadStored, Restore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ezgraph.graph.declared import Declared
    from ezgraph.graph.sessions import AnySession, AnySubscription
    from ezgraph.protocol.config import ConfigKey

_WAY_BACK = 0.9
"""The part of a call's time that owners are given to agree; the rest is for the way back."""


async def restore(
    session: AnySession,
    tag_or_fingerprint: str | Fingerprint | Snapshot | SnapshotInfo,
    *,
    name: str | None,
    dry_run: bool,
    reason: str | None,
    wait: bool,
    timeout: float,  # noqa: ASYNC109
) -> RestoreReport:
    """Restore a snapshot, or say what that would do; see `GraphContext.restore`."""
    deadline = Deadline(timeout)
    if isinstance(tag_or_fingerprint, Snapshot | SnapshotInfo):
        name = tag_or_fingerprint.name if name is None else name
        tag_or_fingerprint = tag_or_fingerprint.fingerprint
    tag, fingerprint = named(tag_or_fingerprint)
    if name is None:
        name = await graph_with(session, tag, fingerprint, deadline)
    left = deadline.left()
    command = Restore(name, tag, fingerprint, dry_run, reason, left * _WAY_BACK)
    report = await session.call(command, timeout=left)
    if not isinstance(report, RestoreReport):
        raise MalformedMessageError(
            f"Restore was answered with {type(report).__name__}; is the broker of the same version?"
        )
    asked = {address for address, _, owner in report.settings if owner is not None}
    if dry_run or not wait or not asked.intersection(report.owed):
        return report
    return await _settled(session, report, asked, deadline)


def named(tag_or_fingerprint: object) -> tuple[str | None, Fingerprint | None]:
    """Return the tag, or the fingerprint, that somebody gave; as text it has 32 digits.

    Raises:
        InvalidCommandError: it is neither.
    """
    if isinstance(tag_or_fingerprint, Fingerprint):
        return None, tag_or_fingerprint
    if isinstance(tag_or_fingerprint, str) and tag_or_fingerprint:
        try:
            return None, Fingerprint.from_hex(tag_or_fingerprint)
        except InvalidValueError:
            return tag_or_fingerprint, None
    raise InvalidCommandError(
        f"{tag_or_fingerprint!r:.60} names no snapshot: give its tag, or its fingerprint"
    )


async def graph_with(
    session: AnySession, tag: str | None, fingerprint: Fingerprint | None, deadline: Deadline
) -> str:
    """Return the one graph that has such a tag, or a snapshot of such a fingerprint.

    Raises:
        UnknownTagError, UnknownSnapshotError: none has.
        InvalidCommandError: several have.
    """
    room, wanted = ("tag", tag) if tag is not None else ("snapshot", str(fingerprint))
    place = 2 if tag is not None else 4
    found = dict.fromkeys(
        [key[1] async for key in _rows(session, room, deadline) if key[place] == wanted]
    )
    if len(found) == 1:
        return next(iter(found))
    what = f"tag {tag!r}" if tag is not None else f"snapshot with the fingerprint {fingerprint}"
    if found:
        raise InvalidCommandError(
            f"several graphs have a {what}: {', '.join(map(repr, found))}; say which with name="
        )
    kind = UnknownTagError if tag is not None else UnknownSnapshotError
    raise kind(f"no graph has a {what} here; list what there is with `ezgraph tags`")


async def _rows(
    session: AnySession, room: str, deadline: Deadline
) -> AsyncIterator[tuple[str, ...]]:
    """Yield the keys of all rows of a room of the store."""
    after: bytes | None = b""
    while after is not None:
        asked = ReadStored(Listed(room, after=after))
        page = await session.call(asked, timeout=deadline.left())
        if not isinstance(page, StoredPage):
            raise MalformedMessageError(f"ReadStored was answered with {type(page).__name__}")
        for key, _ in page.rows:
            yield key_of(key)
        after = page.next_after


async def note_restored(
    declared: Declared,
    report: RestoreReport,
    value_of: Callable[[str, ConfigKey], Awaitable[object]],
) -> None:
    """Take note of what a restore has changed of what its asker had declared.

    ``value_of`` returns what an entry of the configuration is now.
    """
    for edge in report.edges_removed:
        declared.note(Disconnect(*edge))
    gone = [ConfigDelete(kind, parse_config_key(key)) for kind, key in report.config_deleted]
    declared.note(ChangeConfig(deletes=gone))
    for kind, text in report.config_set:
        key = parse_config_key(text)
        if declared.has_entry(kind, key):  # it stays the asker's, with the value that it had then
            with suppress(EzGraphError):  # the restore is done, whatever becomes of this
                put = ConfigPut(kind, key, await value_of(kind, key), ephemeral=True)
                declared.note(ChangeConfig(puts=[put]))


# --- what owners are asked to take ---


async def _settled(
    session: AnySession, report: RestoreReport, asked: set[str], deadline: Deadline
) -> RestoreReport:
    """Return the report when its owners have taken what they were asked, or time is over."""
    following = _Following(session.watch(("owed",), report.seq), asked)
    try:
        await session.until(
            following.is_over, timeout=max(deadline.left(), 0.0), what="owners to take settings"
        )
    except DeadlineError:
        pass  # it is done; the report says who is late
    finally:
        await following.subscription.aclose()
    owed = [each for each in report.owed if each not in following.settled]
    return replace(report, owed=owed, refused=sorted(following.refused.items()))


class _Following:
    """What becomes of what is owed at some addresses."""

    def __init__(self, subscription: AnySubscription, waiting: set[str]) -> None:
        self.subscription = subscription
        self.settled: set[str] = set()
        self.refused: dict[str, str] = {}
        self._waiting = set(waiting)

    def is_over(self) -> bool:
        """Take what has arrived, and return whether nothing is waited for."""
        while self._waiting and (item := self.subscription.take_arrived()) is not None:
            if isinstance(item, Event):
                self._take(item.body)
            elif isinstance(item, Compacted) and item.snapshot is not None:  # then it tells it
                for address in self._waiting - item.snapshot.owed.keys():
                    self._settle(address, None)
        return not self._waiting

    def _take(self, body: object) -> None:
        match body:
            case SettingsSettled(address=address, why_not=why_not):
                self._settle(address, why_not)
            case SettingsOwed(address=address):
                self._settle(address, "another restore took its place")
            case _:
                pass

    def _settle(self, address: str, why_not: str | None) -> None:
        if address in self._waiting:
            self._waiting.discard(address)
            self.settled.add(address)
            if why_not is not None:
                self.refused[address] = why_not
