"""The control bus of a laboratory rig: who runs, how it is wired, every setting, who changed it.

Names load when they are first used, so ``import ezgraph`` is quick. ``ezgraph.sync`` holds the
blocking twins of `GraphContext`, `GraphService` and `ProcessControlClient`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ezgraph._version import __version__

if TYPE_CHECKING:
    from ezgraph.backends.base import (
        Backend,
    )
    from ezgraph.client.replica import (
        Replica,
    )
    from ezgraph.client.resumption import (
        Resumed,
        ResumeToken,
        SessionExpired,
        WrongCluster,
    )
    from ezgraph.client.watch import (
        Compacted,
        Progress,
    )
    from ezgraph.config import (
        Address,
        BrokerConfig,
        Limits,
        Retention,
    )
    from ezgraph.errors import (
        AddressCollisionError,
        AddressInUseError,
        BrokerUnreachableError,
        CompactedError,
        ConfigError,
        ContextClosedError,
        CyclicException,
        DeadlineError,
        DivergedError,
        EzGraphError,
        FloodError,
        ForbiddenError,
        ForeignEdgeError,
        InsecureAddressError,
        InvalidCommandError,
        InvalidKeyError,
        JournalCorruptError,
        JournalError,
        JournalFailedError,
        JournalLockedError,
        JournalVersionError,
        KeyFileError,
        LimitError,
        LiveSessionsError,
        MalformedMessageError,
        MissingExtraError,
        NoSessionError,
        NotAdmittedError,
        NotOwnerError,
        ProtocolVersionError,
        RefusedError,
        RequestTooOldError,
        SessionError,
        SessionExpiredError,
        SessionTakenOverError,
        UnknownEdgeError,
        UnsupportedError,
        WrongClusterError,
    )
    from ezgraph.graph.context import (
        GraphContext,
    )
    from ezgraph.graph.process import (
        ProcessControlClient,
    )
    from ezgraph.graph.server import (
        GraphServer,
    )
    from ezgraph.graph.service import (
        GraphService,
    )
    from ezgraph.graph.streams import (
        SettingsEvents,
        SettingsSnapshot,
    )
    from ezgraph.protocol.events import (
        Event,
        Source,
    )
    from ezgraph.protocol.metadata import (
        CollectionMetadata,
        ComponentMetadata,
        DynamicSettingsMetadata,
        GraphMetadata,
        InputRelayMetadata,
        InputStreamMetadata,
        InputTopicMetadata,
        OutputRelayMetadata,
        OutputStreamMetadata,
        OutputTopicMetadata,
        SettingsFieldMetadata,
        SettingsSchemaMetadata,
        StreamMetadata,
        TaskMetadata,
        TopicMetadata,
        UnitMetadata,
    )
    from ezgraph.protocol.replies import (
        Lost,
        StatusReport,
    )
    from ezgraph.protocol.settings import (
        SettingsChangedEvent,
        SettingsEventType,
        SettingsSnapshotValue,
    )
    from ezgraph.protocol.snapshot import (
        ClientInfo,
        Edge,
        GraphSnapshot,
        SnapshotProcess,
        SnapshotSession,
        TopologyChangedEvent,
        TopologyEventType,
    )
    from ezgraph.settings.pipeline import (
        PipelineSettingsEvent,
        PipelineSettingsEventType,
    )
    from ezgraph.state.dag import (
        DAG,
    )
    from ezgraph.state.graph import (
        GraphState,
    )

_HOME = {
    "Address": "ezgraph.config",
    "AddressCollisionError": "ezgraph.errors",
    "AddressInUseError": "ezgraph.errors",
    "Backend": "ezgraph.backends.base",
    "BrokerConfig": "ezgraph.config",
    "BrokerUnreachableError": "ezgraph.errors",
    "ClientInfo": "ezgraph.protocol.snapshot",
    "CollectionMetadata": "ezgraph.protocol.metadata",
    "Compacted": "ezgraph.client.watch",
    "CompactedError": "ezgraph.errors",
    "ComponentMetadata": "ezgraph.protocol.metadata",
    "ConfigError": "ezgraph.errors",
    "ContextClosedError": "ezgraph.errors",
    "CyclicException": "ezgraph.errors",
    "DAG": "ezgraph.state.dag",
    "DeadlineError": "ezgraph.errors",
    "DivergedError": "ezgraph.errors",
    "DynamicSettingsMetadata": "ezgraph.protocol.metadata",
    "Edge": "ezgraph.protocol.snapshot",
    "Event": "ezgraph.protocol.events",
    "EzGraphError": "ezgraph.errors",
    "FloodError": "ezgraph.errors",
    "ForbiddenError": "ezgraph.errors",
    "ForeignEdgeError": "ezgraph.errors",
    "GraphContext": "ezgraph.graph.context",
    "GraphMetadata": "ezgraph.protocol.metadata",
    "GraphServer": "ezgraph.graph.server",
    "GraphService": "ezgraph.graph.service",
    "GraphSnapshot": "ezgraph.protocol.snapshot",
    "GraphState": "ezgraph.state.graph",
    "InputRelayMetadata": "ezgraph.protocol.metadata",
    "InputStreamMetadata": "ezgraph.protocol.metadata",
    "InputTopicMetadata": "ezgraph.protocol.metadata",
    "InsecureAddressError": "ezgraph.errors",
    "InvalidCommandError": "ezgraph.errors",
    "InvalidKeyError": "ezgraph.errors",
    "JournalCorruptError": "ezgraph.errors",
    "JournalError": "ezgraph.errors",
    "JournalFailedError": "ezgraph.errors",
    "JournalLockedError": "ezgraph.errors",
    "JournalVersionError": "ezgraph.errors",
    "KeyFileError": "ezgraph.errors",
    "LimitError": "ezgraph.errors",
    "Limits": "ezgraph.config",
    "LiveSessionsError": "ezgraph.errors",
    "Lost": "ezgraph.protocol.replies",
    "MalformedMessageError": "ezgraph.errors",
    "MissingExtraError": "ezgraph.errors",
    "NoSessionError": "ezgraph.errors",
    "NotAdmittedError": "ezgraph.errors",
    "NotOwnerError": "ezgraph.errors",
    "OutputRelayMetadata": "ezgraph.protocol.metadata",
    "OutputStreamMetadata": "ezgraph.protocol.metadata",
    "OutputTopicMetadata": "ezgraph.protocol.metadata",
    "PipelineSettingsEvent": "ezgraph.settings.pipeline",
    "PipelineSettingsEventType": "ezgraph.settings.pipeline",
    "ProcessControlClient": "ezgraph.graph.process",
    "Progress": "ezgraph.client.watch",
    "ProtocolVersionError": "ezgraph.errors",
    "RefusedError": "ezgraph.errors",
    "Replica": "ezgraph.client.replica",
    "RequestTooOldError": "ezgraph.errors",
    "ResumeToken": "ezgraph.client.resumption",
    "Resumed": "ezgraph.client.resumption",
    "Retention": "ezgraph.config",
    "SessionError": "ezgraph.errors",
    "SessionExpired": "ezgraph.client.resumption",
    "SessionExpiredError": "ezgraph.errors",
    "SessionTakenOverError": "ezgraph.errors",
    "SettingsChangedEvent": "ezgraph.protocol.settings",
    "SettingsEventType": "ezgraph.protocol.settings",
    "SettingsEvents": "ezgraph.graph.streams",
    "SettingsSnapshot": "ezgraph.graph.streams",
    "SettingsFieldMetadata": "ezgraph.protocol.metadata",
    "SettingsSchemaMetadata": "ezgraph.protocol.metadata",
    "SettingsSnapshotValue": "ezgraph.protocol.settings",
    "SnapshotProcess": "ezgraph.protocol.snapshot",
    "SnapshotSession": "ezgraph.protocol.snapshot",
    "Source": "ezgraph.protocol.events",
    "StatusReport": "ezgraph.protocol.replies",
    "StreamMetadata": "ezgraph.protocol.metadata",
    "TaskMetadata": "ezgraph.protocol.metadata",
    "TopicMetadata": "ezgraph.protocol.metadata",
    "TopologyChangedEvent": "ezgraph.protocol.snapshot",
    "TopologyEventType": "ezgraph.protocol.snapshot",
    "UnitMetadata": "ezgraph.protocol.metadata",
    "UnknownEdgeError": "ezgraph.errors",
    "UnsupportedError": "ezgraph.errors",
    "WrongCluster": "ezgraph.client.resumption",
    "WrongClusterError": "ezgraph.errors",
}

__all__ = [
    "DAG",
    "Address",
    "AddressCollisionError",
    "AddressInUseError",
    "Backend",
    "BrokerConfig",
    "BrokerUnreachableError",
    "ClientInfo",
    "CollectionMetadata",
    "Compacted",
    "CompactedError",
    "ComponentMetadata",
    "ConfigError",
    "ContextClosedError",
    "CyclicException",
    "DeadlineError",
    "DivergedError",
    "DynamicSettingsMetadata",
    "Edge",
    "Event",
    "EzGraphError",
    "FloodError",
    "ForbiddenError",
    "ForeignEdgeError",
    "GraphContext",
    "GraphMetadata",
    "GraphServer",
    "GraphService",
    "GraphSnapshot",
    "GraphState",
    "InputRelayMetadata",
    "InputStreamMetadata",
    "InputTopicMetadata",
    "InsecureAddressError",
    "InvalidCommandError",
    "InvalidKeyError",
    "JournalCorruptError",
    "JournalError",
    "JournalFailedError",
    "JournalLockedError",
    "JournalVersionError",
    "KeyFileError",
    "LimitError",
    "Limits",
    "LiveSessionsError",
    "Lost",
    "MalformedMessageError",
    "MissingExtraError",
    "NoSessionError",
    "NotAdmittedError",
    "NotOwnerError",
    "OutputRelayMetadata",
    "OutputStreamMetadata",
    "OutputTopicMetadata",
    "PipelineSettingsEvent",
    "PipelineSettingsEventType",
    "ProcessControlClient",
    "Progress",
    "ProtocolVersionError",
    "RefusedError",
    "Replica",
    "RequestTooOldError",
    "ResumeToken",
    "Resumed",
    "Retention",
    "SessionError",
    "SessionExpired",
    "SessionExpiredError",
    "SessionTakenOverError",
    "SettingsChangedEvent",
    "SettingsEventType",
    "SettingsEvents",
    "SettingsFieldMetadata",
    "SettingsSchemaMetadata",
    "SettingsSnapshot",
    "SettingsSnapshotValue",
    "SnapshotProcess",
    "SnapshotSession",
    "Source",
    "StatusReport",
    "StreamMetadata",
    "TaskMetadata",
    "TopicMetadata",
    "TopologyChangedEvent",
    "TopologyEventType",
    "UnitMetadata",
    "UnknownEdgeError",
    "UnsupportedError",
    "WrongCluster",
    "WrongClusterError",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name == "sync":
        return import_module("ezgraph.sync")
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'ezgraph' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "sync"]
