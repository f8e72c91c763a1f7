"""One settings change as one self-contained message of plain JSON values."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from ezgraph.errors import MalformedMessageError
from ezgraph.protocol.plain import plain
from ezgraph.settings.exact import decode_settings, encode_settings

INIT_FINAL_COMPONENT_ADDRESS: Final = "__init_final__"
"""The address of the event that ends the INITIALs at the start of a producer."""

DEFAULT_TABLE_NAME: Final = "settings_annotations"


class PipelineSettingsEventType(str, Enum):  # noqa: UP042 - `str()` of it is as elsewhere
    """What a settings event tells: a value found at the start, a new one, or the end of one."""

    INITIAL = "INITIAL"
    UPDATED = "UPDATED"
    REMOVED = "REMOVED"


@dataclass(frozen=True, slots=True)
class PipelineSettingsEvent:
    """One settings change of one component.

    ``timestamp`` is in seconds on the consumer's monotonic clock, ``seq`` the broker's number of
    the change. ``repr_value`` and ``structured_value`` may be given as they are; what the event
    holds of them is plain JSON: arrays as nested lists, bytes as base64 text, NaN and infinities as
    ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``, all keys as text. `native` gives the values
    themselves back, also from a copy that went through JSON: where the plain form says less than
    the values, ``exact`` holds their lossless encoding as base64 text. (Something the bus does not
    carry is text in both forms.)
    """

    seq: int
    timestamp: float
    component_address: str
    event_type: PipelineSettingsEventType
    repr_value: dict[str, Any] | str
    structured_value: dict[str, Any] | None = None
    source_session_id: str | None = None
    table_name: str = DEFAULT_TABLE_NAME
    exact: str | None = None

    def __post_init__(self) -> None:
        given = self._settings
        put = object.__setattr__
        put(self, "event_type", PipelineSettingsEventType(self.event_type))
        put(self, "repr_value", plain(self.repr_value))
        put(self, "structured_value", plain(self.structured_value))
        if self.exact is None or plain(self.native()) != self._settings:
            put(self, "exact", _exact(given, self._settings))

    @property
    def _settings(self) -> dict[str, Any] | str:
        return self.repr_value if self.structured_value is None else self.structured_value

    def native(self) -> Any:  # noqa: ANN401
        """Return the settings as they were set, with their types; text if they have no structure.

        Arrays are arrays again, enum members members where their class is loaded (else
        `EnumValue`).
        """
        if self.exact is None:
            return self._settings
        return decode_settings(base64.b64decode(self.exact))

    def flatten_for_table(self) -> dict[str, Any] | None:
        """Return the event as a row of one column, ``{"data": <JSON>}``; None for the sentinel."""
        if self.component_address == INIT_FINAL_COMPONENT_ADDRESS:
            return None
        content = {
            "component": self.component_address,
            "event_type": self.event_type.value,
            "seq": self.seq,
            "settings": self._settings,
        }
        return {"data": json.dumps(content, allow_nan=False)}


def _exact(given: object, shown: object) -> str | None:
    """Return the lossless encoding of ``given``, None where the plain form is as good."""
    try:
        packed = encode_settings(given)
    except MalformedMessageError:
        return None
    return None if packed == encode_settings(shown) else base64.b64encode(packed).decode()
