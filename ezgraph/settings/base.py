"""What counts as a settings object: ours, and ezmsg's, which is recognised and never imported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import dataclass_transform

_EZMSG = ("ezmsg.core.settings", "Settings")


@dataclass_transform(frozen_default=True)
class Settings:
    """A base class whose subclasses become frozen dataclasses.

    ::

        class FilterSettings(Settings):
            cutoff: float = 30.0
            order: int = 4
    """

    def __init_subclass__(cls, *, kw_only: bool = False, **rest: object) -> None:
        super().__init_subclass__(**rest)
        dataclass(frozen=True, kw_only=kw_only)(cls)


def is_settings(value: object) -> bool:
    """Return whether ``value`` is an instance of our `Settings`, or of ezmsg's."""
    return isinstance(value, Settings) or any(
        (each.__module__, each.__name__) == _EZMSG for each in type(value).__mro__
    )
