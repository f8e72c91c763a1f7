"""A broker inside your own program, with a journal that outlives it.

    python examples/04_embedded_broker.py [JOURNAL.db]

The broker runs in a thread. Other programs can join it at the printed address, like any broker.
Run it twice with the same file: the second run finds what the first one left.
"""

import sys
import tempfile
from pathlib import Path

from ezgraph import GraphServer
from ezgraph.sync import GraphContext, GraphService


def day(journal: Path) -> None:
    """One run of a program that brings its own broker."""
    with GraphServer(backend=f"sqlite:///{journal.absolute()}") as server:
        service = GraphService(server.address)
        print(f"broker at {server.address}; already wired: {service.snapshot().graph or 'nothing'}")

        # Persistent edges belong to nobody, so they stay when this program ends.
        service.connect("RIG/CAMERA/FRAMES", "RIG/TRACKER/INPUT", reason="set up by the technician")

        # What is done in a context belongs to its session, and goes with it.
        with GraphContext(server.address) as ctx:
            ctx.connect("RIG/TRACKER/POSE", "RIG/PLOT/INPUT", reason="only for a look")

        status = service.status()
        size_kib = status.journal_bytes / 1024
        print(f"epoch {status.epoch}, {status.head} events in {size_kib:.0f} KiB of journal")
        with GraphContext(server.address) as ctx:
            for event in ctx.events(("edge",)):
                print(f"  seq {event.seq}  {event.kind:16} {event.key[1:]}  {event.source.reason}")


def main() -> None:
    if len(sys.argv) > 1:
        day(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in ("Monday", "Tuesday"):
            print(f"--- {name}")
            day(Path(folder) / "journal.db")


if __name__ == "__main__":
    main()
