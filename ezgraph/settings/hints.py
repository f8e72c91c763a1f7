"""Type annotations: what they say, without the wrappers they come in, and as text."""

from __future__ import annotations

import enum
import types
import typing
from typing import Any

_MAX_WRAPPERS = 32


def unwrapped(hint: Any) -> tuple[Any, tuple[Any, ...]]:  # noqa: ANN401
    """Return a hint without `Annotated`, `NewType` and aliases, and what `Annotated` said."""
    said: tuple[Any, ...] = ()
    for _ in range(_MAX_WRAPPERS):
        if typing.get_origin(hint) is typing.Annotated:
            hint, said = hint.__origin__, (*hint.__metadata__, *said)
        elif isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        elif type(hint).__name__ == "TypeAliasType":  # Python 3.12's `type X = …`
            hint = hint.__value__
        elif isinstance(hint, typing.TypeVar):
            hint = hint.__bound__ or Any
        elif typing.get_origin(hint) in (typing.ClassVar, typing.Final):
            hint = (*typing.get_args(hint), Any)[0]
        else:
            break
    return hint, said


def some_type(hint: Any) -> Any:  # noqa: ANN401
    """Return the one type that is not None in ``X | None``, else the hint without wrappers."""
    bare, _ = unwrapped(hint)
    if typing.get_origin(bare) not in (typing.Union, types.UnionType):
        return bare
    some = [each for each in typing.get_args(bare) if each is not types.NoneType]
    return some_type(some[0]) if len(some) == 1 else bare


def is_array(kind: Any) -> bool:  # noqa: ANN401
    """Return whether a class is NumPy's array; NumPy is not imported for it."""
    return isinstance(kind, type) and any(
        (each.__module__.partition(".")[0], each.__name__) == ("numpy", "ndarray")
        for each in kind.__mro__
    )


def enum_choices(hint: Any) -> list[Any] | None:  # noqa: ANN401
    """Return what a Literal or an enum offers, also with None beside it."""
    bare = some_type(hint)
    if typing.get_origin(bare) is typing.Literal:
        return list(typing.get_args(bare))
    if isinstance(bare, type) and issubclass(bare, enum.Enum) and not issubclass(bare, enum.Flag):
        return [member.value for member in bare]
    return None


def type_text(hint: Any) -> str:  # noqa: ANN401
    """Return a type as text: ``float``, ``int | None``, ``list[float]``, ``rig.filters.Notch``."""
    if isinstance(hint, str):
        return hint
    bare, _ = unwrapped(hint)
    origin, arguments = typing.get_origin(bare), typing.get_args(bare)
    if bare is types.NoneType or bare is None:
        return "None"
    if bare is Ellipsis:
        return "..."
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(type_text, arguments))
    if origin is typing.Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    if origin is not None and arguments:
        return f"{type_text(origin)}[{', '.join(map(type_text, arguments))}]"
    if isinstance(bare, type):
        return bare.__qualname__ if bare.__module__ in ("builtins", "typing") else full_name(bare)
    return repr(bare).removeprefix("typing.")


def full_name(kind: type) -> str:
    """Return ``module.qualname``."""
    return f"{kind.__module__}.{kind.__qualname__}"


def said_of(hint: Any) -> tuple[Any, ...]:  # noqa: ANN401
    """Return what `Annotated` says of a field, also where its type stands beside None."""
    bare, said = unwrapped(hint)
    if typing.get_origin(bare) not in (typing.Union, types.UnionType):
        return said
    some = [each for each in typing.get_args(bare) if each is not types.NoneType]
    return (*said, *(said_of(some[0]) if len(some) == 1 else ()))


def mentions(hint: Any, kind: type) -> bool:  # noqa: ANN401
    """Return whether a type is ``kind``, or is made of it."""
    bare, _ = unwrapped(hint)
    return bare is kind or any(mentions(each, kind) for each in typing.get_args(bare))
