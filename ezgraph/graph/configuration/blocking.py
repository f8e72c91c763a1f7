"""The configuration for programs without an event loop: the same calls, in the caller's thread.

Each method does what its namesake in `ezgraph.graph.configuration.keys` does; see there for what it
returns and raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from ezgraph.client.blocking import run
from ezgraph.config import DEFAULT_TIMEOUT_S
from ezgraph.graph.configuration import keys as config
from ezgraph.graph.configuration.keys import MISSING
from ezgraph.graph.configuration.transaction import ConfigOperations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from ezgraph.client import blocking
    from ezgraph.graph.configuration.watch import ConfigWatch, ConfigWatchEvent
    from ezgraph.protocol.commands import ChangeConfig
    from ezgraph.protocol.config import ConfigEntry, ConfigKey, ConfigKeyLike
    from ezgraph.protocol.replies import ConfigChanged


class BlockingConfigWatch:
    """An iterator that waits in the caller's thread, with ``close()``. See `ConfigWatch`."""

    def __init__(self, watch: ConfigWatch) -> None:
        self._watch = watch

    def __repr__(self) -> str:
        return f"<blocking {self._watch!r}>"

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ConfigWatchEvent:
        """Return the next event; wait for it."""
        try:
            return run(self._watch.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    def take_arrived(self) -> ConfigWatchEvent | None:
        """Return the next event if it is there already, else None; do not wait."""
        return self._watch.take_arrived()

    def close(self) -> None:
        """End the watch."""
        run(self._watch.aclose())


class BlockingConfigTransaction(ConfigOperations):
    """`ConfigOperations` that a ``with`` sends at its end, unless an exception ended it."""

    def __init__(
        self, send: Callable[[ChangeConfig], ConfigChanged], reason: str | None
    ) -> None:
        super().__init__(reason)
        self._send = send

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.result = self._send(self.command())


class ConfigKeys:
    """The entries of the configuration. See `ezgraph.graph.configuration.keys.ConfigKeys`."""

    def __init__(self, keys: config.ConfigKeys) -> None:
        self._keys = keys

    @property
    def coroutines(self) -> config.ConfigKeys:
        """The same calls as coroutines that never suspend: what `run` drives."""
        return self._keys

    @classmethod
    def of(cls, session: blocking.Session) -> Self:
        """Return the configuration as an open session sees it."""
        return cls(config.ConfigKeys(session))

    def __repr__(self) -> str:
        return f"<blocking {self._keys!r}>"

    def get(
        self,
        type: str,  # noqa: A002 - what it is called everywhere
        key: ConfigKeyLike,
        default: Any = MISSING,  # noqa: ANN401
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> Any:  # noqa: ANN401
        """Return the value of an entry."""
        return run(self._keys.get(type, key, default, timeout=timeout))

    def entry(
        self,
        type: str,  # noqa: A002
        key: ConfigKeyLike,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> ConfigEntry | None:
        """Return an entry with its seq, owner, author and time."""
        return run(self._keys.entry(type, key, timeout=timeout))

    def put(
        self,
        type: str,  # noqa: A002
        key: ConfigKeyLike,
        value: object,
        *,
        ephemeral: bool = False,
        if_seq: int | None = None,
        reason: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> ConfigChanged:
        """Have an entry with this value."""
        return run(
            self._keys.put(
                type,
                key,
                value,
                ephemeral=ephemeral,
                if_seq=if_seq,
                reason=reason,
                timeout=timeout,
            )
        )

    def delete(
        self,
        type: str,  # noqa: A002
        key: ConfigKeyLike,
        *,
        if_seq: int | None = None,
        reason: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> ConfigChanged:
        """Have no such entry."""
        return run(self._keys.delete(type, key, if_seq=if_seq, reason=reason, timeout=timeout))

    def txn(
        self, *, reason: str | None = None, timeout: float = DEFAULT_TIMEOUT_S
    ) -> BlockingConfigTransaction:
        """Return what collects puts, deletes and conditions, for ``with``."""
        return BlockingConfigTransaction(
            lambda command: run(self._keys.change(command, timeout=timeout)), reason
        )

    def change(
        self, command: ChangeConfig, *, timeout: float = DEFAULT_TIMEOUT_S
    ) -> ConfigChanged:
        """Do a transaction that was made elsewhere."""
        return run(self._keys.change(command, timeout=timeout))

    def keys(
        self,
        type: str,  # noqa: A002
        prefix: ConfigKeyLike = (),
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> list[ConfigKey]:
        """Return the keys of a type that begin with a prefix."""
        return run(self._keys.keys(type, prefix, timeout=timeout))

    def entries(
        self,
        type: str,  # noqa: A002
        prefix: ConfigKeyLike = (),
        match: ConfigKeyLike | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> list[ConfigEntry]:
        """Return what `scan` gives, as a list."""
        return run(self._keys.entries(type, prefix, match, timeout=timeout))

    def scan(
        self,
        type: str,  # noqa: A002
        prefix: ConfigKeyLike = (),
        match: ConfigKeyLike | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> Iterator[ConfigEntry]:
        """Yield the entries of a type, in order of their keys."""
        return iter(self.entries(type, prefix, match, timeout=timeout))

    def types(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> list[str]:
        """Return the types that have entries or a schema."""
        return run(self._keys.types(timeout=timeout))

    def watch(
        self,
        type: str,  # noqa: A002
        prefix: ConfigKeyLike = (),
        after_seq: int | None = None,
    ) -> BlockingConfigWatch:
        """Return an iterator of what happens to entries, from what is there on."""
        return BlockingConfigWatch(self._keys.watch(type, prefix, after_seq))

    def set_schema(
        self,
        type: str,  # noqa: A002
        schema: dict[str, Any] | None,
        *,
        reason: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> int:
        """Have values of a type judged by a JSON Schema."""
        return run(self._keys.set_schema(type, schema, reason=reason, timeout=timeout))

    def schema(
        self,
        type: str,  # noqa: A002
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> dict[str, Any] | None:
        """Return the schema that values of a type are judged by."""
        return run(self._keys.schema(type, timeout=timeout))
