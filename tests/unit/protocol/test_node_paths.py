"""Ways to nodes: what is shown can be typed, and means the same labels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ezgraph.errors import InvalidKeyError, NodeRequestError
from ezgraph.protocol.node_paths import (
    NodePath,
    label_text,
    labels_text,
    parse_labels,
    parse_node_path,
)

LABELS = st.one_of(st.text(max_size=8), st.integers(), st.sampled_from(["[3]", "/", "%", "3", ""]))


@given(st.text(min_size=1, max_size=8), st.lists(LABELS, max_size=5).map(tuple))
def test_what_is_shown_is_the_same_way_when_it_is_typed(
    name: str, labels: tuple[str | int, ...]
) -> None:
    if labels and labels[-1] == "":
        labels = (*labels, "x")  # a '/' at the end changes nothing

    assert parse_node_path(f"{label_text(name)}/{labels_text(labels)}") == (name, labels)


@pytest.mark.parametrize(
    ("typed", "labels"),
    [
        ("", ()),
        ("eeg", ("eeg",)),
        ("eeg/", ("eeg",)),
        ("probe 1/[3]/[-4]", ("probe 1", 3, -4)),
        ("3", ("3",)),
        ("%5B3]/a%2Fb/100%25", ("[3]", "a/b", "100%")),
        ("a//b", ("a", "", "b")),
        ("[x]", ("[x]",)),
    ],
)
def test_labels_are_texts_and_in_brackets_integers(
    typed: str, labels: tuple[str | int, ...]
) -> None:
    assert parse_labels(typed) == labels


def test_a_graph_alone_is_its_root() -> None:
    assert parse_node_path("run42") == parse_node_path("run42/") == NodePath("run42", ())
    assert str(NodePath("run 42", ("a/b", 3))) == "run 42/a%2Fb/[3]"


@pytest.mark.parametrize("typed", ["", "/", "/eeg"])
def test_a_way_needs_the_name_of_a_graph(typed: str) -> None:
    with pytest.raises(InvalidKeyError, match="names no graph"):
        parse_node_path(typed)


def test_a_label_that_is_too_long_is_refused() -> None:
    with pytest.raises(NodeRequestError, match="1001 characters"):
        parse_labels("x" * 1001)
