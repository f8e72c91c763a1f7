"""Settings: as columns of a table, as messages, as a record over time, and what they may be.

* `Settings` makes frozen dataclasses; `settings_schema` says what such a type takes.
* `flatten_component_settings` and its kin give columns as recordings have them; `encode_settings`
  and `decode_settings` lose nothing, and `column_names` never collide.
* `PipelineSettingsEvent` is one change as a message; the sinks write it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ezgraph.settings.base import Settings
    from ezgraph.settings.columns import column_names
    from ezgraph.settings.exact import decode_settings, encode_settings
    from ezgraph.settings.flatten import (
        flatten_component_settings,
        flatten_ez_settings,
        sanitize_settings_column_name,
        sanitize_settings_value,
    )
    from ezgraph.settings.marks import Setting
    from ezgraph.settings.pipeline import (
        INIT_FINAL_COMPONENT_ADDRESS,
        PipelineSettingsEvent,
        PipelineSettingsEventType,
    )
    from ezgraph.settings.schema import settings_schema

__all__ = [
    "INIT_FINAL_COMPONENT_ADDRESS",
    "PipelineSettingsEvent",
    "PipelineSettingsEventType",
    "Setting",
    "Settings",
    "column_names",
    "decode_settings",
    "encode_settings",
    "flatten_component_settings",
    "flatten_ez_settings",
    "sanitize_settings_column_name",
    "sanitize_settings_value",
    "settings_schema",
]

_HOME = {
    "INIT_FINAL_COMPONENT_ADDRESS": "pipeline",
    "PipelineSettingsEvent": "pipeline",
    "PipelineSettingsEventType": "pipeline",
    "Setting": "marks",
    "Settings": "base",
    "column_names": "columns",
    "decode_settings": "exact",
    "encode_settings": "exact",
    "flatten_component_settings": "flatten",
    "flatten_ez_settings": "flatten",
    "sanitize_settings_column_name": "flatten",
    "sanitize_settings_value": "flatten",
    "settings_schema": "schema",
}


def __getattr__(name: str) -> object:
    """Load a part when it is first named."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"ezgraph.settings.{_HOME[name]}"), name)
