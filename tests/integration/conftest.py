"""What the integration tests share: a broker in a thread of the test run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ezgraph import GraphServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server() -> Iterator[GraphServer]:
    """A broker on a free port that forgets everything afterwards."""
    with GraphServer() as running:
        yield running
