"""`ctx.config`: the configuration, which is entries by type and key, as a client sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from ezgraph.clock import Deadline
from ezgraph.config import DEFAULT_TIMEOUT_S
from ezgraph.errors import MalformedMessageError, UnknownConfigKeyError
from ezgraph.graph.configuration.reading import read_entries
from ezgraph.graph.configuration.transaction import ConfigTransaction
from ezgraph.graph.configuration.watch import ConfigWatch
from ezgraph.protocol.commands import (
    ChangeConfig,
    ListConfigTypes,
    ReadConfig,
    ReadConfigSchema,
    SetConfigSchema,
)
from ezgraph.protocol.config import (
    ConfigAtSeq,
    ConfigDelete,
    ConfigEntry,
    ConfigKey,
    ConfigKeyLike,
    ConfigPut,
    as_config_key,
    as_config_match,
    as_config_prefix,
    bus_key,
    config_key_text,
)
from ezgraph.protocol.patterns import NamePattern
from ezgraph.protocol.replies import (
    ConfigChanged,
    ConfigPage,
    ConfigSchemaShown,
    ConfigTypes,
    Done,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ezgraph.graph.sessions import AnySession
    from ezgraph.protocol.commands import Command

T = TypeVar("T")


class _Missing:
    """Stands for "no default was given"."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()


async def _nothing_more(command: Command, seq: int, timeout: float) -> None:  # noqa: ASYNC109
    """What is done after a change, where nobody wants to know of it."""


