"""A broker that is killed at every statement of a restore: the old state or the new, no third."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from ezgraph.backends import stored_tags
from ezgraph.backends.sqlite import SQLiteBackend
from ezgraph.backends.sqlite_file import JournalDatabase
from ezgraph.backends.stored_graphs import Written
from ezgraph.broker.engine import BrokerEngine
from ezgraph.broker.restart import restart
from ezgraph.config import BrokerConfig
from ezgraph.protocol.commands import (
    AnswerRequest,
    ChangeConfig,
    Command,
    Connect,
    Disconnect,
    Goodbye,
    Hello,
    ReportSettings,
    UpdateUnits,
)
from ezgraph.protocol.config import ConfigPut
from ezgraph.protocol.graphs import Snapshot, settings_digest
from ezgraph.protocol.replies import Handed, RestoreReport
from ezgraph.protocol.routed import SettingsChangeRequest, SettingsCheckRequest
from ezgraph.protocol.settings import SettingsSnapshotValue
from ezgraph.protocol.stored_commands import Restore
from ezgraph.state.content import graph_of
from ezgraph.testing import SequentialIds
from ezgraph.wire import codec, frames

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ezgraph.protocol.fingerprints import Fingerprint

ASKER, OWNER, UNIT = b"asker", b"owner", "SYS/FILTER"


def value(gain: int) -> SettingsSnapshotValue:
    return SettingsSnapshotValue(None, {"gain": gain}, {"gain": gain})


class Broker:
    """An engine on a file, with a guest who asks and an owner who does as it is asked."""

    def __init__(self, path: Path) -> None:
        self.connection = SQLiteBackend(path / "rig.db").connect()
        self.journal = self.connection.open_journal()
        self.engine = BrokerEngine(
            BrokerConfig(), self.journal, SequentialIds(), events_port=1, now=10.0
        )
        self.numbers = {ASKER: 0, OWNER: 0}
        self.report: object = None
        self.gain = 0
        self.now = 10.0
        self.ask(ASKER, Hello(1, "guest", os.urandom(4).hex(), "p", "h", 1, "l"))

    def ask(self, peer: bytes, command: Command) -> None:
        number = self.numbers[peer]
        self.numbers[peer] += 1
        frame = frames.request_frame(number, number, codec.encode(command))
        self.engine.take_command(peer, frame, now=self.now, wall=1e9)
        self.finish()

    def finish(self) -> None:
        """Go on until nothing is left to do."""
        for _ in range(20):
            self.engine.finish_pass(now=self.now, wall=1e9)
            messages = self.engine.replies()
            self.engine.publications()
            messages += self.engine.replies()
            self.engine.tidy()
            for peer, *told in messages:
                for each in told:
                    self.hear(peer, frames.read_reply(each)[1])
            if self.engine.next_due(self.now) != self.now and not messages:
                return

    def hear(self, peer: bytes, reply: object) -> None:
        if isinstance(reply, RestoreReport):
            self.report = reply
        if not isinstance(reply, Handed):
            return
        request = reply.request
        if isinstance(request, SettingsCheckRequest):
            self.ask(peer, AnswerRequest(request.request_id, ok=True))
        elif isinstance(request, SettingsChangeRequest):
            self.gain = request.changes["gain"]
            self.ask(peer, ReportSettings(UNIT, value(self.gain), answers=request.request_id))

    def own(self, gain: int) -> None:
        self.ask(OWNER, Hello(1, "process", os.urandom(4).hex(), "p", "h", 1, "l"))
        self.gain = gain
        self.ask(OWNER, UpdateUnits([UNIT], []))
        self.ask(OWNER, ReportSettings(UNIT, value(self.gain)))


def begun(path: Path) -> Fingerprint:
    """Make a file with a snapshot in it, and other wiring and configuration by now."""
    broker = Broker(path)
    broker.own(1)
    broker.ask(ASKER, Connect("A", "B"))
    broker.ask(ASKER, ChangeConfig([ConfigPut("filter", ("low",), 1)]))
    graph = graph_of(broker.engine.state, "rig")
    snapshot, written = Snapshot(graph, broker.engine.state.seq, 1), Written(0.0, "a test")
    broker.journal.change(lambda rows: stored_tags.write_tag(rows, snapshot, "best", written))
    broker.ask(OWNER, Goodbye())
    broker.ask(ASKER, Disconnect("A", "B"))
    broker.ask(ASKER, Connect("C", "D"))
    broker.ask(ASKER, ChangeConfig([ConfigPut("filter", ("low",), 2)]))
    broker.journal.close()
    broker.connection.close()
    return graph.fingerprint


def restore(path: Path, step: int) -> None:
    """Restore, and be killed before the ``step``-th statement of it."""
    broker = Broker(path)
    broker.own(5)
    count_down(step)
    broker.ask(ASKER, Restore("rig", "best", dry_run=False))
    assert isinstance(broker.report, RestoreReport)


def count_down(step: int) -> None:
    left = [step]

    def counted(name: str) -> Callable[..., Any]:
        real = getattr(sqlite3.Connection, name)

        def call(db: JournalDatabase, *args: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(db, *args)

        return call

    for name in ("execute", "executemany"):
        setattr(JournalDatabase, name, counted(name))


def killed(path: Path, step: int) -> bool:
    """Restore in a child; return whether it was killed before it was through."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            restore(path, step)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def found(path: Path) -> tuple[object, ...]:
    """What a broker would begin with: wiring, configuration, settings, and what is owed."""
    with SQLiteBackend(path / "rig.db").connect() as connection:
        state = restart(connection.open_journal()).state
        gain = state.settings[UNIT].value.structured_value
        owed = state.owed.get(UNIT)
        return (
            sorted(state.dag.edge_owners),
            [entry.value for entry in state.config.entries.values()],
            gain,
            None if owed is None else settings_digest(owed.value),
        )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_killed_at_any_statement_it_leaves_the_old_state_or_the_new(tmp_path: Path) -> None:
    start = tmp_path / "start"
    start.mkdir()
    begun(start)
    old = ([("C", "D")], [2], {"gain": 5}, None)
    wanted = settings_digest(value(1))
    owed, new = ([("A", "B")], [1], {"gain": 5}, wanted), ([("A", "B")], [1], {"gain": 1}, None)
    states, step, was_killed = [], 0, True
    while was_killed:
        step += 1
        here = tmp_path / f"{step}"
        shutil.copytree(start, here)

        was_killed = killed(here, step)

        states.append(found(here))
        if states[-1] == owed:  # the next one on this file hands it out, and is done
            broker = Broker(here)
            broker.now += 60.0  # nobody was heard of who had been there before
            broker.finish()
            broker.own(7)
            assert broker.engine.state.settings[UNIT].value == value(1)
            assert not broker.engine.state.owed
            broker.journal.close()
            broker.connection.close()
        shutil.rmtree(here)

    assert step > 5
    assert [each for n, each in enumerate(states) if not n or each != states[n - 1]] == [
        old, owed, new
    ]
