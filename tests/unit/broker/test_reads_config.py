"""Reads of the configuration: pages, patterns, turns, and what a part of the readers sees."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

from ezgraph.broker import reads_config
from ezgraph.broker.reads_config import ConfigRead, ConfigReadCommand, ConfigReply, wanted_under
from ezgraph.config import Limits
from ezgraph.errors import InvalidCommandError
from ezgraph.protocol.commands import ListConfigTypes, ReadConfig, ReadConfigSchema
from ezgraph.protocol.config import ConfigKey, as_config_key, as_config_match, config_key_text
from ezgraph.protocol.events import (
    Body,
    ConfigSchemaSet,
    ConfigValueDeleted,
    ConfigValueSet,
    Event,
    Source,
    key_of,
)
from ezgraph.protocol.patterns import parse_pattern
from ezgraph.protocol.replies import ConfigPage, ConfigSchemaShown, ConfigTypes
from ezgraph.protocol.roles import FULL_SCOPE, ReadScope
from ezgraph.state.graph import GraphState

if TYPE_CHECKING:
    from collections.abc import Iterable

LIMITS = Limits(chunk_events=3, chunk_bytes=1_000)


class Rig:
    """A state, and reads of its configuration."""

    def __init__(self, *keys: str) -> None:
        self.state = GraphState()
        self._seqs = count(1)
        self.put(*keys)

    def do(self, *bodies: Body) -> None:
        for body in bodies:
            seq = next(self._seqs)
            self.state.apply(
                Event(1, seq, seq - 1, seq, seq, 1e9, 1.0, key_of(body), Source(), None, body)
            )

    def put(self, *keys: str, value_bytes: int = 1) -> None:
        for key in keys:
            kind, _, text = key.rpartition("|")
            names = as_config_key(text)
            self.do(ConfigValueSet(kind or "flow", names, f"v of {key}", None, value_bytes))

    def delete(self, key: str) -> None:
        self.do(ConfigValueDeleted("flow", as_config_key(key)))

    def look(self, read: ConfigRead) -> tuple[ConfigReply | None, int]:
        return read.look(self.state.config, seq=self.state.seq, limits=LIMITS)

    def ask(self, command: ConfigReadCommand, *patterns: str) -> ConfigReply:
        """Ask, and take as many turns as it takes."""
        read = ConfigRead(command, scope_of(*patterns), self.state.seq)
        while (reply := self.look(read)[0]) is None:
            pass
        return reply

    def page(self, command: ReadConfig, *patterns: str) -> ConfigPage:
        reply = self.ask(command, *patterns)
        assert isinstance(reply, ConfigPage)
        return reply

    def types(self, after: str = "", *patterns: str) -> ConfigTypes:
        reply = self.ask(ListConfigTypes(after), *patterns)
        assert isinstance(reply, ConfigTypes)
        return reply


def scope_of(*patterns: str) -> ReadScope:
    return ReadScope(1, tuple(map(parse_pattern, patterns))) if patterns else FULL_SCOPE


def texts(page: ConfigPage) -> list[str]:
    return [config_key_text(entry.key) for entry in page.entries]


def keys(*found: str) -> Iterable[ConfigKey]:
    return [as_config_key(each) for each in found]


def test_a_page_has_entries_in_order_and_the_next_goes_on_behind_it() -> None:
    rig = Rig("d", "a", "b:x", "b", "c", "other|a")

    first = rig.page(ReadConfig("flow"))
    assert first.next_after is not None
    second = rig.page(ReadConfig("flow", after=first.next_after))

    assert (texts(first), texts(second)) == (["a", "b", "b:x"], ["c", "d"])
    assert (first.next_after, second.next_after) == (("b", "x"), None)
    assert (first.seq, first.began_seq) == (6, 6)
    assert [entry.value for entry in second.entries] == ["v of c", "v of d"]


def test_a_page_goes_on_behind_a_key_that_has_gone() -> None:
    rig = Rig("a", "b", "c", "d")
    rig.delete("b")

    assert texts(rig.page(ReadConfig("flow", after=("b",)))) == ["c", "d"]


def test_a_prefix_is_whole_names() -> None:
    rig = Rig("chunker:default", "chunker", "chunker2:default", "chunk")

    assert texts(rig.page(ReadConfig("flow", ("chunker",)))) == ["chunker", "chunker:default"]
    assert texts(rig.page(ReadConfig("flow", ("chunker",), after=("chunker",)))) == [
        "chunker:default"
    ]
    assert texts(rig.page(ReadConfig("flow", ("nobody",)))) == []
    assert texts(rig.page(ReadConfig("flo"))) == []


def test_a_page_has_as_many_as_were_asked_for_at_most() -> None:
    rig = Rig("a", "b", "c", "d")

    page = rig.page(ReadConfig("flow", limit=2))
    beyond = rig.page(ReadConfig("flow", limit=100))

    assert (texts(page), page.next_after) == (["a", "b"], ("b",))
    assert texts(beyond) == ["a", "b", "c"]


def test_a_page_ends_when_its_values_are_large() -> None:
    rig = Rig()
    rig.put("a", "b", "c", value_bytes=600)

    page = rig.page(ReadConfig("flow"))

    assert (texts(page), page.next_after) == (["a", "b"], ("b",))


def test_keys_alone_come_without_values_and_more_at_a_time() -> None:
    rig = Rig(*(f"{number:02}" for number in range(30)))

    page = rig.page(ReadConfig("flow", with_values=False))

    assert page.entries == []
    assert len(page.keys) == 24
    assert page.next_after == ("23",)


@pytest.mark.parametrize(
    ("match", "found"),
    [
        ("*:default", ["a:default", "b:default"]),
        ("a:*", ["a:default", "a:x"]),
        ("a", ["a"]),
        ("a:x", ["a:x"]),
        ("*", ["a"]),
        ("a:x:y", ["a:x:y"]),
        ("*:*:*", ["a:x:y", "b:x:default"]),
        ("nobody:*", []),
        ("b*:de*", ["b:default"]),
    ],
)
def test_a_pattern_gives_the_keys_that_it_means(match: str, found: list[str]) -> None:
    rig = Rig("a", "a:default", "a:x", "a:x:y", "b:default", "b:x:default")

    page = rig.page(ReadConfig("flow", match=as_config_match(match)))

    assert texts(page) == found
    assert page.next_after is None


def test_a_pattern_within_a_prefix_gives_what_both_mean() -> None:
    rig = Rig("a:x", "a:y:z", "b:x")

    assert texts(rig.page(ReadConfig("flow", ("a",), as_config_match("*:x")))) == ["a:x"]
    assert texts(rig.page(ReadConfig("flow", ("a",), as_config_match("b:*")))) == []
    assert texts(rig.page(ReadConfig("flow", ("a", "y"), as_config_match("a:*:*")))) == ["a:y:z"]


def test_one_key_is_found_without_a_look_at_what_is_below_it() -> None:
    rig = Rig("a", *(f"a:{number}" for number in range(50)))

    for text, found in (("a", ["a"]), ("a:7", ["a:7"]), ("a:99", []), ("b", [])):
        read = ConfigRead(ReadConfig("flow", match=as_config_match(text)), FULL_SCOPE, 1)
        reply, examined = rig.look(read)
        assert isinstance(reply, ConfigPage)
        assert (texts(reply), reply.next_after) == (found, None)
        assert examined == 1


# --- turns ---


@pytest.fixture
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn examines four entries."""
    monkeypatch.setattr(reads_config, "EXAMINED", 4)


