"""What a program has declared, so that it can be declared again in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezgraph.clock import Deadline
from ezgraph.errors import RefusedError
from ezgraph.protocol.commands import (
    Command,
    Connect,
    Disconnect,
    RegisterMetadata,
    ReportSettings,
    Revert,
    Sync,
    UpdateUnits,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator


class Declared:
    """The edges, metadata, units and settings of one client, by what it was told `Done` to."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._edges: dict[tuple[str, str], Connect] = {}
        self._metadata: RegisterMetadata | None = None
        self._units: dict[str, None] = {}
        self._reports: dict[str, ReportSettings] = {}

    def __repr__(self) -> str:
        return (
            f"<Declared edges={len(self._edges)} metadata={self._metadata is not None} "
            f"units={len(self._units)} settings={len(self._reports)}>"
        )

    @property
    def units(self) -> list[str]:
        """The units that a process runs."""
        return list(self._units)

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
            case Revert():
                self._forget()
            case _:
                pass

    def _note_units(self, command: UpdateUnits) -> None:
        self._units.update(dict.fromkeys(command.added))
        for unit in command.removed:
            self._units.pop(unit, None)
            self._reports.pop(unit, None)

    def commands(self) -> Iterator[Command]:
        """Yield what declares it all again: owners first, then what refers to them."""
        if self._units:
            yield UpdateUnits(list(self._units), [])
        if self._metadata is not None:
            yield self._metadata
        yield from list(self._edges.values())
        yield from list(self._reports.values())


async def declare_again(
    declared: Declared,
    change: Callable[[Command, float], Awaitable[int]],
    timeout: float,  # noqa: ASYNC109
) -> int:
    """Do all of it by ``change``, within ``timeout`` seconds altogether; return the seq reached.

    Raises:
        RefusedError: the first refusal; the rest was done, and its notes name all refusals.
    """
    deadline = Deadline(timeout)
    refusals: list[RefusedError] = []
    seq = await change(Sync(), timeout)
    for command in list(declared.commands()):
        try:
            seq = await change(command, deadline.left())
        except RefusedError as refusal:
            refusals.append(refusal)
    if refusals:
        for other in refusals[1:]:
            refusals[0].add_note(f"refused too: {other}")
        raise refusals[0]
    return seq
