"""What is remembered of chunks: fingerprints at the server, whole chunks at the reader."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ezgraph.errors import ChunkCorruptError, MalformedMessageError, NodeIndexError
from ezgraph.nodes import ArrayNode, NodeServer, RootNode
from ezgraph.nodes.fingerprints import ChunkCache, RememberedFingerprints, fingerprint_of
from ezgraph.nodes.reading import MAX_READ_BYTES, Fetched
from ezgraph.wire import values
from ezgraph.wire.arrays import array_from, array_head, raw_bytes
from ezgraph.wire.nodes import Fingerprinted


def constant(length: int = 10) -> np.ndarray[Any, Any]:
    array = np.arange(float(length))
    array.flags.writeable = False
    return array


class Direct:
    """A server that has many requests in flight, without a network: counts what moves."""

    def __init__(self, server: NodeServer, cache_bytes: int = 1 << 20) -> None:
        self.server = server
        self.cache = ChunkCache(cache_bytes)
        self.max_read_bytes = MAX_READ_BYTES
        self.moved = 0
        self.asked: list[str] = []
        self.spoil = False

    def request(self, message: Any, /) -> bytes:
        self.asked.append(message["request"])
        return self.server.request(message)

    def fetch(self, requests: Any, /, *, timeout: float | None) -> Any:
        from ezgraph.protocol.nodes import parse_request

        for number, (message, size) in enumerate(requests):
            self.asked.append(message["request"])
            answer = self.server.answer(parse_request(message))
            fingerprint = None
            if isinstance(answer, Fingerprinted):
                answer, fingerprint = answer
            assert isinstance(answer, np.ndarray)
            head, raw = array_head(answer), bytearray(raw_bytes(answer).tobytes())
            received = array_from(head, memoryview(raw))  # as a frame is: ours to write to
            assert received.nbytes == size
            self.moved += received.nbytes
            if self.spoil:
                received.reshape(-1)[0] += 1
            yield Fetched(number, received, fingerprint)


def at_reader(node: ArrayNode, **options: Any) -> tuple[Direct, ArrayNode]:
    direct = Direct(NodeServer(RootNode(edges={"a": node})), **options)
    return direct, RootNode(direct)["a"]


def test_a_slice_moves_only_its_own_bytes() -> None:
    direct, node = at_reader(ArrayNode(np.arange(10_000.0), chunks=(1_000,)))

    found = node[1_990:2_010]

    assert found.tolist() == list(range(1_990, 2_010))
    assert direct.moved == 20 * 8


def test_a_stable_chunk_read_again_moves_only_its_fingerprint() -> None:
    direct, node = at_reader(ArrayNode(constant(), chunks=(4,)))
    node.read()
    direct.asked.clear()
    direct.moved = 0

    again, part = node.read(), node[5:7]

    assert again.tolist() == list(range(10))
    assert part.tolist() == [5, 6]
    assert direct.moved == 0
    assert direct.asked == ["send_fingerprints", "send_fingerprints"]


def test_chunks_of_an_array_that_may_change_are_never_kept() -> None:
    array = np.zeros(10)
    direct, node = at_reader(ArrayNode(array, chunks=(4,)))
    node.read()
    array[:] = 5

    assert node.read().tolist() == [5.0] * 10
    assert direct.cache.held_bytes == 0


def test_a_kept_chunk_whose_content_changed_at_the_server_is_fetched_again() -> None:
    array = constant()
    stamps = ["first"]
    served = ArrayNode(array, chunks=(4,))
    served._own_source.stamp = lambda: stamps[0]  # type: ignore[method-assign]
    direct, node = at_reader(served)
    node.read()
    node.read()
    array.flags.writeable = True
    array[5] = 77
    stamps[0] = "second"
    direct.moved = 0

    found = node.read()

    assert found[5] == 77
    assert direct.moved == 4 * 8  # the one chunk that changed


def test_equal_chunks_are_kept_once() -> None:
    array = np.zeros(4_000)
    array.flags.writeable = False
    direct, node = at_reader(ArrayNode(array, chunks=(1_000,)))

    node.read()
    node.read()

    assert direct.cache.held_bytes == 8_000


def test_what_was_kept_is_not_what_the_reader_may_change() -> None:
    _, node = at_reader(ArrayNode(constant(100_000), chunks=(100_000,)))
    node.read()
    kept = node.read()
    kept[:] = -1

    assert node.read()[3] == 3
    with pytest.raises(ValueError, match="read-only"):
        node.read_chunk(0)[0] = 1


def test_the_cache_stays_within_its_bound_and_drops_the_least_recently_used() -> None:
    cache = ChunkCache(100)
    for number in range(4):
        cache.put(("n", "i", number), np.full(30, number, np.uint8))

    assert cache.held_bytes == 90
    assert [("n", "i", number) in cache for number in range(4)] == [False, True, True, True]
    name = fingerprint_of(np.full(30, 1, np.uint8))
    assert cache.get(("n", "i", 1), name) is not None
    cache.put(("n", "i", 4), np.full(30, 4, np.uint8))
    assert [("n", "i", number) in cache for number in range(5)] == [False, True, False, True, True]
    cache.put(("n", "i", 5), np.zeros(101, np.uint8))
    assert ("n", "i", 5) not in cache
    cache.clear()
    assert (cache.held_bytes, ("n", "i", 4) in cache) == (0, False)


def test_the_places_a_cache_remembers_are_bounded_too() -> None:
    cache = ChunkCache(1_000)
    same = np.zeros(10, np.uint8)
    for number in range(5_000):
        cache.put(("n", "i", number), same)
        cache.get(("n", "i", number), fingerprint_of(same))

    assert len(cache._places) < 2_000
    assert cache.held_bytes == 10


def test_verified_chunks_that_differ_on_the_way_are_refused() -> None:
    direct, node = at_reader(ArrayNode(np.zeros(10), chunks=(4,)))
    assert node.read(verify=True).sum() == 0
    assert node[2:9:3].sum() == 0

    direct.spoil = True

    assert node.read().sum() == 3  # nobody asked to verify
    for index in (..., slice(2, 9, 3)):
        with pytest.raises(ChunkCorruptError, match="does not have the fingerprint"):
            node.read(index, verify=True)
    with pytest.raises(ChunkCorruptError):
        node.read_chunk(1, verify=True)


def test_verifying_works_through_any_server() -> None:
    node = RootNode(NodeServer(RootNode(edges={"a": ArrayNode(np.arange(10.0), chunks=(3,))})))["a"]

    assert node.read(verify=True).tolist() == list(range(10))


def test_a_source_that_changes_under_an_unchanged_stamp_is_found_out_by_verifying() -> None:
    array = constant()
    _, node = at_reader(ArrayNode(array, chunks=(10,)), cache_bytes=0)
    node.read(verify=True)
    array.flags.writeable = True
    array[0] = 9
    array.flags.writeable = False

    with pytest.raises(ChunkCorruptError):
        node.read(verify=True)


def test_fingerprints_are_made_once_while_the_stamp_stays() -> None:
    made: list[int] = []

    def chunk() -> np.ndarray[Any, Any]:
        made.append(1)
        return np.zeros(3)

    known = RememberedFingerprints()
    for stamp in ("a", "a", "b", "b", None, None):
        known.of(0, stamp, chunk)

    assert len(made) == 4


def test_fingerprints_come_as_far_as_can_be_said_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ezgraph.nodes.array.HASHED_BYTES", 100)
    node = ArrayNode(constant(100), chunks=(10,))

    first = node.send_fingerprints(range(10))
    second = node.send_fingerprints(range(10))

    assert (len(first), len(second)) == (2, 4)
    assert second[:2] == first
    _, copy = at_reader(node)
    copy.read()
    assert copy.read().tolist() == list(range(100))
    with pytest.raises(NodeIndexError):
        node.send_fingerprints([10])


@pytest.mark.parametrize("answer", [[], None, [b"1", b"2", b"3", b"4"], {"a": 1}])
def test_fingerprints_that_are_none_are_malformed(answer: Any) -> None:
    direct, node = at_reader(ArrayNode(constant(), chunks=(4,)))
    node.read()
    request = direct.request

    def lie(message: Any, /) -> bytes:
        wants = message["request"] == "send_fingerprints"
        return values.pack(answer) if wants else request(message)

    direct.request = lie  # type: ignore[method-assign]

    with pytest.raises(MalformedMessageError, match="are no fingerprints"):
        node.read()


def test_chunks_from_the_cache_and_from_the_server_come_in_order() -> None:
    _, node = at_reader(ArrayNode(constant(12), chunks=(2,)))
    for number in (1, 4):
        node.read_chunk(number)

    assert [number for number, _ in node.read_chunks()] == list(range(6))
    assert [part.tolist()[0] for _, part in node.read_chunks()] == [0, 2, 4, 6, 8, 10]
