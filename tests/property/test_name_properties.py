"""Keys and topics: one spelling each, and a prefix of bytes is a prefix of segments."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from ezgraph.errors import InvalidKeyError
from ezgraph.names import ancestors, key_of, note_topic, prefix_of_note, topic_of
from ezgraph.testing import strategies as ours

if TYPE_CHECKING:
    from ezgraph.names import Key

short_keys = st.lists(st.text("a%2F/\0\x7fé", min_size=1, max_size=3), max_size=4).map(tuple)


@given(ours.keys)
def test_a_topic_spells_its_key(key: Key) -> None:
    assert key_of(topic_of(key)) == key


@given(ours.keys)
def test_no_topic_holds_nul_so_notes_are_told_apart(key: Key) -> None:
    topic = topic_of(key)

    assert b"\0" not in topic
    assert prefix_of_note(topic) is None
    assert prefix_of_note(note_topic(topic)) == topic


@given(short_keys, short_keys)
def test_a_prefix_of_bytes_is_a_prefix_of_whole_segments(one: Key, other: Key) -> None:
    assert topic_of(other).startswith(topic_of(one)) == (other[: len(one)] == one)


@given(short_keys, short_keys)
def test_different_keys_have_different_topics(one: Key, other: Key) -> None:
    assert (topic_of(one) == topic_of(other)) == (one == other)


@given(ours.keys)
def test_ancestors_are_the_topics_of_all_prefixes(key: Key) -> None:
    assert ancestors(topic_of(key)) == tuple(topic_of(key[:n]) for n in range(len(key) + 1))


@given(st.binary(max_size=20) | st.text("a%2F5/é", max_size=12).map(str.encode))
def test_bytes_are_the_one_spelling_of_a_key_or_refused(topic: bytes) -> None:
    with suppress(InvalidKeyError):
        assert topic_of(key_of(topic)) == topic
