"""Metadata: every field arrives, addresses have one holder, and nothing outlives its session."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from ezgraph import (
    AddressCollisionError,
    CollectionMetadata,
    ComponentMetadata,
    DynamicSettingsMetadata,
    GraphMetadata,
    InputRelayMetadata,
    InputStreamMetadata,
    InputTopicMetadata,
    InvalidCommandError,
    MalformedMessageError,
    OutputRelayMetadata,
    OutputStreamMetadata,
    OutputTopicMetadata,
    SettingsFieldMetadata,
    SettingsSchemaMetadata,
    TaskMetadata,
    UnitMetadata,
    sync,
)

if TYPE_CHECKING:
    from ezgraph import GraphServer

pytestmark = pytest.mark.integration

SCHEMA = SettingsSchemaMetadata(
    "dataclass",
    "lab.filter.Settings",
    [
        SettingsFieldMetadata(
            "cutoff",
            "float",
            required=True,
            default=30.0,
            description="corner frequency",
            bounds=(0.1, None),
            choices=[10.0, 30.0],
            widget_hint="slider",
            unit="Hz",
            step=0.1,
            read_only=True,
        ),
        SettingsFieldMetadata("name", "str"),
    ],
)
UNIT = UnitMetadata(
    address="SYS/FILTER",
    name="FILTER",
    component_type="lab.filter.Filter",
    settings_type="lab.filter.Settings",
    initial_settings=(b"\x80\x04opaque\x00", {"cutoff": 30.0, "taps": (1, 2), "on": {"a", "b"}}),
    dynamic_settings=DynamicSettingsMetadata(
        enabled=True, input_topic="SYS/FILTER/SETTINGS", settings_type="lab.filter.Settings"
    ),
    settings_schema=SCHEMA,
    streams={
        "IN": InputStreamMetadata("IN", "SYS/FILTER/IN", "lab.Chunk", leaky=True, max_queue=3),
        "OUT": OutputStreamMetadata(
            "OUT",
            "SYS/FILTER/OUT",
            "lab.Chunk",
            host="127.0.0.1",
            port=5555,
            num_buffers=32,
            buf_size=1 << 16,
            force_tcp=True,
        ),
    },
    tasks=[TaskMetadata("run", subscribes="IN", publishes=["OUT"]), TaskMetadata("idle")],
    main="main",
    threads=["poll"],
)
COLLECTION = CollectionMetadata(
    address="SYS",
    name="SYS",
    component_type="lab.System",
    settings_type="lab.SystemSettings",
    initial_settings=(None, "SystemSettings()"),
    dynamic_settings=DynamicSettingsMetadata(enabled=False),
    topics={
        "IN": InputTopicMetadata("IN", "SYS/IN", "lab.Chunk"),
        "OUT": OutputTopicMetadata("OUT", "SYS/OUT", "lab.Chunk"),
    },
    relays={
        "RIN": InputRelayMetadata("RIN", "SYS/RIN", "lab.Chunk", leaky=True, max_queue=2),
        "ROUT": OutputRelayMetadata("ROUT", "SYS/ROUT", "lab.Chunk", port=1, copy_on_forward=False),
    },
    children=["SYS/FILTER"],
)
PLAIN = ComponentMetadata(
    "SYS/PLAIN",
    "PLAIN",
    "lab.P",
    "lab.S",
    (None, {"gain": 1}),
    DynamicSettingsMetadata(enabled=False),
)


def graph_of(*components: ComponentMetadata) -> GraphMetadata:
    return GraphMetadata(components={each.address: each for each in components})


def at(*addresses: str, gain: int = 1) -> GraphMetadata:
    return graph_of(
        *(
            replace(PLAIN, address=each, initial_settings=(None, {"gain": gain}))
            for each in addresses
        )
    )


def test_every_field_of_every_kind_of_metadata_arrives(server: GraphServer) -> None:
    metadata = GraphMetadata(
        schema_version=3,
        root_name="SYS",
        components={each.address: each for each in (COLLECTION, PLAIN, UNIT)},
    )
    with sync.GraphContext(server.address) as ctx, sync.GraphContext(server.address) as other:
        ctx.register_metadata(metadata)

        received = other.snapshot().sessions[ctx.session_id].metadata

    assert received == metadata
    assert received is not None
    assert {address: type(each) for address, each in received.components.items()} == {
        "SYS": CollectionMetadata,
        "SYS/FILTER": UnitMetadata,
        "SYS/PLAIN": ComponentMetadata,
    }


def test_opaque_bytes_come_back_as_they_were_and_the_structured_form_beside_them(
    server: GraphServer,
) -> None:
    never_read = bytes(range(256)) * 40
    unit = replace(UNIT, initial_settings=(never_read, {"cutoff": 30.0}))
    with sync.GraphContext(server.address) as ctx:
        ctx.register_metadata(graph_of(unit, replace(COLLECTION, initial_settings=(None, "S()"))))

        settings = ctx.settings_snapshot()

    assert settings["SYS/FILTER"].serialized == never_read
    assert settings["SYS/FILTER"].repr_value == settings["SYS/FILTER"].structured_value
    assert settings["SYS/FILTER"].structured_value == {"cutoff": 30.0}
    assert settings["SYS/FILTER"].settings_schema == SCHEMA
    assert (settings["SYS"].serialized, settings["SYS"].repr_value) == (None, "S()")
    assert settings["SYS"].structured_value is None


def test_arrays_in_settings_arrive_as_arrays(server: GraphServer) -> None:
    weights = np.arange(12, dtype=">f4").reshape(3, 4)
    component = replace(PLAIN, initial_settings=(None, {"weights": weights, "n": 2**70}))
    with sync.GraphContext(server.address) as ctx:
        ctx.register_metadata(graph_of(component))

        value = ctx.settings_snapshot()["SYS/PLAIN"].structured_value

    assert value is not None
    assert value["n"] == 2**70
    assert value["weights"].dtype == weights.dtype
    np.testing.assert_array_equal(value["weights"], weights)


def test_registering_again_replaces_ones_own(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as ctx:
        before = ctx.register_metadata(at("SYS/A", "SYS/B"))

        ctx.register_metadata(at("SYS/B", "SYS/C", gain=2))

        events = ctx.events(after_seq=before)
        snapshot = ctx.snapshot()
        assert [(event.kind, event.key[-1]) for event in events] == [
            ("ComponentRemoved", "SYS/A"),
            ("SettingsChanged", "SYS/A"),
            ("GraphRegistered", ctx.session_id),
            ("ComponentRegistered", "SYS/B"),
            ("SettingsChanged", "SYS/B"),
            ("ComponentRegistered", "SYS/C"),
            ("SettingsChanged", "SYS/C"),
        ]
        assert len({event.txn_first for event in events}) == 1
        assert {a: v.structured_value for a, v in snapshot.settings.items()} == {
            "SYS/B": {"gain": 2},
            "SYS/C": {"gain": 2},
        }


def test_metadata_without_components_takes_back_what_was_registered(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as ctx:
        ctx.register_metadata(at("SYS/A"))

        ctx.register_metadata(GraphMetadata(root_name="EMPTY"))

        metadata = ctx.snapshot().sessions[ctx.session_id].metadata
        assert metadata == GraphMetadata(root_name="EMPTY")
        assert ctx.settings_snapshot() == {}


def test_addresses_another_session_holds_are_refused_naming_them_and_their_holder(
    server: GraphServer,
) -> None:
    with sync.GraphContext(server.address) as holder, sync.GraphContext(server.address) as other:
        holder.register_metadata(at("SYS/A", "SYS/B"))
        before = holder.sync()

        with pytest.raises(AddressCollisionError) as refused:
            other.register_metadata(at("SYS/A", "SYS/B", "SYS/C"))

        message = str(refused.value)
        assert f"'SYS/A', 'SYS/B' held by session {holder.session_id} (" in message
        assert f"on {socket.gethostname()}, pid {os.getpid()})" in message
        assert "close that session first, or use other addresses" in message
        assert other.sync() == before
        assert other.snapshot().sessions[other.session_id].metadata is None


def test_of_many_collisions_a_few_are_named_and_the_rest_counted(server: GraphServer) -> None:
    many = at(*(f"SYS/{number:03}" for number in range(100)))
    with sync.GraphContext(server.address) as holder, sync.GraphContext(server.address) as other:
        holder.register_metadata(many)

        with pytest.raises(AddressCollisionError, match="'SYS/004' and 95 more held by"):
            other.register_metadata(many)


def test_the_addresses_of_a_session_that_has_ended_are_free(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as ctx:
        with sync.GraphContext(server.address) as other:
            other.register_metadata(at("SYS/A"))

        ctx.register_metadata(at("SYS/A", gain=7))

        assert ctx.settings_snapshot()["SYS/A"].structured_value == {"gain": 7}


def test_an_address_that_differs_from_its_key_is_refused(server: GraphServer) -> None:
    with sync.GraphContext(server.address) as ctx:
        before = ctx.sync()

        with pytest.raises(InvalidCommandError, match="says its address is 'SYS/PLAIN'"):
            ctx.register_metadata(GraphMetadata(components={"SYS/OTHER": PLAIN}))

        assert ctx.sync() == before


def wrong(component: ComponentMetadata, **fields: object) -> ComponentMetadata:
    return replace(component, **fields)  # type: ignore[arg-type]


WRONG_FIELDS = [
    (wrong(PLAIN, name=3), r"metadata\.components.*\['SYS/PLAIN'\]\.name: expected text, got 3"),
    (wrong(PLAIN, initial_settings=(None, 3.5)), "initial_settings"),
    (wrong(PLAIN, initial_settings=("text", {})), "initial_settings"),
    (wrong(PLAIN, initial_settings=(None,)), "initial_settings: expected 2 values"),
    (wrong(PLAIN, dynamic_settings={"enabled": True}), "dynamic_settings"),
    (wrong(UNIT, tasks=[TaskMetadata("run", publishes=cast("Any", "OUT"))]), "publishes: expected"),
    (wrong(UNIT, streams={"IN": PLAIN}), r"streams.*expected a StreamMetadata"),
    (wrong(UNIT, settings_schema="schema"), "settings_schema: expected a SettingsSchemaMetadata"),
]


@pytest.mark.parametrize(("component", "where"), WRONG_FIELDS, ids=range(len(WRONG_FIELDS)))
def test_a_field_of_the_wrong_type_is_refused_by_name(
    server: GraphServer, component: ComponentMetadata, where: str
) -> None:
    with sync.GraphContext(server.address) as ctx:
        before = ctx.sync()

        with pytest.raises(MalformedMessageError, match=where):
            ctx.register_metadata(GraphMetadata(components={component.address: component}))

        assert ctx.sync() == before


@dataclass
class Point:
    x: float = 0.0
    label: str = "p"
    children: list[Any] = field(default_factory=list)


def test_settings_that_cannot_be_carried_are_refused_with_their_type(server: GraphServer) -> None:
    component = replace(PLAIN, initial_settings=(None, {"point": Point()}))
    with (
        sync.GraphContext(server.address) as ctx,
        pytest.raises(MalformedMessageError, match="Point is no type the bus carries"),
    ):
        ctx.register_metadata(graph_of(component))


def test_a_thousand_components_with_one_schema_arrive_whole(server: GraphServer) -> None:
    metadata = graph_of(*(replace(UNIT, address=f"SYS/{number:04}") for number in range(1000)))
    with sync.GraphContext(server.address) as ctx, sync.GraphContext(server.address) as other:
        ctx.register_metadata(metadata)

        received = other.snapshot()

    held = [each.metadata for each in received.sessions.values() if each.metadata is not None]
    assert held == [metadata]
    schemas = {id(value.settings_schema) for value in received.settings.values()}
    assert len(schemas) == 1  # travelled once, held once
