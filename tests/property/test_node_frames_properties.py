"""The frames of data nodes: what is written is read, and whatever arrives harms nobody."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ezgraph.errors import EzGraphError, MalformedMessageError, NodeRequestError
from ezgraph.nodes import ArrayNode, NodeServer, RootNode
from ezgraph.nodes.query import check_query, matches
from ezgraph.protocol.nodes import (
    GrowthReport,
    MatchPage,
    NodeDescription,
    NodeOpening,
    NodeVerb,
    TreePage,
    parse_request,
)
from ezgraph.testing import NumpyTestNode
from ezgraph.testing.strategies import messages, plain_values, values
from ezgraph.wire import codec, nodes

MESSAGES: tuple[type, ...] = (NodeOpening, NodeDescription, GrowthReport, TreePage, MatchPage)


@pytest.mark.parametrize("kind", MESSAGES)
@given(data=st.data())
def test_what_a_server_says_of_nodes_is_read_as_it_was_written(kind: type, data: Any) -> None:
    message = data.draw(messages(kind))

    assert codec.decode(nodes.encode_answer(message), kind) == message


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda rest: b"eZn\x01" + rest))
def test_bytes_that_are_no_message_are_malformed_and_nothing_else(raw: bytes) -> None:
    with suppress(MalformedMessageError):
        nodes.read_request(raw)
    with suppress(EzGraphError):
        answer = nodes.read_answer(memoryview(raw), memoryview(raw))
        answer.check()
        answer.array()


def _server() -> NodeServer:
    root = RootNode(uid="r")
    root.edges = {
        "n": NumpyTestNode(uid="n"),
        "a": ArrayNode(np.zeros((4, 5)), chunks=(2, 3), uid="a"),
    }
    return NodeServer(root)


SERVER = _server()
_words = st.sampled_from(
    ["index", "part", "start", "limit", "after", "wait_s", "query", "prefix", "indexes", "columns"]
)
_small = st.integers(-2, 30) | st.lists(st.lists(st.integers(-1, 4), max_size=3), max_size=2)
_requests = st.fixed_dictionaries(
    {
        "request": st.sampled_from([verb.value for verb in NodeVerb]) | st.text(max_size=5),
        "uid": st.sampled_from(["r", "n", "a", "x"]) | plain_values,
        "kwargs": st.dictionaries(_words | st.text(max_size=3), _small | plain_values, max_size=3),
    }
)


@given(_requests | plain_values)
def test_whatever_is_asked_is_answered_in_bytes_or_refused_by_a_typed_error(message: Any) -> None:
    if isinstance(message, dict) and isinstance(message.get("kwargs"), dict):
        message["kwargs"].pop("wait_s", None)  # it may wait that long, which no test needs
    try:
        answer = SERVER.request(message)
    except EzGraphError:
        return

    assert isinstance(answer, bytes)
    assert isinstance(parse_request(message).verb, NodeVerb)


@given(plain_values | st.lists(values, max_size=4), plain_values)
def test_whatever_comes_as_a_query_is_judged_or_refused(spelled: Any, held: Any) -> None:
    try:
        query = check_query(spelled)
    except NodeRequestError:
        return

    assert matches(query, held) in (True, False)
