"""What a program says about itself: components, streams, tasks, settings schemas.

Field names follow ezmsg's ``graphmeta``, so that its users are at home. All of it is plain
values: types appear as text (``module.qualname``), never as something to import.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class DynamicSettingsMetadata:
    """Whether a component takes new settings while running, and on which topic."""

    enabled: bool
    input_topic: str | None = None
    settings_type: str | None = None


@dataclass(frozen=True, slots=True)
class StreamMetadata:
    """A stream of a unit."""

    name: str
    address: str
    msg_type: str


@dataclass(frozen=True, slots=True)
class InputStreamMetadata(StreamMetadata):
    """A stream a unit reads; ``leaky`` ones drop the oldest of ``max_queue`` messages."""

    leaky: bool = False
    max_queue: int | None = None


@dataclass(frozen=True, slots=True)
class OutputStreamMetadata(StreamMetadata):
    """A stream a unit writes; ``buf_size`` in bytes."""

    host: str | None = None
    port: int | None = None
    num_buffers: int | None = None
    buf_size: int | None = None
    force_tcp: bool | None = None


@dataclass(frozen=True, slots=True)
class TopicMetadata:
    """A topic of a collection."""

    name: str
    address: str
    msg_type: str


@dataclass(frozen=True, slots=True)
class InputTopicMetadata(TopicMetadata):
    """A topic a collection reads."""


@dataclass(frozen=True, slots=True)
class OutputTopicMetadata(TopicMetadata):
    """A topic a collection writes."""


@dataclass(frozen=True, slots=True)
class InputRelayMetadata(InputTopicMetadata):
    """A relay at a collection's inlet."""

    leaky: bool = False
    max_queue: int | None = None
    copy_on_forward: bool = True


@dataclass(frozen=True, slots=True)
class OutputRelayMetadata(OutputTopicMetadata):
    """A relay at a collection's outlet; ``buf_size`` in bytes."""

    host: str | None = None
    port: int | None = None
    num_buffers: int | None = None
    buf_size: int | None = None
    force_tcp: bool | None = None
    copy_on_forward: bool = True


@dataclass(frozen=True, slots=True)
class TaskMetadata:
    """A coroutine of a unit: the stream it reads and those it writes."""

    name: str
    subscribes: str | None = None
    publishes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SettingsFieldMetadata:
    """One field of a settings type, as a form would show it.

    ``bounds`` is (lowest, highest), either may be None; ``step`` and ``bounds`` are in ``unit``.
    """

    name: str
    field_type: str
    required: bool = False
    default: Any = None
    description: str | None = None
    bounds: tuple[float | None, float | None] | None = None
    choices: list[Any] | None = None
    widget_hint: str | None = None
    unit: str | None = None
    step: float | None = None
    read_only: bool = False


SCHEMA_VERSION = 1
"""What `SettingsSchemaMetadata` means by its words; a newer meaning has a higher number."""


@dataclass(frozen=True, slots=True)
class SettingsSchemaMetadata:
    """The fields of a settings type and the library that described them.

    ``json_schema`` is JSON Schema (2020-12) of the whole, where there is one.
    """

    provider: str
    settings_type: str
    fields: list[SettingsFieldMetadata]
    json_schema: dict[str, Any] | None = None
    version: int = SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class ComponentMetadata:
    """A unit or collection at an address.

    ``initial_settings`` is (opaque bytes or None, structured form or ``repr`` text). The broker
    stores and returns the bytes and never reads them.
    """

    address: str
    name: str
    component_type: str
    settings_type: str
    initial_settings: tuple[bytes | None, dict[str, Any] | str]
    dynamic_settings: DynamicSettingsMetadata
    settings_schema: SettingsSchemaMetadata | None = None


@dataclass(frozen=True, slots=True)
class CollectionMetadata(ComponentMetadata):
    """A component made of others; ``children`` are their addresses."""

    topics: dict[str, TopicMetadata] = field(default_factory=dict)
    relays: dict[str, TopicMetadata] = field(default_factory=dict)
    children: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class UnitMetadata(ComponentMetadata):
    """A component that runs."""

    streams: dict[str, StreamMetadata] = field(default_factory=dict)
    tasks: list[TaskMetadata] = field(default_factory=list)
    main: str | None = None
    threads: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class GraphMetadata:
    """Everything one session registers: its components by address."""

    schema_version: int = 1
    root_name: str | None = None
    components: dict[str, ComponentMetadata] = field(default_factory=dict)