@pytest.mark.usefixtures("short_turns")
def test_a_rare_pattern_takes_several_turns_and_then_comes_in_one_page() -> None:
    rig = Rig(*(f"{number:02}:x" for number in range(11)), "05:rare", "10:rare")
    read = ConfigRead(ReadConfig("flow", match=as_config_match("*:rare")), FULL_SCOPE, 13)

    turns = [rig.look(read) for _ in range(4)]

    assert [(reply is None, examined) for reply, examined in turns] == [
        (True, 4), (True, 4), (True, 4), (False, 1),
    ]
    assert isinstance(turns[-1][0], ConfigPage)
    assert texts(turns[-1][0]) == ["05:rare", "10:rare"]


@pytest.mark.usefixtures("short_turns")
def test_a_read_of_several_turns_says_since_when_it_looks() -> None:
    rig = Rig(*(f"{number:02}" for number in range(6)), "90:rare")
    read = ConfigRead(ReadConfig("flow", match=as_config_match("*:rare")), FULL_SCOPE, 7)

    assert rig.look(read)[0] is None
    rig.put("00:rare")  # behind its back
    reply, _ = rig.look(read)

    assert isinstance(reply, ConfigPage)
    assert (reply.began_seq, reply.seq) == (7, 8)
    assert texts(reply) == ["90:rare"]


