"""Whatever bytes a decoder is given: a value or its documented error, in little time, and no more
memory afterwards.

A new reader of hostile bytes is added as one line of `READERS`, with samples of its kind in
`tests.fuzz.recording` (one of files: in `tests.fuzz.test_key_files`). ``--seed N`` repeats a
campaign; ``pytest -s -m soak tests/fuzz`` takes a million inputs.
"""

from __future__ import annotations

import gc
import time
import typing
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING

import msgpack
import pytest

from ezgraph import names
from ezgraph.errors import InvalidKeyError, MalformedMessageError
from ezgraph.protocol.commands import Command, ReportSettings
from ezgraph.protocol.events import Body
from ezgraph.protocol.replies import EventRange, Reply, SnapshotChunk
from ezgraph.protocol.settings import SettingsSnapshotValue
from ezgraph.wire import codec, frames, values
from tests.fuzz.campaign import SEED, Target, attack
from tests.fuzz.mutation import Mutator
from tests.fuzz.recording import message_types, recorded

if TYPE_CHECKING:
    from collections.abc import Callable

INPUTS, SOAK_INPUTS = 5_000, 125_000
ME = b"\0me"


def read_request(frame: bytes) -> None:
    frames.read_header(frame)
    command = frames.read_command(frame)
    assert frames.read_command(frames.request_frame(1, 0, codec.encode(command))) is not None


def read_reply(frame: bytes) -> None:
    _, reply = frames.read_reply(frame)
    assert codec.encode(reply)
    match reply:
        case EventRange(events=events):
            for each in events:
                codec.decode_event(each)
        case SnapshotChunk(entries=entries, blobs=blobs):
            for each in entries:
                codec.decode_live_event(each, blobs)
        case _:
            """The others hold nothing that is encoded by itself."""


def read_event(packed: bytes) -> None:
    assert codec.encode_event(codec.decode_event(packed)).event


def read_live_event(packed: bytes) -> None:
    assert codec.encode_event(codec.decode_live_event(packed, recorded().blobs)).live


def read_link(frame: bytes) -> None:
    for depth in (0, 1, 31):
        frames.read_link(frame, depth)


def read_value(packed: bytes) -> None:
    value = values.unpack(packed)
    values.check_depth(value)
    values.pack(value)


def read_topic(topic: bytes) -> None:
    names.prefix_of_note(topic)
    assert names.ancestors(topic)[0] == b""
    assert names.topic_of(names.key_of(topic)) == topic


def read_key(packed: bytes) -> None:
    key = names.check_key(values.unpack(packed))
    assert names.key_of(names.topic_of(key)) == key


READERS = {
    "request": Target(("command",), read_request, (MalformedMessageError,)),
    "reply": Target(("reply",), read_reply, (MalformedMessageError,)),
    "event": Target(("event",), read_event, (MalformedMessageError,)),
    "live event": Target(("live",), read_live_event, (MalformedMessageError,)),
    "note": Target(("note",), frames.read_note, (MalformedMessageError,)),
    "link": Target(("link",), read_link, (MalformedMessageError,)),
    "value": Target(("value",), read_value, (MalformedMessageError,)),
    "topic": Target(("topic",), read_topic, (InvalidKeyError,)),
    "key": Target(("key",), read_key, (InvalidKeyError, MalformedMessageError)),
}


def test_what_is_mutated_holds_every_message_of_the_protocol() -> None:
    known = {kind.__name__ for union in (Command, Reply, Body) for kind in typing.get_args(union)}

    assert message_types(recorded()) == known


def test_mutations_of_one_seed_are_the_same_and_most_are_no_longer_what_they_were() -> None:
    corpus = recorded().everything

    def mutations() -> list[bytes]:
        mutator = Mutator(Random(3), corpus)
        return [mutator.mutated(sample) for sample in corpus]

    first, again = mutations(), mutations()

    assert first == again
    assert sum(one == sample.written for one, sample in zip(first, corpus, strict=True)) < 30


