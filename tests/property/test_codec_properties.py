"""Decoding undoes encoding, for every message there is; other bytes are refused, all in one way."""

from __future__ import annotations

from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ezgraph.errors import MalformedMessageError
from ezgraph.protocol.commands import Command
from ezgraph.protocol.events import Body, Event
from ezgraph.protocol.notes import Link, Note
from ezgraph.protocol.replies import Reply
from ezgraph.protocol.stored import Part
from ezgraph.testing import strategies as ours
from ezgraph.wire import codec, frames, values

if TYPE_CHECKING:
    from collections.abc import Callable

MESSAGES = [
    *((Command, cls) for cls in ours.members(Command)),
    *((Reply, cls) for cls in ours.members(Reply)),
    *((Body, cls) for cls in ours.members(Body)),
]
slow = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def same(one: Any, other: Any) -> bool:
    """Equal in type, content, and, for arrays, dtype and shape."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        alike = (one.dtype, one.shape) == (other.dtype, other.shape)
        return alike and bool(one.tobytes() == other.tobytes())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


@pytest.mark.parametrize(
    ("family", "cls"), MESSAGES, ids=lambda each: getattr(each, "__name__", "")
)
@given(data=st.data())
@settings(parent=slow, max_examples=15)
def test_every_message_survives_the_wire(family: Any, cls: type, data: st.DataObject) -> None:
    message = data.draw(ours.messages(cls))

    assert codec.decode(codec.encode(message), family) == message


@given(ours.events)
@slow
def test_every_event_survives_the_wire_and_the_snapshot(event: Event) -> None:
    encoded = codec.encode_event(event)

    assert codec.decode_event(encoded.event) == event
    assert codec.decode_live_event(encoded.live, encoded.blobs) == event


@given(ours.events)
@slow
def test_an_event_is_spelled_alike_when_it_is_spelled_again(event: Event) -> None:
    once = codec.encode_event(event)
    again = codec.encode_event(codec.decode_event(once.event))

    assert again == once


@given(ours.values)
@settings(parent=slow, max_examples=300)
def test_every_value_comes_back_as_it_was(value: Any) -> None:
    assert same(values.unpack(values.pack(value)), value)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), ours.any_command)
@slow
def test_a_request_frame_says_what_was_asked(
    request_id: int, lowest: int, command: Command
) -> None:
    frame = frames.request_frame(request_id, lowest, codec.encode(command))

    assert frames.read_header(frame) == (request_id, lowest)
    assert frames.read_command(frame) == command


@given(st.integers(0, 2**64 - 1), ours.any_reply)
@slow
def test_a_reply_frame_says_what_was_answered(request_id: int, reply: Reply) -> None:
    assert frames.read_reply(frames.reply_frame(request_id, reply)) == (request_id, reply)


@given(st.lists(st.builds(Link, st.integers(-1, 2**60), st.booleans()), max_size=33))
def test_links_are_read_by_depth(links: list[Link]) -> None:
    frame = frames.links_frame(links)

    assert [frames.read_link(frame, depth) for depth in range(len(links))] == links
    with pytest.raises(MalformedMessageError):
        frames.read_link(frame, len(links))


@given(st.binary(min_size=16, max_size=16), *[st.integers(0, 2**64 - 1)] * 3)
def test_a_note_comes_back_as_it_was(cluster: bytes, epoch: int, last: int, head: int) -> None:
    note = Note(cluster.hex(), epoch, last, head)

    assert frames.read_note(frames.note_frame(note)) == note


# --- bytes that are no messages ---


def mutated(random: Random, packed: bytes) -> bytes:
    """Return the bytes with something wrong: cut, changed, repeated, or with more inside."""
    damaged = bytearray(packed)
    for _ in range(random.choice([1, 1, 2, 5])):
        at = random.randrange(len(damaged) + 1)
        match random.randrange(5):
            case 0:
                del damaged[at:]
            case 1:
                damaged[at : at + 1] = random.randbytes(1)
            case 2:
                damaged[at:at] = random.randbytes(random.randint(1, 4))
            case 3:
                del damaged[at : at + random.randint(1, 4)]
            case _:
                damaged[at:at] = random.choice(NASTY)
    return bytes(damaged)


NASTY = [
    values.pack(10**400),
    values.pack(-(2**70)),
    values.pack(float("nan")),
    b"\xc7\x06\x0b" + b"1" * 6,
    b"\xdf\xff\xff\xff\xff",  # a mapping of 2**32 - 1 pairs
    b"\xdd\xff\xff\xff\xff",  # a list as long
    b"\xc6\xff\xff\xff\xff",  # bytes as long
    b"\x91" * 200,  # lists in lists in lists
    b"\xc1",  # the one byte that msgpack never uses
    values.pack(np.zeros((2, 3))),
    b"\xc7\x04\x07\x91\xa1O\xc0",  # an array of a dtype of Python objects
]


@given(
    st.lists(ours.any_command | ours.any_reply | ours.events, min_size=5, max_size=5),
    st.integers(),
)
@settings(parent=slow, max_examples=40)
def test_damaged_bytes_give_one_kind_of_error_and_nothing_else(
    messages: list[Any], seed: int
) -> None:
    random = Random(seed)
    for message in messages:
        if isinstance(message, Event):
            packed = codec.encode_event(message).event
        else:
            packed = codec.encode(message)
        for _ in range(40):
            damaged = mutated(random, packed)
            for read in READERS:
                with suppress(MalformedMessageError):
                    read(damaged)


READERS: list[Callable[[bytes], Any]] = [
    lambda packed: codec.decode(packed, Command),
    lambda packed: codec.decode(packed, Reply),
    codec.decode_event,
    lambda packed: codec.decode_live_event(packed, {}),
    frames.read_header,
    frames.read_note,
    lambda packed: frames.read_reply(packed[:12] + packed),
]


@given(ours.any_command, st.data())
@slow
def test_no_part_of_a_message_is_a_message(command: Command, data: st.DataObject) -> None:
    packed = codec.encode(command)
    part = packed[: data.draw(st.integers(0, len(packed) - 1))]

    with pytest.raises(MalformedMessageError):
        codec.decode(part, Command)
    with pytest.raises(MalformedMessageError):
        codec.decode(packed + b"\x00", Command)


@pytest.mark.parametrize(
    "plain",
    [
        ["Heartbeat", {"main_loop_age_s": 10**400}],
        ["Heartbeat", {}],
        ["Heartbeat", []],
        ["Connect", {"from_topic": 1, "to_topic": "b"}],
        [["Connect"], {}],
        [{}, {}],
        {"Connect": {}},
        ["os.system", {"command": "true"}],
        [],
        None,
    ],
)
def test_wrong_types_and_unknown_messages_are_refused(plain: Any) -> None:
    with pytest.raises(MalformedMessageError):
        codec.decode(values.pack(plain), Command)


def test_values_nested_too_deep_are_refused_by_the_reader() -> None:
    value: list[Any] = []
    for _ in range(100):
        value = [value]
    deep = values.pack(["RegisterMetadata", {"metadata": {"components": {"A": {"x": value}}}}])

    with pytest.raises(MalformedMessageError):
        codec.decode(deep, Command)


@given(ours.events)
def test_the_wall_time_is_found_without_decoding_the_event(event: Event) -> None:
    assert codec.wall_time_of(codec.encode_event(event).event) == event.wall_time


@given(ours.events, st.binary(max_size=40), st.integers(0, 300))
def test_bytes_that_are_no_event_have_no_wall_time_or_some_number(
    event: Event, rubbish: bytes, cut: int
) -> None:
    packed = codec.encode_event(event).event
    for hostile in (rubbish, packed[:cut], packed[:cut] + rubbish):
        with suppress(MalformedMessageError):
            assert isinstance(codec.wall_time_of(hostile), float)


@given(st.data())
@slow
def test_what_is_encoded_apart_from_its_blobs_comes_back_with_them(data: st.DataObject) -> None:
    cls = data.draw(st.sampled_from(ours.members(Part)))
    part = data.draw(ours.messages(cls))

    packed, blobs = codec.encode_apart(part)

    assert codec.decode_apart(packed, blobs, Part) == part
    if blobs:
        with pytest.raises(MalformedMessageError, match="missing"):
            codec.decode_apart(packed, {}, Part)
    with pytest.raises(MalformedMessageError):
        codec.decode_apart(packed[:-1], blobs, Part)
