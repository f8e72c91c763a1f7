"""A connection whose methods are coroutines."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self, TypeVar

from ezgraph.backends.connection import LISTED, NO_FILTER
from ezgraph.errors import ContextClosedError, DeadlineError
from ezgraph.protocol.urls import masked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from types import TracebackType

    from ezgraph.backends.base import Backend
    from ezgraph.backends.connection import Connection
    from ezgraph.protocol.artifacts import Artifact, Partition, PartitionKey, StoragePartitions
    from ezgraph.protocol.differences import GraphDiff
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


class AsyncConnection:
    """The methods of `Connection` (see there), to be awaited.

    They run one after the other in a thread of their own, so that a slow disk does not stop the
    event loop. One that takes longer than the deadline raises DeadlineError; it may yet happen.
    """

    def __init__(self, backend: Backend[Connection], *, timeout: float) -> None:
        self._backend = backend
        self._timeout = timeout
        self._thread: ThreadPoolExecutor | None = None
        self._connection: Connection | None = None

    async def __aenter__(self) -> Self:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ezgraph-backend")
        self._connection = await self._within(self._backend.connect)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        thread, connection = self._thread, self._connection
        try:
            if connection is not None:
                await self._within(connection.close)
        finally:
            self._thread = self._connection = None
            if thread is not None:
                thread.shutdown(wait=False)

    @asynccontextmanager
    async def connect_async(self) -> AsyncIterator[Self]:
        """Yield this connection and leave it open: ``(connection or backend).connect_async()``."""
        yield self

    async def _within(self, call: Callable[[], T]) -> T:
        if self._thread is None:
            raise ContextClosedError(f"{self!r} is not open: use it in an `async with` block")
        future = asyncio.get_running_loop().run_in_executor(self._thread, call)
        try:
            return await asyncio.wait_for(asyncio.shield(future), self._timeout)
        except TimeoutError as error:
            if future.done():
                raise  # it raised that itself
            raise DeadlineError(
                f"{masked(self._backend.url)} has not answered within {self._timeout:g} s; see "
                f"that its disk works and that no other program keeps it locked"
            ) from error

    async def _ask(self, ask: Callable[[Connection], T]) -> T:
        connection = self._connection
        if connection is None:
            raise ContextClosedError(f"{self!r} is not open: use it in an `async with` block")
        return await self._within(lambda: ask(connection))

    def __repr__(self) -> str:
        state = "open" if self._connection is not None else "closed"
        return f"<AsyncConnection {masked(self._backend.url)} {state}>"

    async def read_artifact_partitions(
        self,
        artifact: Artifact,
        input_fingerprints: Mapping[PartitionKey, Fingerprint] = NO_FILTER,
    ) -> StoragePartitions:
        """See `Connection.read_artifact_partitions`."""
        return await self._ask(lambda c: c.read_artifact_partitions(artifact, input_fingerprints))

    async def write_artifact_partitions(
        self, artifact: Artifact, partitions: Iterable[Partition]
    ) -> StoragePartitions:
        """See `Connection.write_artifact_partitions`."""
        return await self._ask(lambda c: c.write_artifact_partitions(artifact, partitions))

    async def read_graph(self, name: str, fingerprint: Fingerprint | str) -> Graph:
        """See `Connection.read_graph`."""
        return await self._ask(lambda c: c.read_graph(name, fingerprint))

    async def write_graph(self, graph: Graph) -> None:
        """See `Connection.write_graph`."""
        await self._ask(lambda c: c.write_graph(graph))

    async def read_snapshot(self, name: str, fingerprint: Fingerprint | str) -> Snapshot:
        """See `Connection.read_snapshot`."""
        return await self._ask(lambda c: c.read_snapshot(name, fingerprint))

    async def write_snapshot(self, snapshot: Snapshot) -> None:
        """See `Connection.write_snapshot`."""
        await self._ask(lambda c: c.write_snapshot(snapshot))

    async def read_snapshot_tag(self, name: str, tag: str) -> Snapshot:
        """See `Connection.read_snapshot_tag`."""
        return await self._ask(lambda c: c.read_snapshot_tag(name, tag))

    async def write_snapshot_tag(
        self, snapshot: Snapshot, tag: str, *, overwrite: bool = False
    ) -> None:
        """See `Connection.write_snapshot_tag`."""
        await self._ask(lambda c: c.write_snapshot_tag(snapshot, tag, overwrite=overwrite))

    async def untag(self, name: str, tag: str) -> None:
        """See `Connection.untag`."""
        await self._ask(lambda c: c.untag(name, tag))

    async def tag_history(
        self, name: str, tag: str, *, after: str | None = None, limit: int = LISTED
    ) -> Page[TagChange]:
        """See `Connection.tag_history`."""
        return await self._ask(lambda c: c.tag_history(name, tag, after=after, limit=limit))

    async def read_snapshot_partitions(
        self, snapshot: Snapshot, artifact_key: str, artifact: Artifact
    ) -> StoragePartitions:
        """See `Connection.read_snapshot_partitions`."""
        return await self._ask(
            lambda c: c.read_snapshot_partitions(snapshot, artifact_key, artifact)
        )

    async def write_snapshot_partitions(
        self,
        snapshot: Snapshot,
        artifact_key: str,
        artifact: Artifact,
        partitions: Iterable[Partition],
    ) -> StoragePartitions:
        """See `Connection.write_snapshot_partitions`."""
        return await self._ask(
            lambda c: c.write_snapshot_partitions(snapshot, artifact_key, artifact, partitions)
        )

    async def write_artifact_and_graph_partitions(
        self,
        snapshot: Snapshot,
        artifact_key: str,
        artifact: Artifact,
        partitions: Iterable[Partition],
    ) -> StoragePartitions:
        """See `Connection.write_artifact_and_graph_partitions`."""
        return await self._ask(
            lambda c: c.write_artifact_and_graph_partitions(
                snapshot, artifact_key, artifact, partitions
            )
        )

    async def find_snapshots(self, artifact: Artifact, partition: Partition) -> list[SnapshotInfo]:
        """See `Connection.find_snapshots`."""
        return await self._ask(lambda c: c.find_snapshots(artifact, partition))

    async def write_recording(
        self,
        info: RecordingInfo,
        partitions: Iterable[RecordedPartition] = (),
        changes: Iterable[RecordedChange] = (),
    ) -> RecordingInfo:
        """See `Connection.write_recording`."""
        return await self._ask(lambda c: c.write_recording(info, partitions, changes))

    async def read_recording(self, name: str, artifact_key: str, number: int) -> Recording:
        """See `Connection.read_recording`."""
        return await self._ask(lambda c: c.read_recording(name, artifact_key, number))

    async def list_recordings(
        self,
        name: str | None = None,
        artifact_key: str | None = None,
        *,
        after: str | None = None,
        limit: int = LISTED,
    ) -> Page[RecordingInfo]:
        """See `Connection.list_recordings`."""
        return await self._ask(
            lambda c: c.list_recordings(name, artifact_key, after=after, limit=limit)
        )

    async def delete_recording(self, name: str, artifact_key: str, number: int) -> None:
        """See `Connection.delete_recording`."""
        await self._ask(lambda c: c.delete_recording(name, artifact_key, number))

    async def list_graphs(
        self, name: str | None = None, *, after: str | None = None, limit: int = LISTED
    ) -> Page[GraphInfo]:
        """See `Connection.list_graphs`."""
        return await self._ask(lambda c: c.list_graphs(name, after=after, limit=limit))

    async def list_snapshots(
        self, name: str | None = None, *, after: str | None = None, limit: int = LISTED
    ) -> Page[SnapshotInfo]:
        """See `Connection.list_snapshots`."""
        return await self._ask(lambda c: c.list_snapshots(name, after=after, limit=limit))

    async def list_tags(
        self, name: str | None = None, *, after: str | None = None, limit: int = LISTED
    ) -> Page[TagInfo]:
        """See `Connection.list_tags`."""
        return await self._ask(lambda c: c.list_tags(name, after=after, limit=limit))

    async def list_partitions(
        self, artifact: Artifact, *, after: str | None = None, limit: int = LISTED
    ) -> Page[PartitionInfo]:
        """See `Connection.list_partitions`."""
        return await self._ask(lambda c: c.list_partitions(artifact, after=after, limit=limit))

    async def delete_graph(self, name: str, fingerprint: Fingerprint | str) -> None:
        """See `Connection.delete_graph`."""
        await self._ask(lambda c: c.delete_graph(name, fingerprint))

    async def delete_snapshot(self, name: str, fingerprint: Fingerprint | str) -> None:
        """See `Connection.delete_snapshot`."""
        await self._ask(lambda c: c.delete_snapshot(name, fingerprint))

    async def delete_artifact_partitions(
        self, artifact: Artifact, partitions: Iterable[Partition]
    ) -> None:
        """See `Connection.delete_artifact_partitions`."""
        await self._ask(lambda c: c.delete_artifact_partitions(artifact, partitions))

    async def diff(self, old: Graph | Snapshot, new: Graph | Snapshot) -> GraphDiff:
        """See `Connection.diff`."""
        return await self._ask(lambda c: c.diff(old, new))
