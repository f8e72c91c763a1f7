"""One store of each kind, empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ezgraph.backends import Backend

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ezgraph.backends import Connection


@pytest.fixture(params=["memory", "sqlite"])
def connection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connection]:
    """A connection to a new store, whose journal can be opened, closed and opened again."""
    urls = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/journal.db?synchronous=NORMAL"}
    with Backend.from_url(urls[request.param]).connect() as connection:
        yield connection
