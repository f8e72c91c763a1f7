"""``ezgraph nodes``: the graphs of data nodes that are served, what is in them, and their data."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ezgraph.cli import completion
from ezgraph.cli.data_nodes.formats import Format, format_for
from ezgraph.cli.options import JsonOption, Target, on_broker
from ezgraph.cli.paper import paper, say
from ezgraph.errors import ConfigError
from ezgraph.protocol.served import node_path_text
from ezgraph.protocol.wiring import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ezgraph.nodes.base import BaseNode
    from ezgraph.protocol.nodes import NodeDescription, TreeRow

_LISTED = 1_000
_LINES = 500
_DEPTH = 20

app = typer.Typer(
    name="nodes",
    help="See and read data nodes: arrays, tables and what groups them, served by programs.",
    epilog="ezgraph nodes get run42/eeg '[1000:2000, ::2]' -o part.npy",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

PathArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME[/PATH]",
        help="A graph, and labels from its root on: run42/probe/[3]. An integer is [3], or 3 where "
        "no text is '3'; a '/' in a label is %2F. With --at: only the labels.",
        show_default=False,
        autocompletion=completion.node_paths,
    ),
]
AtOption = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="HOST:PORT",
        help="Read what one program serves there, without a broker; it has no NAME.",
        show_default=False,
    ),
]
ReplaceOption = Annotated[bool, typer.Option("--replace", help="Replace the file that is there.")]


@contextmanager
def node_at(broker: Target, where: str | None, at: str | None) -> Iterator[tuple[BaseNode, str]]:
    """Find a node; also what it is called, as it would be typed.

    Raises:
        ConfigError: neither a graph nor an address was named.
        NodeError: there is no such graph or node, or who serves it cannot be reached.
    """
    from ezgraph.cli.data_nodes.served import descend, graph_at, graph_named
    from ezgraph.protocol.key_text import escaped, unescaped
    from ezgraph.protocol.served import parse_node_path

    if at is not None:
        labels = parse_node_path(where or "")
        with graph_at(at, broker) as root:
            node, found = descend(root, labels)
            yield node, node_path_text(found)
        return
    if where is None:
        raise ConfigError(
            "which graph? name one, as in run42/eeg (ezgraph nodes ls lists them); or, without a "
            "broker, say --at HOST:PORT"
        )
    typed, _, below = where.partition("/")
    if not typed:
        raise ConfigError(f"{where!r} names no graph; begin with its name, as in run42/eeg")
    name, labels = unescaped(typed), parse_node_path(below)
    with graph_named(name, broker) as root:
        node, found = descend(root, labels)
        way = f"/{node_path_text(found)}" if found else ""
        yield node, f"{escaped(name, '%/')}{way}"


# --- what there is ---


@app.command()
@on_broker
def ls(
    broker: Target,
    where: PathArgument = None,
    at: AtOption = None,
    start: Annotated[
        int, typer.Option(min=0, metavar="N", help="Begin with the edge of this number.")
    ] = 0,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help=f"At most so many edges. Default: {_LISTED:,}; with --json: all.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the graphs that are served; with a NAME what its root, or the node at PATH, leads to."""
    if where is None and at is None:
        from ezgraph.cli.data_nodes.served import graph_records

        _write_graphs(graph_records(broker), as_json=as_json)
        return
    from ezgraph.nodes.faces import rows_of

    with node_at(broker, where, at) as (node, _):
        total = node.description().labels
        most = total if limit is None and as_json else limit or _LISTED
        most = max(0, min(most, total - start))
        rows = rows_of(node, most, start=start + 1) if most else []
    _write_edges(rows, total, start, as_json=as_json)


