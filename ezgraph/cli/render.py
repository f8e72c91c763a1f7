"""``graph`` and ``snapshot``: the wiring as a picture, the whole state at one seq."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated

import typer

from ezgraph.cli.options import JsonOption, Target, on_broker
from ezgraph.cli.paper import paper, say
from ezgraph.errors import ConfigError

if TYPE_CHECKING:
    from ezgraph.protocol.snapshot import GraphSnapshot


class Format(enum.StrEnum):
    """How the wiring is drawn."""

    TEXT = "text"
    MERMAID = "mermaid"
    GRAPHVIZ = "graphviz"


class Heading(enum.StrEnum):
    """Where the picture goes."""

    LR = "LR"
    RL = "RL"
    TB = "TB"
    BT = "BT"


@on_broker
def graph(
    broker: Target,
    fmt: Annotated[
        Format, typer.Option("--format", "-f", help="text, or what Mermaid or Graphviz draws.")
    ] = Format.TEXT,
    direction: Annotated[
        Heading, typer.Option("--direction", "-d", help="Left to right, top to bottom, …")
    ] = Heading.LR,
    compact_level: Annotated[
        int,
        typer.Option(
            "--compact-level",
            min=0,
            metavar="N",
            help="Leave out the N innermost levels of addresses (1: draw units, not their topics; "
            "Mermaid and Graphviz).",
        ),
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Draw the wiring: as text, for Mermaid or for Graphviz.

    For example: ezgraph graph -f graphviz | dot -Tsvg > rig.svg
    """
    from ezgraph.protocol import drawing

    if compact_level and fmt is Format.TEXT:
        raise ConfigError("--compact-level is for --format mermaid or graphviz; text shows all")
    taken = _snapshot(broker)
    if fmt is Format.TEXT:
        drawn = drawing.text(taken)
    else:
        draw = drawing.mermaid if fmt is Format.MERMAID else drawing.graphviz
        drawn = draw(taken, direction=direction.value, compact_level=compact_level)
    if as_json:
        from ezgraph.cli.as_json import dumps

        head = {"seq": taken.seq, "epoch": taken.epoch}
        say(dumps({**head, "graph": taken.graph, "format": fmt.value, "drawing": drawn}, indent=2))
    else:
        say(drawn.removesuffix("\n"))


@on_broker
def snapshot(broker: Target, as_json: JsonOption = False) -> None:
    """Show the whole state at one seq: wiring, sessions, processes, settings."""
    taken = _snapshot(broker)
    if as_json:
        from ezgraph.cli import as_json as json_form

        say(json_form.dumps(json_form.snapshot(taken), indent=2))
    else:
        _write(taken)


def _snapshot(broker: Target) -> GraphSnapshot:
    from ezgraph.cli.guest import guest
    from ezgraph.client.blocking import run

    with guest(broker) as session:
        state, _ = run(session.fetch_state(timeout=broker.timeout_s))
    return state.snapshot()


def _write(taken: GraphSnapshot) -> None:
    from ezgraph.cli.words import count, setting
    from ezgraph.protocol.drawing import text
    from ezgraph.protocol.wiring import visible

    write, table = paper().line, paper().table
    paused = ", paused" if taken.paused else ""
    write(("seq ", "dim"), (f"{taken.seq:,}", "bold"), (f", epoch {taken.epoch}{paused}", ""))
    write(("", ""))
    say(text(taken).removesuffix("\n"))
    if taken.sessions:
        rows = [
            [
                visible(session_id),
                visible((session.metadata.root_name if session.metadata else None) or ""),
                count(len(session.edges), "edge"),
                count(len(session.metadata.components) if session.metadata else 0, "component"),
            ]
            for session_id, session in taken.sessions.items()
        ]
        write(("", ""))
        table(["session", "root", "holds", "registered"], rows)
    if taken.processes:
        rows = [
            [
                str(each.process_id),
                str(each.pid or ""),
                visible(each.host or ""),
                visible(", ".join(each.units)),
            ]
            for each in taken.processes.values()
        ]
        write(("", ""))
        table(["process", "pid", "host", "units"], rows, right=[1])
    if taken.graphs:
        rows = [[visible(name), visible(", ".join(graph.owners))]
                for name, graph in taken.graphs.items()]
        write(("", ""))
        table(["served graph", "by"], rows)
    if taken.settings:
        rows = [[visible(where), setting(value)] for where, value in taken.settings.items()]
        write(("", ""))
        table(["component", "settings"], rows)
