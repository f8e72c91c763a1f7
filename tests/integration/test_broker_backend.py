"""``ezgraph://``: what a broker's store does beyond what every backend does."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

import ezgraph
from ezgraph import (
    Artifact,
    BrokerUnreachableError,
    ConfigError,
    ContextClosedError,
    Fingerprint,
    Graph,
    JournalCorruptError,
    JournalError,
    LimitError,
    Partition,
    Snapshot,
    UnsupportedError,
    sync,
)
from ezgraph.backends import Backend, SQLiteBackend, stored_graphs
from ezgraph.client.backend import AsyncBrokerConnection, BrokerBackend
from ezgraph.client.blocking import run
from ezgraph.config import BrokerConfig, Limits
from ezgraph.errors import JournalVersionError
from ezgraph.names import topic_of
from ezgraph.protocol.commands import GetStatus
from ezgraph.protocol.events import PartitionsWritten, TagSet
from ezgraph.protocol.replies import Frozen, StatusReport
from ezgraph.protocol.stored import GraphRow, TagRow
from ezgraph.protocol.stored_commands import Freeze, ReadStored
from ezgraph.wire import codec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ezgraph.backends.store import Store
    from ezgraph.protocol.commands import Command

pytestmark = pytest.mark.integration

RAW = Artifact("raw", storage="file:///data/{n}.h5")


@pytest.fixture(scope="module")
def server() -> Iterator[ezgraph.GraphServer]:
    with ezgraph.GraphServer(("127.0.0.1", 0), backend="memory://") as made:
        yield made


@pytest.fixture
def backend(server: ezgraph.GraphServer) -> BrokerBackend:
    return BrokerBackend(str(server.address))


def part(number: int) -> Partition:
    return Partition({"n": number}, Fingerprint.from_string("x"), location=f"/{number}")


def snapshot(name: str, gain: float = 1.0, size: int = 3) -> Snapshot:
    gains = {f"SYS/U{n:04}": {"gain": gain, "text": f"{n}" * 40} for n in range(size)}
    return Snapshot(Graph(name, settings=gains), seq=1, epoch=1)


# --- its address ---


def test_a_url_names_a_broker_and_perhaps_a_key_pair() -> None:
    one = Backend.from_url("ezgraph://127.0.0.1:25979")
    keyed = Backend.from_url("ezgraph://[::1]:7,lab:8?keys=anna")

    assert one == BrokerBackend("127.0.0.1:25979")
    assert keyed == BrokerBackend("[::1]:7,lab:8", "anna")
    assert Backend.from_url(keyed.url) == keyed
    assert keyed.fingerprint != one.fingerprint
    assert repr(one) == "<BrokerBackend ezgraph://127.0.0.1:25979>"
    assert "anna" not in repr(keyed)


@pytest.mark.parametrize(
    "url",
    [
        "ezgraph://anna:hunter2@127.0.0.1:25979",
        "ezgraph://127.0.0.1:25979?password=hunter2",
        "ezgraph://127.0.0.1:25979/rig.db#hunter2",
        "ezgraph:///hunter2",
        "ezgraph://",
        "ezgraph:127.0.0.1:25979",
        "ezgraph://127.0.0.1",
        "ezgraph://127.0.0.1:x",
        "ezgraph://127.0.0.1:99999",
    ],
)
def test_a_url_that_names_none_is_refused_and_shows_no_secret(url: str) -> None:
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1|host:port") as refused:
        Backend.from_url(url)

    assert "hunter2:" not in str(refused.value)
    assert ":hunter2" not in str(refused.value)
    assert "=hunter2" not in str(refused.value)


def test_an_address_with_credentials_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="keys=NAME") as refused:
        BrokerBackend("anna:hunter2@127.0.0.1:25979")

    assert "hunter2" not in str(refused.value)


def test_nobody_is_dialled_before_it_is_used_and_nobody_there_is_said_soon() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    conn = BrokerBackend(f"127.0.0.1:{port}").connect(timeout=0.2)

    assert "not used yet" in repr(conn)
    with pytest.raises(BrokerUnreachableError, match=str(port)):
        conn.list_tags()
    conn.close()
    conn.close()
    with pytest.raises(ContextClosedError, match="connect again"):
        conn.list_tags()


def test_the_journal_is_not_opened_through_the_broker(backend: BrokerBackend) -> None:
    with backend.connect() as conn:
        for opening in (conn.open_journal, conn.open_reader):
            with pytest.raises(UnsupportedError, match="sqlite:///path"):
                opening()


# --- what is stored there ---


def test_everybody_is_told_what_is_stored(
    server: ezgraph.GraphServer, backend: BrokerBackend
) -> None:
    taken = snapshot("told")
    with sync.GraphContext(server.address) as ctx, backend.connect() as conn:
        before = ctx.sync()
        conn.write_snapshot_tag(taken, "good")
        conn.write_artifact_and_graph_partitions(taken, "raw", RAW, [part(1), part(2)])

        events = ctx.events(after_seq=before)

    tagged, written = (each.body for each in events if each.kind != "SessionOpened")
    assert tagged == TagSet("told", "good", taken.fingerprint, 1)
    storage = RAW.storage_fingerprint
    assert written == PartitionsWritten("raw", storage, 4, "told", taken.fingerprint)


def test_a_large_graph_comes_and_goes_in_pieces_of_which_only_new_ones_travel(
    backend: BrokerBackend,
) -> None:
    large, changed = snapshot("large", size=2_500), snapshot("large", size=2_500)
    gains = {**changed.graph.settings, "SYS/U0007": {"gain": 2.0}}
    changed = Snapshot(Graph("large", settings=gains), seq=2, epoch=1)
    sent: list[int] = []
    with backend.connect() as conn:
        add_pieces = conn._calls._send_missing

        async def counted(pieces: dict[bytes, bytes]) -> None:
            sent.append(await add_pieces(pieces))

        conn._calls._send_missing = counted  # type: ignore[method-assign,assignment]
        conn.write_snapshot(large)
        conn.write_snapshot_tag(changed, "changed")

        assert conn.read_snapshot("large", large.fingerprint) == large
        assert conn.read_snapshot_tag("large", "changed") == changed
    assert sent[0] > 50
    assert sent[1] == 1


def test_a_known_snapshot_is_named_and_not_sent_again(backend: BrokerBackend) -> None:
    taken = snapshot("known")
    with backend.connect() as conn:
        conn.write_snapshot_tag(taken, "one")
        with backend.connect() as other:
            other.untag("known", "one")
            other.delete_snapshot("known", taken.fingerprint)
            other.delete_graph("known", taken.fingerprint)

        conn.write_snapshot_tag(taken, "two")  # though it is not there any more

        assert conn.read_snapshot_tag("known", "two") == taken


def test_many_partitions_are_several_transactions_and_a_composite_is_one_or_none(
    backend: BrokerBackend,
) -> None:
    many = Artifact("many", storage="file:///many/{n}")
    parts = [part(number) for number in range(4_500)]
    taken = snapshot("composite")
    with backend.connect() as conn:
        conn.write_artifact_partitions(many, parts)
        with pytest.raises(LimitError, match="max_partitions_per_command"):
            conn.write_artifact_and_graph_partitions(taken, "many", many, parts)

        assert len(conn.read_artifact_partitions(many)) == 4_500
        wanted = {each.key: each.input_fingerprint for each in parts[:2_500]}
        assert len(conn.read_artifact_partitions(many, wanted)) == 2_500
        assert len(conn.list_partitions(many, limit=4_400)) == 4_400
        with pytest.raises(ezgraph.UnknownSnapshotError):
            conn.read_snapshot("composite", taken.fingerprint)


def test_pages_are_asked_for_again_when_something_was_written_between(
    backend: BrokerBackend,
) -> None:
    moving = Artifact("moving", storage="file:///moving/{n}")
    with backend.connect() as conn, backend.connect() as writer:
        conn.write_artifact_partitions(moving, [part(number) for number in range(3_000)])
        asked = conn._calls._ask
        written: list[object] = []

        async def ask(command: Command, kind: type[Any], /) -> Any:
            reply = await asked(command, kind)
            if not written and isinstance(command, ReadStored):
                written.append(writer.write_artifact_partitions(moving, [part(-1), part(9_999)]))
            return reply

        conn._calls._ask = ask

        found = conn.read_artifact_partitions(moving)

    assert {each.key["n"] for each in found} == {-1, *range(3_000), 9_999}


def test_threads_take_turns_on_one_connection(backend: BrokerBackend) -> None:
    shared = Artifact("shared", storage="file:///shared/{n}")
    with backend.connect() as conn, ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda n: conn.write_artifact_partitions(shared, [part(n)]), range(20)))

        assert len(conn.read_artifact_partitions(shared)) == 20


def test_the_async_form_may_share_a_session(backend: BrokerBackend) -> None:
    async def use() -> None:
        session = backend.async_session()
        await session.open()
        async with AsyncBrokerConnection(backend, session=session) as conn:
            await conn.write_snapshot_tag(snapshot("async"), "good")
            tags = await asyncio.gather(*(conn.list_tags("async") for _ in range(10)))
            assert {each[0].tag for each in tags} == {"good"}
        assert isinstance(await session.call(GetStatus()), StatusReport)
        await session.close()

    asyncio.run(use())


def test_a_connection_nobody_used_for_long_works_again() -> None:
    config = BrokerConfig(limits=Limits(guest_ttl_s=0.5))
    with ezgraph.GraphServer(("127.0.0.1", 0), config=config) as server:
        backend = BrokerBackend(str(server.address))
        service = sync.GraphService(server.address)
        with backend.connect() as conn:
            conn.write_snapshot_tag(snapshot("idle"), "good")
            mine = conn._session.client_id if conn._session else ""
            while mine in {each.id for each in service.clients()}:
                pass

            assert conn.read_snapshot_tag("idle", "good") == snapshot("idle")


# --- what is wrong with what is stored ---


def stored_in(path: Path) -> Frozen:
    """Store a frozen snapshot under a tag, through a broker that ends."""
    with (
        ezgraph.GraphServer(("127.0.0.1", 0), backend=f"sqlite:///{path}") as server,
        sync.GraphContext(server.address) as ctx,
    ):
        ctx.connect("a", "b")
        session = BrokerBackend(str(server.address)).session()
        run(session.open())
        reply = run(session.call(Freeze("rig", "good")))
        run(session.close())
    assert isinstance(reply, Frozen)
    return reply


def test_what_a_broker_froze_is_read_from_its_file_when_it_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "rig.db"
    frozen = stored_in(path)

    with SQLiteBackend(path).connect() as conn:
        kept = conn.read_snapshot_tag("rig", "good")

    assert kept.fingerprint == frozen.snapshot.fingerprint
    assert kept.graph.topology == (("a", "b"),)


def test_rows_of_a_newer_ezgraph_and_damaged_ones_are_named_and_the_broker_lives_on(
    tmp_path: Path,
) -> None:
    path = tmp_path / "rig.db"
    frozen = stored_in(path)

    def spoil(store: Store) -> None:
        newer = TagRow(None, None, 0.0, "", version=99)
        store.put({topic_of(("tag", "rig", "newer")): codec.encode(newer)})
        key = stored_graphs.graph_key("rig", frozen.snapshot.fingerprint)
        row: GraphRow = codec.decode(store.get(key) or b"", GraphRow)
        store.put({stored_graphs.piece_key(row.pages[:16]): b"damaged"})

    with SQLiteBackend(path).connect() as file:
        file._write(spoil)
    with (
        ezgraph.GraphServer(("127.0.0.1", 0), backend=f"sqlite:///{path}") as server,
        BrokerBackend(str(server.address)).connect() as conn,
    ):
        with pytest.raises(JournalVersionError, match="newer ezgraph"):
            conn.read_snapshot_tag("rig", "newer")
        with pytest.raises(JournalCorruptError, match="piece"):
            conn.read_snapshot_tag("rig", "good")
        conn.write_snapshot_tag(snapshot("rig"), "fine")
        assert conn.read_snapshot_tag("rig", "fine") == snapshot("rig")


def test_a_flipped_bit_in_the_file_is_refused_through_the_broker(tmp_path: Path) -> None:
    path = tmp_path / "rig.db"
    stored_in(path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE stored SET checksum = checksum + 1 WHERE CAST(key AS TEXT) LIKE 'tag/%'")

    with (
        ezgraph.GraphServer(("127.0.0.1", 0), backend=f"sqlite:///{path}") as server,
        BrokerBackend(str(server.address)).connect() as conn,
    ):
        with pytest.raises(JournalError, match="checksum"):
            conn.read_snapshot_tag("rig", "good")
        with pytest.raises(JournalError, match="checksum"):
            conn.write_snapshot_tag(snapshot("rig"), "good")
        assert len(conn.list_graphs()) == 1
