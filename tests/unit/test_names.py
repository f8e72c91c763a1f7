"""Keys and topics: one spelling each, and prefixes that match whole segments only."""

from __future__ import annotations

import pytest

from ezgraph.errors import InvalidKeyError
from ezgraph.names import (
    MAX_SEGMENTS,
    MAX_TOPIC_BYTES,
    ancestors,
    check_key,
    key_of,
    note_topic,
    prefix_of_note,
    topic_of,
)

SPELLINGS = [
    ((), b""),
    (("settings",), b"settings/"),
    (("settings", "SYS/UNIT_A"), b"settings/SYS%2FUNIT_A/"),
    (("edge", "a b", "100%"), b"edge/a b/100%25/"),
    (("x", "\x00\n\x1f\x7f"), b"x/%00%0A%1F%7F/"),
    (("x", "µV ⚡"), "x/µV ⚡/".encode()),
    (("%2F",), b"%252F/"),
    (("~", " ", "."), b"~/ /./"),
]


@pytest.mark.parametrize(("key", "topic"), SPELLINGS)
def test_a_key_has_one_spelling_and_comes_back_from_it(key: tuple[str, ...], topic: bytes) -> None:
    assert topic_of(key) == topic
    assert key_of(topic) == key


def test_a_prefix_matches_whole_segments_only() -> None:
    assert topic_of(("edge", "chunker2")).startswith(topic_of(("edge",)))
    assert not topic_of(("edge", "chunker2")).startswith(topic_of(("edge", "chunker")))
    assert not topic_of(("edge", "a/b")).startswith(topic_of(("edge", "a")))


@pytest.mark.parametrize(
    "topic",
    [
        b"settings",  # no end
        b"/",  # an empty segment
        b"a//b/",
        b"a/%2f/",  # lower case
        b"a/%41/",  # escaped without need
        b"a/%/",
        b"a/%2/",
        b"a/\x00/",  # not escaped
        b"a/\xff/",  # no UTF-8
        b"a/%ED%A0%80/",  # a surrogate, byte by byte
    ],
)
def test_bytes_that_are_not_the_one_spelling_of_a_key_are_refused(topic: bytes) -> None:
    with pytest.raises(InvalidKeyError, match="is not"):
        key_of(topic)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("settings", "is no key: give a tuple of segments"),
        (None, "is no key"),
        (7, "is no key"),
        (("a", ""), "segment '' of key"),
        (("a", 3), "segment 3 of key"),
        (("a", b"b"), "segment b'b' of key"),
        (("a",) * (MAX_SEGMENTS + 1), f"a key of 33 segments; at most {MAX_SEGMENTS}"),
    ],
)
def test_what_is_no_key_is_refused_with_the_reason(key: object, says: str) -> None:
    with pytest.raises(InvalidKeyError) as refused:
        check_key(key)

    assert says in str(refused.value)


def test_what_is_no_key_however_deep_and_long_is_refused_in_few_words() -> None:
    deep: object = "a"
    for _ in range(5_000):
        deep = [deep]

    for key in (deep, [deep, "a"], ("a", deep), {"a": deep}, ["a", 3] * 100_000):
        with pytest.raises(InvalidKeyError) as refused:
            check_key(key)
        assert len(str(refused.value)) < 1_000


def test_a_list_of_segments_becomes_a_tuple() -> None:
    assert check_key(["a", "b"]) == ("a", "b")


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(InvalidKeyError, match="cannot be written as UTF-8"):
        topic_of(("edge", "\ud800"))


def test_a_topic_may_be_as_long_as_the_limit_and_no_longer() -> None:
    longest = "x" * (MAX_TOPIC_BYTES - 1)
    assert len(topic_of((longest,))) == MAX_TOPIC_BYTES

    with pytest.raises(InvalidKeyError, match=r"4097 bytes.*at most 4096 are allowed: shorten"):
        topic_of((longest + "x",))
    with pytest.raises(InvalidKeyError, match="at most 4096"):
        topic_of(("%" * 2000,))  # 6000 bytes when escaped


def test_the_ancestors_of_a_topic_are_all_prefixes_of_its_key() -> None:
    assert ancestors(b"edge/a%2Fb/c/") == (b"", b"edge/", b"edge/a%2Fb/", b"edge/a%2Fb/c/")
    assert ancestors(b"") == (b"",)


def test_every_ancestor_is_the_topic_of_a_shorter_key() -> None:
    key = ("edge", "SYS/A", "100%")

    assert ancestors(topic_of(key)) == tuple(topic_of(key[:depth]) for depth in range(4))


@pytest.mark.parametrize("topic", [b"a/" * (MAX_SEGMENTS + 1), b"a" * MAX_TOPIC_BYTES + b"/"])
def test_what_is_longer_than_any_key_has_no_ancestors(topic: bytes) -> None:
    with pytest.raises(InvalidKeyError, match="that of no key"):
        ancestors(topic)


@pytest.mark.parametrize("prefix", [b"", b"settings/", b"edge/a/"])
def test_a_note_topic_gives_its_prefix_back_and_never_collides_with_a_key(prefix: bytes) -> None:
    topic = note_topic(prefix)

    assert prefix_of_note(topic) == prefix
    assert topic.startswith(b"\0")
    assert topic.endswith(b"\0")


@pytest.mark.parametrize("topic", [b"", b"\0", b"settings/", b"\0settings/", b"settings/\0"])
def test_other_topics_are_no_note_topics(topic: bytes) -> None:
    assert prefix_of_note(topic) is None
