"""Settings of every type through broker, journal and client, and a broker started again."""

from __future__ import annotations

import datetime as dt
import enum
import math
import pathlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ezgraph import GraphServer, sync
from ezgraph.errors import MalformedMessageError
from ezgraph.settings import Settings, SettingsTable
from ezgraph.settings.exact import native

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration


class Mode(enum.Enum):
    FAST = "fast"


@dataclass(frozen=True)
class Notch:
    hz: float = 50.0


class Everything(Settings):
    array: Any = field(
        default_factory=lambda: np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3))
    )
    raw: bytes = b"\x00\xff"
    mode: Mode = Mode.FAST
    path: pathlib.Path = pathlib.Path("/data")
    tags: frozenset[str] = frozenset({"a", "b"})
    window: tuple[int, int] = (1, 2)
    notches: tuple[Notch, ...] = (Notch(),)
    z: complex = 1 + 2j
    when: dt.datetime = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    odd: Any = field(default_factory=lambda: [math.nan, math.inf, -0.0, np.float32(0.1)])
    by_channel: Any = field(default_factory=lambda: {1: 0.5, "1": 1.5, (2, 3): {None: "x"}})


def check(found: Any) -> None:
    found = native(found)
    array, odd = found.pop("array"), found.pop("odd")
    assert (array.dtype.str, array.shape, array.flags.f_contiguous) == (">i2", (2, 3), True)
    assert array.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert math.isnan(odd[0])
    assert (odd[1], math.copysign(1, odd[2])) == (math.inf, -1)
    assert (type(odd[3]), odd[3]) == (np.float32, np.float32(0.1))
    assert found["mode"] is Mode.FAST
    assert found == {
        "raw": b"\x00\xff",
        "mode": Mode.FAST,
        "path": pathlib.Path("/data"),
        "tags": frozenset({"a", "b"}),
        "window": (1, 2),
        "notches": ({"hz": 50.0},),
        "z": 1 + 2j,
        "when": dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
        "by_channel": {1: 0.5, "1": 1.5, (2, 3): {None: "x"}},
    }


def report(server: GraphServer, value: object) -> sync.ProcessControlClient:
    process = sync.ProcessControlClient(server.address)
    process.connect()
    process.register(["SYS/A"])
    process.report_settings_update("SYS/A", value)
    return process


def test_settings_of_every_type_come_back_as_they_were(tmp_path: Path) -> None:
    journal = f"sqlite:///{tmp_path / 'rig.db'}"
    with GraphServer(backend=journal) as server, sync.GraphContext(server.address) as ctx:
        process = report(server, Everything())
        check(ctx.settings_snapshot()["SYS/A"].structured_value)
        check(ctx.settings_events()[-1].value.structured_value)
        assert ctx.replica.fingerprint() == ctx.state().fingerprint()
        process.report_settings_update("SYS/A", ctx.settings_snapshot()["SYS/A"].structured_value)
        process.close()
    with GraphServer(backend=journal) as server, sync.GraphContext(server.address) as ctx:
        events = ctx.settings_events()

    reported = [each for each in events if each.event_type.name != "SETTINGS_REMOVED"]
    assert len(reported) == 2
    for each in reported:
        check(each.value.structured_value)
    table = SettingsTable(events)
    names = {each.path: each.name for each in table.columns}
    first = next(table.rows()).values
    assert first["SYS.A.mode"] is Mode.FAST
    by_channel = {path[2:]: first[name] for path, name in names.items() if "by_channel" in path}
    assert by_channel == {(1,): 0.5, ("1",): 1.5, ((2, 3), None): "x"}


def test_settings_that_cannot_be_encoded_are_refused_with_their_place(tmp_path: Path) -> None:
    with GraphServer() as server, sync.GraphContext(server.address) as ctx:
        process = report(server, {"gain": 1})
        with pytest.raises(MalformedMessageError) as refused:
            process.report_settings_update("SYS/A", {"a": {"b": [1, object()]}})

        assert "ReportSettings.value.repr_value.a.b[1]: " in str(refused.value)
        assert ctx.settings_snapshot()["SYS/A"].structured_value == {"gain": 1}
        process.close()
