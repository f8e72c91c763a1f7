"""Changes of the configuration: transactions, conditions, owners, limits, schemas."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ezgraph.broker.admission import Cluster
from ezgraph.broker.core import BrokerCore
from ezgraph.broker.rules_config import ValueChecks
from ezgraph.config import BrokerConfig, Limits
from ezgraph.errors import InvalidSchemaError
from ezgraph.protocol.commands import (
    ChangeConfig,
    Command,
    Connect,
    Goodbye,
    ListClients,
    Revert,
    SetConfigSchema,
    TakeOver,
)
from ezgraph.protocol.config import (
    ConfigAbsent,
    ConfigAtSeq,
    ConfigCondition,
    ConfigDelete,
    ConfigHasValue,
    ConfigPresent,
    ConfigPut,
)
from ezgraph.protocol.events import (
    ConfigSchemaSet,
    ConfigValueDeleted,
    ConfigValueSet,
    EdgeDisconnected,
    EndReason,
    SessionClosed,
)
from ezgraph.protocol.replies import ConfigChanged, Done, Refusal, Welcome
from ezgraph.state.config_schema import Violation
from ezgraph.testing import SequentialIds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.unit.broker.conftest import Desk

ALICE, BOB, GUEST, PROCESS = b"alice", b"bob", b"guest", b"process"
LIMITS = Limits(
    max_leases=10,
    max_config_operations=5,
    max_config_key_bytes=40,
    max_config_value_bytes=100,
    max_config_depth=3,
    max_config_entries=4,
    max_config_entries_per_lease=2,
    max_config_bytes=250,
    max_config_schemas=2,
    max_config_schema_bytes=50,
    max_config_judged=3,
)


def put(key: str, value: object = 1, *, ephemeral: bool = False) -> ConfigPut:
    return ConfigPut("flow", tuple(key.split(":")), value, ephemeral)


def delete(key: str) -> ConfigDelete:
    return ConfigDelete("flow", tuple(key.split(":")))


def puts(*changes: ConfigPut, **more: Any) -> ChangeConfig:
    return ChangeConfig(puts=list(changes), **more)


def only_if(condition: ConfigCondition, *changes: ConfigPut) -> ChangeConfig:
    return ChangeConfig(puts=list(changes) or [put("done")], conditions=[condition])


@pytest.fixture
def joined(desk: Desk) -> Desk:
    """A broker with two sessions, a guest and a process."""
    for peer, kind in ((ALICE, "session"), (BOB, "session"), (GUEST, "guest")):
        desk.join(peer, kind)
    desk.join(PROCESS, "process")
    return desk


@pytest.fixture
def narrow(joined: Desk) -> Desk:
    """The same with few of everything."""
    joined.core._config = BrokerConfig(limits=LIMITS)
    return joined


def taking_over(desk: Desk, client: str) -> TakeOver:
    return TakeOver(desk.hello_of(), client, desk.core.admission.token(client), "c" * 32)


def entries(desk: Desk) -> dict[str, Any]:
    return {":".join(key[1:]): held.value for key, held in desk.state.config.entries.items()}


# --- puts and deletes ---


def test_a_put_makes_an_event_with_the_value_and_its_size(joined: Desk) -> None:
    (body,) = joined.bodies(ALICE, puts(put("chunker:default", {"gain": 1})))

    assert isinstance(body, ConfigValueSet)
    assert (body.key, body.value, body.owner) == (("chunker", "default"), {"gain": 1}, None)
    assert body.value_bytes > 0
    assert joined.state.config.size_bytes == body.value_bytes


def test_many_puts_and_deletes_are_one_transaction(joined: Desk) -> None:
    joined.ask(ALICE, puts(put("a"), put("b"), put("c")))

    both = ChangeConfig([put("d"), put("a", 2)], [delete("c"), delete("b")])
    outcome = joined.outcome(ALICE, both)

    assert [type(event.body).__name__ for event in outcome.events] == [
        "ConfigValueDeleted", "ConfigValueDeleted", "ConfigValueSet", "ConfigValueSet",
    ]
    assert {(event.txn_first, event.txn_last) for event in outcome.events} == {(7, 10)}
    assert outcome.reply == ConfigChanged(10, 4, 0)
    assert entries(joined) == {"a": 2, "d": 1}


def test_what_is_there_already_makes_no_event_and_the_reply_says_so(joined: Desk) -> None:
    joined.ask(ALICE, puts(put("a", {"x": [1]})))
    head = joined.state.seq

    same = joined.outcome(BOB, ChangeConfig([put("a", {"x": [1]})], [delete("gone")]))
    partly = joined.outcome(BOB, ChangeConfig([put("a", {"x": [1]}), put("b")]))

    assert (same.events, same.reply) == ((), ConfigChanged(head, 0, 2))
    assert partly.reply == ConfigChanged(head + 1, 1, 1)


@pytest.mark.parametrize("other", [1.0, True, "1", [1], None])
def test_a_value_of_another_type_is_another_value(joined: Desk, other: object) -> None:
    joined.ask(ALICE, puts(put("a", 1)))

    assert len(joined.bodies(ALICE, puts(put("a", other)))) == 1


def test_a_reason_is_in_the_events_source(joined: Desk) -> None:
    outcome = joined.outcome(ALICE, replace(puts(put("a")), reason="trial 7"))

    assert outcome.events[0].source.reason == "trial 7"


def test_a_transaction_of_nothing_is_answered(joined: Desk) -> None:
    assert joined.ask(ALICE, ChangeConfig()) == ConfigChanged(joined.state.seq, 0, 0)


@pytest.mark.parametrize(
    "command",
    [
        puts(put("a"), put("a", 2)),
        ChangeConfig([put("a")], [delete("a")]),
        ChangeConfig([], [delete("a"), delete("a")]),
    ],
)
def test_one_key_twice_is_refused(joined: Desk, command: ChangeConfig) -> None:
    refusal = joined.refusal(ALICE, command)

    assert refusal.code == "invalid_command"
    assert refusal.message == (
        "configuration 'flow' 'a' is changed twice in one transaction; say once what it is to be"
    )


@pytest.mark.parametrize(
    "change",
    [
        ConfigPut("flow", (), 1),
        ConfigPut("flow", ("a", ""), 1),
        ConfigPut("", ("a",), 1),
        ConfigPut("flow", ("\udc80",), 1),
        ConfigPut("flow", ("a",) * 40, 1),
        ConfigDelete("flow", ()),
        ConfigDelete("flow", ("", "b")),
        ConfigAbsent("flow", ("a", "")),
        ConfigPresent("", ("a",)),
    ],
)
def test_a_key_outside_the_grammar_is_refused_wherever_it_stands(
    joined: Desk, change: ConfigPut | ConfigDelete | ConfigAbsent | ConfigPresent
) -> None:
    match change:
        case ConfigPut():
            command = ChangeConfig([put("fine"), change])
        case ConfigDelete():
            command = ChangeConfig([put("fine")], [change])
        case _:
            command = ChangeConfig([put("fine")], [], [change])

    assert joined.refusal(ALICE, command).code == "invalid_command"


# --- conditions ---


def test_conditions_hold_or_they_do_not(joined: Desk) -> None:
    joined.ask(ALICE, puts(put("a", {"x": 1})))
    seq, a, b = joined.state.seq, ("a",), ("b",)
    holding: list[ConfigCondition] = [
        ConfigPresent("flow", a), ConfigAbsent("flow", b), ConfigAtSeq("flow", a, seq),
        ConfigAtSeq("flow", b, 0), ConfigHasValue("flow", a, {"x": 1}), ConfigAbsent("other", a),
    ]  # fmt: skip
    failing: list[ConfigCondition] = [
        ConfigPresent("flow", b), ConfigAbsent("flow", a), ConfigAtSeq("flow", a, seq - 1),
        ConfigAtSeq("flow", a, 0), ConfigAtSeq("flow", b, seq), ConfigHasValue("flow", a, {"x": 2}),
        ConfigHasValue("flow", a, {"x": 1.0}), ConfigHasValue("flow", b, None),
    ]  # fmt: skip

    for each in failing:
        assert joined.refusal(ALICE, only_if(each)).code == "precondition_failed"
    for number, each in enumerate(holding):
        assert joined.ask(ALICE, only_if(each, put(f"n{number}"))) == ConfigChanged(
            joined.state.seq, 1, 0
        )


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (ConfigAbsent("flow", ("a",)), "'a' was expected to be absent, and it is {'x': 1} since"),
        (ConfigPresent("flow", ("b",)), "'b' was expected to be there, and it is absent;"),
        (ConfigAtSeq("flow", ("a",), 2), "'a' was expected to be that of seq 2, and it is {'x':"),
        (ConfigAtSeq("flow", ("a",), 0), "'a' was expected to be absent, and it is {'x': 1}"),
        (ConfigHasValue("flow", ("a",), 5), "'a' was expected to be 5, and it is {'x': 1} since"),
    ],
)
def test_a_failed_condition_names_itself_and_what_is_there(
    joined: Desk, condition: ConfigCondition, said: str
) -> None:
    joined.ask(ALICE, puts(put("a", {"x": 1})))

    refusal = joined.refusal(ALICE, only_if(condition))

    assert said in refusal.message
    assert "nothing was changed" in refusal.message


def test_a_large_value_in_a_refusal_is_cut(joined: Desk) -> None:
    joined.ask(ALICE, puts(put("a", "x" * 10_000)))

    refusal = joined.refusal(ALICE, only_if(ConfigAbsent("flow", ("a",))))

    assert len(refusal.message) < 500


def test_conditions_look_at_the_state_before_the_transaction(joined: Desk) -> None:
    joined.ask(ALICE, puts(put("a")))

    moved = ChangeConfig(
        [put("b")], [delete("a")], [ConfigPresent("flow", ("a",)), ConfigAbsent("flow", ("b",))]
    )

    assert joined.ask(ALICE, moved) == ConfigChanged(joined.state.seq, 2, 0)


# --- owners ---


def test_the_last_who_puts_an_entry_owns_it(joined: Desk) -> None:
    alice, bob = (joined.core.connection_of(p).lease.client for p in (ALICE, BOB))  # type: ignore[union-attr]
    owners = []

    for peer, ephemeral in ((ALICE, True), (BOB, True), (GUEST, False), (ALICE, True)):
        (body,) = joined.bodies(peer, puts(put("a", ephemeral=ephemeral)))
        assert isinstance(body, ConfigValueSet)
        owners.append(body.owner)

    assert owners == [alice, bob, None, alice]


@pytest.mark.parametrize("peer", [GUEST, PROCESS])
def test_only_a_session_puts_what_ends_with_it(joined: Desk, peer: bytes) -> None:
    refusal = joined.refusal(peer, puts(put("a", ephemeral=True)))

    assert refusal.code == "invalid_command"
    assert "'a' is to be ephemeral, and only a session" in refusal.message
    assert len(joined.bodies(peer, puts(put("a")))) == 1


def test_what_a_session_owns_ends_with_it_in_one_transaction(joined: Desk) -> None:
    session = joined.core.connection_of(ALICE).lease.client  # type: ignore[union-attr]
    joined.ask(ALICE, Connect("x", "y"))
    joined.ask(ALICE, puts(put("b", ephemeral=True), put("a", ephemeral=True), put("kept")))
    joined.ask(BOB, puts(put("b", 2)))
    joined.ask(ALICE, puts(put("c", ephemeral=True)))

    outcome = joined.outcome(ALICE, Goodbye())

    assert [event.body for event in outcome.events] == [
        EdgeDisconnected("x", "y", session, topology_changed=True),
        ConfigValueDeleted("flow", ("a",), session),
        ConfigValueDeleted("flow", ("c",), session),
        SessionClosed(session, EndReason.CLOSED),
    ]
    assert entries(joined) == {"kept": 1, "b": 2}


def test_revert_drops_what_the_session_owns_and_keeps_it_open(joined: Desk) -> None:
    joined.ask(ALICE, puts(put("a", ephemeral=True), put("kept")))

    bodies = joined.bodies(ALICE, Revert())

    assert [type(body) for body in bodies] == [ConfigValueDeleted]
    assert entries(joined) == {"kept": 1}
    assert len(joined.bodies(ALICE, puts(put("a", ephemeral=True)))) == 1


def test_who_takes_a_session_over_goes_on_with_its_entries(joined: Desk) -> None:
    lease = joined.core.connection_of(ALICE).lease  # type: ignore[union-attr]
    joined.ask(ALICE, puts(put("a", ephemeral=True)))

    heir = taking_over(joined, lease.client)
    welcome = joined.ask(b"heir", heir, request_id=0)

    assert isinstance(welcome, Welcome)
    assert entries(joined) == {"a": 1}
    assert joined.state.config.of_session(welcome.client) == [("flow", "a")]
    assert len(joined.bodies(b"heir", Goodbye())) == 2
    assert entries(joined) == {}


def test_who_comes_back_too_late_is_told_which_entries_went(joined: Desk) -> None:
    lease = joined.core.connection_of(ALICE).lease  # type: ignore[union-attr]
    joined.ask(ALICE, puts(put("a:b", ephemeral=True), put("c", ephemeral=True)))

    joined.pass_time(10.0)
    refusal = joined.refusal(b"late", taking_over(joined, lease.client), request_id=0)

    assert refusal.lost is not None
    assert refusal.lost.config == [("flow", "a", "b"), ("flow", "c")]
    assert "lost 2 config keys (flow a:b, flow c)" in refusal.message


def test_a_listing_shows_what_each_session_owns(joined: Desk) -> None:
    joined.ask(ALICE, puts(put("b", ephemeral=True), put("a", ephemeral=True), put("kept")))

    owned = {each.id: each.config for each in joined.core.list_clients(joined.now).clients}

    lease = joined.core.connection_of(ALICE).lease  # type: ignore[union-attr]
    assert owned.pop(lease.client) == [("flow", "a"), ("flow", "b")]
    assert set(map(tuple, owned.values())) == {()}
    assert joined.outcome(ALICE, ListClients()).read == ListClients()


# --- once ---


def test_a_repeated_transaction_is_answered_as_it_was(joined: Desk) -> None:
    joined.ask(ALICE, puts(put("b")))
    command = puts(put("a"), put("b"))
    first = joined.ask(ALICE, command, request_id=100)
    head = joined.state.seq

    assert first == ConfigChanged(head, 1, 1)
    assert joined.ask(ALICE, command, request_id=100) == first
    assert joined.state.seq == head


@pytest.mark.parametrize("by", ["journal", "checkpoint"])
def test_it_is_answered_so_also_after_a_restart(joined: Desk, by: str) -> None:
    joined.ask(ALICE, puts(put("b")))
    command = ChangeConfig([put("a"), put("b"), put("c")], [delete("nothing")])
    first = joined.ask(ALICE, command, request_id=100)
    undone = joined.ask(ALICE, Revert(), request_id=101)
    lease = joined.core.connection_of(ALICE).lease  # type: ignore[union-attr]
    answered = joined.core.admission.answered() if by == "checkpoint" else ()
    history = joined.events if by == "journal" else []
    restarted = BrokerCore(
        joined.state, Cluster("c" * 32, b"secret"), BrokerConfig(), SequentialIds(),
        events_port=1, floor=1,
    )  # fmt: skip

    restarted.restore_leases(history, answered, now=joined.now)
    joined.core = restarted
    joined.ask(b"heir", taking_over(joined, lease.client), request_id=0)

    assert joined.ask(b"heir", command, request_id=100) == first
    assert undone == Done(joined.state.seq - 1)


# --- limits ---


def refused_limit(desk: Desk, command: Command, bound: str, peer: bytes = ALICE) -> None:
    refusal = desk.refusal(peer, command)
    assert refusal.code == "limit"
    assert f"({bound})" in refusal.message


def test_a_transaction_has_so_many_operations(narrow: Desk) -> None:
    conditions: list[ConfigCondition] = [ConfigAbsent("flow", (f"{n}",)) for n in range(4)]

    refused_limit(
        narrow, ChangeConfig([put("a")], [delete("b")], conditions), "max_config_operations"
    )
    assert narrow.bodies(ALICE, ChangeConfig([put("a")], [], conditions))


def test_a_key_has_so_many_bytes_as_text(narrow: Desk) -> None:
    for key in ("x" * 41, "ü" * 21, "%25" * 14, "a:b" * 14):
        refused_limit(narrow, puts(put(key)), "max_config_key_bytes")
    refused_limit(narrow, puts(ConfigPut("flow", ("%" * 14,), 1)), "max_config_key_bytes")

    assert narrow.bodies(ALICE, puts(put("x" * 40)))
    assert narrow.bodies(ALICE, puts(put("ü" * 20)))


def test_a_value_has_so_many_bytes_and_so_much_depth(narrow: Desk) -> None:
    refused_limit(narrow, puts(put("a", "x" * 101)), "max_config_value_bytes")
    refused_limit(narrow, puts(put("a", [[[[1]]]])), "max_config_depth")

    assert narrow.bodies(ALICE, puts(put("a", [[[1]]])))


def test_there_are_so_many_entries_altogether(narrow: Desk) -> None:
    narrow.ask(ALICE, puts(*(put(f"{n}") for n in range(4))))

    refused_limit(narrow, puts(put("one more")), "max_config_entries")
    assert len(narrow.bodies(ALICE, puts(put("0", 2)))) == 1
    assert len(narrow.bodies(ALICE, ChangeConfig([put("new")], [delete("0")]))) == 2
    refused_limit(narrow, ChangeConfig([put("x"), put("y")], [delete("1")]), "max_config_entries")


def test_the_values_take_up_so_much_altogether(narrow: Desk) -> None:
    narrow.ask(ALICE, puts(put("a", "x" * 90), put("b", "x" * 90)))

    refused_limit(narrow, puts(put("c", "x" * 90)), "max_config_bytes")
    assert narrow.bodies(ALICE, puts(put("a", "y" * 90)))
    assert narrow.bodies(ALICE, ChangeConfig([put("c", "x" * 90)], [delete("a")]))


def test_a_session_owns_so_many_entries(narrow: Desk) -> None:
    narrow.ask(ALICE, puts(put("a", ephemeral=True), put("b", ephemeral=True)))

    third = put("c", ephemeral=True)
    refused_limit(narrow, puts(third), "max_config_entries_per_lease")
    assert narrow.bodies(ALICE, puts(put("c")))
    refused_limit(narrow, puts(third), "max_config_entries_per_lease")
    assert narrow.bodies(ALICE, puts(put("a", 2, ephemeral=True)))
    assert narrow.bodies(ALICE, puts(put("a"), third))
    assert narrow.bodies(BOB, puts(put("b", ephemeral=True)))


# --- schemas ---


class Judge:
    """Values must not be among ``bad``; a schema that is `"bad"` is none."""

    def __init__(self) -> None:
        self.judged: list[object] = []

    def check_schema(self, schema: object) -> None:
        if schema == {"bad": True}:
            raise InvalidSchemaError("this is no schema at all")

    def violation(self, schema: Mapping[str, Any], value: object) -> Violation | None:
        self.judged.append(value)
        if value in schema["not"]:
            return Violation("/a/0", f"{value!r} is not wanted")
        return None


@pytest.fixture
def judged(narrow: Desk) -> Desk:
    """A broker with a validator."""
    judge = Judge()
    narrow.core._checks = ValueChecks(
        check_schema=judge.check_schema, violation=judge.violation
    )
    return narrow


SCHEMA = {"not": ["no"]}


def test_a_schema_is_set_once_and_taken_away(judged: Desk) -> None:
    once, gone = SetConfigSchema("flow", SCHEMA), SetConfigSchema("flow", None)

    assert judged.bodies(ALICE, once) == [ConfigSchemaSet("flow", SCHEMA)]
    assert judged.bodies(ALICE, once) == []
    assert judged.bodies(ALICE, gone) == [ConfigSchemaSet("flow", None)]
    assert judged.bodies(ALICE, gone) == []


def test_a_value_that_does_not_fit_is_refused_with_its_place(judged: Desk) -> None:
    judged.ask(ALICE, SetConfigSchema("flow", SCHEMA))

    refusal = judged.refusal(ALICE, puts(put("fine"), put("b", "no")))

    assert refusal.code == "schema_violation"
    assert "'flow' 'b' does not fit the schema of its type: /a/0: 'no' is not wanted" in (
        refusal.message
    )
    assert judged.bodies(ALICE, puts(ConfigPut("other", ("b",), "no")))
    assert judged.bodies(ALICE, puts(put("b", "yes")))


def test_a_schema_that_entries_break_is_refused_and_names_the_first_few(judged: Desk) -> None:
    judged.core._config = BrokerConfig(limits=replace(LIMITS, max_config_judged=10))
    judged.ask(ALICE, puts(put("a", "yes"), put("b", "no"), put("c:d", "no")))

    refusal = judged.refusal(ALICE, SetConfigSchema("flow", SCHEMA))

    assert refusal.code == "schema_violation"
    assert "'b': /a/0: 'no' is not wanted; 'c:d': /a/0: 'no' is not wanted; ch" in refusal.message
    assert judged.bodies(ALICE, SetConfigSchema("other", SCHEMA))


def test_what_is_no_schema_is_refused(judged: Desk) -> None:
    assert judged.refusal(ALICE, SetConfigSchema("flow", {"bad": True})).code == "invalid_schema"
    assert judged.refusal(ALICE, SetConfigSchema("", SCHEMA)).code == "invalid_command"
    refused_limit(judged, SetConfigSchema("flow", {"not": ["x" * 60]}), "max_config_schema_bytes")


def test_there_are_so_many_schemas_and_so_many_entries_to_judge(judged: Desk) -> None:
    judged.ask(ALICE, puts(*(put(f"{n}") for n in range(4))))

    refused_limit(judged, SetConfigSchema("flow", SCHEMA), "max_config_judged")
    judged.ask(ALICE, SetConfigSchema("a", SCHEMA))
    judged.ask(ALICE, SetConfigSchema("b", SCHEMA))
    refused_limit(judged, SetConfigSchema("c", SCHEMA), "max_config_schemas")
    assert judged.bodies(ALICE, SetConfigSchema("b", {"not": []}))


def test_a_refused_transaction_says_so_when_it_is_repeated(joined: Desk) -> None:
    refusal = joined.refusal(ALICE, only_if(ConfigPresent("flow", ("a",))), request_id=50)
    joined.ask(ALICE, puts(put("a")))

    again = joined.ask(ALICE, only_if(ConfigPresent("flow", ("a",))), request_id=50)

    assert isinstance(again, Refusal)
    assert again == refusal