@pytest.mark.parametrize("name", READERS)
def test_a_reader_of_hostile_bytes_raises_its_documented_error_alone(
    name: str, seed_option: int | None
) -> None:
    accepted = attack(
        READERS[name], recorded().everything, seed=seed_option or SEED, inputs=INPUTS
    )

    assert 0 < accepted < INPUTS


@pytest.mark.soak
@pytest.mark.parametrize("name", READERS)
def test_a_million_inputs_for_the_readers(name: str, seed_option: int | None) -> None:
    seed = seed_option or SEED + 1
    attack(READERS[name], recorded().everything, seed=seed, inputs=SOAK_INPUTS)


# --- time that grows faster than the input ---


def listed(count: int, packed: bytes) -> bytes:
    return b"\xdd" + count.to_bytes(4, "big") + packed * count


def mapped(keys: list[bytes]) -> bytes:
    return b"\xdf" + len(keys).to_bytes(4, "big") + b"".join(key + b"\xc0" for key in keys)


def extension(code: int, content: bytes) -> bytes:
    return bytes(msgpack.packb(msgpack.ExtType(code, content)))


def sharing_a_hash(count: int) -> list[bytes]:
    return [
        extension(values.UUID_, ((2**61 - 1) * number).to_bytes(16, "big"))
        for number in range(1, count + 1)
    ]


def array(kind: object, shape: bytes) -> bytes:
    content = b"\x94" + values.pack(kind) + shape + values.pack("C") + values.pack(b"")
    return extension(values.NDARRAY, content)


def reported(value: bytes) -> bytes:
    """A request to report settings with this content."""
    value_of_a_unit = SettingsSnapshotValue(None, {"at": "PLACE"}, None)
    command = codec.encode(ReportSettings("A", value_of_a_unit))
    placed = command.replace(values.pack("PLACE"), value)
    return frames.request_frame(1, 0, placed)


SWELLING: dict[str, Callable[[int], bytes]] = {
    "items": lambda n: listed(n, b"\xc0"),
    "lists of lists": lambda n: listed(n, b"\x91\x91\xc0"),
    "tuples": lambda n: listed(n, extension(values.TUPLE, b"\x90")),
    "text keys": lambda n: mapped([values.pack(f"key {each}") for each in range(n)]),
    "one key again and again": lambda n: mapped([values.pack("key")] * n),
    "numbers as keys": lambda n: mapped([values.pack(each << 40) for each in range(n)]),
    "floats as keys": lambda n: mapped([values.pack(2.0**61 * each) for each in range(n)]),
    "keys that share a hash": lambda n: mapped(sharing_a_hash(n)),
    "members that share a hash": lambda n: extension(
        values.SET, listed(n, b"") + b"".join(sharing_a_hash(n))
    ),
    "dimensions": lambda n: array("<f8", listed(n, values.pack(2**64 - 1))),
    "formats": lambda n: array(",".join(["f8"] * n), b"\x91\0"),
    "digits": lambda n: extension(values.BIGINT, b"7" * n),
    "long text": lambda n: values.pack("x" * n),
    "parts of a path": lambda n: extension(values.PATH, values.pack(["windows", "/.." * n])),
    "a long date": lambda n: extension(values.DATETIME, values.pack(["datetime", "2" * n, 0])),
    "segments": lambda n: b"a/" * n,
    "escapes": lambda n: b"%25" * n + b"/",
}


@pytest.mark.parametrize("name", SWELLING)
def test_time_grows_no_faster_than_the_input(name: str) -> None:
    small, large = SWELLING[name](2_000), SWELLING[name](32_000)
    for reader in READERS.values():
        for wrap in (bytes, reported):
            quick = spent(reader, wrap(small))
            slow = spent(reader, wrap(large))
            assert slow < 16 * 4 * quick + 0.1, f"{reader.kinds}: {quick:.4f} s, then {slow:.4f} s"


def spent(reader: Target, given: bytes) -> float:
    gc.disable()  # what all other tests have left is no business of this reader
    try:
        began = time.thread_time()
        with suppress(*reader.documented):
            reader.read(given)
        return time.thread_time() - began
    finally:
        gc.enable()
