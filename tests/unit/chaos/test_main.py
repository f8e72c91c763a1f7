"""What a run refuses before it starts anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ezgraph.chaos.main import run_chaos
from ezgraph.cli.chaos import seconds
from ezgraph.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("typed", "expected"), [("30s", 30.0), ("10m", 600.0), ("2h", 7200.0), ("7.5", 7.5)]
)
def test_a_time_is_typed_in_seconds_minutes_or_hours(typed: str, expected: float) -> None:
    assert seconds(typed) == expected


@pytest.mark.parametrize("typed", ["soon", "", "10 parsecs", "-3s", "1d"])
def test_anything_else_is_no_time(typed: str) -> None:
    with pytest.raises(ConfigError, match="is no time; say 30s, 10m or 2h"):
        seconds(typed)


@pytest.mark.parametrize(("for_s", "clients"), [(1.0, 20), (1e6, 20), (30.0, 0), (30.0, 1000)])
def test_a_run_out_of_range_is_refused(for_s: float, clients: int, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        run_chaos(for_s=for_s, clients=clients, seed=1, keep=tmp_path / "new")

    assert not (tmp_path / "new").exists()


def test_a_folder_with_an_earlier_run_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_text("precious")

    with pytest.raises(ConfigError, match="holds an earlier run"):
        run_chaos(for_s=10.0, seed=1, keep=tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["journal.db"]
