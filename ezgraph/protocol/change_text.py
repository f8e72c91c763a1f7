"""What differs between two graphs, in words: the same on paper and in a notebook. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ezgraph.protocol.value_text import inner
from ezgraph.protocol.wiring import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sized

    from ezgraph.protocol.differences import Changed, FieldChange, GraphDiff

ABSENT = "absent"
_CONTEXT = 8
_SCHEMA = ("settings_schema", "json_schema")


class ChangeText(NamedTuple):
    """A field that is not the same: its path with dots, what was, what is.

    ``unit`` is that of both; where they are in different ones each says its own. ``note`` says what
    the texts do not show.
    """

    path: str
    old: str
    new: str
    unit: str = ""
    note: str = ""

    def within(self, room: int) -> ChangeText:
        """Return it with texts of up to ``room`` characters: what they begin with alike goes."""
        old, new = apart(self.old, self.new, room)
        return self._replace(old=old, new=new)


def change_texts(changed: Changed) -> list[ChangeText]:
    """Return the fields that are not the same, in order; those of a JSON Schema as one.

    A component's schema is there twice, as fields and as JSON Schema, which says the same again.
    """
    shown = [each for each in changed.fields if each.path[:2] != _SCHEMA]
    found = [change_text(each) for each in shown]
    if more := len(changed.fields) - len(shown):
        note = f"{more} {'place differs' if more == 1 else 'places differ'}"
        found.append(ChangeText(".".join(_SCHEMA), "", "", note=note))
    return found


def change_text(change: FieldChange) -> ChangeText:
    """Return one field that is not the same."""
    old = inner(change.old) if change.was_there else ABSENT
    new = inner(change.new) if change.is_there else ABSENT
    path = visible(".".join(change.path))
    was_in, is_in = (visible(each or "") for each in (change.old_unit, change.new_unit))
    unit = is_in if change.is_there else was_in
    if change.was_there and change.is_there:
        if was_in != is_in:
            old, new, unit = f"{old} {was_in}".rstrip(), f"{new} {is_in}".rstrip(), ""
        elif old == new:
            return _alike(path, change.old, change.new, old, unit)
    return ChangeText(path, old, new, unit)


def _alike(path: str, old: Any, new: Any, text: str, unit: str) -> ChangeText:  # noqa: ANN401
    """Return what tells two values apart that look the same on one line."""
    kinds = [_kind(each) for each in (old, new)]
    if kinds[0] != kinds[1]:
        return ChangeText(path, f"{text} ({kinds[0]})", f"{text} ({kinds[1]})", unit)
    differing = _differing(old, new)
    noun = "bytes" if isinstance(old, bytes | bytearray) else "values"
    note = "differs" if differing is None else f"{differing[0]:,} of {differing[1]:,} {noun} differ"
    return ChangeText(path, text, text, unit, note)


def _kind(value: Any) -> str:  # noqa: ANN401
    return str(value.dtype) if hasattr(value, "dtype") else type(value).__name__


def _differing(old: Any, new: Any) -> tuple[int, int] | None:  # noqa: ANN401
    """Return how many of how many values of two arrays or of two runs of bytes differ."""
    if isinstance(old, bytes | bytearray) and len(old) == len(new):
        return sum(one != other for one, other in zip(old, new, strict=True)), len(old)
    if not hasattr(old, "dtype") or getattr(old, "shape", None) != getattr(new, "shape", ()):
        return None
    are_both_nan = (old != old) & (new != new)  # as NaN alone does
    return int(((old != new) & ~are_both_nan).sum()), int(old.size)


def apart(old: str, new: str, room: int) -> tuple[str, str]:
    """Return two texts cut to ``room`` characters so that one sees where they differ."""
    longest = max(len(old), len(new))
    if longest <= room:
        return old, new
    alike = next(
        (n for n, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]),
        min(len(old), len(new)),
    )
    skip = min(alike - _CONTEXT, longest - room) if alike > room // 2 else 0
    return _from(old, skip, room), _from(new, skip, room)


def _from(text: str, skip: int, room: int) -> str:
    shown = f"…{text[skip + 1 :]}" if skip > 0 else text
    return shown if len(shown) <= room else f"{shown[: room - 1]}…"


# --- all of it ---


def summary(diff: GraphDiff) -> str:
    """Return how much differs, in words: ``settings of 2 components, edges +1 -3``."""
    return ", ".join(_counted(diff)) or "nothing differs"


def _counted(diff: GraphDiff) -> Iterator[str]:
    if number := len(diff.settings.changed):
        yield f"settings of {_components(number)}"
    yield from _signed("edges", diff.edges_added, diff.edges_removed)
    come, gone = settings_alone(diff)
    yield from _signed(
        "components", [*diff.components.added, *come], [*diff.components.removed, *gone]
    )
    if diff.moved:
        yield f"{_components(len(diff.moved))} moved"
    if number := len(diff.components.changed):
        yield f"metadata of {_components(number)}"
    for noun, part in (
        ("config", diff.config),
        ("artifacts", diff.artifacts),
        ("producers", diff.producers),
    ):
        yield from _signed(noun, part.added, part.removed, part.changed)


def settings_alone(diff: GraphDiff) -> tuple[list[str], list[str]]:
    """Return where settings have come, and gone, of a component that has no metadata."""
    come, gone = set(diff.components.added), set(diff.components.removed)
    return (
        [each for each in diff.settings.added if each not in come],
        [each for each in diff.settings.removed if each not in gone],
    )


def _signed(
    noun: str, added: Sized, removed: Sized, changed: Sized = ()
) -> Iterator[str]:
    counts = (("+", len(added)), ("-", len(removed)), ("~", len(changed)))
    if any(number for _, number in counts):
        yield " ".join([noun, *(f"{sign}{number:,}" for sign, number in counts if number)])


def _components(number: int) -> str:
    return f"{number:,} component{'' if number == 1 else 's'}"
