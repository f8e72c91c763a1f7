"""A restore after whatever happened: the rig is as it was in the snapshot, or nothing changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ezgraph.protocol.commands import AnswerRequest, Command, ReportSettings
from ezgraph.protocol.graph_content import GraphContent
from ezgraph.protocol.graphs import settings_digest
from ezgraph.protocol.replies import Handed, Refusal, RestoreReport
from ezgraph.protocol.routed import SettingsChangeRequest, SettingsCheckRequest
from ezgraph.protocol.stored_commands import Restore
from ezgraph.state.content import graph_of, settings_at
from ezgraph.state.graph import GraphState
from ezgraph.testing.programs import CoreProgram
from ezgraph.testing.strategies import programs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.protocol.graphs import Graph
    from ezgraph.testing.strategies import Step

slow = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
ASKERS = (0, 2, 3)
ALWAYS = (0, 1, 2, 3, 4)


class Rig(CoreProgram):
    """A program whose owners agree to restores, or not, and do as they have agreed."""

    def __init__(self) -> None:
        super().__init__()
        self.told: object = None

    def restore(self, client: int, graph: Graph, moods: Iterator[bool]) -> object:
        """Ask for a restore; return what is answered when everybody has done what is theirs."""
        self.told = None
        self.do(client, Restore(graph.name, "then", dry_run=False))
        connection = self.core.connection_of(b"%d" % client)
        assert connection is not None
        self.core.restores.read(connection.lease.client, self.requests, GraphContent.of(graph))
        self.settle(b"%d" % client, moods)
        return self.told

    def settle(self, asker: bytes, moods: Iterator[bool]) -> None:
        routing = self.core.routing
        while routing.outgoing or self.core.restores.has_work:
            for events in self.core.restores.decide(now=self.now, wall=1e9 + self.now):
                self.events += events
            outgoing, routing.outgoing[:] = list(routing.outgoing), []
            for each in outgoing:
                if isinstance(each.reply, Handed):
                    self.answer(int(each.peer), each.reply.request, next(moods))
                elif each.peer == asker:
                    self.told = each.reply

    def answer(self, owner: int, request: object, agrees: bool) -> None:
        command: Command
        if isinstance(request, SettingsCheckRequest):
            command = AnswerRequest(request.request_id, ok=agrees, error="no")
        else:
            assert isinstance(request, SettingsChangeRequest)
            owed = self.state.owed[request.address]
            command = ReportSettings(request.address, owed.value, answers=request.request_id)
        self.do(owner, command)


def of(moods: list[bool]) -> Iterator[bool]:
    """Some that do as they like, and then all who agree."""
    yield from moods
    while True:
        yield True


@settings(slow, max_examples=25)
@given(programs, programs, st.sampled_from(ASKERS), st.lists(st.booleans(), max_size=3))
def test_after_a_restore_the_rig_is_as_it_was_or_nothing_has_changed(
    before: list[Step], after: list[Step], asker: int, moods: list[bool]
) -> None:
    rig = Rig()
    rig.run(before)
    graph = graph_of(rig.state, "rig")
    rig.run(after)
    rig.join(asker)
    for client in ALWAYS:  # whoever has a lease: nothing is to change by their coming
        rig.join(client)
    content = rig.state.content_fingerprint()

    told = rig.restore(asker, graph, of(moods))

    state = rig.state
    if isinstance(told, Refusal):
        assert told.code == "restore_refused"
        assert told.report is not None
        assert told.report.cannot or told.report.vetoed
        assert state.content_fingerprint() == content
        assert not state.owed
        return
    assert isinstance(told, RestoreReport)
    is_as_it_was(state, graph, told)
    folded = GraphState.fold(rig.events, epoch=1, seq=state.seq)
    assert folded.fingerprint() == state.fingerprint()
    again = rig.restore(asker, graph, of([]))
    assert isinstance(again, RestoreReport)
    assert not again.edges_added
    assert {address for address, *_ in again.settings} == set(state.owed)


def is_as_it_was(state: GraphState, graph: Graph, told: RestoreReport) -> None:
    now = graph_of(state, "rig")
    assert now.topology == graph.topology
    assert now.config == graph.config
    for address, value in graph.settings.items():
        if address in state.owed:
            assert address not in state.unit_owner
            assert settings_digest(state.owed[address].value) == settings_digest(value)
        else:
            held = settings_at(state, address)
            assert held is not None
            assert settings_digest(held) == settings_digest(value)
    if not told.not_restored and not state.owed:
        assert state.content_fingerprint() == graph.fingerprint


@settings(slow, max_examples=15)
@given(programs, programs, st.sampled_from(ASKERS))
def test_a_dry_run_changes_nothing_and_says_what_the_restore_then_does(
    before: list[Step], after: list[Step], asker: int
) -> None:
    rig = Rig()
    rig.run(before)
    graph = graph_of(rig.state, "rig")
    rig.run(after)
    rig.join(asker)
    client = rig.core.connection_of(b"%d" % asker)
    assert client is not None
    fingerprint = rig.state.fingerprint()

    rig.do(asker, Restore("rig", "then", dry_run=True))
    rig.core.restores.read(client.lease.client, rig.requests, GraphContent.of(graph))
    rig.settle(b"%d" % asker, of([]))
    dry = rig.told

    assert rig.state.fingerprint() == fingerprint
    assert isinstance(dry, RestoreReport)
    done = rig.restore(asker, graph, of([]))
    if isinstance(done, Refusal):
        assert dry.cannot
        return
    assert isinstance(done, RestoreReport)
    assert (dry.edges_added, dry.edges_removed) == (done.edges_added, done.edges_removed)
    assert (dry.config_set, dry.config_deleted) == (done.config_set, done.config_deleted)
    assert [each[:2] for each in dry.settings] == [each[:2] for each in done.settings]
    assert not dry.cannot
