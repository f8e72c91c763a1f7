"""What a program has declared, so that it can be declared again in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ezgraph.clock import Deadline
from ezgraph.errors import RefusedError
from ezgraph.protocol.commands import (
    ChangeConfig,
    Command,
    Connect,
    Disconnect,
    RegisterMetadata,
    ReportSettings,
    Revert,
    Sync,
    UpdateUnits,
)
from ezgraph.protocol.config import ConfigAbsent, ConfigKey, ConfigPut

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator


class Declared:
    """What one client owns, by what it was told to be done.

    That is its edges, metadata, units, settings, and ephemeral configuration.
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._edges: dict[tuple[str, str], Connect] = {}
        self._metadata: RegisterMetadata | None = None
        self._units: dict[str, None] = {}
        self._reports: dict[str, ReportSettings] = {}
        self._ephemeral: dict[tuple[str, ConfigKey], ConfigPut] = {}

    def __repr__(self) -> str:
        return (
            f"<Declared edges={len(self._edges)} metadata={self._metadata is not None} "
            f"units={len(self._units)} settings={len(self._reports)} "
            f"config={len(self._ephemeral)}>"
        )

    @property
    def units(self) -> list[str]:
        """The units that a process runs."""
        return list(self._units)

    def has_entry(self, kind: str, key: ConfigKey) -> bool:
        """Return whether it has put an ephemeral entry of the configuration there."""
        return (kind, key) in self._ephemeral

    def note(self, command: Command) -> None:
        """Take note of a command that was done."""
        match command:
            case Connect():
                self._edges[command.from_topic, command.to_topic] = command
            case Disconnect():
                self._edges.pop((command.from_topic, command.to_topic), None)
            case RegisterMetadata():
                self._metadata = command
            case UpdateUnits():
                self._note_units(command)
            case ReportSettings():
                self._reports[command.address] = command
            case ChangeConfig():
                self._note_config(command)
            case Revert():
                self._forget()
            case _:
                pass

    def _note_units(self, command: UpdateUnits) -> None:
        self._units.update(dict.fromkeys(command.added))
        for unit in command.removed:
            self._units.pop(unit, None)
            self._reports.pop(unit, None)

    def _note_config(self, command: ChangeConfig) -> None:
        for change in command.changes:
            if isinstance(change, ConfigPut) and change.ephemeral:
                self._ephemeral[change.type, change.key] = change
            else:
                self._ephemeral.pop((change.type, change.key), None)

    def commands(self, *, is_new: bool) -> Iterator[Command]:
        """Yield what declares it all again: owners first, then what refers to them.

        Ephemeral configuration only if the session ``is_new``, and what somebody else has put
        meanwhile is left to them: in a session that lives, who has put an entry last has it.
        """
        if self._units:
            yield UpdateUnits(list(self._units), [])
        if self._metadata is not None:
            yield self._metadata
        yield from list(self._edges.values())
        yield from list(self._reports.values())
        if is_new:
            for put in list(self._ephemeral.values()):
                yield ChangeConfig(puts=[put], conditions=[ConfigAbsent(put.type, put.key)])


class Also(Protocol):
    """Declares something again."""

    async def __call__(self, *, timeout: float) -> int:  # noqa: ASYNC109
        """Return the seq reached."""
        ...


async def declare_again(
    declared: Declared,
    change: Callable[[Command, float], Awaitable[int]],
    timeout: float,  # noqa: ASYNC109
    *,
    is_new: bool,
    also: Iterable[Also] = (),
) -> int:
    """Do all of it by ``change``, within ``timeout`` seconds altogether; return the seq reached.

    ``is_new``: in a session that was opened in place of the one in which it was declared.
    ``also``: what declares more, after that.

    Raises:
        RefusedError: the first refusal; the rest was done, and its notes name all refusals.
    """
    deadline = Deadline(timeout)
    refusals: list[RefusedError] = []
    seq = await change(Sync(), timeout)
    for command in list(declared.commands(is_new=is_new)):
        try:
            seq = await change(command, deadline.left())
        except RefusedError as refusal:
            refusals.append(refusal)
    for declare in list(also):
        try:
            seq = max(seq, await declare(timeout=deadline.left()))
        except RefusedError as refusal:
            refusals.append(refusal)
    if refusals:
        for other in refusals[1:]:
            refusals[0].add_note(f"refused too: {other}")
        raise refusals[0]
    return seq
