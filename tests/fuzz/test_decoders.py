"""Whatever bytes a decoder is given: a value or its documented error, in little time, and no more
memory afterwards.

A new reader of hostile bytes (files of keys or roles, say) is added as one line of `READERS`, with
samples of its kind in `tests.fuzz.recording`. ``pytest -s -m soak tests/fuzz`` takes a million
inputs; ``--seed N`` repeats a campaign.
"""

from __future__ import annotations

import time
import typing
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import msgpack
import pytest

from ezgraph import names
from ezgraph.broker.engine import BrokerEngine
from ezgraph.config import BrokerConfig
from ezgraph.errors import InvalidKeyError, MalformedMessageError
from ezgraph.protocol import PROTOCOL_VERSION
from ezgraph.protocol.commands import Command, Connect, Hello, ReportSettings, Sync
from ezgraph.protocol.events import Body
from ezgraph.protocol.replies import Done, EventRange, Reply, SnapshotChunk, Welcome
from ezgraph.testing import FlakyMemory, SequentialIds
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
    "request": Target(("command",), read_request, MalformedMessageError),
    "reply": Target(("reply",), read_reply, MalformedMessageError),
    "event": Target(("event",), read_event, MalformedMessageError),
    "live event": Target(("live",), read_live_event, MalformedMessageError),
    "note": Target(("note",), frames.read_note, MalformedMessageError),
    "link": Target(("link",), read_link, MalformedMessageError),
    "value": Target(("value",), read_value, MalformedMessageError),
    "topic": Target(("topic",), read_topic, InvalidKeyError),
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
