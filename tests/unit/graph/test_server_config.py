"""What a broker in a process of its own is told of its configuration: all of it."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING

from ezgraph.backends import SQLiteBackend
from ezgraph.broker.__main__ import config_of
from ezgraph.config import Address, BrokerConfig, Limits, Retention
from ezgraph.graph.server import GraphServer, config_to_json

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = BrokerConfig(
    address=Address("127.0.0.1", 7),
    events_port=9,
    advertise="lab",
    backend="sqlite:///a.db",
    insecure=True,
    require_keys=True,
    key="rig",
    trusted="/trusted",
    roles="/roles",
    ttl_s=2.0,
    checkpoint_events=3,
    journal_warning_bytes=4,
    retention=Retention(events=5, age_s=6.0),
    limits=Limits(max_leases=7, guest_ttl_s=8.0),
)


def test_a_broker_process_runs_as_it_was_configured() -> None:
    default = BrokerConfig()
    same = [
        each.name for each in fields(CONFIG)
        if getattr(CONFIG, each.name) == getattr(default, each.name)
    ]

    assert same == []  # so that every field is tested
    assert config_of(json.loads(config_to_json(CONFIG))) == CONFIG


def test_where_its_journal_is_may_be_said_by_a_backend(tmp_path: Path) -> None:
    backend = SQLiteBackend(str(tmp_path / "rig.db"))

    assert GraphServer(backend=backend).config == GraphServer(backend=backend.url).config
