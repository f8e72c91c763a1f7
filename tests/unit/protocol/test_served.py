"""Ways to nodes as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ezgraph.errors import InvalidKeyError
from ezgraph.protocol.served import FoundGraph, node_path_text, parse_node_path

labels = st.integers() | st.text(max_size=5) | st.text("[]/%5B\0 3", max_size=4)


@given(st.lists(labels.filter(lambda each: not isinstance(each, int) or abs(each) < 10**18)))
def test_every_way_has_a_text_that_stands_for_it_alone(path: list[str | int]) -> None:
    text = node_path_text(path)

    try:
        text.encode()
    except UnicodeEncodeError:
        return  # a lone surrogate is none of UTF-8's
    assert parse_node_path(text) == path
    assert "\0" not in text


def test_a_way_reads_as_it_is_typed() -> None:
    assert node_path_text(["ecg", 3, "a/b", "[x]", ""]) == "ecg/[3]/a%2Fb/%5Bx]/[]"
    assert node_path_text([]) == "/"
    assert parse_node_path("/g1/[-3]/") == ["g1", -3]
    assert parse_node_path("") == parse_node_path("/") == []


@pytest.mark.parametrize("text", ["a//b", "[x]", "[3", "[3.0]", "[" + "9" * 30 + "]", "a/[ 3]"])
def test_what_is_no_way_is_refused(text: str) -> None:
    with pytest.raises(InvalidKeyError):
        parse_node_path(text)


def test_a_graph_without_a_host_has_no_incarnation() -> None:
    assert FoundGraph("run", "root", 0, [], 600.0).incarnation == ""
