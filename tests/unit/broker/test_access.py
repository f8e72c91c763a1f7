"""What commands need, and what is told to whom."""

from __future__ import annotations

from typing import get_args

import pytest

from ezgraph.broker.access import (
    Judged,
    demands,
    refuse_forbidden,
    refuse_unreadable,
    scope_of,
    withheld,
)
from ezgraph.broker.core import Change
from ezgraph.errors import (
    AddressCollisionError,
    CyclicException,
    ForbiddenError,
    LimitError,
    RefusedError,
    SchemaViolationError,
    StillReferencedError,
    TagExistsError,
    UnknownGraphError,
    UnknownSnapshotError,
    UnknownTagError,
)
from ezgraph.protocol.artifacts import Artifact
from ezgraph.protocol.commands import (
    AnnounceNodes,
    ChangeConfig,
    ChangeSettings,
    Command,
    Connect,
    Disconnect,
    RegisterMetadata,
    ReportSettings,
    RequestProcess,
    Revert,
    ServeGraph,
    SetConfigSchema,
    SetPause,
    Shutdown,
    UpdateUnits,
    WithdrawGraph,
)
from ezgraph.protocol.config import ConfigDelete, ConfigPresent, ConfigPut
from ezgraph.protocol.fingerprints import Fingerprint
from ezgraph.protocol.metadata import ComponentMetadata, DynamicSettingsMetadata, GraphMetadata
from ezgraph.protocol.patterns import parse_pattern
from ezgraph.protocol.recordings import RecordingInfo
from ezgraph.protocol.roles import (
    FULL_SCOPE,
    OBSERVER,
    VERBS,
    Access,
    Identity,
    ReadScope,
    Role,
    owner_of,
)
from ezgraph.protocol.settings import SettingsSnapshotValue
from ezgraph.protocol.stored import GraphRow
from ezgraph.protocol.stored_commands import (
    Deletable,
    DeleteRecording,
    DeleteStored,
    Freeze,
    NewSnapshot,
    RemoveTag,
    Restore,
    SetTag,
    SnapshotRef,
    StoreCommand,
    StoreGraph,
    StorePieces,
    StoreSnapshot,
    WritePartitions,
    WriteRecording,
)

VALUE = SettingsSnapshotValue(None, {})
NO = DynamicSettingsMetadata(enabled=False)
PART = ReadScope(1, (parse_pattern("settings/A"),))
FINGERPRINT = Fingerprint.from_string("a graph")
ROW = GraphRow(0.0, "", b"", b"", 0, 0, 0, 0, 0, 0)
SNAPSHOT = NewSnapshot(FINGERPRINT, 1, 1, 0.0)
RAW = Artifact("raw")


def metadata(*addresses: str) -> GraphMetadata:
    return GraphMetadata(
        components={a: ComponentMetadata(a, a, "m.C", "m.S", (None, {}), NO) for a in addresses}
    )


