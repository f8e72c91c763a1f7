"""What a restore changes, or would, on paper: field by field, who is in the way, what stays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ezgraph.cli.component import fetch, schema_at, shown_form
from ezgraph.cli.guest import guest
from ezgraph.cli.looking_back.differences import (
    come_and_gone,
    lines_within,
    write_fields,
    write_signed,
    write_title,
)
from ezgraph.cli.options import bulk_s
from ezgraph.cli.words import count, who
from ezgraph.client.blocking import run
from ezgraph.errors import RestoreRefusedError
from ezgraph.graph.restoring import restore
from ezgraph.protocol.differences import Changed, FieldChange
from ezgraph.protocol.wiring import visible
from ezgraph.settings.columns import leaves
from ezgraph.state.graph import GraphState

if TYPE_CHECKING:
    from ezgraph.cli.options import Target
    from ezgraph.cli.paper import Paper
    from ezgraph.protocol.replies import RestoreReport

_IN = "  "


@dataclass(frozen=True, slots=True)
class Told:
    """A report, and the state that it was made against, which has the values as they are now."""

    report: RestoreReport
    before: GraphState = field(default_factory=GraphState)

    @property
    def is_possible(self) -> bool:
        """Whether nothing stands in the way."""
        return not (self.report.cannot or self.report.vetoed)

    def write(self, paper: Paper) -> None:
        """Write all of it."""
        report = self.report
        for line in lines_within(paper, self._head()):
            paper.line((line, "bold"))
        if report.settings:
            write_title(paper, "settings")
            for address, changes, owner in report.settings:
                self._write_settings(paper, address, changes, owner)
        write_signed(paper, "edges", self._edges())
        write_signed(paper, "config", self._config())
        _write_reasons(paper, "stays as it is", report.not_restored, "dim")
        _write_reasons(paper, "stands in the way", [_whose(each) for each in report.cannot], "red")
        vetoed = [(f"{address}, {by}", why) for address, by, why in report.vetoed]
        _write_reasons(paper, "refused by those who were asked", vetoed, "red")
        _write_reasons(paper, "refused when it was to be made", report.refused, "red")
        if not report.dry_run:
            unmade = [(each, "its program has not reported it yet") for each in report.owed]
            _write_reasons(paper, "not made so yet", unmade, "yellow")
        elif self.is_possible and report:
            _write_end(paper, "nothing has changed yet; --yes does it")
        if not self.is_possible:
            _write_end(paper, "nothing has changed")

    def _head(self) -> str:
        report = self.report
        what = f"{report.name}@{report.tag or str(report.fingerprint)[:12]}"
        number = len(report.settings)
        config = len(report.config_set) + len(report.config_deleted)
        parts = [f"settings of {count(number, 'component')}"] if number else []
        if report.edges_added or report.edges_removed:
            signs = ("+", report.edges_added), ("-", report.edges_removed)
            parts.append(" ".join(["edges", *(f"{s}{len(each):,}" for s, each in signs if each)]))
        parts += [count(config, "config entry")] if config else []
        if not parts and self.is_possible:
            return visible(f"everything is as in {what}")
        changes = ", ".join(parts) or "nothing"
        if report.dry_run or not self.is_possible:
            return visible(f"to restore {what} would change {changes}")
        return visible(f"{what} is restored: {changes}")

    def _write_settings(
        self, paper: Paper, address: str, changes: dict[str, Any], owner: str | None
    ) -> None:
        if owner is not None:
            made_by = f"made by {self._name(owner)}"
        else:
            made_by = "nobody runs it now; its next program is handed them"
        paper.line((f"{_IN}{visible(address)}  ", "cyan"), middle=[(made_by, "dim")])
        write_fields(paper, Changed(address, self._fields(address, changes)))

    def _fields(self, address: str, changes: dict[str, Any]) -> list[FieldChange]:
        entry, schema = self.before.settings.get(address), schema_at(self.before, address)
        form = None if entry is None else shown_form(entry.value)
        now = leaves(form) if isinstance(form, dict) else {}
        held = {".".join(map(str, path)): value for path, value in now.items()}
        units = {each.name: each.unit for each in schema.fields} if schema is not None else {}
        return [
            FieldChange(
                tuple(path.split(".")),
                held.get(path),
                value,
                was_there=path in held,
                old_unit=units.get(path),
                new_unit=units.get(path),
            )
            for path, value in changes.items()
        ]

    def _edges(self) -> list[tuple[str, str, str]]:
        added, removed = (
            [f"{each.from_topic} -> {each.to_topic}" for each in edges]
            for edges in (self.report.edges_added, self.report.edges_removed)
        )
        return come_and_gone([f"{each}  (becomes persistent)" for each in added], removed)

    def _config(self) -> list[tuple[str, str, str]]:
        found = [("~", "yellow", f"{kind} {key}") for kind, key in self.report.config_set]
        found += [("-", "red", f"{kind} {key}") for kind, key in self.report.config_deleted]
        return sorted(found, key=lambda each: each[2])

    def _name(self, process_id: str) -> str:
        for each, process in self.before.processes.items():
            if str(each) == process_id:
                return who(process.source)
        return visible(process_id)


def _write_end(paper: Paper, text: str) -> None:
    paper.line(("", ""))
    paper.line((text, "dim"))


def _whose(entry: tuple[str, str, str]) -> tuple[str, str]:
    what, why, whose = entry
    return (f"{what} ({whose})" if whose else what), why


def _write_reasons(
    paper: Paper, title: str, reasons: list[tuple[str, str]], style: str
) -> None:
    if reasons:
        write_title(paper, title)
        for what, why in reasons:
            for line in lines_within(paper, visible(what), indent=len(_IN)):
                paper.line((f"{_IN}{line}", style))
            for line in lines_within(paper, visible(why), indent=len(_IN * 2)):
                paper.line((f"{_IN * 2}{line}", ""))


def restored(
    broker: Target, name: str, stored: str, reason: str | None, *, dry_run: bool
) -> Told:
    """Restore a snapshot, given by a tag or a fingerprint, or ask what that would change.

    Raises:
        RefusedError: there is no such snapshot, or the key's role does not allow it.
    """
    timeout_s = bulk_s(broker)
    with guest(broker) as session:
        before = fetch(session, timeout_s=timeout_s)
        asked = restore(
            session,
            stored,
            name=name,
            dry_run=dry_run,
            reason=reason,
            wait=True,
            timeout=timeout_s,
        )
        try:
            return Told(run(asked), before)
        except RestoreRefusedError as error:
            if error.report is None:
                raise
            return Told(error.report, before)
