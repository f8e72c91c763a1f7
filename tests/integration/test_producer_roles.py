"""The settings producer with a key whose role reads only a part, or another part than before."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import wraps
from typing import TYPE_CHECKING, Any

import pytest

from ezgraph import ForbiddenError, GraphContext, GraphServer
from ezgraph.broker import gate
from ezgraph.client import core
from ezgraph.keys.folder import replace_file
from ezgraph.keys.keyring import Keyring
from ezgraph.keys.pair import read_pair_file
from ezgraph.keys.trusted import revoke, trust_again
from ezgraph.settings import (
    PipelineSettingsProducer,
    PipelineSettingsProducerSettings,
    producer,
)
from ezgraph.toml_text import dump_toml
from tests.integration.test_producer import INITIAL, REMOVED, SENTINEL, at, start_of, told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

READER = "reader"


class Rig:
    """A broker that asks for keys, one key for everything, and one whose role a test chooses."""

    def __init__(self, folder: Path) -> None:
        self.ring = Keyring(folder)
        self.ring.admit("operator")
        self.ring.admit(READER, role=READER)

    def start(self, *reads: str) -> None:
        """Start the broker; the reader reads this to begin with."""
        self.read(*reads)
        self.server = GraphServer(config=self.ring.config()).start()

    def read(self, *patterns: str) -> None:
        """Let the reader read this from now on."""
        roles = {READER: {"read": list(patterns)}}
        replace_file(self.ring.roles, dump_toml({"roles": roles}))

    def revoke(self) -> None:
        revoke(self.ring.trusted, READER, at=datetime.now(UTC))

    def admit_again(self) -> None:
        key = read_pair_file(self.ring.secret_file(READER)).public_key
        trust_again(self.ring.trusted, key, role=READER, at=datetime.now(UTC))

    def operator(self) -> GraphContext:
        address = self.server.address
        return GraphContext(address, keys=self.ring.keys("operator", address))

    @asynccontextmanager
    async def producing(self, **chosen: Any) -> AsyncIterator[PipelineSettingsProducer]:
        address = self.server.address
        settings = PipelineSettingsProducerSettings(graph_address=address, **chosen)
        source = PipelineSettingsProducer(settings, keys=self.ring.keys(READER, address))
        try:
            yield source
        finally:
            await source.close()


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(gate, "_LOOK_S", 0.02)
    for name, seconds in {"BEAT_EVERY_S": 0.05, "BEAT_S": 0.4, "LAST_PAUSE_S": 0.3}.items():
        monkeypatch.setattr(producer, name, seconds)
    monkeypatch.setattr(core, "LAST_JOIN_RETRY_S", 0.3)
    rig = Rig(tmp_path)
    yield rig
    rig.server.stop()


def awaited(story: Callable[[Rig], Coroutine[Any, Any, None]]) -> Callable[[Rig], None]:
    """A test that is a coroutine."""

    @wraps(story)
    def run(rig: Rig) -> None:
        asyncio.run(story(rig))

    return run


async def take(source: PipelineSettingsProducer, count: int) -> list[Any]:
    async with asyncio.timeout(15):
        return told([await source.produce() for _ in range(count)])


@pytest.mark.parametrize("chosen", [{}, {"scope_components": ["RIG_A/1", "RIG_B/1"]}])
def test_only_what_the_role_reads_is_told(
    rig: Rig, chosen: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with rig.operator() as a, rig.operator() as b, rig.producing(**chosen) as source:
            await a.register_metadata(at("RIG_A/1"))
            await b.register_metadata(at("RIG_B/1"))

            assert told(await start_of(source)) == [
                ("RIG_A/1", INITIAL, 1), (SENTINEL, INITIAL, None)
            ]
            await b.register_metadata(at("RIG_B/1", gain=2))
            await a.register_metadata(at("RIG_A/1", gain=3))
            await b.revert()
            await a.revert()
            assert await take(source, 2) == [("RIG_A/1", INITIAL, 3), ("RIG_A/1", REMOVED, 3)]

    rig.start("settings/RIG_A/")
    with caplog.at_level(logging.WARNING, "ezgraph.settings.producer"):
        asyncio.run(scenario())

    unreadable = [each for each in caplog.messages if "RIG_B/1" in each]
    assert len(unreadable) == len(chosen)


@pytest.mark.parametrize(
    ("reads", "chosen", "says"),
    [
        ("edge/", {}, "may not read settings"),
        ("settings/RIG_A/", {"scope_components": ["RIG_B/1"]}, "'RIG_B/1' cannot be read"),
        ("settings/", {"scope": "session", "session_of": "RIG_A/1"}, "component/RIG_A/1"),
    ],
)
def test_what_could_never_be_told_is_an_error_until_the_role_reads_it(
    rig: Rig, reads: str, chosen: dict[str, Any], says: str
) -> None:
    async def scenario() -> None:
        async with rig.operator() as a, rig.producing(**chosen) as source:
            await a.register_metadata(at("RIG_A/1", "RIG_B/1"))
            for _ in range(2):
                with pytest.raises(ForbiddenError, match=says):
                    await source.produce()

            rig.read("settings/", "component/")
            while True:
                with suppress(ForbiddenError):
                    start = [await source.produce(), *await start_of(source)]
                    break
                await asyncio.sleep(0.02)

            wanted = chosen.get("scope_components", ["RIG_A/1", "RIG_B/1"])
            assert told(start) == [(each, INITIAL, 1) for each in wanted] + [
                (SENTINEL, INITIAL, None)
            ]

    rig.start(reads)
    asyncio.run(scenario())


@awaited
async def test_a_session_is_followed_as_far_as_its_components_and_settings_are_read(
    rig: Rig,
) -> None:
    rig.start("component/RIG_A/", "settings/")
    async with rig.operator() as a, rig.operator() as b:
        await a.register_metadata(at("RIG_A/1", "RIG_A/2", "RIG_C/1"))
        await b.register_metadata(at("RIG_A/3"))
        async with rig.producing(scope="session", session_of="RIG_A/1") as source:
            start = told(await start_of(source))
            await b.register_metadata(at("RIG_A/3", gain=2))
            await a.register_metadata(at("RIG_A/1", "RIG_A/4"))
            after = await take(source, 3)

    assert start == [
        ("RIG_A/1", INITIAL, 1), ("RIG_A/2", INITIAL, 1), (SENTINEL, INITIAL, None)
    ]
    assert sorted(after, key=str) == [
        ("RIG_A/1", INITIAL, 1), ("RIG_A/2", REMOVED, 1), ("RIG_A/4", INITIAL, 1)
    ]


@awaited
async def test_when_the_role_changes_what_comes_into_sight_is_told_and_what_goes_out_of_it(
    rig: Rig,
) -> None:
    rig.start("settings/RIG_A/")
    async with rig.operator() as a, rig.operator() as b, rig.producing() as source:
        await a.register_metadata(at("RIG_A/1"))
        await b.register_metadata(at("RIG_B/1"))
        await start_of(source)

        rig.read("settings/")
        assert await take(source, 1) == [("RIG_B/1", INITIAL, 1)]
        await b.register_metadata(at("RIG_B/1", gain=2))
        assert await take(source, 1) == [("RIG_B/1", INITIAL, 2)]
        rig.read("settings/RIG_B/")
        assert await take(source, 1) == [("RIG_A/1", REMOVED, 1)]
        await a.register_metadata(at("RIG_A/1", gain=3))
        await b.register_metadata(at("RIG_B/1", gain=4))
        assert await take(source, 1) == [("RIG_B/1", INITIAL, 4)]
        rig.read("edge/")
        with pytest.raises(ForbiddenError):
            await take(source, 1)
        rig.read("settings/RIG_A/")
        while True:
            with suppress(ForbiddenError):
                back = await take(source, 1)
                break
            await asyncio.sleep(0.02)

        assert back == [("RIG_A/1", INITIAL, 3)]
        assert await take(source, 1) == [("RIG_B/1", REMOVED, 4)]


def test_a_key_that_is_revoked_and_admitted_again_misses_nothing(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with rig.operator() as a, rig.producing() as source:
            await a.register_metadata(at("RIG_A/1"))
            await start_of(source)
            rig.revoke()
            async with asyncio.TaskGroup() as tasks:
                waiting = tasks.create_task(source.produce())
                async with asyncio.timeout(15):
                    while not any("trying on" in each for each in caplog.messages):  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                await a.register_metadata(at("RIG_A/1", gain=2))
                await a.register_metadata(at("RIG_A/1", gain=3))
                rig.admit_again()

            assert told([waiting.result()]) == [("RIG_A/1", INITIAL, 2)]
            assert await take(source, 1) == [("RIG_A/1", INITIAL, 3)]

    rig.start("settings/")
    with caplog.at_level(logging.WARNING, "ezgraph.settings.producer"):
        asyncio.run(scenario())
