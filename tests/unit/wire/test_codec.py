"""The codec: messages by tag and field, checked on both sides; errors name the field."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgpack
import pytest

from ezgraph.errors import MalformedMessageError
from ezgraph.protocol.commands import (
    Command,
    Connect,
    Heartbeat,
    Hello,
    ReadEvents,
    RegisterMetadata,
    ReportSettings,
    SetPause,
    Sync,
)
from ezgraph.protocol.events import (
    EdgeConnected,
    EndReason,
    Event,
    SessionClosed,
    SettingsChanged,
    SettingsLayer,
    Source,
    key_of,
)
from ezgraph.protocol.metadata import (
    DynamicSettingsMetadata,
    GraphMetadata,
    InputStreamMetadata,
    SettingsFieldMetadata,
    SettingsSchemaMetadata,
    TaskMetadata,
    UnitMetadata,
)
from ezgraph.protocol.replies import ClientList, Done, Refusal, Reply, SnapshotChunk, Welcome
from ezgraph.protocol.settings import SettingsEventType, SettingsSnapshotValue
from ezgraph.protocol.snapshot import ClientInfo, Edge
from ezgraph.wire import codec, values

SCHEMA = SettingsSchemaMetadata(
    "dataclass", "m.S", [SettingsFieldMetadata("gain", "float", bounds=(None, 2.0), choices=[1, 2])]
)
UNIT = UnitMetadata(
    "SYS/A",
    "A",
    "m.A",
    "m.S",
    (b"opaque", {"gain": (1, {2})}),
    DynamicSettingsMetadata(enabled=True),
    SCHEMA,
    streams={"IN": InputStreamMetadata("IN", "SYS/A/IN", "m.M", leaky=True)},
    tasks=[TaskMetadata("run", publishes=["OUT"])],
)
MESSAGES: list[tuple[Any, Any]] = [
    (Command, Sync()),
    (Command, Connect("a", "b", "why")),
    (Command, Hello(1, "session", "n", "p", "h", 1, "l", ttl_s=2.0)),
    (Command, ReadEvents(["edge", "a"], 3, None)),
    (Command, RegisterMetadata(GraphMetadata(2, "SYS", {"SYS/A": UNIT}))),
    (Command, ReportSettings("A", SettingsSnapshotValue(b"o", {"a": [1]}, None, SCHEMA), 1.5)),
    (Reply, Done(2**63)),
    (Reply, Refusal("cyclic", "no", 3)),
    (Reply, Welcome(1, "0", "c", 1, 2, 3, "s", b"t", 6.0, 99)),
    (Reply, SnapshotChunk(1, 1, 2, 1, [b"e"], {b"k": b"v"}, 7)),
    (
        Reply,
        ClientList(
            1, [ClientInfo("s", "session", "h", 1, "p", "l", None, 1.0, 2.0, None, 6.0,
                           edges=[Edge("a", "b")])]
        ),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("family", "message"), MESSAGES, ids=lambda each: type(each).__name__)
def test_a_message_comes_back_as_it_was(family: Any, message: object) -> None:
    found = codec.decode(codec.encode(message), family)

    assert found == message
    assert type(found) is type(message)


def test_a_message_is_its_tag_and_its_fields() -> None:
    assert msgpack.unpackb(codec.encode(SetPause(paused=True))) == ["SetPause", {"paused": True}]


def test_a_subclass_in_a_field_carries_its_tag() -> None:
    spelled = msgpack.unpackb(
        codec.encode(RegisterMetadata(GraphMetadata(components={"SYS/A": UNIT})))
    )

    assert spelled[1]["metadata"]["components"]["SYS/A"][0] == "UnitMetadata"


def test_unknown_fields_are_ignored() -> None:
    message = ["Connect", {"from_topic": "a", "to_topic": "b", "colour": "red"}]

    assert codec.decode(values.pack(message), Command) == Connect("a", "b")


def test_absent_fields_have_their_defaults() -> None:
    message = ["Hello", {"protocol": 1, "kind": "session", "nonce": "n", "program": "p"}]
    message[1].update({"host": "h", "pid": 1, "login": "l"})  # type: ignore[attr-defined]

    assert codec.decode(values.pack(message), Command) == Hello(1, "session", "n", "p", "h", 1, "l")
    metadata: object = codec.decode(values.pack(["RegisterMetadata", {"metadata": {}}]), Command)
    assert metadata == RegisterMetadata(GraphMetadata())


@pytest.mark.parametrize("misfit", [b"\x91" * 900 + b"\xc0", values.pack([None] * 100_000)])
def test_a_misfit_as_deep_or_as_large_as_a_frame_is_named_in_few_words(misfit: bytes) -> None:
    packed = b"\x92" + values.pack("SetPause") + b"\x81" + values.pack("paused") + misfit

    with pytest.raises(MalformedMessageError, match="paused: expected true or false") as refused:
        codec.decode(packed, Command)

    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("depth", [2, 900, 1_000, 1_023])
def test_what_is_no_message_however_deep_is_malformed(depth: int) -> None:
    for packed in (b"\x91" * depth + b"\xc0", b"\x92" + b"\x91" * (depth - 1) + b"\xc0\x80"):
        with pytest.raises(MalformedMessageError):
            codec.decode(packed, Command)


def test_defaults_are_not_shared_between_messages() -> None:
    packed = values.pack(["RegisterMetadata", {"metadata": {}}])
    one: RegisterMetadata = codec.decode(packed, Command)
    two: RegisterMetadata = codec.decode(packed, Command)

    assert one.metadata.components is not two.metadata.components


def test_a_whole_number_stands_for_a_float() -> None:
    found: object = codec.decode(values.pack(["Heartbeat", {"main_loop_age_s": 2}]), Command)

    assert isinstance(found, Heartbeat)
    assert type(found.main_loop_age_s) is float


COMPONENT: dict[str, object] = {
    "address": "A",
    "name": "A",
    "component_type": "m.A",
    "settings_type": "m.S",
    "initial_settings": [None, ""],
    "dynamic_settings": {"enabled": True},
}


def register(**fields: object) -> list[object]:
    component = ["UnitMetadata", {**COMPONENT, **fields}]
    return ["RegisterMetadata", {"metadata": {"components": {"A": component}}}]


WRONG: list[tuple[object, str]] = [
    (["Connect", {"from_topic": "a"}], "Connect lacks the field 'to_topic'"),
    (["Connect", {"from_topic": "a", "to_topic": None}], "to_topic: expected text, got None"),
    (["Connect", {"from_topic": "a", "to_topic": 3}], "to_topic: expected text, got 3 (int)"),
    (["SetPause", {"paused": 1}], "paused: expected true or false, got 1"),
    (["ReadEvents", {"prefix": "x", "after": 0}], "prefix: expected a list, got 'x'"),
    (["ReadEvents", {"prefix": [1], "after": 0}], "expected text, got 1"),
    (["ReadEvents", {"prefix": [], "after": "0"}], "after: expected an integer"),
    (["ReadEvents", {"prefix": [], "after": True}], "after: expected an integer, got True"),
    (["ReadEvents", {"prefix": [], "after": 2.0}], "after: expected an integer, got 2.0"),
    (["Heartbeat", {"main_loop_age_s": None}], "main_loop_age_s: expected a number"),
    (["Heartbeat", {"main_loop_age_s": True}], "main_loop_age_s: expected a number"),
    (["Heartbeat", {"main_loop_age_s": 10**400}], "main_loop_age_s: expected"),
    (register(name=3), "['A'].name: expected text, got 3"),
    (register(initial_settings=[None]), "initial_settings: expected 2 values"),
    (register(initial_settings=["x", ""]), "initial_settings"),
    (register(initial_settings=[None, 3]), "initial_settings"),
    (register(dynamic_settings=True), "dynamic_settings: expected the fields of"),
    (register(streams={"IN": {"name": "IN"}}), "streams['IN']"),
    (register(streams={3: {}}), "streams"),
    (register(tasks=[{"subscribes": "IN"}]), "lacks the field 'name'"),
    (register(settings_schema={"provider": "x"}), "settings_schema: expected an encoded"),
    (register(settings_schema=b"\xc1"), "no msgpack value"),
    (
        ["RegisterMetadata", {"metadata": {"components": {"A": ["TaskMetadata", {}]}}}],
        "components['A']: unknown message 'TaskMetadata'",
    ),
    (["UpdateUnits", {"added": {}, "removed": []}], "added: expected a list"),
    (["ReportSettings", {"address": "A", "value": {"repr_value": 3}}], "value.repr_value"),
    (["ReportSettings", {"address": "A", "value": {"serialized": "x"}}], "value.serialized"),
]


@pytest.mark.parametrize(("message", "says"), WRONG, ids=range(len(WRONG)))
def test_what_does_not_fit_is_refused_with_the_path_of_the_field(
    message: object, says: str
) -> None:
    with pytest.raises(MalformedMessageError) as refused:
        codec.decode(values.pack(message), Command)

    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ("Sync", "expected [tag, fields], got 'Sync'"),
        ([], "expected [tag, fields]"),
        (["Sync", {}, 1], "expected [tag, fields]"),
        (["Done", {"seq": 1}], "unknown message 'Done'"),
        ([["Sync"], {}], "unknown message"),
        ({"Sync": {}}, "expected [tag, fields]"),
        (None, "expected [tag, fields]"),
    ],
)
def test_what_is_no_message_of_the_family_is_refused(message: object, says: str) -> None:
    with pytest.raises(MalformedMessageError) as refused:
        codec.decode(values.pack(message), Command)

    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (Connect("a", SCHEMA), "Connect.to_topic"),  # type: ignore[arg-type]
        (ReadEvents("edge", 0), "prefix: expected a list"),  # type: ignore[arg-type]
        (RegisterMetadata("all"), "metadata: expected a GraphMetadata"),  # type: ignore[arg-type]
        (
            RegisterMetadata(GraphMetadata(components={"A": SCHEMA})),  # type: ignore[dict-item]
            "components['A']: expected a ComponentMetadata",
        ),
        (
            RegisterMetadata(GraphMetadata(components={3: UNIT})),  # type: ignore[dict-item]
            "components",
        ),
        (ReportSettings("A", SettingsSnapshotValue(None, {"x": object()})), "builtins.object"),
        (ReportSettings("A", SettingsSnapshotValue(None, 3)), "repr_value"),  # type: ignore[arg-type]
    ],
)
def test_a_sender_is_told_which_field_is_wrong_before_anything_is_sent(
    message: object, says: str
) -> None:
    with pytest.raises(MalformedMessageError) as refused:
        codec.encode(message)

    assert says in str(refused.value)


def test_settings_nested_too_deep_are_refused_on_arrival() -> None:
    deep: object = 1
    for _ in range(100):
        deep = [deep]
    message = ["ReportSettings", {"address": "A", "value": {"repr_value": {"x": deep}}}]

    with pytest.raises(MalformedMessageError, match="nested deeper than 64"):
        codec.decode(values.pack(message), Command)


# --- events ---

SOURCE = Source(session_id="s1", client="s1", program="p", host="h", pid=1, login="l")


def event(seq: int, body: Any = None, source: Source = SOURCE) -> Event:
    body = body or EdgeConnected("a", "b", "s1", topology_changed=True)
    return Event(1, seq, seq - 1, seq, seq, 1.5, 2.5, key_of(body), source, 3, body)


def settings_event(seq: int) -> Event:
    value = SettingsSnapshotValue(b"o", {"gain": 1.5}, {"gain": 1.5}, SCHEMA)
    body = SettingsChanged(
        "A", SettingsEventType.SETTINGS_UPDATED, SettingsLayer.LIVE, value, UUID(int=1), 2.0
    )
    return event(seq, body)


@pytest.mark.parametrize(
    "made", [event(1), settings_event(2), event(3, SessionClosed("s", EndReason.LOST))]
)
def test_an_event_is_whole_in_the_journal_and_in_a_snapshot_with_its_blobs(made: Event) -> None:
    encoded = codec.encode_event(made)

    assert codec.decode_event(encoded.event) == made
    assert codec.decode_live_event(encoded.live, encoded.blobs) == made


def test_a_schema_and_a_source_are_blobs_of_which_equal_ones_have_one_name() -> None:
    one, other = codec.encode_event(settings_event(1)), codec.encode_event(settings_event(2))

    assert len(one.blobs) == 2
    assert one.blobs == other.blobs
    assert codec.encode_event(event(1)).blobs.keys() < one.blobs.keys()


def test_equal_blobs_become_one_object() -> None:
    one, other = (
        codec.decode_event(codec.encode_event(settings_event(seq)).event) for seq in (1, 2)
    )

    assert one.source is other.source
    assert isinstance(one.body, SettingsChanged)
    assert isinstance(other.body, SettingsChanged)
    assert one.body.value.settings_schema is other.body.value.settings_schema


def test_an_event_that_was_decoded_is_encoded_alike() -> None:
    encoded = codec.encode_event(settings_event(1))

    assert codec.encode_event(codec.decode_event(encoded.event)) == encoded


def test_a_snapshot_entry_without_its_blob_is_refused() -> None:
    encoded = codec.encode_event(event(1))

    with pytest.raises(MalformedMessageError, match=r"blob [0-9a-f]{32} .*is missing"):
        codec.decode_live_event(encoded.live, {})


GOOD = codec.encode_event(settings_event(1)).event


@pytest.mark.parametrize("length", [0, 1, 3, 4, 10, len(GOOD) // 2, len(GOOD) - 1])
def test_an_event_that_was_cut_off_is_refused(length: int) -> None:
    with pytest.raises(MalformedMessageError):
        codec.decode_event(GOOD[:length])


@pytest.mark.parametrize(
    "packed",
    [
        b"\xff\xff\xff\xff" + GOOD[4:],
        b"\0\0\0\0" + GOOD[4:],
        b"\0\0\0\1\xc1" + GOOD,
        b"\0\0\0\1\x01",
    ],
)
def test_an_event_whose_table_is_damaged_is_refused(packed: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        codec.decode_event(packed)


def test_an_event_of_a_newer_version_with_more_fields_is_readable() -> None:
    plain = msgpack.unpackb(codec.encode_event(event(1)).live, ext_hook=lambda code, data: None)
    assert plain[0] == "Event"
    made = codec.encode_event(event(1))
    start = made.live.index(b"\xa5epoch")
    wider = bytes([made.live[start - 1] + 1])  # one more entry in the map of fields
    newer = made.live[: start - 1] + wider + b"\xa6colour\xa3red" + made.live[start:]

    assert codec.decode_live_event(newer, made.blobs) == event(1)


def test_an_event_without_what_has_no_default_is_refused_by_name() -> None:
    with pytest.raises(MalformedMessageError, match="lacks the field 'epoch'"):
        codec.decode_event(b"\0\0\0\1\x80" + values.pack(["Event", {}]))
