"""``ezgraph watch``: live, from a seq on, across a restart of the broker, and its end."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ezgraph import GraphServer, SettingsSnapshotValue, sync
from tests.integration.watching import WAIT_S, watching

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

def test_it_shows_what_was_and_then_what_comes_and_ctrl_c_ends_it(server: GraphServer) -> None:
    service = sync.GraphService(server.address)
    service.connect("a", "b")

    with watching(server, "watch", "--after", "0", "--json") as watch:
        assert watch.event()["body"]["from_topic"] == "a"
        service.connect("b", "c")
        live = watch.event()
        ended = watch.interrupt()

    assert (live["seq"], live["kind"], live["key"]) == (2, "EdgeConnected", ["edge", "b", "c"])
    assert ended == (0, "")


def test_a_line_reads_as_seq_time_verb_key_what_who(server: GraphServer) -> None:
    with sync.ProcessControlClient(server.address) as process:
        process.register(["SYS/A"])
        process.report_settings_update("SYS/A", {"gain": 1.0, "order": 4})
        process.report_settings_update("SYS/A", {"gain": 2.0, "order": 4}, reason="too quiet")

        with watching(server, "watch", "settings/SYS/A", "--after", "0") as watch:
            first, second = watch.line(), watch.line()

    assert first.split()[0] == "3"
    assert "changed    settings/SYS/A            gain=1.0 order=4  by " in first
    assert "gain=2.0 (was 1.0) order=4  because: too quiet  by " in second
    assert f"[{os.getpid()}]@" in second
    assert "\x1b" not in first + second


def test_a_prefix_that_ends_in_a_slash_shows_all_below(server: GraphServer) -> None:
    with sync.ProcessControlClient(server.address) as process:
        process.register(["SYS/A", "SYS2/A", "SYS/B"])
        for unit in ("SYS2/A", "SYS/A", "SYS/B"):
            process.report_settings_update(unit, SettingsSnapshotValue(None, "on"))

        with watching(server, "watch", "settings/SYS/", "--after", "0", "--json") as watch:
            seen = [watch.event()["key"][1] for _ in range(2)]

    assert seen == ["SYS/A", "SYS/B"]


def test_it_goes_on_after_a_restart_of_the_broker(tmp_path: Path) -> None:
    journal = f"sqlite:///{tmp_path}/rig.db"
    with GraphServer(backend=journal) as first:
        address = first.address
        service = sync.GraphService(address)
        service.connect("a", "b")
        with watching(first, "watch", "--after", "0", "--json") as watch:
            seen = [watch.event()["seq"]]
            first.stop()

            with GraphServer(address, backend=journal):
                service.connect("b", "c", timeout=WAIT_S)
                service.connect("c", "d")
                seen += [watch.event()["seq"], watch.event()["seq"]]
                code, _ = watch.interrupt()

    assert seen == [1, 2, 3]
    assert code == 0


def test_another_history_at_the_same_address_ends_it_with_code_1() -> None:
    with GraphServer() as first:
        address = first.address
        sync.GraphService(address).connect("a", "b")
        with watching(first, "watch", "--after", "0", "--json") as watch:
            watch.event()
            first.stop()

            with GraphServer(address):
                assert watch.line() == ""
                code, complaint = watch.interrupt()

    assert code == 1
    assert "another journal, or a new memory:// broker" in complaint.splitlines()[-1]
