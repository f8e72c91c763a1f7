"""What an import does is decided before it does anything."""

from __future__ import annotations

from typing import Any

import pytest

from ezgraph.cli.configuration import plan as config_plan
from ezgraph.cli.configuration.layout import ConfigFile, Place
from ezgraph.cli.configuration.plan import plan_import, refuse_violations, transactions
from ezgraph.errors import InvalidSchemaError, SchemaViolationError
from ezgraph.protocol.config import ConfigAbsent, ConfigAtSeq, ConfigEntry, ConfigPut

A, B, C = ("t", ("a",)), ("t", ("b",)), ("t", ("c", "d"))


def entry(place: Place, value: object, *, seq: int = 7, owner: str | None = None) -> ConfigEntry:
    return ConfigEntry(*place, value, seq=seq, owner=owner, author="rig.py", wall_time=0.0)


def there(*entries: ConfigEntry) -> dict[Place, ConfigEntry]:
    return {(each.type, each.key): each for each in entries}


def test_new_changed_and_unchanged_entries_are_told_apart() -> None:
    file = ConfigFile({C: 1, A: 1, B: 2}, {})

    plan = plan_import(file, there(entry(A, 1), entry(B, 3)), {})

    assert plan.new == {C: 1}
    assert {place: each.value for place, each in plan.overwriting.items()} == {B: 2}
    assert plan.unchanged == [A]
    assert not plan.is_empty
    assert plan_import(ConfigFile({A: 1}, {}), there(entry(A, 1)), {}).is_empty


@pytest.mark.parametrize("held", [True, 1.0, "1", [1], None])
def test_a_value_of_another_type_is_another_value(held: Any) -> None:
    assert plan_import(ConfigFile({A: 1}, {}), there(entry(A, held)), {}).overwriting


def test_what_would_end_with_a_session_is_overwritten_to_stay() -> None:
    plan = plan_import(ConfigFile({A: 1}, {}), there(entry(A, 1, owner="s1")), {})

    assert list(plan.overwriting) == [A]


def test_schemas_are_set_where_they_differ() -> None:
    file = ConfigFile({}, {"t": {"type": "object"}, "u": {}, "v": {}})

    plan = plan_import(file, {}, {"t": {"type": "array"}, "u": {}, "v": None})

    assert plan.schemas == {"t": {"type": "object"}, "v": {}}
    assert plan.schemas_unchanged == ["u"]
    assert not plan.is_empty


def test_each_put_depends_on_what_was_seen() -> None:
    plan = plan_import(ConfigFile({A: 1, B: 2}, {}), there(entry(B, 3, seq=9)), {})

    (command,) = transactions(plan, "why")

    assert command.puts == [ConfigPut(*A, 1), ConfigPut(*B, 2)]
    assert command.conditions == [ConfigAbsent(*A), ConfigAtSeq(*B, 9)]
    assert (command.deletes, command.reason) == ([], "why")


def test_much_is_several_transactions_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_plan, "MAX_PUTS", 3)
    monkeypatch.setattr(config_plan, "MAX_BYTES", 1000)
    wanted: dict[Place, Any] = {("t", (f"{number:02}",)): "x" for number in range(7)}
    wanted["t", ("07",)] = "y" * 990
    wanted["t", ("08",)] = "z" * 5000

    commands = list(transactions(plan_import(ConfigFile(wanted, {}), {}, {}), None))

    assert [[put.key for put in each.puts] for each in commands] == [
        [("00",), ("01",), ("02",)],
        [("03",), ("04",), ("05",)],
        [("06",), ("07",)],
        [("08",)],
    ]
    assert [len(each.conditions) for each in commands] == [3, 3, 2, 1]
    assert list(transactions(plan_import(ConfigFile({}, {}), {}, {}), None)) == []


@pytest.mark.parametrize(
    ("file", "current", "schemas", "what"),
    [
        (ConfigFile({A: 1}, {}), there(), {"t": {"type": "string"}}, "t a does not fit"),
        (ConfigFile({A: 1}, {"t": {"type": "string"}}), there(), {}, "t a does not fit"),
        (ConfigFile({}, {"t": {"type": "null"}}), there(entry(C, 1)), {}, "t c:d does not fit"),
        (ConfigFile({B: {"x": 1}}, {"t": {"properties": {"x": {"type": "null"}}}}), there(), {},
         "at /x: 1 is not of type 'null'"),
    ],
)  # fmt: skip
def test_what_would_break_a_schema_in_the_end_is_refused_before_anything_is_done(
    file: ConfigFile, current: dict[Place, ConfigEntry], schemas: dict[str, Any], what: str
) -> None:
    with pytest.raises(SchemaViolationError, match=what):
        refuse_violations(plan_import(file, current, schemas), current, schemas)


def test_values_are_judged_by_the_schema_that_will_be_there() -> None:
    file = ConfigFile({A: 1}, {"t": {"type": "integer"}})
    current, schemas = there(entry(A, "x")), {"t": {"type": "string"}}

    refuse_violations(plan_import(file, current, schemas), current, schemas)

    bad = ConfigFile({}, {"u": {"type": "nope"}})
    with pytest.raises(InvalidSchemaError):
        refuse_violations(plan_import(bad, {}, {}), {}, {})
