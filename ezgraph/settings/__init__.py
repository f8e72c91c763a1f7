"""Settings: as columns of a table, as messages, as a record over time, and what they may be.

* `Settings` makes frozen dataclasses; `settings_schema` says what such a type takes.
* `flatten_component_settings` and its kin give columns as recordings have them; `encode_settings`
  and `decode_settings` lose nothing, and `column_names` never collide.
* `PipelineSettingsEvent` is one change as a message, which sinks write; `SettingsTable` makes a
  table of many, settings as columns over time.
* `SettingsHost` keeps a typed object whose settings others may change; `crawl_components` collects
  the metadata of a tree of units.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ezgraph.settings.base import Settings
    from ezgraph.settings.columns import column_names
    from ezgraph.settings.crawl import crawl_components
    from ezgraph.settings.exact import decode_settings, encode_settings
    from ezgraph.settings.faces import settings_history_html, settings_table_html
    from ezgraph.settings.flatten import (
        flatten_component_settings,
        flatten_ez_settings,
        sanitize_settings_column_name,
        sanitize_settings_value,
    )
    from ezgraph.settings.host import SettingsHost
    from ezgraph.settings.intervals import settings_intervals
    from ezgraph.settings.marks import Setting
    from ezgraph.settings.pipeline import (
        INIT_FINAL_COMPONENT_ADDRESS,
        PipelineSettingsEvent,
        PipelineSettingsEventType,
    )
    from ezgraph.settings.producer import (
        PipelineSettingsProducer,
        PipelineSettingsProducerSettings,
    )
    from ezgraph.settings.schema import settings_schema
    from ezgraph.settings.sinks import CSVSink, JSONLinesSink
    from ezgraph.settings.table import SettingsTable

__all__ = [
    "INIT_FINAL_COMPONENT_ADDRESS",
    "CSVSink",
    "JSONLinesSink",
    "PipelineSettingsEvent",
    "PipelineSettingsEventType",
    "PipelineSettingsProducer",
    "PipelineSettingsProducerSettings",
    "Setting",
    "Settings",
    "SettingsHost",
    "SettingsTable",
    "column_names",
    "crawl_components",
    "decode_settings",
    "encode_settings",
    "flatten_component_settings",
    "flatten_ez_settings",
    "sanitize_settings_column_name",
    "sanitize_settings_value",
    "settings_history_html",
    "settings_intervals",
    "settings_schema",
    "settings_table_html",
]

_HOME = {
    "CSVSink": "sinks",
    "INIT_FINAL_COMPONENT_ADDRESS": "pipeline",
    "JSONLinesSink": "sinks",
    "PipelineSettingsEvent": "pipeline",
    "PipelineSettingsEventType": "pipeline",
    "PipelineSettingsProducer": "producer",
    "PipelineSettingsProducerSettings": "producer",
    "Setting": "marks",
    "Settings": "base",
    "SettingsHost": "host",
    "SettingsTable": "table",
    "column_names": "columns",
    "crawl_components": "crawl",
    "decode_settings": "exact",
    "encode_settings": "exact",
    "flatten_component_settings": "flatten",
    "flatten_ez_settings": "flatten",
    "sanitize_settings_column_name": "flatten",
    "sanitize_settings_value": "flatten",
    "settings_history_html": "faces",
    "settings_intervals": "intervals",
    "settings_schema": "schema",
    "settings_table_html": "faces",
}


def __getattr__(name: str) -> object:
    """Load a part when it is first named."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"ezgraph.settings.{_HOME[name]}"), name)
