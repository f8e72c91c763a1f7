"""One command has only so much judged by schemas, however many values it has."""

from __future__ import annotations

import sys

import pytest

from ezgraph.broker import rules_config
from ezgraph.broker.rules_config import ValueChecks
from ezgraph.config import Limits
from ezgraph.errors import LimitError, UnsupportedError
from ezgraph.protocol.commands import ChangeConfig, SetConfigSchema
from ezgraph.protocol.config import ConfigPut
from ezgraph.protocol.events import ConfigSchemaSet, ConfigValueSet, Event, Source, key_of
from ezgraph.state.config import ConfigState

NUMBERS = {"items": {"type": "integer"}}
PUTS = [ConfigPut("t", (str(name),), list(range(1_000))) for name in range(20)]


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ezgraph.state.config_schema.MAX_STEPS_TOGETHER", 10_000)


def change(config: ConfigState, puts: list[ConfigPut]) -> int:
    command = ChangeConfig(puts)
    return len(
        rules_config.change(config, command, None, limits=Limits(), checks=ValueChecks())
    )


def test_a_change_with_too_much_to_judge_is_refused_and_shared_between_several_it_is_not() -> None:
    config = ConfigState()
    config.set_schema(ConfigSchemaSet("t", NUMBERS))

    with pytest.raises(LimitError, match="share them between several changes"):
        change(config, PUTS)

    assert [change(config, [put]) for put in PUTS] == [1] * len(PUTS)


def test_a_schema_that_takes_too_long_for_what_is_there_is_refused() -> None:
    config = ConfigState()
    for seq, put in enumerate(PUTS, 1):
        body = ConfigValueSet(put.type, put.key, put.value)
        event = Event(1, seq, seq - 1, seq, seq, 0.0, 0.0, key_of(body), Source(), None, body)
        config.put(event, body)
    command = SetConfigSchema("t", NUMBERS)

    with pytest.raises(LimitError, match="would hold everybody up"):
        rules_config.set_schema(config, command, limits=Limits(), checks=ValueChecks())


@pytest.mark.parametrize("missing", ["jsonschema", "re2"])
def test_a_broker_without_the_validator_refuses_schemas_and_what_would_be_judged(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("ezgraph.state.config_schema.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    config = ConfigState()
    command = SetConfigSchema("t", {"type": "string"})

    with pytest.raises(UnsupportedError, match=r"ezgraph\[jsonschema\]"):
        rules_config.set_schema(config, command, limits=Limits(), checks=ValueChecks())
    assert change(config, [ConfigPut("t", ("a",), "x")]) == 1
    config.set_schema(ConfigSchemaSet("t", {"type": "string"}))  # as a journal may have it
    with pytest.raises(UnsupportedError, match=r"ezgraph\[jsonschema\]"):
        change(config, [ConfigPut("t", ("a",), "x")])
    assert change(config, [ConfigPut("other", ("a",), "x")]) == 1
