"""What flows need of the configuration interface: the part of ``ctx.config`` they are built on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from ezgraph.names import Key
    from ezgraph.protocol.config import ConfigEntry
    from ezgraph.protocol.replies import ConfigChanged


class Transaction(Protocol):
    """Puts, deletes and conditions that are sent together."""

    @property
    def result(self) -> ConfigChanged | None:
        """What it came to; None: it is not done."""
        ...

    def put(self, kind: str, key: Key, value: object, /) -> None:
        """Have an entry with this value."""
        ...

    def delete(self, kind: str, key: Key, /) -> None:
        """Have no such entry."""
        ...

    def require_absent(self, kind: str, key: Key, /) -> None:
        """Only if there is no such entry."""
        ...

    def require_seq(self, kind: str, key: Key, seq: int, /) -> None:
        """Only if the entry is that of this seq."""
        ...

    def require_created(self, kind: str, key: Key, seq: int, /) -> None:
        """Only if the entry has been there since this seq."""
        ...


class WatchEvent(Protocol):
    """One thing that a watch says; see `ezgraph.graph.configuration.watch.ConfigWatchEvent`."""

    @property
    def kind(self) -> str:
        """``initial``, ``end_of_initial``, ``put``, ``deleted`` or ``reset``."""
        ...

    @property
    def seq(self) -> int:
        """Since when it is so."""
        ...

    @property
    def key(self) -> Key | None:
        """The entry's key; None: it is about no single entry."""
        ...

    @property
    def value(self) -> object:
        """The value that is there now."""
        ...


class Watch(Protocol):
    """What is there under a prefix, then every change; an async iterator."""

    def __aiter__(self) -> Watch:
        """Return itself."""
        ...

    async def __anext__(self) -> WatchEvent:
        """Return the next event; wait for it."""
        ...

    def take_arrived(self) -> WatchEvent | None:
        """Return the next event if it is there."""
        ...

    async def aclose(self) -> None:
        """End it; whoever waits for the next event is done too."""
        ...


class Config(Protocol):
    """The configuration interface; see `ezgraph.graph.configuration.keys.ConfigKeys`."""

    async def entry(self, kind: str, key: Key, /, *, timeout: float = ...) -> ConfigEntry | None:  # noqa: ASYNC109
        """Return an entry."""
        ...

    def scan(
        self, kind: str, prefix: Key = ..., /, *, timeout: float = ...
    ) -> AsyncIterator[ConfigEntry]:
        """Yield the entries whose keys begin with ``prefix``."""
        ...

    def watch(self, kind: str, prefix: Key = ..., /) -> Watch:
        """Watch the entries whose keys begin with ``prefix``."""
        ...

    def txn(
        self, *, reason: str | None = ..., timeout: float = ...
    ) -> AbstractAsyncContextManager[Transaction]:
        """Return a transaction that is sent at the end of the block."""
        ...


@runtime_checkable
class HasConfig(Protocol):
    """A `GraphContext`, or whatever else has a configuration interface."""

    @property
    def config(self) -> Config:
        """It."""
        ...


Bus: TypeAlias = Config | HasConfig


def config_of(bus: Bus) -> Config:
    """Return the configuration interface of a context, or itself."""
    return bus.config if isinstance(bus, HasConfig) else bus
