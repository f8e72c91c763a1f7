"""What the producer holds back until it is whole, without a broker."""

from __future__ import annotations

from ezgraph.client.watch import Progress
from ezgraph.protocol.events import (
    Body,
    ComponentRegistered,
    Event,
    SettingsChanged,
    SettingsLayer,
    Source,
    key_of,
)
from ezgraph.protocol.metadata import ComponentMetadata, DynamicSettingsMetadata
from ezgraph.protocol.settings import SettingsEventType, SettingsSnapshotValue
from ezgraph.settings import PipelineSettingsProducer, PipelineSettingsProducerSettings


def transaction(*bodies: Body) -> list[Event]:
    return [
        Event(1, seq, seq - 1, 1, len(bodies), 0.0, 0.0, key_of(body), Source("s"), None, body)
        for seq, body in enumerate(bodies, 1)
    ]


def registration(*addresses: str) -> list[Event]:
    bodies: list[Body] = []
    for address in addresses:
        dynamic = DynamicSettingsMetadata(enabled=True)
        unit = ComponentMetadata(address, "A", "m.A", "m.S", (b"", {}), dynamic)
        value = SettingsSnapshotValue(None, {"gain": 1}, {"gain": 1})
        bodies += [
            ComponentRegistered("s", unit),
            SettingsChanged(
                address, SettingsEventType.INITIAL_SETTINGS, SettingsLayer.INITIAL, value
            ),
        ]
    return transaction(*bodies)


def following(address: str) -> PipelineSettingsProducer:
    chosen = PipelineSettingsProducerSettings(scope="session", session_of=address)
    return PipelineSettingsProducer(chosen)


def test_a_transaction_cut_in_two_by_a_lost_broker_is_told_once() -> None:
    source = following("A")
    events = registration("A", "B")
    for event in events[:2]:
        source._take(event)
    before = list(source._told)
    resumes_after = source._seq

    source._drop_session()
    for event in events:
        source._take(event)

    assert (before, resumes_after) == ([], 0)
    assert [each.address for each in source._told] == ["A", "B"]
    assert source._seq == 4


def test_a_transaction_whose_end_may_not_be_read_is_told_with_the_progress() -> None:
    source = following("A")
    for event in registration("A", "B")[:2]:
        source._take(event)

    source._take(Progress(4))

    assert [each.address for each in source._told] == ["A"]
    assert source._seq == 4
