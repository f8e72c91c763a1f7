"""What a broker is started with is put once, and never overwrites."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ezgraph.broker.admission import Cluster
from ezgraph.broker.core import BrokerCore
from ezgraph.cli.configuration.layout import ConfigFile
from ezgraph.cli.configuration.plan import SEEDS
from ezgraph.cli.configuration.seed import Seeding, plan_seed
from ezgraph.config import BrokerConfig
from ezgraph.errors import ConfigError, SchemaViolationError
from ezgraph.protocol.commands import ChangeConfig
from ezgraph.protocol.config import ConfigDelete, ConfigPut
from ezgraph.state.graph import GraphState
from ezgraph.testing import SequentialIds

if TYPE_CHECKING:
    from pathlib import Path

    from ezgraph.cli.configuration.layout import Place
    from ezgraph.cli.configuration.seed import Seed
    from ezgraph.protocol.events import Event

A, B = ("t", ("a",)), ("t", ("b",))


class Started:
    """A broker's core, started anew with each file."""

    def __init__(self) -> None:
        self.state = GraphState()
        self.state.epoch = 1
        self.events: list[Event] = []
        cluster = Cluster("c" * 32, b"secret")
        self.core = BrokerCore(
            self.state, cluster, BrokerConfig(), SequentialIds(), events_port=1, floor=1
        )

    def do(self, *commands: Any) -> None:
        for command in commands:
            self.events += self.core.seed(command, now=0.0, wall=1e9)

    def start_with(self, file: ConfigFile) -> Seed | None:
        seed = plan_seed(file, self.state.config, name="f.json")
        if seed is not None:
            self.do(*seed.commands)
        return seed

    def entries(self, kind: str = "t") -> dict[tuple[str, ...], Any]:
        entries = self.state.config.by_type().get(kind, {})
        return {key: entry.value for key, entry in entries.items()}


@pytest.fixture
def started() -> Started:
    return Started()


def test_a_broker_is_started_with_a_file_once(started: Started) -> None:
    file = ConfigFile({A: 1, B: [2]}, {"t": {}})

    seed = started.start_with(file)
    again = started.start_with(ConfigFile({B: [2], A: 1}, {"t": {}}))

    assert seed is not None
    assert again is None
    assert started.entries() == {("a",): 1, ("b",): [2]}
    assert started.state.config.schemas == {"t": {}}
    (said,) = started.entries(SEEDS).values()
    assert said == {"file": "f.json", "entries": 2, "kept": 0}
    assert {event.source.reason for event in started.events} == {"import of f.json"}
    assert {event.source.program for event in started.events} == {"ezgraph broker"}


def test_what_was_changed_or_deleted_since_stays_so_at_the_next_start(started: Started) -> None:
    file = ConfigFile({A: 1, B: 2}, {})
    started.start_with(file)
    started.do(ChangeConfig([ConfigPut(*A, 5)], [ConfigDelete(*B)], []))
    before = len(started.events)

    assert started.start_with(file) is None

    assert started.entries() == {("a",): 5}
    assert len(started.events) == before


def test_another_file_adds_and_never_overwrites(started: Started) -> None:
    started.start_with(ConfigFile({A: 1}, {"t": {"type": "integer"}}))

    seed = started.start_with(ConfigFile({A: 2, B: 3}, {"t": {"type": "string"}}))

    assert seed is not None
    assert seed.kept == [A]
    assert started.entries() == {("a",): 1, ("b",): 3}
    assert started.state.config.schemas == {"t": {"type": "integer"}}
    assert len(started.entries(SEEDS)) == 2


def test_much_is_several_transactions_and_the_record_is_in_the_last(started: Started) -> None:
    many: dict[Place, Any] = {("t", (f"{number:05}",)): number for number in range(5_000)}

    seed = started.start_with(ConfigFile(many, {}))

    assert seed is not None
    assert len(seed.commands) == 5
    assert len(started.entries()) == 5_000
    assert started.events[-1].key[:2] == ("config", SEEDS)
    assert started.events[-1].txn_first < started.events[-1].seq


def test_what_breaks_a_rule_is_refused(started: Started) -> None:
    with pytest.raises(SchemaViolationError):
        started.start_with(ConfigFile({A: 1}, {"t": {"type": "string"}}))


def test_a_file_that_cannot_be_read_is_told_before_there_is_a_broker(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nosuch\.json cannot be read: No such file"):
        Seeding(str(tmp_path / "nosuch.json"))
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        Seeding(str(tmp_path))
