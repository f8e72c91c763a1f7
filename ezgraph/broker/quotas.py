"""How much one lease may own, and how much a command may say. Pure.

A lease ends in one transaction with all it owns, and that holds up everybody else while it is
written: so what a lease may own is bounded. What has no owner is bounded as a whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ezgraph.errors import LimitError
from ezgraph.protocol.commands import ChangeConfig, Connect, RegisterMetadata, UpdateUnits
from ezgraph.protocol.config import config_key_text
from ezgraph.protocol.fingerprints import FINGERPRINT_BYTES
from ezgraph.protocol.stored_commands import (
    DeleteStored,
    NewSnapshot,
    SetTag,
    StoreGraph,
    StorePieces,
    StoreSnapshot,
    WritePartitions,
    WriteRecording,
)

if TYPE_CHECKING:
    from ezgraph.broker.leases import Lease
    from ezgraph.config import Limits
    from ezgraph.protocol.commands import Command
    from ezgraph.state.graph import GraphState


def refuse_beyond(state: GraphState, lease: Lease, command: Command, limits: Limits) -> None:
    """Refuse a change after which a lease would own, or history would be told, too much.

    Raises:
        LimitError: names the bound.
    """
    reason = getattr(command, "reason", None) or _reason_of_snapshot(command)
    if len(reason) > limits.max_reason_characters:
        raise LimitError(
            f"a reason of {len(reason)} characters; at most {limits.max_reason_characters} are "
            f"kept here (max_reason_characters): say it shorter"
        )
    match command:
        case Connect():
            _refuse_edge(state, lease, command, limits)
        case RegisterMetadata():
            count = len(command.metadata.components)
            if count > limits.max_components_per_lease:
                raise LimitError(
                    f"metadata of {count} components, and a session may register "
                    f"{limits.max_components_per_lease} here (max_components_per_lease); share "
                    f"them between several sessions"
                )
        case UpdateUnits():
            _refuse_units(state, lease, command, limits)
        case ChangeConfig():
            _refuse_transaction(command, limits)
        case WriteRecording():
            _refuse_partitions(command, limits)
        case WritePartitions() | DeleteStored():
            _refuse_partitions(command, limits)
            _refuse_graph(command, limits)
        case StorePieces() | StoreGraph() | StoreSnapshot() | SetTag():
            _refuse_graph(command, limits)
        case _:
            pass


def _refuse_edge(state: GraphState, lease: Lease, command: Connect, limits: Limits) -> None:
    owner = lease.client if lease.kind == "session" else None
    held = state.dag.count_of(owner)
    most = limits.max_persistent_edges if owner is None else limits.max_edges_per_lease
    if held < most or owner in state.dag.owners(command.from_topic, command.to_topic):
        return
    if owner is None:
        raise LimitError(
            f"{held} edges are persistent already, as many as may be here (max_persistent_edges); "
            f"disconnect some, or let a session hold them"
        )
    raise LimitError(
        f"this session holds {held} edges, as many as one may here (max_edges_per_lease); "
        f"disconnect some, or open another session"
    )


def _refuse_units(state: GraphState, lease: Lease, command: UpdateUnits, limits: Limits) -> None:
    process_id = lease.source.process_id
    process = state.processes.get(process_id) if process_id is not None else None
    own = set(process.units) if process is not None else set()
    count = len((own | set(command.added)) - set(command.removed))
    if count > max(limits.max_units_per_lease, len(own)):
        raise LimitError(
            f"{count} units for one process client, and it may run {limits.max_units_per_lease} "
            f"here (max_units_per_lease); let some go, or run several processes"
        )


def _reason_of_snapshot(command: Command) -> str:
    snapshot = getattr(command, "snapshot", None)
    return snapshot.reason if isinstance(snapshot, NewSnapshot) else ""


def _refuse_partitions(
    command: WritePartitions | WriteRecording | DeleteStored, limits: Limits
) -> None:
    count = len(command.partitions)
    if isinstance(command, WriteRecording):
        count += len(command.changes) + sum(len(each.snapshots) for each in command.partitions)
    if count > limits.max_partitions_per_command:
        raise LimitError(
            f"{count} partitions in one call, and one may have {limits.max_partitions_per_command} "
            f"here (max_partitions_per_command); share them between several"
        )


def _refuse_graph(command: Command, limits: Limits) -> None:
    """Refuse a graph of too many pieces, and pieces that are too large."""
    match command:
        case StorePieces(pieces=pieces):
            row = None
        case StoreGraph(row=row, pieces=pieces):
            pass
        case (
            StoreSnapshot(snapshot=NewSnapshot() as snapshot)
            | SetTag(snapshot=NewSnapshot() as snapshot)
            | WritePartitions(snapshot=NewSnapshot() as snapshot)
        ):
            row, pieces = snapshot.graph, snapshot.pieces
        case _:
            return
    for piece in pieces.values():
        if len(piece) > limits.max_piece_bytes:
            raise LimitError(
                f"a piece of {len(piece)} bytes of a graph, and one may have "
                f"{limits.max_piece_bytes} here (max_piece_bytes); make the component's "
                f"metadata, or the entry of the configuration, smaller"
            )
    if row is not None:
        count = (len(row.pages) + len(row.blobs)) // FINGERPRINT_BYTES
        if count > limits.max_graph_pieces:
            raise LimitError(
                f"a graph of {count} pieces, and one may have {limits.max_graph_pieces} here "
                f"(max_graph_pieces); store it in several graphs"
            )


def _refuse_transaction(command: ChangeConfig, limits: Limits) -> None:
    """Refuse one that says too much; what values take up, `rules_config` looks at."""
    operations = command.operations
    if len(operations) > limits.max_config_operations:
        raise LimitError(
            f"a transaction of {len(operations)} puts, deletes and conditions, and one may have "
            f"{limits.max_config_operations} here (max_config_operations); share them between "
            f"several"
        )
    for each in operations:
        if sum(map(len, each.key)) > limits.max_config_key_bytes // 4:  # else it cannot be beyond
            size_bytes = len(config_key_text(each.key).encode("utf-8", "surrogatepass"))
            if size_bytes > limits.max_config_key_bytes:
                raise LimitError(
                    f"a configuration key of {size_bytes} bytes, starting "
                    f"{config_key_text(each.key)[:40]!r}; at most {limits.max_config_key_bytes} "
                    f"are allowed here (max_config_key_bytes): shorten its names"
                )
