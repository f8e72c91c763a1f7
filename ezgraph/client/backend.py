"""``ezgraph://host:port``: the store of a live broker, asked as any other backend is.

Whoever has the journal open is the broker; so while it runs, graphs, snapshots, tags and partitions
are written through it, and everybody is told of it. A connection joins as a guest, when it is first
used. It may be used from several threads; they take turns.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, Self, TypeVar, cast
from urllib.parse import parse_qsl, quote, urlsplit

from ezgraph.backends.aio import AsyncConnection
from ezgraph.backends.base import Backend
from ezgraph.backends.connection import LISTED, NO_FILTER, Connection
from ezgraph.client import blocking
from ezgraph.client.broker_choice import choose_broker
from ezgraph.client.stored_calls import StoredCalls
from ezgraph.clock import Deadline
from ezgraph.config import DEFAULT_TIMEOUT_S, parse_addresses
from ezgraph.errors import (
    ConfigError,
    ContextClosedError,
    EzGraphError,
    MalformedMessageError,
    UnsupportedError,
)
from ezgraph.protocol.urls import masked

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping
    from types import TracebackType
    from typing import Any

    from ezgraph.backends.base import JournalMeta
    from ezgraph.client.aio import Session as AsyncSession
    from ezgraph.client.shell import Shell
    from ezgraph.protocol.artifacts import Artifact, Partition, PartitionKey, StoragePartitions
    from ezgraph.protocol.commands import Command
    from ezgraph.protocol.fingerprints import Fingerprint
    from ezgraph.protocol.graphs import Graph, Snapshot
    from ezgraph.protocol.listing import (
        GraphInfo,
        Page,
        PartitionInfo,
        SnapshotInfo,
        TagChange,
        TagInfo,
    )
    from ezgraph.protocol.recordings import (
        RecordedChange,
        RecordedPartition,
        Recording,
        RecordingInfo,
    )

T = TypeVar("T")
SCHEME = "ezgraph"


@dataclass(frozen=True, repr=False)
class BrokerBackend(Backend["BrokerConnection"]):
    """The store of the broker at ``address`` (``host:port``, or several to be tried in turn).

    ``keys`` is the name of the key pair to show there; "": what ``EZGRAPH_KEYS`` says, if anything.
    """

    address: str
    keys: str = ""

    def __post_init__(self) -> None:
        if "@" in self.address:
            raise _no_credentials(f"{SCHEME}://{self.address}")
        text = ",".join(map(str, parse_addresses(self.address)))
        object.__setattr__(self, "address", text)

    @classmethod
    def parse(cls, url: str) -> BrokerBackend:
        """Return the backend for ``ezgraph://host:port[?keys=NAME]``."""
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if "@" in parts.netloc:
            raise _no_credentials(url)
        if not parts.netloc or parts.path not in ("", "/") or parts.fragment:
            raise ConfigError(
                f"{masked(url)!r} names no broker: write 'ezgraph://host:port', as in "
                f"'ezgraph://127.0.0.1:25979'"
            )
        if unknown := options.keys() - {"keys"}:
            raise ConfigError(
                f"{masked(url)!r} has the unknown option {', '.join(sorted(unknown))}; 'keys' is "
                f"the only one"
            )
        return cls(parts.netloc, **options)

    @property
    def url(self) -> str:
        """The address; ``keys`` is in it if it was given."""
        option = f"?keys={quote(self.keys)}" if self.keys else ""
        return f"{SCHEME}://{self.address}{option}"

    def connect(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> BrokerConnection:
        """Return a connection; nobody is dialled before it is used.

        ``timeout``: how many seconds each of its calls may take; many megabytes, or hundreds
        of thousands of partitions, want more.
        """
        return BrokerConnection(self, timeout=timeout)

    def connect_async(self, *, timeout: float = DEFAULT_TIMEOUT_S) -> AsyncBrokerConnection:
        """Return a connection whose methods are coroutines; use it in an ``async with`` block."""
        return AsyncBrokerConnection(self, timeout=timeout)

    def session(self, kind: str = "guest") -> blocking.Session:
        """Return a session with the broker, to be opened; for use in plain threads."""
        return blocking.Session(**self._target(), kind=kind)

    def async_session(self) -> AsyncSession:
        """Return a guest's session with the broker, to be opened; for use in an event loop."""
        from ezgraph.client import aio  # asyncio is slow to import

        return aio.Session(**self._target(), kind="guest")

    def _target(self) -> dict[str, Any]:
        broker = choose_broker(self.address, self.keys or None)
        return {"addresses": broker.addresses, "keys": broker.keys}


async def _asked(session: Shell, command: Command, kind: type[T], deadline: Deadline) -> T:
    reply = await session.call(command, timeout=deadline.left())
    if not isinstance(reply, kind):
        raise MalformedMessageError(
            f"{type(command).__name__} was answered with {type(reply).__name__}, not "
            f"{kind.__name__}; is the broker of the same version?"
        )
    return reply


class BrokerConnection(Connection):
    """The store of a live broker.

    Each method is one command, and one transaction, with a deadline of ``timeout`` seconds; so
    `write_artifact_partitions` of more than 2,000 is several. A graph that is large, and that the
    broker does not have, comes in several commands, of which the last makes it count. Partitions
    are read in pages: as of one moment, unless they were written all the time.
    """

    def __init__(
        self,
        backend: BrokerBackend,
        *,
        session: blocking.Session | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        """``session``: one that is open, and stays so; else one is opened when it is needed."""
        self._backend = backend
        self._given = session is not None
        self._session = session
        self._timeout = timeout
        self._lock = threading.RLock()
        self._closed = False
        self._deadline = Deadline(timeout)
        self._calls = StoredCalls(self._ask)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._session else "not used yet"
        return f"<BrokerConnection {masked(self._backend.url)} {state}>"

    async def _ask(self, command: Command, kind: type[T], /) -> T:
        return await _asked(await self._open(), command, kind, self._deadline)

    async def _open(self) -> blocking.Session:
        if self._session is None:
            session = self._backend.session()
            await session.open(timeout=self._deadline.left())
            self._session = session
        return self._session

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        with self._lock:
            if self._closed:
                call.close()
                raise ContextClosedError(f"{self!r} is closed: connect again")
            self._deadline = Deadline(self._timeout)
            return blocking.run(call)

    def close(self) -> None:
        """Leave the broker. Closing twice does nothing."""
        with self._lock:
            session, self._session, self._closed = self._session, None, True
            if session is not None and not self._given:
                with suppress(EzGraphError):
                    blocking.run(session.close())

    def open_journal(self, *, identity: JournalMeta | None = None) -> NoReturn:  # noqa: ARG002
        """Raise: the broker has its journal open, and nobody beside it.

        Raises:
            UnsupportedError: always; says what to do.
        """
        raise _no_journal(self._backend)

    def open_reader(self) -> NoReturn:
        """Raise: a journal is read where its file is.

        Raises:
            UnsupportedError: always; says what to do.
        """
        raise _no_journal(self._backend)

    def read_artifact_partitions(
        self,
        artifact: Artifact,
        input_fingerprints: Mapping[PartitionKey, Fingerprint] = NO_FILTER,
    ) -> StoragePartitions:
        """See `Connection.read_artifact_partitions`."""
        return self._run(self._calls.read_artifact_partitions(artifact, input_fingerprints))

    def write_artifact_partitions(
        self, artifact: Artifact, partitions: Iterable[Partition]
    ) -> StoragePartitions:
        """See `Connection.write_artifact_partitions`."""
        return self._run(self._calls.write_artifact_partitions(artifact, partitions))

    def read_graph(self, name: str, fingerprint: Fingerprint | str) -> Graph:
        """See `Connection.read_graph`."""
        return self._run(self._calls.read_graph(name, fingerprint))

    def write_graph(self, graph: Graph) -> None:
        """See `Connection.write_graph`."""
        self._run(self._calls.write_graph(graph))

    def read_snapshot(self, name: str, fingerprint: Fingerprint | str) -> Snapshot:
        """See `Connection.read_snapshot`."""
        return self._run(self._calls.read_snapshot(name, fingerprint))

    def write_snapshot(self, snapshot: Snapshot) -> None:
        """See `Connection.write_snapshot`."""
        self._run(self._calls.write_snapshot(snapshot))

    def read_snapshot_tag(self, name: str, tag: str) -> Snapshot:
        """See `Connection.read_snapshot_tag`."""
        return self._run(self._calls.read_snapshot_tag(name, tag))

    def write_snapshot_tag(
        self, snapshot: Snapshot, tag: str, *, overwrite: bool = False
    ) -> None:
        """See `Connection.write_snapshot_tag`."""
        self._run(self._calls.write_snapshot_tag(snapshot, tag, overwrite=overwrite))

    def untag(self, name: str, tag: str) -> None:
        """See `Connection.untag`."""
        self._run(self._calls.untag(name, tag))

    def tag_history(
        self, name: str, tag: str, *, after: str | None = None, limit: int = LISTED
    ) -> Page[TagChange]:
        """See `Connection.tag_history`."""
        return self._run(self._calls.tag_history(name, tag, after=after, limit=limit))

    def read_snapshot_partitions(
        self, snapshot: Snapshot, artifact_key: str, artifact: Artifact
    ) -> StoragePartitions:
        """See `Connection.read_snapshot_partitions`."""
        return self._run(self._calls.read_snapshot_partitions(snapshot, artifact_key, artifact)
        )

    def write_snapshot_partitions(
        self,
        snapshot: Snapshot,
        artifact_key: str,
        artifact: Artifact,
        partitions: Iterable[Partition],
    ) -> StoragePartitions:
        """See `Connection.write_snapshot_partitions`."""
        return self._run(
            self._calls.write_snapshot_partitions(snapshot, artifact_key, artifact, partitions)
        )

    def write_artifact_and_graph_partitions(
        self,
        snapshot: Snapshot,
        artifact_key: str,
        artifact: Artifact,
        partitions: Iterable[Partition],
    ) -> StoragePartitions:
        """See `Connection.write_artifact_and_graph_partitions`."""
        return self._run(self._calls.write_artifact_and_graph_partitions(
                snapshot, artifact_key, artifact, partitions
            )
        )

    def find_snapshots(self, artifact: Artifact, partition: Partition) -> list[SnapshotInfo]:
        """See `Connection.find_snapshots`."""
        return self._run(self._calls.find_snapshots(artifact, partition))

    def write_recording(
        self,
        info: RecordingInfo,
        partitions: Iterable[RecordedPartition] = (),
        changes: Iterable[RecordedChange] = (),
    ) -> RecordingInfo:
        """See `Connection.write_recording`; up to 2,000 of both together."""
        return self._run(self._calls.write_recording(info, partitions, changes))

    def read_recording(self, name: str, artifact_key: str, number: int) -> Recording:
        """See `Connection.read_recording`."""
        return self._run(self._calls.read_recording(name, artifact_key, number))

    def list_recordings(
        self,
        name: str | None = None,
        artifact_key: str | None = None,
        *,
        after: str | None = None,
        limit: int = LISTED,
    ) -> Page[RecordingInfo]:
        """See `Connection.list_recordings`."""
        return self._run(
            self._calls.list_recordings(name, artifact_key, after=after, limit=limit)
        )

    def delete_recording(self, name: str, artifact_key: str, number: int) -> None:
        """See `Connection.delete_recording`."""
        self._run(self._calls.delete_recording(name, artifact_key, number))

    def list_graphs(
        self, name: str | None = None, *, after: str | None = None, limit: int = LISTED
    ) -> Page[GraphInfo]:
        """See `Connection.list_graphs`."""
        return self._run(self._calls.list_graphs(name, after=after, limit=limit))

    def list_snapshots(
        self, name: str | None = None, *, after: str | None = None, limit: int = LISTED
    ) -> Page[SnapshotInfo]:
        """See `Connection.list_snapshots`."""
        return self._run(self._calls.list_snapshots(name, after=after, limit=limit))

    def list_tags(
        self, name: str | None = None, *, after: str | None = None, limit: int = LISTED
    ) -> Page[TagInfo]:
        """See `Connection.list_tags`."""
        return self._run(self._calls.list_tags(name, after=after, limit=limit))

    def list_partitions(
        self, artifact: Artifact, *, after: str | None = None, limit: int = LISTED
    ) -> Page[PartitionInfo]:
        """See `Connection.list_partitions`."""
        return self._run(self._calls.list_partitions(artifact, after=after, limit=limit))

    def delete_graph(self, name: str, fingerprint: Fingerprint | str) -> None:
        """See `Connection.delete_graph`."""
        self._run(self._calls.delete_graph(name, fingerprint))

    def delete_snapshot(self, name: str, fingerprint: Fingerprint | str) -> None:
        """See `Connection.delete_snapshot`."""
        self._run(self._calls.delete_snapshot(name, fingerprint))

    def delete_artifact_partitions(
        self, artifact: Artifact, partitions: Iterable[Partition]
    ) -> None:
        """See `Connection.delete_artifact_partitions`."""
        self._run(self._calls.delete_artifact_partitions(artifact, partitions))


class AsyncBrokerConnection(AsyncConnection):
    """The methods of `BrokerConnection`, to be awaited; several may be under way at a time."""

    def __init__(
        self,
        backend: BrokerBackend,
        *,
        session: AsyncSession | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        """``session``: one that is open, and stays so; else one is opened, and closed later."""
        super().__init__(backend, timeout=timeout)
        self._broker = backend
        self._given = session
        self._session: AsyncSession | None = None

    async def __aenter__(self) -> Self:
        session = self._given
        if session is None:
            session = self._broker.async_session()
            await session.open(timeout=self._timeout)
        self._session = session
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        session, self._session = self._session, None
        if session is not None and self._given is None:
            await session.close()

    def __repr__(self) -> str:
        state = "open" if self._session is not None else "closed"
        return f"<AsyncBrokerConnection {masked(self._backend.url)} {state}>"

    async def _ask(self, ask: Callable[[Connection], T]) -> T:
        session = self._session
        if session is None:
            raise ContextClosedError(f"{self!r} is not open: use it in an `async with` block")
        deadline = Deadline(self._timeout)

        async def asked(command: Command, kind: type[Any], /) -> Any:  # noqa: ANN401
            return await _asked(session, command, kind, deadline)

        calls = cast("Connection", StoredCalls(asked))  # its methods are coroutines of that name
        return await cast("Coroutine[Any, Any, T]", ask(calls))


def _no_credentials(url: str) -> ConfigError:
    return ConfigError(
        f"{masked(url)!r} has credentials in it, and a broker takes none; name a key pair instead: "
        f"'ezgraph://host:port?keys=NAME' (see `ezgraph keys`)"
    )


def _no_journal(backend: BrokerBackend) -> UnsupportedError:
    return UnsupportedError(
        f"the journal of the broker at {backend.address} is not opened through the broker; open "
        f"its file, on the broker's host, with 'sqlite:///path' (`ezgraph status` says where it is)"
    )
