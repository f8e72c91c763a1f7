"""What a reader says first to a relay: read as it was said, or malformed, and nothing else."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from ezgraph.errors import MalformedMessageError
from ezgraph.testing.strategies import plain_values
from ezgraph.wire import values
from ezgraph.wire.relaying import RELAY_PREAMBLE, read_relay_frame, relay_frame

PACKED = plain_values.map(values.pack)


@given(st.text(max_size=100), st.text(max_size=100))
def test_a_frame_says_what_it_was_made_of(name: str, owner: str) -> None:
    assert read_relay_frame(relay_frame(name, owner)) == (name, owner)


@given(st.binary(max_size=100) | (PACKED | st.binary(max_size=100)).map(RELAY_PREAMBLE.__add__))
def test_any_bytes_name_a_host_or_are_malformed(frame: bytes) -> None:
    with suppress(MalformedMessageError):
        name, owner = read_relay_frame(frame)

        assert (type(name), type(owner)) == (str, str)
