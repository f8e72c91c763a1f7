"""Both forms of a client, asyncio and blocking, called in one way."""

from __future__ import annotations

import inspect
from typing import Any


async def settled(result: Any) -> Any:  # noqa: ANN401 - whatever the call gives
    """Return what a call gave, which the asyncio form still has to wait for."""
    return await result if inspect.iscoroutine(result) else result
