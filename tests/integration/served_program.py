"""A program that serves a graph of nodes on a bus to a test.

``python -m tests.integration.served_program ADDRESS NAME [UID]``: nodes have uids of their own, or
ones that begin with UID. On standard input it is asked for its token.
"""

from __future__ import annotations

import sys

from ezgraph import sync
from ezgraph.nodes import EmptyNode, RootNode
from ezgraph.testing import NumpyTestNode


def served_graph(uid: str) -> RootNode:
    def named(name: str) -> str | None:
        return f"{uid}-{name}" if uid else None

    leaves = {number: NumpyTestNode(named(str(number))) for number in range(5)}
    return RootNode(uid=named("root"), edges={"g1": EmptyNode(named("g1"), edges=leaves)})


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    with sync.GraphContext(sys.argv[1]) as ctx:
        ctx.serve(served_graph(sys.argv[3]), sys.argv[2])
        say("served")
        for _ in sys.stdin:
            say(str(ctx.resume_token))


if __name__ == "__main__":
    main()