class ConfigKeys:
    """The entries of the configuration, by type and key.

    A key is text, such as ``"chunker:default"``, or its names, ``("chunker", "default")``, which
    are taken as they are. An entry that is put ``ephemeral`` ends with this session, others stay
    until somebody deletes them. Whoever puts an entry last has it. Nothing here reads a value in
    order to write it back; who wants to be sure of what they replace gives ``if_seq`` or a
    condition.

    Every call takes ``timeout`` in seconds and raises `DeadlineError` when it passes, a
    `RefusedError` when the broker says no (and then nothing has changed), an `InvalidKeyError` for
    a key outside the grammar. Changes take ``reason``, a free text for the log.
    """

    def __init__(
        self,
        session: AnySession,
        changed: Callable[[Command, int, float], Awaitable[None]] = _nothing_more,
    ) -> None:
        """``changed`` is awaited after each change: the command, the seq reached, the time left."""
        self._session = session
        self._changed = changed

    def __repr__(self) -> str:
        return f"<ConfigKeys of {self._session!r}>"

    # --- one entry ---

    async def get(
        self,
        type: str,  # noqa: A002 - what it is called everywhere
        key: ConfigKeyLike,
        default: Any = MISSING,  # noqa: ANN401
        *,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
    ) -> Any:  # noqa: ANN401
        """Return the value of an entry, or ``default`` where there is none.

        Raises:
            UnknownConfigKeyError: there is none, and no default.
        """
        found = await self.entry(type, key, timeout=timeout)
        if found is not None:
            return found.value
        if default is not MISSING:
            return default
        raise UnknownConfigKeyError(
            f"there is no configuration {type!r} {config_key_text(as_config_key(key))!r}; put it "
            f"first, or give a default"
        )

    async def entry(
        self,
        type: str,  # noqa: A002
        key: ConfigKeyLike,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
    ) -> ConfigEntry | None:
        """Return an entry with its seq, owner, author and time; None: there is none."""
        names = as_config_key(key)
        bus_key(type, names)
        exactly = [NamePattern(name, is_open=False) for name in names]
        page = await self._ask(ReadConfig(type, match=exactly), ConfigPage, timeout)
        return page.entries[0] if page.entries else None

    async def put(
        self,
        type: str,  # noqa: A002
        key: ConfigKeyLike,
        value: object,
        *,
        ephemeral: bool = False,
        if_seq: int | None = None,
        reason: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
    ) -> ConfigChanged:
        """Have an entry with this value; if it is so already nothing happens, and nobody is told.

        ``if_seq``: only if the entry is still that of this seq; 0: only if there is none.

        Raises:
            PreconditionFailedError: it is not; says what is there.
            SchemaViolationError: the value does not fit the schema of its type; says where.
            LimitError: the value is too large or too deep, or there is too much altogether.
        """
        names = as_config_key(key)
        conditions = [] if if_seq is None else [ConfigAtSeq(type, names, if_seq)]
        bus_key(type, names)
        command = ChangeConfig(
            puts=[ConfigPut(type, names, value, ephemeral)],
            conditions=[*conditions],
            reason=reason,
        )
        return await self.change(command, timeout=timeout)

    async def delete(
        self,
        type: str,  # noqa: A002
        key: ConfigKeyLike,
        *,
        if_seq: int | None = None,
        reason: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
    ) -> ConfigChanged:
        """Have no such entry; if there is none nothing happens, and nobody is told.

        Raises:
            PreconditionFailedError: it is not that of ``if_seq``; says what is there.
        """
        names = as_config_key(key)
        conditions = [] if if_seq is None else [ConfigAtSeq(type, names, if_seq)]
        bus_key(type, names)
        command = ChangeConfig(
            deletes=[ConfigDelete(type, names)], conditions=[*conditions], reason=reason
        )
        return await self.change(command, timeout=timeout)

    # --- many entries ---

    async def change(
        self,
        command: ChangeConfig,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
    ) -> ConfigChanged:
        """Do a transaction that was made elsewhere, as `put` and `txn` do theirs."""
        deadline = Deadline(timeout)
        done = await self._ask(command, ConfigChanged, timeout)
        await self._changed(command, done.seq, deadline.left())
        return done

    def txn(
        self,
        *,
        reason: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> ConfigTransaction:
        """Return what collects puts, deletes and conditions, for ``async with``.

        They are sent together at the end of the block, and done together or not at all. An
        exception in the block sends nothing.
        """
        return ConfigTransaction(lambda command: self.change(command, timeout=timeout), reason)

    async def keys(
        self,
        type: str,  # noqa: A002
        prefix: ConfigKeyLike = (),
        *,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
    ) -> list[ConfigKey]:
        """Return the keys of a type that begin with ``prefix``, in order, as of one seq."""
        command = ReadConfig(type, _prefix(type, prefix), with_values=False)
        found = await read_entries(self._session, command, timeout)
        return list(found.keys)

    async def entries(
        self,
        type: str,  # noqa: A002
        prefix: ConfigKeyLike = (),
        match: ConfigKeyLike | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
    ) -> list[ConfigEntry]:
        """Return what `scan` gives, as a list."""
        pattern = None if match is None else as_config_match(match)
        command = ReadConfig(type, _prefix(type, prefix), pattern)
        found = await read_entries(self._session, command, timeout)
        return list(found.entries.values())

    async def scan(
        self,
        type: str,  # noqa: A002
        prefix: ConfigKeyLike = (),
        match: ConfigKeyLike | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
    ) -> AsyncIterator[ConfigEntry]:
        """Yield the entries of a type, in order of their keys, all as of one seq.

        Those whose keys begin with ``prefix`` (whole names: ``chunker`` is no prefix of
        ``chunker2:default``) and, if ``match`` is given, have as many names as it has, each of
        which matches: ``("*", "default")``, or as text ``"*:default"``; ``"chunk*"`` is every name
        that begins so.
        """
        for entry in await self.entries(type, prefix, match, timeout=timeout):
            yield entry

    async def types(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> list[str]:  # noqa: ASYNC109
        """Return the types that have entries or a schema, in order."""
        deadline, found = Deadline(timeout), list[str]()
        after: str | None = ""
        while after is not None:
            part = await self._ask(ListConfigTypes(after), ConfigTypes, deadline.left())
            found += part.types
            after = part.next_after
        return found

    def watch(
        self,
        type: str,  # noqa: A002
        prefix: ConfigKeyLike = (),
        after_seq: int | None = None,
    ) -> ConfigWatch:
        """Return an async iterator of what happens to the entries whose keys begin with ``prefix``.

        It begins with what is there when it is first waited for, then the changes follow; with
        ``after_seq``, with what came after that seq. See `ConfigWatch`.
        """
        return ConfigWatch(self._session, type, _prefix(type, prefix), after_seq)

    # --- schemas ---

    async def set_schema(
        self,
        type: str,  # noqa: A002
        schema: dict[str, Any] | None,
        *,
        reason: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
    ) -> int:
        """Have values of a type judged by a JSON Schema from now on, or by none; return the seq.

        Raises:
            InvalidSchemaError: values cannot be judged by it; says why and where.
            SchemaViolationError: entries that are there do not fit it; names the first few.
            UnsupportedError: this broker has no validator (an extra); names it.
        """
        bus_key(type)
        command, deadline = SetConfigSchema(type, schema, reason), Deadline(timeout)
        done = await self._ask(command, Done, timeout)
        await self._changed(command, done.seq, deadline.left())
        return done.seq

    async def schema(
        self,
        type: str,  # noqa: A002
        *,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109
    ) -> dict[str, Any] | None:
        """Return the schema that values of a type are judged by; None: there is none."""
        bus_key(type)
        return (await self._ask(ReadConfigSchema(type), ConfigSchemaShown, timeout)).schema

    # --- inside ---

    async def _ask(self, command: Command, kind: type[T], timeout: float) -> T:  # noqa: ASYNC109
        reply = await self._session.call(command, timeout=timeout)
        if not isinstance(reply, kind):
            raise MalformedMessageError(
                f"{command.__class__.__name__} was answered with {reply.__class__.__name__}, not "
                f"{kind.__name__}; is the broker of the same version?"
            )
        return reply


def _prefix(kind: str, prefix: ConfigKeyLike) -> ConfigKey:
    names = as_config_prefix(prefix)
    bus_key(kind, names)
    return names
