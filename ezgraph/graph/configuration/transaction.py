"""Puts, deletes and conditions that are collected, and then done together or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from ezgraph.errors import ContextClosedError
from ezgraph.protocol.commands import ChangeConfig
from ezgraph.protocol.config import (
    ConfigAbsent,
    ConfigAtSeq,
    ConfigCondition,
    ConfigCreatedAt,
    ConfigDelete,
    ConfigHasValue,
    ConfigKey,
    ConfigKeyLike,
    ConfigPresent,
    ConfigPut,
    as_config_key,
    bus_key,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from ezgraph.protocol.replies import ConfigChanged


class ConfigOperations:
    """What is to be done, and on which conditions. ``result`` is what came of it; None: not yet.

    No key may be put or deleted twice. All conditions are looked at before anything is done.
    """

    def __init__(self, reason: str | None) -> None:
        self.result: ConfigChanged | None = None
        self._reason = reason
        self._was_entered = False
        self._puts: list[ConfigPut] = []
        self._deletes: list[ConfigDelete] = []
        self._conditions: list[ConfigCondition] = []

    def __repr__(self) -> str:
        state = "collecting" if self.result is None else f"done, seq {self.result.seq}"
        return (
            f"<{type(self).__name__} puts={len(self._puts)} deletes={len(self._deletes)} "
            f"conditions={len(self._conditions)} {state}>"
        )

    def put(
        self,
        type: str,  # noqa: A002 - what it is called everywhere
        key: ConfigKeyLike,
        value: object,
        *,
        ephemeral: bool = False,
    ) -> None:
        """Have an entry with this value."""
        self._puts.append(ConfigPut(type, _names(type, key), value, ephemeral))

    def delete(self, type: str, key: ConfigKeyLike) -> None:  # noqa: A002
        """Have no such entry."""
        self._deletes.append(ConfigDelete(type, _names(type, key)))

    def require_absent(self, type: str, key: ConfigKeyLike) -> None:  # noqa: A002
        """Do it only if there is no such entry."""
        self._conditions.append(ConfigAbsent(type, _names(type, key)))

    def require_present(self, type: str, key: ConfigKeyLike) -> None:  # noqa: A002
        """Do it only if there is such an entry."""
        self._conditions.append(ConfigPresent(type, _names(type, key)))

    def require_seq(self, type: str, key: ConfigKeyLike, seq: int) -> None:  # noqa: A002
        """Do it only if the entry is that of this seq; 0: only if there is none."""
        self._conditions.append(ConfigAtSeq(type, _names(type, key), seq))

    def require_created(self, type: str, key: ConfigKeyLike, seq: int) -> None:  # noqa: A002
        """Do it only if the entry has been there since this seq, whatever its value is now."""
        self._conditions.append(ConfigCreatedAt(type, _names(type, key), seq))

    def require_value(self, type: str, key: ConfigKeyLike, value: object) -> None:  # noqa: A002
        """Do it only if the entry has this value."""
        self._conditions.append(ConfigHasValue(type, _names(type, key), value))

    def begin(self) -> None:
        """Take note that the block begins: the one there is.

        Raises:
            ContextClosedError: there was one already, and what it asked for would be sent again.
        """
        if self._was_entered:
            raise ContextClosedError(f"{self!r} was used already; make another one")
        self._was_entered = True

    def command(self) -> ChangeConfig:
        """Return all of it as the command it is."""
        return ChangeConfig(
            list(self._puts), list(self._deletes), list(self._conditions), self._reason
        )


class ConfigTransaction(ConfigOperations):
    """`ConfigOperations` that an ``async with`` sends at its end, unless an exception ended it."""

    def __init__(
        self, send: Callable[[ChangeConfig], Awaitable[ConfigChanged]], reason: str | None
    ) -> None:
        super().__init__(reason)
        self._send = send

    async def __aenter__(self) -> Self:
        self.begin()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.result = await self._send(self.command())


def _names(kind: str, key: ConfigKeyLike) -> ConfigKey:
    names = as_config_key(key)
    bus_key(kind, names)
    return names