@pytest.mark.usefixtures("short_turns")
def test_what_changes_between_turns_does_not_lead_a_read_astray() -> None:
    rig = Rig(*(f"{number:02}" for number in range(12)))
    read = ConfigRead(ReadConfig("flow", match=as_config_match("nobody*:x")), FULL_SCOPE, 12)
    assert rig.look(read)[0] is None

    for number in range(12):
        rig.delete(f"{number:02}")
    reply, _ = rig.look(read)

    assert isinstance(reply, ConfigPage)
    assert (reply.entries, reply.next_after) == ([], None)


# --- a part of it ---


@pytest.mark.usefixtures("short_turns")
def test_who_may_read_a_part_gets_that_part_and_no_word_of_the_rest() -> None:
    names = [f"{number:02}" for number in range(20)]
    rig = Rig(*(f"{name}:x" for name in names), "07:mine", "15:mine", "19:mine")
    mine = "config/flow/*/mine"

    page = rig.page(ReadConfig("flow"), mine)
    assert page.next_after is not None
    last = rig.page(ReadConfig("flow", after=page.next_after), mine)

    assert texts(page) == ["07:mine", "15:mine", "19:mine"]
    assert page.next_after == ("19", "mine")
    assert (last.entries, last.next_after) == ([], None)
    assert rig.page(ReadConfig("flow", ("07",)), mine).keys == []
    assert texts(rig.page(ReadConfig("flow", match=as_config_match("07:*")), mine)) == ["07:mine"]
    assert texts(rig.page(ReadConfig("flow", match=as_config_match("07:x")), mine)) == []


def test_types_are_those_with_entries_or_a_schema() -> None:
    rig = Rig("b|x", "a|x", "a|y", "c:d|x")
    rig.do(ConfigSchemaSet("only", {}), ConfigSchemaSet("a", {}))

    assert rig.types().types == ["a", "b", "c:d", "only"]
    assert rig.types("a").types == ["b", "c:d", "only"]
    assert rig.types("zzz").types == []
    assert rig.types().next_after is None


def test_types_come_in_pages_too() -> None:
    rig = Rig(*(f"t{number:02}|x" for number in range(30)))
    rig.do(ConfigSchemaSet("t05b", {}), ConfigSchemaSet("t25b", {}))

    first = rig.types()
    assert first.next_after == "t23"
    second = rig.types(first.next_after)

    assert [*first.types, *second.types] == sorted(
        [*(f"t{number:02}" for number in range(30)), "t05b", "t25b"]
    )
    assert second.next_after is None


@pytest.mark.usefixtures("short_turns")
def test_a_type_is_shown_to_who_may_read_something_of_it() -> None:
    rig = Rig(*(f"a|{number}" for number in range(9)), "a|mine", "b|x", "b2|mine", "c|mine:x")
    rig.do(ConfigSchemaSet("d", {}))

    assert rig.types("", "config/*/mine").types == ["a", "b2", "c"]
    assert rig.types("", "config/b").types == ["b"]
    assert rig.types("", "config/d").types == ["d"]
    assert rig.types("", "settings/").types == []
    assert rig.types().types == ["a", "b", "b2", "c", "d"]


def test_a_schema_is_shown_or_that_there_is_none() -> None:
    rig = Rig("x")
    rig.do(ConfigSchemaSet("flow", {"type": "object"}))

    assert rig.ask(ReadConfigSchema("flow")) == ConfigSchemaShown(2, "flow", {"type": "object"})
    assert rig.ask(ReadConfigSchema("other")) == ConfigSchemaShown(2, "other", None)


def test_what_is_read_lies_under_a_key_of_the_bus() -> None:
    assert wanted_under(ReadConfig("flow", ("a", "b"))) == ("config", "flow", "a", "b")
    assert wanted_under(ReadConfigSchema("flow")) == ("config", "flow")
    assert wanted_under(ListConfigTypes()) == ("config",)
    for command in (
        ReadConfig(""), ReadConfig("flow", ("a", "")), ReadConfig("flow", after=("",)),
        ReadConfigSchema(""),
    ):  # fmt: skip
        with pytest.raises(InvalidCommandError, match="at least one character"):
            wanted_under(command)


def test_a_read_costs_what_it_gives_however_much_there_is() -> None:
    few = Rig(*(f"p{n // 10:04}:{n % 10}" for n in range(100)))
    many = Rig(*(f"p{n // 10:04}:{n % 10}" for n in range(20_000)))

    costs = {
        rig.look(ConfigRead(ReadConfig("flow", ("p0005",)), FULL_SCOPE, 1))[1]
        for rig in (few, many)
    }

    assert costs == {3}
