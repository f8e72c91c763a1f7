"""The frames of data nodes, and arrays beside the codec."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ezgraph.errors import (
    CompactedError,
    ForbiddenError,
    LimitError,
    MalformedMessageError,
    NodeDtypeError,
    NodeIndexError,
    RefusedError,
)
from ezgraph.wire import arrays, nodes, values


def answered(frames: list[Any]) -> nodes.Answer:
    """Return an answer as its receiver has it."""
    head, *rest = [memoryview(frame) for frame in frames]
    return nodes.read_answer(head, rest[0] if rest else None)


def test_a_request_is_read_as_it_was_written() -> None:
    message = {"request": "send_data", "uid": "u", "kwargs": {"index": 3, "part": [[0, 1, 1]]}}

    frame = nodes.request_frame(1 << 60, message, takes_frames=True)

    assert nodes.read_request_id(frame) == 1 << 60
    assert nodes.read_request(frame) == nodes.Incoming(1 << 60, True, message)


def test_a_request_that_is_too_long_is_refused_where_it_is_made() -> None:
    with pytest.raises(LimitError, match="at most 262144 are taken"):
        nodes.request_frame(1, {"labels": "x" * 300_000}, takes_frames=False)


@pytest.mark.parametrize("frame", [b"", b"eZ\x01\x00", b"eZn\x02" + b"\0" * 9, b"x" * 40])
def test_what_does_not_start_so_is_not_ours(frame: bytes) -> None:
    with pytest.raises(MalformedMessageError, match="are no message of data nodes"):
        nodes.read_request(frame)
    with pytest.raises(MalformedMessageError):
        nodes.read_answer(memoryview(frame), None)


def test_a_request_nested_too_deep_is_malformed() -> None:
    message: Any = 1
    for _ in range(40):
        message = [message]

    with pytest.raises(MalformedMessageError, match="nested deeper than 32"):
        nodes.read_request(nodes.request_frame(1, message, takes_frames=False))


def test_an_array_travels_as_its_own_memory() -> None:
    array = np.arange(12.0).reshape(3, 4)

    frames = nodes.answer_frames(7, array, takes_frames=True)
    found, fingerprint = answered(frames).array()

    assert np.shares_memory(frames[1], array)
    assert np.shares_memory(found, array)
    assert fingerprint is None
    np.testing.assert_array_equal(found, array)


def test_an_array_that_does_not_lie_in_one_piece_is_copied_into_one() -> None:
    for array in (np.arange(12)[::2], np.asfortranarray(np.arange(12).reshape(3, 4))):
        found, _ = answered(nodes.answer_frames(7, array, takes_frames=True)).array()

        np.testing.assert_array_equal(found, array)


def test_a_fingerprint_travels_in_the_head() -> None:
    answer = nodes.Fingerprinted(np.arange(3), b"hash")

    array, fingerprint = answered(nodes.answer_frames(7, answer, takes_frames=True)).array()
    packed = values.unpack(answered(nodes.answer_frames(7, answer, takes_frames=False)).value())

    assert (array.tolist(), fingerprint) == ([0, 1, 2], b"hash")
    assert (packed[0].tolist(), packed[1]) == ([0, 1, 2], b"hash")


def test_who_takes_no_frames_gets_values() -> None:
    answer = answered(nodes.answer_frames(7, np.arange(3), takes_frames=False))

    assert values.unpack(answer.value()).tolist() == [0, 1, 2]
    with pytest.raises(MalformedMessageError, match="where an array was due"):
        answer.array()


def test_an_array_where_a_value_is_due_is_malformed() -> None:
    answer = answered(nodes.answer_frames(7, np.arange(3), takes_frames=True))

    with pytest.raises(MalformedMessageError, match="where a value was due"):
        answer.value()


@pytest.mark.parametrize(
    "error",
    [NodeIndexError("no 3"), ForbiddenError("not for you"), CompactedError("gone", floor=12)],
)
def test_a_refusal_has_its_class_at_the_other_end(error: Any) -> None:
    answer = answered([nodes.error_frame(9, error)])

    for read in (answer.value, answer.array):
        with pytest.raises(type(error), match=str(error)) as caught:
            read()
        assert getattr(caught.value, "floor", 0) == getattr(error, "floor", 0)


def test_a_refusal_that_is_none_is_malformed_and_an_unknown_one_still_refuses() -> None:
    head = nodes._HEAD.pack(nodes._START, 1, b"E")

    with pytest.raises(MalformedMessageError):
        answered([head + values.pack(["no", "refusal"])]).check()
    with pytest.raises(RefusedError, match="why"):
        answered([head + values.pack(["a code of later", "why", 0])]).check()


@pytest.mark.parametrize(
    ("head", "count"),
    [
        ({"dtype": "<f8", "shape": [1 << 57]}, 8),
        ({"dtype": "<f8", "shape": [1 << 40, 1 << 40]}, 8),
        ({"dtype": "V0", "shape": [1 << 60]}, 0),
        ({"dtype": "<f8", "shape": [2]}, 8),
        ({"dtype": "<f8", "shape": [-1]}, 8),
        ({"dtype": "<f8", "shape": [1.0]}, 8),
        ({"dtype": "<f8", "shape": [1] * 65}, 8),
        ({"dtype": "<f8", "shape": 1}, 8),
        ({"dtype": "|O", "shape": [1]}, 8),
        ({"dtype": ["<f8", [1 << 40]], "shape": [1]}, 8),
        ({"dtype": None, "shape": [1]}, 9),
        ({"shape": [1]}, 9),
        (["<f8", [1]], 8),
        (None, 0),
    ],
)
def test_a_head_that_does_not_fit_its_bytes_is_refused_before_anything_is_made(
    head: Any, count: int
) -> None:
    with pytest.raises(MalformedMessageError):
        arrays.array_from(head, memoryview(bytes(count)))


def test_gaps_of_structured_items_travel_too() -> None:
    dtype = np.dtype({"names": ["x"], "formats": ["u1"], "offsets": [3], "itemsize": 8})
    array = np.frombuffer(bytes(range(32)), np.uint8).view(dtype)

    assert arrays.raw_bytes(array[::2]).tobytes() == array[::2].view("V8").tobytes()


def test_items_that_have_no_bytes_are_refused_with_a_reason() -> None:
    with pytest.raises(NodeDtypeError, match="convert them to numbers"):
        arrays.array_head(np.array([None]))


def test_an_answer_larger_than_readers_take_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "MAX_ANSWER_BYTES", 1_000)

    with pytest.raises(LimitError, match="give the node smaller partitions"):
        nodes.answer_frames(1, b"x" * 1_000, takes_frames=True)
