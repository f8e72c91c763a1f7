"""The configuration as events make it: entries, their order, who owns what."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from ezgraph.protocol.events import (
    Body,
    ConfigSchemaSet,
    ConfigValueDeleted,
    ConfigValueSet,
    Event,
    Source,
    key_of,
)
from ezgraph.state.graph import GraphState
from ezgraph.state.ordered import OrderedKeys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.names import Key

WHO = Source(program="rig.py", host="lab1", pid=7, login="anna")


def after(*bodies: Body) -> GraphState:
    state, seqs = GraphState(), count(1)
    for body in bodies:
        seq = next(seqs)
        state.apply(
            Event(1, seq, seq - 1, seq, seq, 1e9 + seq, 1.0, key_of(body), WHO, None, body)
        )
    return state


def put(key: str, value: object = None, owner: str | None = None, size: int = 1) -> ConfigValueSet:
    return ConfigValueSet("flow", tuple(key.split(":")), value, owner, size)


def deleted(key: str, owner: str | None = None) -> ConfigValueDeleted:
    return ConfigValueDeleted("flow", tuple(key.split(":")), owner)


def test_an_entry_has_the_value_the_seq_and_the_author_of_its_last_put() -> None:
    config = after(put("a", 1), put("a", 2)).config

    entry = config.entries["flow", "a"].shown()

    assert (entry.type, entry.key, entry.value, entry.seq) == ("flow", ("a",), 2, 2)
    assert (entry.owner, entry.author, entry.wall_time) == (None, "rig.py[7]@lab1 anna", 1e9 + 2)


def test_present_with_nothing_is_not_absent() -> None:
    config = after(put("a", None)).config

    held = config.get("flow", ("a",))

    assert held is not None
    assert held.value is None
    assert config.get("flow", ("b",)) is None
    assert config.get("flow2", ("a",)) is None


def test_a_prefix_has_what_begins_with_its_names_and_nothing_else() -> None:
    keys = ["chunker:default", "chunker", "chunker:a", "chunker2:default", "chunker2", "a", "z"]
    config = after(*map(put, keys), ConfigValueSet("other", ("chunker", "b"), 1)).config

    under = list(config.keys_under(("flow", "chunker")))

    assert under == [
        ("flow", "chunker"), ("flow", "chunker", "a"), ("flow", "chunker", "default"),
    ]
    assert list(config.keys_under(("flow", "chunker"), ("flow", "chunker"))) == under[1:]
    assert list(config.keys_under(("flow", "chunker"), ("flow", "chunker", "b"))) == under[2:]
    assert list(config.keys_under(("flow", "chunker"), ("flow", "z"))) == []
    assert len(list(config.keys_under(("flow",)))) == len(keys)
    assert len(list(config.keys_under(()))) == len(keys) + 1


class Walked(OrderedKeys):
    """Keys in order, and how many of them were walked through."""

    count = 0

    def since(self, key: Key) -> Iterator[Key]:
        for each in super().since(key):
            self.count += 1
            yield each

    def after(self, key: Key) -> Iterator[Key]:
        for each in super().after(key):
            self.count += 1
            yield each


def test_what_begins_with_a_prefix_costs_no_look_at_the_rest() -> None:
    config = after(*(put(f"p{number // 10:03}:{number % 10}") for number in range(3_000))).config
    walked = Walked()
    for key in config.entries:
        walked.add(key)
    config._order = walked

    for prefix, behind, found in (
        (("flow", "p007"), (), 10),
        (("flow", "p007"), ("flow", "p007", "6"), 3),
        (("flow", "p299"), (), 10),
        (("flow", "p"), (), 0),
    ):
        walked.count = 0
        assert len(list(config.keys_under(prefix, behind))) == found
        assert walked.count <= found + 1


def test_a_session_owns_what_it_put_last_and_no_more() -> None:
    config = after(
        put("a", 1, "s1"), put("b", 1, "s1"), put("c", 1, "s2"), put("d", 1), put("b", 2, "s2"),
        put("c", 2, None), put("d", 2, "s1"),
    ).config  # fmt: skip

    assert config.of_session("s1") == [("flow", "a"), ("flow", "d")]
    assert config.of_session("s2") == [("flow", "b")]
    assert (config.count_of("s1"), config.count_of("s2"), config.count_of("s3")) == (2, 1, 0)
    assert config.owners == {"s1", "s2"}


def test_what_is_deleted_leaves_nothing_behind() -> None:
    config = after(put("a", 1, "s1", 10), put("a:b", 1, None, 5), deleted("a", "s1")).config
    assert (len(config), config.size_bytes) == (1, 5)

    config = after(put("a", 1, "s1"), deleted("a", "s1"), deleted("never")).config

    assert (len(config), config.size_bytes, config.owners) == (0, 0, set())
    assert list(config.keys_under(("flow",))) == []
    assert config.by_type() == {}


def test_the_size_is_that_of_the_values_that_are_there() -> None:
    config = after(put("a", 1, None, 10), put("b", 1, None, 20), put("a", 2, None, 3)).config

    assert config.size_bytes == 23


def test_a_type_has_the_last_schema_it_was_given() -> None:
    first, second = {"type": "object"}, {"type": "array"}
    state = after(ConfigSchemaSet("flow", first), ConfigSchemaSet("flow", second), put("a"))

    assert state.config.schemas == {"flow": second}
    assert after(ConfigSchemaSet("flow", first), ConfigSchemaSet("flow", None)).config.schemas == {}


def test_a_snapshot_has_the_entries_by_type_and_key_in_order() -> None:
    snapshot = after(put("b", 1), put("a:b", 2), put("a", 3)).snapshot()

    assert snapshot.config is not None
    assert list(snapshot.config) == ["flow"]
    assert [(key, entry.value) for key, entry in snapshot.config["flow"].items()] == [
        (("a",), 3), (("a", "b"), 2), (("b",), 1),
    ]


def test_a_fingerprint_tells_values_owners_and_schemas_apart() -> None:
    prints = {
        after(*bodies).fingerprint()
        for bodies in (
            [put("a", 1)], [put("a", 1.0)], [put("a", 1, "s1")], [put("b", 1)],
            [ConfigSchemaSet("flow", {})], [ConfigSchemaSet("flow2", {})],
        )
    }  # fmt: skip

    assert len(prints) == 6
