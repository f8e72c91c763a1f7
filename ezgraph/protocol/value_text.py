"""Values on one line, as people read them: sizes, text, mappings, arrays. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ezgraph.protocol.wiring import visible

_KIB = 1024
SMALL_ARRAY = 8


def size(size_bytes: float) -> str:
    """Return a size in binary units: ``812 B``, ``12.3 MiB``."""
    if size_bytes < _KIB:
        return f"{size_bytes:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        size_bytes /= _KIB
        if size_bytes < _KIB - 0.05:
            return f"{size_bytes:.1f} {unit}"
    return f"{size_bytes / _KIB:.1f} TiB"


def short(value: Any) -> str:  # noqa: ANN401
    """Return a value on one line; large arrays by their type and shape."""
    if isinstance(value, Mapping):
        return " ".join(f"{visible(str(name))}={inner(item)}" for name, item in value.items())
    return visible(value) if isinstance(value, str) else inner(value)


def inner(value: Any) -> str:  # noqa: ANN401
    """Return a value on one line as it stands within others: text in quotes."""
    if isinstance(value, Mapping):
        inside = ", ".join(f"{visible(str(name))}={inner(item)}" for name, item in value.items())
        return f"{{{inside}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(inner(item) for item in value)}]"
    if isinstance(value, bytes | bytearray):
        return f"<{size(len(value))}>"
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        if value.size <= SMALL_ARRAY:
            return inner(value.tolist())
        return f"<{value.dtype} {'x'.join(map(str, value.shape))}>"
    return visible(repr(value))
