from __future__ import annotations

from uuid import UUID

import pytest

from ezgraph.protocol.events import (
    Body,
    EdgeConnected,
    Event,
    ProcessOpened,
    ProcessUnitsChanged,
    SessionOpened,
    SettingsChanged,
    SettingsLayer,
    Source,
    key_of,
)
from ezgraph.protocol.settings import SettingsEventType, settings_value

PROCESS = UUID("12345678123456781234567812345678")


def report(cutoff_hz: float) -> SettingsChanged:
    return SettingsChanged(
        "ECG/FILTER",
        SettingsEventType.SETTINGS_UPDATED,
        SettingsLayer.LIVE,
        settings_value({"cutoff_hz": cutoff_hz}),
        PROCESS,
    )


def event_at(seq: int, body: Body) -> Event:
    return Event(
        epoch=1,
        seq=seq,
        prev=seq - 1,
        txn_first=seq,
        txn_last=seq,
        wall_time=1000.0 + seq / 7,
        mono_time=float(seq),
        key=key_of(body),
        source=Source(session_id="s1", program="demo-filter", pid=7),
        request_id=seq,
        body=body,
    )


@pytest.fixture
def history() -> list[Event]:
    """Seven events, five of which are of settings or topology (seq 2, 4, 5, 6 and 7)."""
    bodies: list[Body] = [
        SessionOpened("s1", 2.0),
        EdgeConnected("ECG/SOURCE/SIGNAL", "ECG/FILTER/INPUT", "s1", topology_changed=True),
        ProcessOpened(PROCESS, 2.0),
        ProcessUnitsChanged(PROCESS, ["ECG/FILTER"], ["ECG/FILTER"], []),
        report(40.0),
        report(15.0),
        report(20.0),
    ]
    return [event_at(seq, body) for seq, body in enumerate(bodies, start=1)]
