"""What can be asked for, and what happens to a section that fails."""

from __future__ import annotations

import importlib.util
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from ezgraph.bench import main, scale
from ezgraph.bench.rows import Row, alone, at_most
from ezgraph.bench.scale import Scale
from ezgraph.errors import ConfigError, DeadlineError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.bench.workbench import Progress


def ignore(what: str) -> None:
    """Take no notice of what is measured."""


def silent() -> Console:
    return Console(file=StringIO(), width=200)


def test_an_unknown_section_is_refused_by_name_before_anything_is_measured() -> None:
    with pytest.raises(ConfigError, match="no section x"):
        main.run_bench(only=["a,x"])


def test_no_round_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 rounds"):
        main.run_bench(rounds=0)


def test_only_ezmsg_can_be_compared_with() -> None:
    with pytest.raises(ConfigError, match="redis"):
        main.run_bench(against="redis")


def test_without_ezmsg_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ezgraph.bench.against_ezmsg.find_spec", lambda name: None)

    with pytest.raises(MissingExtraError, match="pip install 'ezmsg"):
        main.run_bench(against="ezmsg")


def test_a_release_of_ezmsg_without_sessions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    present = importlib.util.find_spec("json")
    monkeypatch.setattr(
        "ezgraph.bench.against_ezmsg.find_spec",
        lambda name: None if "process" in name else present,
    )

    with pytest.raises(MissingExtraError, match="no sessions"):
        main.run_bench(against="ezmsg")


def test_a_section_that_fails_keeps_its_rows_and_has_a_failed_one_that_says_why() -> None:
    def broken(given: Scale, progress: Progress) -> Iterator[Row]:
        yield alone("d", "x", "s", [1.0])
        raise DeadlineError("nobody answered")

    before, failed = main.measure("d", broken, Scale(), ignore)

    assert before.name == "x"
    assert failed.passed is False
    assert "nobody answered" in failed.note


@pytest.mark.parametrize(("took", "code"), [(1.0, 0), (3.0, 1)])
def test_the_exit_code_says_whether_all_goals_are_met(
    took: float, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def section(given: Scale, progress: Progress) -> list[Row]:
        return [alone("e", "x", "s", [took], goal=at_most(2.0, "s")), alone("e", "y", "s", [9.0])]

    sections: dict[str, Any] = {"e": section}
    monkeypatch.setattr(main, "SECTIONS", sections)

    assert main.run(Scale(rounds=1), console=silent()) == code


def test_a_full_run_has_the_sizes_the_goals_are_stated_for() -> None:
    found = scale.full(5)

    assert found.history[1] == 100_000
    assert found.edges == (1_000, 10_000, 100_000)
    assert found.components == (1_000, 5_000)
    assert (found.in_flight, found.subscribers, found.events_in_memory) == (64, 32, 100_000)
    assert (found.sessions, found.owned_edges, found.journal_events) == (1_000, 10_000, 1_000_000)


def test_a_quick_run_takes_fewer_rounds_than_asked_for() -> None:
    assert scale.quick(5).rounds == 2
    assert scale.quick(1).rounds == 1
