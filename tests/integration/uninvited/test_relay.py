"""G11 at the relay: who is not admitted gets nothing, who is gets what its role may read."""

from __future__ import annotations

from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ezgraph.client.broker_choice import Broker
from ezgraph.errors import ForbiddenError, NodeHostGoneError, UnknownLabelError
from ezgraph.keys import folder
from ezgraph.keys.curve import new_pair
from ezgraph.nodes import ArrayNode, EmptyNode, RemoteTree, RootNode
from ezgraph.nodes.client import Way
from ezgraph.nodes.directory import Directory
from ezgraph.nodes.endpoint import Endpoint
from tests.integration.uninvited.conftest import SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ezgraph.nodes import BaseNode
    from tests.integration.uninvited.conftest import Rig

pytestmark = pytest.mark.integration

NAME = "RIG_A"
SIGNAL = np.arange(1000.0)


def graph() -> RootNode:
    root = RootNode(uid="root")
    root.edges = {
        "open": ArrayNode(SIGNAL, uid="open"),
        "closed": EmptyNode("closed", meta={"what": SECRET}),
    }
    return root


@pytest.fixture
def served(rig: Rig) -> Iterator[Rig]:
    """The rig, and on it a graph of which the role ``some`` may read the root and one node."""
    with folder.roles_file().open("a") as file:
        file.write(f'\n[roles.some]\nread = ["node/{NAME}/root", "node/{NAME}/open"]\n')
    rig.add("some", "some")
    rig.pin(rig.address)
    with rig.context_of("admin") as ctx:
        before = monotonic()
        while (ctx.status().keys or 0) < len(rig.roles):  # until the broker has seen its allow-list
            assert monotonic() - before < 10.0
        ctx.serve(graph(), NAME)
        yield rig


def relayed(rig: Rig, who: str) -> Way:
    directory = Directory(Broker((rig.address,), rig.keys[who], may_start=False))
    _, way = directory.find(NAME)
    return Way([each for each in way.endpoints if each.route is not None], way.life_s)


@contextmanager
def read_as(rig: Rig, who: str, **options: Any) -> Iterator[RootNode]:
    def ask() -> Way:
        return relayed(rig, who)

    with RemoteTree(ask().endpoints, ask_way=ask, life_s=600.0, **options) as tree:
        yield RootNode(tree)


def test_two_roles_read_through_the_relay_what_each_may(served: Rig) -> None:
    with read_as(served, "admin") as whole, read_as(served, "some") as part:
        np.testing.assert_array_equal(whole["open"][:], SIGNAL)
        assert whole["closed"].meta == {"what": SECRET}

        np.testing.assert_array_equal(part["open"][:], SIGNAL)
        assert list(part.edges) == ["open"]
        tree: Any = part.server
        with pytest.raises(ForbiddenError):
            tree.request({"request": "send_meta", "uid": "closed", "kwargs": {}})


def test_who_may_read_nothing_of_a_graph_is_not_told_the_way_to_it(served: Rig) -> None:
    with pytest.raises((UnknownLabelError, ForbiddenError)):
        relayed(served, "nothing")


@pytest.mark.parametrize("keys", ["a stranger's", "none"])
def test_a_key_that_is_not_admitted_gets_nothing_even_with_anothers_ticket(
    served: Rig, keys: str
) -> None:
    (way,) = relayed(served, "admin").endpoints
    pair = new_pair() if keys == "a stranger's" else None
    server_key = way.server_key if pair is not None else None
    stolen = Endpoint(way.address, server_key, way.ticket, way.route, way.note, pair)

    with (
        RemoteTree([stolen], grace_s=0.3, timeout=3.0) as tree,
        pytest.raises(NodeHostGoneError),
    ):
        RootNode(tree)


def test_a_ticket_is_worth_no_more_through_the_relay(served: Rig) -> None:
    (mine,) = relayed(served, "some").endpoints
    forged = Endpoint(
        mine.address,
        mine.server_key,
        (mine.ticket or b"")[:-1] + b"x",
        mine.route,
        mine.note,
        mine.pair,
    )

    with RemoteTree([forged]) as tree, pytest.raises(ForbiddenError):
        RootNode(tree)


def test_a_key_that_is_revoked_is_hung_up_on_and_hears_nothing_more(served: Rig) -> None:
    with read_as(served, "some", grace_s=1.0) as graph:
        assert graph["open"][0] == 0.0
        (way,) = relayed(served, "some").endpoints
        silent = served.dealer("some", served.keys["some"]).dial("127.0.0.1", way.address.port)
        assert silent.handshake() == "welcome"

        served.revoke("some")

        with pytest.raises(NodeHostGoneError):
            _refresh_for_ever(graph["open"])  # the allow-list is looked at twice a second
        silent.socket.send(way.route or b"")
        assert silent.is_cut()


def _refresh_for_ever(node: BaseNode) -> None:
    while True:
        node.refresh()
