"""``ezgraph config import`` and ``export``: files of configuration and a broker."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ezgraph.cli.as_json import dumps
from ezgraph.cli.configuration.commands import configuration
from ezgraph.cli.configuration.document import MAX_BYTES, parse_document
from ezgraph.cli.configuration.layout import place_text, read_layout, written
from ezgraph.cli.configuration.plan import SEEDS, plan_import, refuse_violations, transactions
from ezgraph.cli.options import bulk_s
from ezgraph.cli.paper import paper, say, tell
from ezgraph.cli.words import count, inner
from ezgraph.errors import ConfigError, EzGraphError, UnknownConfigKeyError
from ezgraph.protocol.wiring import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ezgraph.cli.configuration.layout import ConfigFile, Place
    from ezgraph.cli.configuration.plan import ImportPlan
    from ezgraph.cli.options import Target
    from ezgraph.graph.configuration.blocking import ConfigKeys
    from ezgraph.protocol.commands import ChangeConfig
    from ezgraph.protocol.config import ConfigEntry

STANDARD_INPUT = "-"


def read_document(file: str) -> Any:  # noqa: ANN401
    """Return the value that a JSON or YAML file has; ``-`` is standard input.

    Raises:
        ConfigError: it cannot be read, or is wrong; says where.
    """
    if file == STANDARD_INPUT:
        return parse_document(sys.stdin.buffer.read(MAX_BYTES + 1), "standard input")
    try:
        with Path(file).open("rb") as opened:
            raw = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    return parse_document(raw, file)


def read_file(file: str, blob_types: Iterable[str] = ()) -> ConfigFile:
    """Return what a file of configuration says.

    Raises:
        ConfigError: it cannot be read, or is of no layout or of both; says where.
    """
    where = "standard input" if file == STANDARD_INPUT else file
    return read_layout(read_document(file), where, blob_types)


# --- import ---


def import_into(
    broker: Target, file: ConfigFile, reason: str | None, *, dry_run: bool, as_json: bool
) -> None:
    """Have all that a file says, or say what that would change."""
    timeout_s = bulk_s(broker)
    with configuration(broker) as config:
        current = _current(config, file, timeout_s)
        schemas = {kind: config.schema(kind, timeout=timeout_s) for kind in file.kinds}
        plan = plan_import(file, current, schemas)
        refuse_violations(plan, current, schemas)
        seq = None if dry_run else _do(config, plan, schemas, reason, timeout_s)
    if as_json:
        say(dumps(_record(plan, seq, blobs=file.blobs), indent=2))
    else:
        _write(plan, seq, blobs=file.blobs)


def _current(
    config: ConfigKeys, file: ConfigFile, timeout_s: float
) -> dict[Place, ConfigEntry]:
    return {
        (entry.type, entry.key): entry
        for kind in file.kinds
        for entry in config.scan(kind, timeout=timeout_s)
    }


def _do(
    config: ConfigKeys,
    plan: ImportPlan,
    schemas: dict[str, dict[str, Any] | None],
    reason: str | None,
    timeout_s: float,
) -> int | None:
    """Do what is planned; return the last seq, None: there was nothing to do.

    A schema that takes the place of another comes first, as the values are meant for it; one where
    there was none comes last, as all must fit it then.
    """
    seq: int | None = None
    try:
        for do in _steps(config, plan, schemas, reason, timeout_s):
            seq = do()
    except EzGraphError:
        if seq is not None:
            tell(
                f"it takes several transactions, and those up to seq {seq} are done: import the "
                f"file again when it can go on; what is there already is not put again"
            )
        raise
    return seq


def _steps(
    config: ConfigKeys,
    plan: ImportPlan,
    schemas: dict[str, dict[str, Any] | None],
    reason: str | None,
    timeout_s: float,
) -> Iterator[Callable[[], int]]:
    """Yield what does each transaction, and returns its seq."""

    def set_schema(kind: str) -> int:
        return config.set_schema(kind, plan.schemas[kind], reason=reason, timeout=timeout_s)

    def change(command: ChangeConfig) -> int:
        return config.change(command, timeout=timeout_s).seq

    replacing = [kind for kind in plan.schemas if schemas[kind] is not None]
    for kind in replacing:
        yield partial(set_schema, kind)
    for command in transactions(plan, reason):
        yield partial(change, command)
    for kind in plan.schemas.keys() - replacing:
        yield partial(set_schema, kind)


def _record(plan: ImportPlan, seq: int | None, *, blobs: int) -> dict[str, Any]:
    return {
        "seq": seq,
        "new": [_place_record(each) for each in plan.new],
        "overwriting": [
            {**_place_record(place), "before": each.before.value, "owner": each.before.owner}
            for place, each in plan.overwriting.items()
        ],
        "unchanged": len(plan.unchanged),
        "schemas": list(plan.schemas),
        "blobs": blobs,
    }


def _place_record(place: Place) -> dict[str, Any]:
    kind, key = place
    return {"type": kind, "key": list(key)}


def _write(plan: ImportPlan, seq: int | None, *, blobs: int) -> None:
    is_dry = seq is None
    page = paper()
    if is_dry:
        for place, value in plan.new.items():
            page.line(("+ ", "green"), (visible(place_text(place)), "cyan"), (" ", ""),
                      (inner(value), ""))  # fmt: skip
        for place, over in plan.overwriting.items():
            held = "" if over.before.owner is None else " (ended with a session)"
            change = f"{inner(over.before.value)}{held} -> {inner(over.value)}"
            page.line(("~ ", "yellow"), (visible(place_text(place)), "cyan"), (f" {change}", ""))
        for kind in plan.schemas:
            page.line(("~ ", "yellow"), (f"schema of {visible(kind)}", "cyan"))
    parts = [
        f"{len(plan.new):,} new",
        f"{len(plan.overwriting):,} {'to overwrite' if is_dry else 'overwritten'}",
        f"{len(plan.unchanged):,} unchanged",
    ]
    parts += [count(len(plan.schemas), "schema")] if plan.schemas else []
    parts += [f"{count(blobs, 'blob')} split"] if blobs else []
    end = ""
    if plan.is_empty:
        end = "; nothing to do"
    elif is_dry:
        end = "; a dry run: nothing was done"
    page.line((", ".join(parts), "bold"), (end, "dim"), (f"  (seq {seq})" if seq else "", "dim"))


# --- export ---


def exported(broker: Target, kinds: Sequence[str]) -> tuple[dict[str, Any], int]:
    """Return the persistent entries and the schemas as a document, and how many were left out.

    What a broker was started with is its own business, and left out unless it is asked for.

    Raises:
        UnknownConfigKeyError: a type that is named has neither entries nor a schema.
    """
    from ezgraph.cli.guest import guest
    from ezgraph.client.blocking import run

    with guest(broker) as session:
        state, _ = run(session.fetch_state(["config"], timeout=bulk_s(broker)))
    by_type = state.config.by_type()
    for kind in kinds:
        if kind not in by_type and kind not in state.config.schemas:
            there = ", ".join(sorted({*by_type, *state.config.schemas})) or "none"
            raise UnknownConfigKeyError(
                f"there is no configuration of type {kind!r}; the types there are: {there}"
            )
    wanted = [
        entry
        for kind, entries in by_type.items()
        if kind in kinds or (not kinds and kind != SEEDS)
        for entry in entries.values()
    ]
    schemas = {
        kind: schema
        for kind, schema in state.config.schemas.items()
        if not kinds or kind in kinds
    }
    persistent = [entry for entry in wanted if not entry.is_ephemeral]
    return written(persistent, schemas), len(wanted) - len(persistent)
