"""What flows need of the configuration interface: the part of ``ctx.config`` they are built on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from ezgraph.names import Key


class Entry(Protocol):
    """What stands under a key; see `ezgraph.protocol.config.ConfigEntry`."""

    @property
    def key(self) -> Key:
        """Its names."""
        ...

    @property
    def value(self) -> object:
        """Its value."""
        ...

    @property
    def seq(self) -> int:
        """When it was put."""
        ...

    @property
    def created_seq(self) -> int:
        """When it was put for the first time since it was absent."""
        ...

    @property
    def author(self) -> str:
        """Who put it."""
        ...

    @property
    def wall_time(self) -> float:
        """When it was put, in seconds since 1970."""
        ...


class Changed(Protocol):
    """What a transaction came to."""

    @property
    def seq(self) -> int:
        """The seq it reached."""
        ...


class Transaction(Protocol):
    """Puts, deletes and conditions that are sent together."""

    @property
    def result(self) -> Changed:
        """What it came to, when it is done."""
        ...

    def put(self, kind: str, key: Key, value: object) -> None:
        """Put a value."""
        ...

    def delete(self, kind: str, key: Key) -> None:
        """Delete an entry."""
        ...

    def require_absent(self, kind: str, key: Key) -> None:
        """Only if there is none."""
        ...

    def require_seq(self, kind: str, key: Key, seq: int) -> None:
        """Only if it was last put at ``seq``."""
        ...

    def require_created(self, kind: str, key: Key, seq: int) -> None:
        """Only if it has been there since ``seq``."""
        ...


class WatchEvent(Protocol):
    """One thing that a watch tells."""

    @property
    def kind(self) -> str:
        """``initial``, ``end_of_initial``, ``put``, ``deleted`` or ``reset``."""
        ...

    @property
    def key(self) -> Key:
        """The names after the type."""
        ...

    @property
    def value(self) -> object:
        """The value, where there is one."""
        ...

    @property
    def seq(self) -> int:
        """Its number."""
        ...


class Watch(Protocol):
    """What is there under a prefix, then every change; an async iterator."""

    def __aiter__(self) -> Watch:
        """Return itself."""
        ...

    async def __anext__(self) -> WatchEvent:
        """Return the next event."""
        ...

    async def aclose(self) -> None:
        """End it; whoever waits for the next event is done too."""
        ...


class Config(Protocol):
    """The configuration interface."""

    async def entry(self, kind: str, key: Key, *, timeout: float = ...) -> Entry | None:  # noqa: ASYNC109
        """Return what stands under a key."""
        ...

    def scan(self, kind: str, prefix: Key = ..., *, timeout: float = ...) -> AsyncIterator[Entry]:
        """Return the entries under a prefix."""
        ...

    def watch(self, kind: str, prefix: Key = ...) -> Watch:
        """Watch the entries under a prefix."""
        ...

    def txn(
        self, *, reason: str | None = ..., timeout: float = ...
    ) -> AbstractAsyncContextManager[Transaction]:
        """Begin a transaction, which is sent at the end of the block."""
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
