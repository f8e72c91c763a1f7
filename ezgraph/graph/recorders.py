"""Recordings of a context, in both forms: they differ in where a file's fingerprint is made."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from ezgraph.backends.contents import with_content_fingerprint
from ezgraph.client.blocking import run
from ezgraph.config import DEFAULT_TIMEOUT_S
from ezgraph.provenance.recording import Recorder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from ezgraph.protocol.artifacts import Artifact, Partition
    from ezgraph.protocol.recordings import RecordingInfo
    from ezgraph.provenance.changes import RecordingSession


def recorder(
    session: RecordingSession,
    artifact: Artifact,
    name: str,
    key: str | None,
    *,
    reason: str,
    reached: Callable[[int, float], Awaitable[None]],
    timeout: float,
) -> Recorder:
    """Return a recorder that reads files in a thread, so that the event loop goes on."""
    return Recorder(
        session,
        artifact,
        name,
        key,
        reason=reason,
        with_content=_in_a_thread,
        reached=reached,
        timeout=timeout,
    )


async def _in_a_thread(partition: Partition) -> Partition:
    if not partition.content_fingerprint.is_empty:
        return partition
    return await asyncio.to_thread(with_content_fingerprint, partition)


async def _here(partition: Partition) -> Partition:
    return with_content_fingerprint(partition)


class BlockingRecorder:
    """One recording of an artifact; use it with ``with``. See `Recorder`."""

    def __init__(
        self,
        session: RecordingSession,
        artifact: Artifact,
        name: str,
        key: str | None,
        *,
        reason: str,
        reached: Callable[[int, float], Awaitable[None]],
        timeout: float,
    ) -> None:
        """``session`` is a blocking one."""
        self._recorder = Recorder(
            session,
            artifact,
            name,
            key,
            reason=reason,
            with_content=_here,
            reached=reached,
            timeout=timeout,
        )

    def __repr__(self) -> str:
        return f"<blocking {self._recorder!r}>"

    @property
    def recording(self) -> RecordingInfo:
        """What is known of the recording, apart from what was written in it."""
        return self._recorder.recording

    def add(
        self, *partitions: Partition, timeout: float = DEFAULT_TIMEOUT_S
    ) -> tuple[Partition, ...]:
        """Store partitions that were written in the recording."""
        return run(self._recorder.add(*partitions, timeout=timeout))

    def __enter__(self) -> Self:
        run(self._recorder.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        run(self._recorder.__aexit__(kind, error, trace))