NEEDED: list[tuple[Command, list[tuple[str, tuple[str, ...]]]]] = [
    (Connect("A", "B"), [("connect", ("edge", "A", "B"))]),
    (Disconnect("A", "B"), [("connect", ("edge", "A", "B"))]),
    (
        RegisterMetadata(metadata("X", "Y")),
        [
            ("register", ("component",)),
            ("register", ("component", "X")),
            ("register", ("component", "Y")),
        ],
    ),
    (UpdateUnits(["X"], ["Y"]), [("run", ("component", "X")), ("run", ("component", "Y"))]),
    (ReportSettings("X", VALUE), [("report", ("settings", "X"))]),
    (ChangeSettings("X", {"gain": 1}), [("set", ("settings", "X"))]),
    (RequestProcess("X", "PING"), [("request", ("component", "X"))]),
    (SetPause(paused=True), [("pause", ("control", "pause"))]),
    (
        ChangeConfig(
            [ConfigPut("flow", ("a", "b"), 1)],
            [ConfigDelete("flow", ("c",))],
            [ConfigPresent("other", ("d",))],
        ),
        [
            ("config", ("config", "flow", "a", "b")),
            ("config", ("config", "flow", "c")),
            ("read", ("config", "other", "d")),
        ],
    ),
    (
        SetConfigSchema("flow", {}),
        [("config", ("config", "flow")), ("read", ("config", "flow"))],
    ),
    (ServeGraph("run", "r", "i", ["h:1"]), [("serve", ("node", "run"))]),
    (AnnounceNodes("run", [], ["n"]), [("serve", ("node", "run"))]),
    (WithdrawGraph("run"), [("serve", ("node", "run"))]),
    (Shutdown(), [("shutdown", ("control", "broker"))]),
    (Revert(), []),
    (Freeze("rig"), [("store", ("snapshot", "rig"))]),
    (
        Freeze("rig", "best"),
        [("store", ("snapshot", "rig")), ("store", ("tag", "rig", "best"))],
    ),
    (StorePieces({b"a": b"b"}), [("store", ("snapshot",))]),
    (StoreGraph("rig", FINGERPRINT, ROW), [("store", ("snapshot", "rig"))]),
    (StoreSnapshot("rig", SNAPSHOT), [("store", ("snapshot", "rig"))]),
    (SetTag("rig", "best", SnapshotRef(FINGERPRINT)), [("store", ("tag", "rig", "best"))]),
    (
        SetTag("rig", "best", SNAPSHOT),
        [("store", ("tag", "rig", "best")), ("store", ("snapshot", "rig"))],
    ),
    (RemoveTag("rig", "best"), [("store", ("tag", "rig", "best"))]),
    (WritePartitions(RAW, []), [("store", ("partitions", "raw"))]),
    (
        WritePartitions(RAW, [], name="rig", snapshot=SNAPSHOT, artifact_key="raw"),
        [("store", ("partitions", "raw")), ("store", ("snapshot", "rig"))],
    ),
    (
        DeleteStored(Deletable.GRAPH, "rig", FINGERPRINT),
        [("store", ("snapshot", "rig"))],
    ),
    (
        DeleteStored(Deletable.PARTITIONS, artifact=RAW),
        [("store", ("partitions", "raw"))],
    ),
    (
        WriteRecording(RecordingInfo("rig", "key", RAW)),
        [
            ("store", ("recording", "rig", "key")),
            ("store", ("partitions", "raw")),
            ("store", ("snapshot", "rig")),
        ],
    ),
    (DeleteRecording("rig", "key", 1), [("store", ("recording", "rig", "key"))]),
    (Restore("rig", "best"), [("restore", ("snapshot", "rig"))]),
]


@pytest.mark.parametrize(("command", "wanted"), NEEDED)
def test_a_command_needs_a_verb_on_every_key_it_touches(
    command: Judged, wanted: list[tuple[str, tuple[str, ...]]]
) -> None:
    assert list(demands(command)) == wanted


def test_every_change_is_judged_and_every_verb_is_needed_by_something() -> None:
    others = {Shutdown, RequestProcess, ChangeSettings, Restore, *get_args(StoreCommand)}
    assert set(get_args(Change)) | others == set(get_args(Judged))
    assert {type(command) for command, _ in NEEDED} == set(get_args(Judged))
    assert {verb for _, wanted in NEEDED for verb, _ in wanted} | {"read"} == set(VERBS)


def test_an_owner_changes_the_configuration_of_what_is_at_its_prefix_and_no_other() -> None:
    owner = Identity("rig", "0" * 64, owner_of("RIG"))
    refuse_forbidden(owner, ChangeConfig([ConfigPut("flow", ("RIG", "x"), 1)]))
    refuse_forbidden(owner, ChangeConfig([], [ConfigDelete("other", ("RIG/AMP",))]))

    for command in (
        ChangeConfig([ConfigPut("flow", ("RIG", "x"), 1), ConfigPut("flow", ("RIGGED",), 1)]),
        ChangeConfig([], [ConfigDelete("RIG", ("x",))]),
        SetConfigSchema("flow", None),
    ):
        with pytest.raises(ForbiddenError, match=r"may not config config/"):
            refuse_forbidden(owner, command)


