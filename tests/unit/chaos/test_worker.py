"""A client of a chaos run leaves when it is told to, whatever happens to it at that moment."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from ezgraph.chaos.roles import Role
from ezgraph.chaos.worker import Job, Worker
from ezgraph.errors import SessionExpiredError
from ezgraph.verify.recorder import Recorder

if TYPE_CHECKING:
    from pathlib import Path


class Stub(Worker):
    """A worker without a broker: its lease is lost at once, each time."""

    async def _open(self) -> None:
        """There is nothing to join."""

    async def _close(self) -> None:
        """There is nothing to close."""


@pytest.mark.parametrize("at_that_moment", [True, False])
def test_a_client_told_to_leave_as_its_lease_is_lost_leaves(
    at_that_moment: bool, tmp_path: Path
) -> None:
    tries = 0
    job = Job("wirer-0", "wirer", "127.0.0.1:1", "", "seed", 3.0, 25.0)

    async def loses_its_lease(worker: Worker) -> None:
        nonlocal tries
        tries += 1
        if at_that_moment:
            worker.obey("leave")
        else:
            asyncio.get_running_loop().call_soon(worker.obey, "leave")
        raise SessionExpiredError("it was away for too long")

    async def scenario() -> None:
        with Recorder(tmp_path / "trace", program="test") as recorder:
            worker = Stub(job, recorder, lambda **_: None)
            worker._role = Role((loses_its_lease,))
            with suppress(asyncio.CancelledError):
                async with asyncio.timeout(5.0):
                    await worker.live()

    asyncio.run(scenario())

    assert tries == 1
