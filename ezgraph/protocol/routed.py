"""What is asked of the owner of a unit through the broker, and what it answers.

A request names a unit; the broker hands it on to the process that runs the unit, and its answer
back. Payloads are opaque bytes. A change of settings goes the same way, and is answered by the
report of what the settings are then, or by a veto.

Each request has an id, made of who asks and of their request's id, which is the same when it is
repeated. So the owner can tell a repetition from a second request, and does nothing twice.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any
from uuid import UUID


class ProcessControlOperation(enum.Enum):
    """Operations that every process client answers by itself."""

    PING = "PING"
    GET_PROCESS_STATS = "GET_PROCESS_STATS"


class ProcessControlErrorCode(enum.Enum):
    """Why a routed request has no result."""

    UNROUTABLE_UNIT = "UNROUTABLE_UNIT"
    ROUTE_WRITE_FAILED = "ROUTE_WRITE_FAILED"
    TIMEOUT = "TIMEOUT"
    PROCESS_DISCONNECTED = "PROCESS_DISCONNECTED"
    UNSUPPORTED_OPERATION = "UNSUPPORTED_OPERATION"
    HANDLER_NOT_CONFIGURED = "HANDLER_NOT_CONFIGURED"
    HANDLER_ERROR = "HANDLER_ERROR"
    INVALID_RESPONSE = "INVALID_RESPONSE"


@dataclass(frozen=True, slots=True)
class ProcessControlRequest:
    """What a unit's process is asked to do; ``request_id`` is the same when it is repeated."""

    request_id: str
    unit_address: str
    operation: str
    payload: bytes | None = None


@dataclass(frozen=True, slots=True)
class ProcessControlResponse:
    """What a unit's process answered, or why it did not."""

    request_id: str
    ok: bool
    payload: bytes | None = None
    error: str | None = None
    error_code: ProcessControlErrorCode | None = None
    process_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class ProcessPing:
    """A process that answers: who, where, and how long the way there and back took, in seconds."""

    process_id: UUID
    pid: int
    host: str
    round_trip_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ProcessStats:
    """How a process is: sizes in bytes, times in seconds."""

    process_id: UUID
    pid: int
    host: str
    units: list[str]
    uptime_s: float
    cpu_s: float
    memory_bytes: int
    threads: int


@dataclass(frozen=True, slots=True)
class SettingsChangeRequest:
    """What the owner of a component is asked to make of its settings.

    ``changes`` are new values by dotted path; where ``whole``, they are all fields there are.
    ``base_seq`` is the seq of the settings that it was checked against; ``asked_by`` is who wants
    it, in words. ``expected_seq`` is given where the change is wanted only if the settings are
    still those of that seq (which is then ``base_seq``).
    """

    request_id: str
    address: str
    changes: dict[str, Any]
    whole: bool = False
    base_seq: int = 0
    asked_by: str = ""
    reason: str | None = None
    expected_seq: int | None = None


@dataclass(frozen=True, slots=True)
class SettingsCheckRequest:
    """What the owner of a component is asked whether it would make of its settings.

    Nothing is changed. It answers by `AnswerRequest`: ``ok``, or the reason why it would not. The
    fields are as in `SettingsChangeRequest`.
    """

    request_id: str
    address: str
    changes: dict[str, Any]
    base_seq: int = 0
    asked_by: str = ""
    reason: str | None = None
    whole: bool = False


Routed = ProcessControlRequest | SettingsChangeRequest | SettingsCheckRequest
"""What is handed to an owner."""
