"""The configuration on real sockets: both forms, sessions that end, a broker that is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import TYPE_CHECKING, Any

import pytest

from ezgraph import (
    Address,
    BrokerConfig,
    ContextClosedError,
    EzGraphError,
    ForbiddenError,
    GraphContext,
    GraphServer,
    InvalidKeyError,
    LimitError,
    MalformedMessageError,
    PreconditionFailedError,
    RefusedError,
    Retention,
    SchemaViolationError,
    SessionExpiredError,
    UnknownConfigKeyError,
    sync,
)
from ezgraph.keys.keyring import Keyring

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ezgraph.graph.configuration.watch import ConfigWatch, ConfigWatchEvent

pytestmark = pytest.mark.integration

Seen = tuple[str, str, Any]
Test = Callable[..., Coroutine[Any, Any, None]]


def story(test: Test) -> Callable[..., None]:
    """Run a test in an event loop of its own."""

    @wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(test(**fixtures))

    return run


def shown(event: ConfigWatchEvent) -> Seen:
    return str(event.kind), event.key_text, event.value


async def take(watch: ConfigWatch, count: int) -> list[Seen]:
    async with asyncio.timeout(20):
        return [shown(await anext(watch)) for _ in range(count)]


@story
async def test_a_value_is_put_read_changed_and_deleted(server: GraphServer) -> None:
    async with GraphContext(server.address) as ctx:
        config = ctx.config
        put = await config.put("active-flow", "chunker:default", {"size": 100}, reason="trial 7")
        again = await config.put("active-flow", ("chunker", "default"), {"size": 100})
        entry = await config.entry("active-flow", "chunker:default")

        assert (put.changed, put.unchanged) == (1, 0)
        assert (again.changed, again.unchanged, again.seq) == (0, 1, put.seq)
        assert entry is not None
        assert (entry.value, entry.seq, entry.owner) == ({"size": 100}, put.seq, None)
        assert not entry.is_ephemeral
        assert await config.get("active-flow", "chunker:default") == {"size": 100}
        assert (await ctx.events(("config",)))[0].source.reason == "trial 7"

        deleted = await config.delete("active-flow", "chunker:default", if_seq=put.seq)
        gone = await config.delete("active-flow", "chunker:default")
        assert (deleted.changed, gone.changed, gone.unchanged) == (1, 0, 1)


@story
async def test_absent_and_present_with_none_are_different(server: GraphServer) -> None:
    async with GraphContext(server.address) as ctx:
        await ctx.config.put("flow", "nothing", None)

        assert await ctx.config.get("flow", "nothing", "default") is None
        assert await ctx.config.get("flow", "absent", None) is None
        assert await ctx.config.entry("flow", "nothing") is not None
        assert await ctx.config.entry("flow", "absent") is None
        with pytest.raises(UnknownConfigKeyError, match="no configuration 'flow' 'a:absent'"):
            await ctx.config.get("flow", "a:absent")
        with pytest.raises(KeyError):
            await ctx.config.get("flow", "absent")


@story
async def test_any_character_may_stand_in_a_name(server: GraphServer) -> None:
    names = ["a:b", "a/b", "a%3Ab", "%", "*", " ", "日本", "tab\t", "nul\0x", "\u202e", "e\u0301"]
    async with GraphContext(server.address) as ctx:
        async with ctx.config.txn() as txn:
            for name in names:
                txn.put("fl:o/w", (name, "x"), name)

        for name in names:
            assert await ctx.config.keys("fl:o/w", (name,)) == [(name, "x")]
            assert await ctx.config.get("fl:o/w", (name, "x")) == name
        assert await ctx.config.types() == ["fl:o/w"]
        found = [entry async for entry in ctx.config.scan("fl:o/w", match=("a*", "x"))]
        assert [entry.key_text for entry in found] == ["a%253Ab:x", "a/b:x", "a%3Ab:x"]


@story
async def test_a_large_scan_is_in_order_and_all_of_it_as_of_one_seq(server: GraphServer) -> None:
    async with GraphContext(server.address) as ctx, GraphContext(server.address) as other:
        async with ctx.config.txn() as txn:
            for number in range(1_200):
                txn.put("flow", f"p{number % 12:02}:{number:04}", 0)

        async def turn_round() -> None:
            """Change the first and the last together, always to the same."""
            for turn in range(1, 30):
                async with other.config.txn() as txn:
                    txn.put("flow", "p00:0000", turn)
                    txn.put("flow", "p11:1199", turn)

        async with asyncio.TaskGroup() as tasks:
            turning = tasks.create_task(turn_round())
            scans = 0
            while not turning.done():
                entries = await ctx.config.entries("flow")
                keys = [entry.key for entry in entries]
                assert len(keys) == 1_200
                assert keys == sorted(keys)
                assert entries[0].value == entries[-1].value
                scans += 1
        assert scans > 1
        assert len(await ctx.config.keys("flow", "p03")) == 100


@story
async def test_a_watch_says_what_is_there_then_what_changes(server: GraphServer) -> None:
    async with GraphContext(server.address) as ctx, GraphContext(server.address) as other:
        await other.config.put("flow", "chunker:a", 1)
        await other.config.put("flow", "chunker2:a", 1)
        watch, empty = ctx.config.watch("flow", "chunker"), ctx.config.watch("nothing")

        assert await take(watch, 2) == [("initial", "chunker:a", 1), ("end_of_initial", "", None)]
        assert await take(empty, 1) == [("end_of_initial", "", None)]
        async with other.config.txn() as txn:
            txn.put("flow", "chunker:b", 2)
            txn.put("flow", "chunker2:b", 2)
            txn.put("flow", "chunker:c", 3)
        await other.config.put("flow", "chunker:b", 2)
        await other.config.delete("flow", "chunker:b")
        assert await take(watch, 3) == [
            ("put", "chunker:b", 2), ("put", "chunker:c", 3), ("deleted", "chunker:b", None),
        ]  # fmt: skip
        await watch.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(watch)


@story
async def test_a_change_knows_what_was_there_before(server: GraphServer) -> None:
    async with GraphContext(server.address) as ctx:
        first = await ctx.config.put("flow", "a", 1)
        watch = ctx.config.watch("flow")
        await take(watch, 2)
        await ctx.config.put("flow", "a", 2)
        await ctx.config.delete("flow", "a")
        put, deleted = await anext(watch), await anext(watch)

    assert put.previous is not None
    assert deleted.previous is not None
    assert (put.previous.value, put.previous.seq) == (1, first.seq)
    assert (deleted.previous.value, deleted.previous.seq) == (2, put.seq)


@story
async def test_a_watch_after_a_seq_begins_with_the_changes_after_it(server: GraphServer) -> None:
    async with GraphContext(server.address) as ctx:
        seqs = [(await ctx.config.put("flow", "a", number)).seq for number in range(4)]

        watch = ctx.config.watch("flow", after_seq=seqs[1])

        assert await take(watch, 2) == [("put", "a", 2), ("put", "a", 3)]


@story
async def test_entries_of_a_session_end_with_it_and_its_watchers_hear(server: GraphServer) -> None:
    async with GraphContext(server.address) as ctx:
        watch = ctx.config.watch("flow")
        async with GraphContext(server.address) as other:
            await other.config.put("flow", "kept", 1)
            await other.config.put("flow", "mine", 1, ephemeral=True)
            owner = (await ctx.config.entry("flow", "mine")).owner  # type: ignore[union-attr]
            assert owner == other.session_id
            assert await take(watch, 3) == [
                ("initial", "kept", 1), ("initial", "mine", 1), ("end_of_initial", "", None),
            ]  # fmt: skip
            listed = {each.id: each.config for each in await ctx.clients()}
            assert listed[owner] == [("flow", "mine")]

        assert await take(watch, 1) == [("deleted", "mine", None)]
        assert [entry.key_text for entry in await ctx.config.entries("flow")] == ["kept"]


@story
async def test_a_condition_that_fails_changes_nothing(server: GraphServer) -> None:
    async with GraphContext(server.address) as ctx:
        seq = (await ctx.config.put("flow", "a", 1)).seq
        with pytest.raises(PreconditionFailedError, match=f"'flow' 'a'.* it is 1 since seq {seq}"):
            await ctx.config.put("flow", "a", 2, if_seq=0)
        with pytest.raises(PreconditionFailedError, match=r"'flow' 'b'.*to be there.*absent"):  # noqa: PT012
            async with ctx.config.txn() as txn:
                txn.put("flow", "a", 3)
                txn.require_present("flow", "b")
        async with ctx.config.txn() as done:
            done.put("flow", "a", 4)
            done.require_seq("flow", "a", seq)
            done.require_absent("flow", "b")
            done.require_value("flow", "a", 1)

        assert txn.result is None
        assert done.result is not None
        assert done.result.seq == seq + 1
        assert await ctx.config.get("flow", "a") == 4


@story
async def test_an_exception_in_a_transaction_sends_nothing(server: GraphServer) -> None:
    async with GraphContext(server.address) as ctx:
        with pytest.raises(ZeroDivisionError):  # noqa: PT012
            async with ctx.config.txn() as txn:
                txn.put("flow", "a", 1)
                raise ZeroDivisionError
        assert await ctx.config.types() == []


BAD_KEYS: list[Any] = ["", "a::b", ":", "a:", ("a", ""), ("a", 1), (), ("x" * 5_000,), ("a",) * 40,
                       ("\udc80",), 5, None]  # fmt: skip


@pytest.mark.parametrize("key", BAD_KEYS, ids=lambda key: repr(key)[:20])
@story
async def test_a_key_outside_the_grammar_is_refused_by_every_call(
    server: GraphServer, key: Any
) -> None:
    async with GraphContext(server.address) as ctx:
        config = ctx.config
        for asking in (
            lambda: config.put("flow", key, 1), lambda: config.get("flow", key),
            lambda: config.delete("flow", key), lambda: config.entry("flow", key),
        ):  # fmt: skip
            with pytest.raises(InvalidKeyError):
                await asking()
        for change in (config.txn().put, config.txn().require_value):
            with pytest.raises(InvalidKeyError):
                change("flow", key, 1)
        with pytest.raises(InvalidKeyError):
            config.watch("flow", ("", "a"))
        with pytest.raises(InvalidKeyError):
            await config.put("", "a", 1)
        assert await config.types() == []


class Stranger:
    """Something that the bus does not carry."""


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [
        (Stranger(), MalformedMessageError, r"puts\[0\].value: .*Stranger is no type"),
        ({"a": [Stranger()]}, MalformedMessageError, r"value.a\[0\]: .*Stranger is no type"),
        ("x" * (2 << 20), LimitError, r"'flow' 'a' takes 2097157 bytes.*max_config_value_bytes"),
        (nested(33), LimitError, r"'flow' 'a' is nested deeper than 32.*max_config_depth"),
        (nested(70), MalformedMessageError, r"puts\[0\].value: .*deeper than 64; flatten"),
        (nested(600), MalformedMessageError, r"puts\[0\].value: .*deeper than 64; flatten"),
        ("\udc80", MalformedMessageError, r"puts\[0\].value: .*surrogates not allowed"),
    ],
    ids=["object", "object inside", "large", "deep", "deeper", "deepest", "surrogate"],
)
@story
async def test_a_value_beyond_what_the_bus_carries_is_refused_and_harms_nobody(
    server: GraphServer, value: Any, error: type[EzGraphError], said: str
) -> None:
    async with GraphContext(server.address) as ctx:
        with pytest.raises(error, match=said):
            await ctx.config.put("flow", "a", value)

        await ctx.config.put("flow", "a", nested(32))
        assert await ctx.config.get("flow", "a") == nested(32)


@story
async def test_a_transaction_beyond_the_limit_is_refused_whole(server: GraphServer) -> None:
    async with GraphContext(server.address) as ctx:
        with pytest.raises(LimitError, match=r"10001 puts.*max_config_operations"):  # noqa: PT012
            async with ctx.config.txn() as txn:
                for number in range(10_001):
                    txn.put("flow", f"{number}", number)

        assert await ctx.config.types() == []


@story
async def test_one_key_twice_in_a_transaction_is_refused(server: GraphServer) -> None:
    async with GraphContext(server.address) as ctx:
        with pytest.raises(RefusedError, match="'flow' 'a' is changed twice"):  # noqa: PT012
            async with ctx.config.txn() as txn:
                txn.put("flow", "a", 1)
                txn.delete("flow", ("a",))


@story
async def test_a_value_that_breaks_its_schema_is_refused_with_its_place(
    server: GraphServer,
) -> None:
    schema = {"type": "object", "properties": {"size": {"type": "integer", "minimum": 1}}}
    async with GraphContext(server.address) as ctx:
        await ctx.config.put("flow", "odd", "text")
        with pytest.raises(SchemaViolationError, match="'odd'"):
            await ctx.config.set_schema("flow", schema)
        assert await ctx.config.schema("flow") is None
        await ctx.config.delete("flow", "odd")

        await ctx.config.set_schema("flow", schema)
        with pytest.raises(SchemaViolationError, match=r"'flow' 'a'.*/size"):
            await ctx.config.put("flow", "a", {"size": 0})

        assert await ctx.config.schema("flow") == schema
        await ctx.config.put("flow", "a", {"size": 1})
        await ctx.config.set_schema("flow", None)
        await ctx.config.put("flow", "a", {"size": 0})


def test_the_blocking_twin_does_the_same(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as ctx:
        config = ctx.config
        watch = config.watch("flow")
        config.put("flow", "a:x", 1)
        assert [shown(next(watch)) for _ in range(2)] == [
            ("initial", "a:x", 1), ("end_of_initial", "", None),
        ]  # fmt: skip
        with config.txn(reason="why") as txn:
            txn.put("flow", "b", 2)
            txn.delete("flow", "a:x")
        assert txn.result is not None
        assert (txn.result.changed, txn.result.unchanged) == (2, 0)
        assert [shown(next(watch)) for _ in range(2)] == [("deleted", "a:x", None), ("put", "b", 2)]
        watch.close()
        assert list(watch) == []
        assert [entry.key_text for entry in config.scan("flow")] == ["b"]
        with pytest.raises(ZeroDivisionError), config.txn() as undone:  # noqa: PT012
            undone.put("flow", "c", 1)
            raise ZeroDivisionError
        assert config.keys("flow") == [("b",)]
    with pytest.raises(ContextClosedError):
        config.get("flow", "b")


@story
async def test_a_replica_and_a_snapshot_have_the_configuration(server: GraphServer) -> None:
    async with GraphContext(server.address, replica=True) as ctx:
        seq = (await ctx.config.put("flow", "a:b", {"x": 1})).seq

        assert ctx.replica.seq >= seq
        held = ctx.replica.state.config.get("flow", ("a", "b"))
        assert held is not None
        assert held.value == {"x": 1}
        assert ctx.replica.fingerprint() == (await ctx.state()).fingerprint()
        assert (await ctx.snapshot(with_config=False)).config is None
        whole = await ctx.snapshot()
        assert whole == ctx.replica.state.snapshot()
        assert whole.config is not None
        assert whole.config["flow"]["a", "b"].seq == seq
        assert (await ctx.status()).config_entries == 1


@story
async def test_a_lost_session_declares_its_entries_again_and_overwrites_nobody(
    server: GraphServer,
) -> None:
    async with (
        GraphContext(server.address, ttl_s=0.5) as ctx,
        GraphContext(server.address) as other,
    ):
        async with ctx.config.txn() as txn:
            for name in ("a", "b", "c", "d"):
                txn.put("flow", name, 1, ephemeral=True)
        await ctx.config.put("flow", "c", 1)  # persistent now
        await ctx.config.delete("flow", "d")
        watch = other.config.watch("flow")
        await take(watch, 4)
        lost = ctx.session_id
        session: Any = ctx._session
        session._keepalive.stop()  # as if its program had been stopped
        session._keepalive = None
        assert await take(watch, 2) == [("deleted", "a", None), ("deleted", "b", None)]
        await other.config.put("flow", "b", "of another")

        with pytest.raises(SessionExpiredError, match=r"flow a, flow b") as expired:
            await ctx.config.put("flow", "x", 1)
        assert expired.value.lost.config == [("flow", "a"), ("flow", "b")]
        with pytest.raises(PreconditionFailedError, match="'flow' 'b'"):
            await ctx.redeclare()

        assert ctx.session_id != lost
        there = {entry.key_text: entry for entry in await other.config.entries("flow")}
        assert {name: entry.value for name, entry in there.items()} == {
            "a": 1, "b": "of another", "c": 1,
        }  # fmt: skip
        assert there["a"].owner == ctx.session_id
        seq = (await ctx.config.put("flow", "a", 2, ephemeral=True)).seq
        assert await ctx.redeclare() == seq


# --- a broker that is killed ---


class Rig:
    """A broker in a process of its own, on one address and one journal."""

    def __init__(self, where: Path, **options: Any) -> None:
        self._config = BrokerConfig(
            address=Address("127.0.0.1", 0), backend=f"sqlite:///{where}/rig.db", **options
        )
        self.server = GraphServer(config=self._config, run_in="process").start()
        self.address = self.server.address

    def restart(self) -> None:
        """Kill it, as the power does, and start another on what its journal has."""
        self.server.kill()
        self.server = GraphServer(self.address, config=self._config, run_in="process").start()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    running = Rig(tmp_path)
    yield running
    running.server.stop()


@story
async def test_nothing_answered_is_lost_when_the_broker_is_killed_again_and_again(
    rig: Rig,
) -> None:
    """Writers go on while it dies; afterwards everybody has what was answered last."""
    async with (
        GraphContext(rig.address, ttl_s=20.0) as one,
        GraphContext(rig.address, ttl_s=20.0) as other,
        GraphContext(rig.address, ttl_s=20.0) as reader,
    ):
        await one.config.put("flow", "mine", 1, ephemeral=True)
        watch, view, seen = reader.config.watch("flow"), dict[str, Any](), [0]
        told: dict[str, int] = {}
        progress, done = asyncio.Event(), asyncio.Event()

        async def write(name: str, ctx: GraphContext) -> None:
            number = 0
            while not done.is_set():
                number += 1
                async with ctx.config.txn(timeout=20.0) as txn:
                    txn.put("flow", f"{name}:a", number)
                    txn.put("flow", f"{name}:b", number)
                told[name] = number
                progress.set()

        async def follow() -> None:
            async for event in watch:
                if event.kind == "put" or event.kind == "initial":
                    view[event.key_text] = event.value
                assert event.kind not in ("reset", "deleted")
                if event.kind != "initial":
                    assert event.seq > seen[-1]
                    seen.append(event.seq)
                if event.key_text == "over":
                    return

        async with asyncio.timeout(40), asyncio.TaskGroup() as tasks:
            tasks.create_task(follow())
            writers = [
                tasks.create_task(write(name, ctx))
                for name, ctx in (("one", one), ("other", other))
            ]
            for _ in range(2):
                await progress.wait()
                await asyncio.to_thread(rig.restart)
                progress.clear()
            await progress.wait()
            done.set()
            await asyncio.wait(writers)
            await reader.config.put("flow", "over", None, timeout=20.0)
        there = {entry.key_text: entry.value for entry in await other.config.entries("flow")}
        assert view == there
        assert there["mine"] == 1
        for name, number in told.items():
            assert there[f"{name}:a"] == there[f"{name}:b"] >= number


@story
async def test_a_watch_that_missed_what_was_compacted_begins_anew(tmp_path: Path) -> None:
    rig = Rig(tmp_path, retention=Retention(events=5, max_pinned_events=0), checkpoint_events=10)
    try:
        async with GraphContext(rig.address) as ctx, GraphContext(rig.address) as other:
            await other.config.put("flow", "gone", 1)
            seq = (await other.config.put("flow", "kept", 1)).seq
            await other.config.delete("flow", "gone")
            floor = 0
            for number in range(2_000):
                floor = (await other.status()).floor if number % 20 == 0 else floor
                if floor > seq:
                    break
                await other.config.put("flow", "kept", number + 2)

            watch = ctx.config.watch("flow", after_seq=seq)

            assert floor > seq
            first, *rest = [await anext(watch) for _ in range(3)]
            last = await other.config.get("flow", "kept")
            assert (first.kind, first.vanished) == ("reset", ())
            assert [shown(each) for each in rest] == [
                ("initial", "kept", last), ("end_of_initial", "", None),
            ]  # fmt: skip
    finally:
        rig.server.stop()


@story
async def test_roles_bound_who_puts_and_who_reads_what(tmp_path: Path) -> None:
    ring = Keyring(tmp_path)
    ring.admit("watcher", "observer")
    ring.admit("rig", "owner:chunker")
    with GraphServer(config=ring.config()) as server:
        keys = {name: ring.keys(name, server.address) for name in ("watcher", "rig")}
        async with (
            GraphContext(server.address, keys=keys["rig"]) as owner,
            GraphContext(server.address, keys=keys["watcher"]) as watcher,
        ):
            await owner.config.put("flow", "chunker:default", 1)
            with pytest.raises(ForbiddenError, match="may not config config/flow/reader/default"):
                await owner.config.put("flow", "reader:default", 1)
            with pytest.raises(ForbiddenError, match="may not config config/flow"):
                await owner.config.set_schema("flow", {})
            with pytest.raises(ForbiddenError, match=r"'watcher'.*may not config"):
                await watcher.config.delete("flow", "chunker:default")
            assert await watcher.config.get("flow", "chunker:default") == 1
            refused = [each for each in await watcher.events(("audit",)) if each.key[1] == "rig"]
            assert refused


@story
async def test_a_refused_value_tells_nothing_of_a_schema_that_one_may_not_read(
    tmp_path: Path,
) -> None:
    ring = Keyring(tmp_path)
    ring.add_role("writer", {"config": ["config/secret/*"]})
    ring.admit("boss")
    ring.admit("rig", "writer")
    with GraphServer(config=ring.config()) as server:
        keys = {name: ring.keys(name, server.address) for name in ("boss", "rig")}
        async with (
            GraphContext(server.address, keys=keys["boss"]) as boss,
            GraphContext(server.address, keys=keys["rig"]) as writer,
        ):
            await boss.config.set_schema("secret", {"items": {"enum": ["xyzzy"]}})
            with pytest.raises(SchemaViolationError, match="wrong is /0") as refused:
                await writer.config.put("secret", "k", ["guess"])
            assert "xyzzy" not in str(refused.value)
            with pytest.raises(SchemaViolationError, match="xyzzy"):
                await boss.config.put("secret", "k", ["guess"])
