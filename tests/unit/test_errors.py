"""The tree of errors: drawn as it is, with codes that travel."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from ezgraph import errors
from ezgraph.errors import CompactedError, EzGraphError, RefusedError, from_code

if TYPE_CHECKING:
    from collections.abc import Iterator

_LINE = re.compile(
    r"^(?P<indent>[│├└─ ]*)(?P<name>\w+(?:Error|Exception))(?: \((?P<also>\w+)\))?  "
)


def drawn_tree() -> Iterator[tuple[int, str, str | None]]:
    """Yield (depth, name, builtin base) of every line of the drawing."""
    assert errors.__doc__ is not None
    for line in errors.__doc__.splitlines():
        if found := _LINE.match(line.removeprefix("    ")):
            yield len(found["indent"]) // 4, found["name"], found["also"]


def real_tree(kind: type[EzGraphError], depth: int = 0) -> Iterator[tuple[int, str, str | None]]:
    """Yield the same of what exists."""
    also = next(
        (
            base.__name__
            for base in kind.__bases__
            if not issubclass(base, EzGraphError) and base is not RuntimeError
        ),
        None,
    )
    yield depth, kind.__name__, also
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from real_tree(child, depth + 1)


ALL = [getattr(errors, name) for _, name, _ in real_tree(EzGraphError)]


def test_the_tree_at_the_top_is_the_tree_that_exists() -> None:
    assert sorted(drawn_tree()) == sorted(real_tree(EzGraphError))


def test_each_line_of_the_drawing_stands_under_its_parent() -> None:
    parents: list[str] = []
    for depth, name, _ in drawn_tree():
        parents[depth:] = [name]
        if depth:
            assert issubclass(getattr(errors, name), getattr(errors, parents[depth - 1]))


def test_codes_are_unique_and_fit_for_the_wire() -> None:
    codes = [kind.code for kind in ALL]

    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z_]+", code) for code in codes)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_a_code_gives_the_same_class_back_with_its_message(kind: type[EzGraphError]) -> None:
    error = from_code(kind.code, "what, why, what to do")

    assert type(error) is kind
    assert str(error) == "what, why, what to do"


def test_codes_have_not_changed() -> None:
    assert {kind.__name__: kind.code for kind in ALL}.items() >= {
        "CyclicException": "cyclic",
        "ForeignEdgeError": "foreign_edge",
        "AddressCollisionError": "address_collision",
        "NotOwnerError": "not_owner",
        "LiveSessionsError": "live_sessions",
        "SessionExpiredError": "session_expired",
        "CompactedError": "compacted",
        "DivergedError": "diverged",
        "ProtocolVersionError": "protocol_version",
        "WrongClusterError": "wrong_cluster",
        "RequestTooOldError": "request_too_old",
        "MalformedMessageError": "malformed",
        "JournalFailedError": "journal_failed",
    }.items()


def test_an_unknown_code_of_a_newer_broker_is_a_refusal() -> None:
    error = from_code("quota_of_2031", "no more")

    assert type(error) is RefusedError
    assert str(error) == "no more"


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_says_what_it_means(kind: type[EzGraphError]) -> None:
    assert kind.__doc__
    assert kind.__doc__.strip().endswith(".")


def test_standard_handlers_catch_what_they_would_expect() -> None:
    assert issubclass(errors.DeadlineError, TimeoutError)
    assert issubclass(errors.ConfigError, ValueError)
    assert issubclass(errors.InvalidKeyError, ValueError)
    assert issubclass(errors.MissingExtraError, ImportError)


def test_a_compacted_error_carries_floor_and_snapshot() -> None:
    error = CompactedError("gone", floor=7, snapshot="state")

    assert (error.floor, error.snapshot, str(error)) == (7, "state", "gone")