def test_who_may_not_read_an_entry_can_make_nothing_depend_on_it() -> None:
    writer = Role("writer", {"config": (parse_pattern("config/flow"),)})
    blind = Identity("blind", "0" * 64, writer)
    put = ConfigPut("flow", ("a",), 1)
    refuse_forbidden(blind, ChangeConfig([put]))

    with pytest.raises(ForbiddenError, match=r"may not read config/flow/a;"):
        refuse_forbidden(blind, ChangeConfig([put], [], [ConfigPresent("flow", ("a",))]))


def test_one_key_that_the_role_lacks_refuses_the_whole_command() -> None:
    owner = Identity("rig", "0" * 64, owner_of("RIG"))
    refuse_forbidden(owner, RegisterMetadata(metadata("RIG", "RIG/AMP")))

    with pytest.raises(ForbiddenError) as caught:
        refuse_forbidden(owner, RegisterMetadata(metadata("RIG", "RIGGED")))

    assert str(caught.value) == (
        "key 'rig' (role owner:RIG) may not register component/RIGGED; ask whoever keeps this "
        "broker's allow-list for a role that does"
    )


def test_a_very_long_key_is_not_repeated_whole() -> None:
    nobody = Identity("n", "0" * 64, Role("nothing", {}))

    with pytest.raises(ForbiddenError) as caught:
        refuse_forbidden(nobody, Connect("A" * 100_000, "B"))

    assert len(str(caught.value)) < 500


def test_a_prefix_with_something_readable_under_it_may_be_read() -> None:
    who = Identity("part", "0" * 64, Role("part", {"read": PART.patterns}))

    for prefix in ((), ("settings",), ("settings", "A")):
        refuse_unreadable(who, PART, prefix)
    for prefix in (("edge",), ("settings", "B"), ("settings", "A/B")):
        with pytest.raises(ForbiddenError, match=r"may not read .*it reads settings/A"):
            refuse_unreadable(who, PART, prefix)


def test_without_keys_everything_is_read() -> None:
    assert scope_of(None, None) is FULL_SCOPE
    who = Identity("part", "0" * 64, Role("part", {"read": PART.patterns}))
    assert scope_of(Access([who]), who).patterns == PART.patterns


@pytest.mark.parametrize(
    "error", [CyclicException("a SECRET loop"), AddressCollisionError("SECRET")]
)
def test_what_a_rule_found_is_withheld_from_who_reads_a_part(error: RefusedError) -> None:
    told = withheld(error, PART)

    assert type(told) is type(error)
    assert "SECRET" not in str(told)
    assert "withheld" in str(told)
    assert withheld(error, FULL_SCOPE) is error


def test_of_a_schema_that_one_may_not_read_only_is_told_where_a_value_does_not_fit() -> None:
    error = SchemaViolationError("9 is not one of [SECRET]", type="t", path="/gain")
    patterns = ("config/t", "config/", "config/t/a")
    readers = [ReadScope(1, (parse_pattern(text),)) for text in patterns]

    assert [withheld(error, each) is error for each in readers] == [True, True, False]
    told = str(withheld(error, readers[2]))
    assert "SECRET" not in told
    assert "/gain" in told
    assert withheld(error, FULL_SCOPE) is error


def test_what_tells_nothing_of_others_is_told_to_all() -> None:
    error = LimitError("too many")

    assert withheld(error, PART) is error


def test_who_registers_nothing_nowhere_registers_no_graph_either() -> None:
    empty = RegisterMetadata(GraphMetadata(root_name="x"))

    with pytest.raises(ForbiddenError, match="may not register component"):
        refuse_forbidden(Identity("o", "0" * 64, OBSERVER), empty)
    refuse_forbidden(Identity("rig", "0" * 64, owner_of("RIG")), empty)


@pytest.mark.parametrize(
    "error",
    [
        UnknownGraphError("there are 1a2b"),
        UnknownSnapshotError("there are 1a2b"),
        UnknownTagError("it has 1a2b"),
        TagExistsError("points to 1a2b", fingerprint="1a2b"),
        StillReferencedError("tagged 1a2b"),
    ],
    ids=lambda error: error.code,
)
def test_who_reads_a_part_is_not_told_what_else_is_stored(error: RefusedError) -> None:
    told = withheld(error, PART)

    assert type(told) is type(error)
    assert "1a2b" not in str(told)
    assert "1a2b" not in str(vars(told))
    assert withheld(error, FULL_SCOPE) is error