def _write_graphs(found: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        from ezgraph.cli.as_json import dumps

        say(dumps(found, indent=2))
    elif not found:
        paper().line(("no graphs are served", "dim"))
    else:
        rows = [
            [
                visible(each["name"]),
                "" if each["nodes"] is None else f"{each['nodes']:,}",
                visible(", ".join(host["endpoints"])),
                visible(host["by"]),
            ]
            for each in found
            for host in each["hosts"]
        ]
        paper().table(["graph", "nodes", "served at", "by"], rows, right=[1])


def _write_edges(rows: Sequence[TreeRow], total: int, start: int, *, as_json: bool) -> None:
    if as_json:
        from ezgraph.cli.as_json import dumps

        say(dumps([_edge_record(row) for row in rows], indent=2))
        return
    if not rows:
        paper().line((f"no edges from number {start:,} on" if total else "no edges", "dim"))
        return
    cells = [[_typed(row.label), visible(row.summary), row.uid] for row in rows]
    paper().table(["label", "node", "uid"], cells)
    left = total - start - len(rows)
    if left > 0:
        after = start + len(rows)
        paper().line((f"… and {left:,} more; --start {after} shows the next", "dim"))


def _typed(label: str | int | None) -> str:
    return "" if label is None else visible(node_path_text([label]))


def _edge_record(row: TreeRow) -> dict[str, Any]:
    return {"label": row.label, "uid": row.uid, "summary": row.summary}


@app.command()
@on_broker
def tree(
    broker: Target,
    where: PathArgument = None,
    at: AtOption = None,
    depth: Annotated[int, typer.Option(min=1, metavar="N", help="How deep.")] = _DEPTH,
    lines: Annotated[int, typer.Option(min=1, metavar="N", help="How many lines.")] = _LINES,
    as_json: JsonOption = False,
) -> None:
    """Show the nodes at and below a place; --json: a row for each edge, and its parent's number."""
    from ezgraph.nodes.faces import rows_of, tree_text

    with node_at(broker, where, at) as (node, _):
        if as_json:
            from ezgraph.cli.as_json import dumps

            say(dumps(rows_of(node, lines), indent=2))
        else:
            say(tree_text(node, depth=depth, lines=lines))


# --- one node ---


@app.command()
@on_broker
def info(
    broker: Target, where: PathArgument = None, at: AtOption = None, as_json: JsonOption = False
) -> None:
    """Say what a node is: its class, dtype, shape, chunks, size, and its meta. No data is read."""
    with node_at(broker, where, at) as (node, name):
        described, meta, summary = node.description(), node.meta, node.summary()
        size_bytes = getattr(node, "nbytes", None)
        dtype = getattr(node, "dtype", None)
    if as_json:
        from ezgraph.cli.as_json import dumps, plain

        layout = {} if described.layout is None else {"nbytes": size_bytes, "dtype": str(dtype)}
        said = {"path": name, **plain(described), "summary": summary, **layout, "meta": meta}
        say(dumps(said, indent=2))
        return
    rows = _info_rows(described, name, dtype, size_bytes)
    write = paper().line
    widest = max(len(head) for head, _ in rows)
    for head, text in rows:
        write((f"{head:<{widest}}  ", "dim"), (visible(text), ""))
    _write_meta(meta)


def _info_rows(
    described: NodeDescription,
    name: str,
    dtype: Any,  # noqa: ANN401 - NumPy need not be loaded for this
    size_bytes: int | None,
) -> list[tuple[str, str]]:
    from ezgraph.cli.words import count, size

    growing = ", growing" if described.is_growing else ""
    gone = f", the first {described.first_partition:,} gone" if described.first_partition else ""
    rows = [
        ("node", name),
        ("uid", described.uid),
        ("class", f"{described.name} of {described.module}, version {described.version}"),
        ("edges", f"{described.labels:,}"),
    ]
    if described.layout is not None and size_bytes is not None:
        rows += [
            ("dtype", str(dtype)),
            ("shape", str(described.layout.shape)),
            ("chunks", f"{described.partitions or 0:,} of at most {described.layout.chunks}"),
            ("size", f"{size(size_bytes)}{growing}{gone}"),
        ]
    elif described.partitions is not None:
        rows.append(("data", f"{count(described.partitions, 'partition')}{growing}{gone}"))
    if described.note:
        rows.append(("reached", described.note))
    return rows


def _write_meta(meta: Any) -> None:  # noqa: ANN401
    from ezgraph.cli.words import inner

    fields = meta if isinstance(meta, dict) else {"": meta}
    if fields:
        paper().line(("", ""))
        paper().table(["meta", "value"], [[visible(str(k)), inner(v)] for k, v in fields.items()])


@app.command(context_settings={"ignore_unknown_options": True})
@on_broker
def get(
    broker: Target,
    where: PathArgument = None,
    index: Annotated[
        str | None,
        typer.Argument(
            metavar="SLICE",
            help="Which part, as NumPy takes it: '[1000:2000, ::2]', brackets may be left out. "
            "Of tables: rows.",
            show_default=False,
        ),
    ] = None,
    at: AtOption = None,
    kind: Annotated[
        Format | None,
        typer.Option(
            "--format",
            "-f",
            help="Default: by the name of the file; on a terminal what can be looked at, in a pipe "
            "CSV, or JSON of what has no rows.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Where to.", show_default=False),
    ] = None,
    replace: ReplaceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Read a node's data, or a part of it: only the chunks that are needed move."""
    from ezgraph.cli.data_nodes import output as node_output
    from ezgraph.cli.data_nodes.served import read_part
    from ezgraph.cli.data_nodes.slices import parse_index
    from ezgraph.nodes.exporting import check_free

    selected = None if index is None else parse_index(index)
    meant = format_for(Format.JSON if as_json else kind, output)
    if output is not None:
        check_free(output, replace=replace)
    with node_at(broker, where, at) as (node, name):
        found = read_part(node, selected, name)
    node_output.write(found, meant, output)


@app.command()
@on_broker
def export(
    broker: Target,
    where: Annotated[
        str,
        typer.Argument(
            metavar="NAME[/PATH]",
            help="A node; with --at '' is the root.",
            autocompletion=completion.node_paths,
        ),
    ],
    destination: Annotated[
        Path, typer.Argument(metavar="FILE", help="Its suffix says of what kind it is to be.")
    ],
    at: AtOption = None,
    replace: ReplaceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a node to a file: .npy an array, .parquet a table, .h5 or .zarr it and all below it."""
    from ezgraph.cli.words import size
    from ezgraph.nodes.exporting import check_free, export, writer_for
    from ezgraph.nodes.progress_bar import progress_bar

    writer_for(destination)
    check_free(destination, replace=replace)
    with node_at(broker, where, at) as (node, name), progress_bar(name) as bar:
        export(node, destination, replace=replace, progress=bar)
    written = _size_of(destination)
    if as_json:
        from ezgraph.cli.as_json import dumps

        say(dumps({"file": str(destination), "size_bytes": written}))
    else:
        paper().line((visible(str(destination)), "bold"), (f" has {size(written)}", ""))


def _size_of(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(each.stat().st_size for each in files if each.is_file())
