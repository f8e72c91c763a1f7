"""A report counts everything and keeps what people can read."""

from __future__ import annotations

import pytest

from ezgraph.verify.findings import (
    KEPT_OF_EACH,
    BrokenPromiseError,
    Finding,
    Place,
    Report,
    demand_none,
)

FINDING = Finding("G2", Place("a.trace", 7), "lost 5", "5", "nothing", (5,))


def test_a_finding_says_what_where_and_what_was_expected() -> None:
    assert str(FINDING) == "G2: lost 5; expected 5; found nothing; seq 5 [a.trace, record 7]"


def test_a_long_list_of_seqs_is_shown_in_part() -> None:
    many = Finding("G2", Place("journal"), "lost many", seqs=tuple(range(1, 101)))

    assert str(many) == "G2: lost many; seq 1, 2, 3, 4, 5, 6, 7, 8 and 92 more [journal]"


def test_a_report_counts_all_findings_and_keeps_the_first_of_each_guarantee() -> None:
    report = Report()

    report.extend([FINDING] * (KEPT_OF_EACH + 5))
    report.add(Finding("G9", Place("journal"), "late"))

    assert report.violations == {"G2": KEPT_OF_EACH + 5, "G9": 1}
    assert len(report.findings) == KEPT_OF_EACH + 1
    assert not report.ok
    assert [bad for name, _, _, bad in report.rows() if name == "G9"] == [1]


def test_an_empty_report_is_fine() -> None:
    assert Report().ok
    assert "G10" in str(Report())


def test_a_check_of_the_simulation_raises_at_the_first_finding() -> None:
    demand_none([])

    with pytest.raises(BrokenPromiseError, match=r"^G2: lost 5"):
        demand_none([FINDING, FINDING])
