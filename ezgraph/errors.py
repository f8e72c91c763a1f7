"""Every error a caller of ezgraph can meet, in one tree.

::

    EzGraphError                          the root; `code` is stable and travels on the wire
    ├── RefusedError                      the broker (or a store) refused, and changed nothing
    │   ├── CyclicException               the edge would close a loop (or is a self-loop)
    │   ├── ForeignEdgeError              the edge is held by others, not by the asker
    │   ├── UnknownEdgeError              no such edge
    │   ├── AddressCollisionError         another live session or process holds these addresses
    │   ├── NotOwnerError                 a report or release for a unit one does not own
    │   ├── UnknownComponentError         there are no settings at this address
    │   ├── NoOwnerError                  no process runs the component: nobody can change it
    │   ├── OwnerGoneError                its process ended before it answered
    │   ├── OwnerSilentError              its process did not answer in time
    │   │   └── ChangeOverdueError        its program is at the change for longer than it may take
    │   ├── OwnerBusyError                its program is still at an earlier change
    │   ├── VetoedError                   its process refused the change, and says why
    │   ├── StaleWriteError               the settings have changed since the seq that was expected
    │   ├── SettingsRefusedError          a settings change that the schema does not allow
    │   │   ├── UnknownFieldError         no such field
    │   │   ├── WrongTypeError            a value of another type
    │   │   ├── OutOfBoundsError          below or above what the field takes
    │   │   ├── NotAChoiceError           none of the field's choices
    │   │   ├── ReadOnlyFieldError        the field is shown, not changed
    │   │   └── SchemaVersionError        the schema is of a newer ezgraph
    │   ├── PreconditionFailedError       a condition of a configuration change does not hold
    │   ├── UnknownConfigKeyError (KeyError)  there is no such configuration entry
    │   ├── InvalidSchemaError            no JSON Schema that values can be judged by; says where
    │   ├── SchemaViolationError          a value does not fit the JSON Schema of its type
    │   ├── FlowError                     a flow cannot be started or stopped as asked
    │   │   ├── FlowExistsError           a flow of that id runs already
    │   │   ├── UnknownFlowError          no flow of that id runs
    │   │   └── VariantTakenError         another flow, or somebody else, put that variant there
    │   ├── UnknownGraphError             no such graph is stored
    │   ├── UnknownSnapshotError          no such snapshot is stored
    │   ├── UnknownTagError               a graph has no such tag
    │   ├── TagExistsError                the tag points to a snapshot already; says to which
    │   ├── UnknownRecordingError         no such recording is stored
    │   ├── RecordingEndedError           it has ended: nothing else is said of it any more
    │   ├── StillReferencedError          a snapshot or tag needs what was to be deleted
    │   ├── RestoreRefusedError           a restore that others' hold or vetoes forbid; `report`
    │   ├── InvalidCommandError           a field outside the grammar or the limits
    │   ├── LiveSessionsError             shutdown refused: sessions are alive
    │   ├── ForbiddenError                the key's role does not allow it
    │   │   └── TicketNeededError         a host of nodes was shown no ticket, or one that ran out
    │   ├── LimitError                    a configured bound is reached
    │   │   └── FloodError                so much was sent that the broker hung up
    │   ├── WrongClusterError             the broker at this address keeps another history
    │   ├── ProtocolVersionError          client and broker speak different protocol versions
    │   ├── RequestTooOldError            a request id the broker no longer remembers
    │   └── UnsupportedError              this broker does not know the command, or lacks an extra
    ├── SessionError                      the call needs a session that is not there
    │   ├── NoSessionError                no active session: use `async with`
    │   ├── SessionExpiredError           the lease ran out; what it owned is gone
    │   │   └── SessionTakenOverError     another program goes on with it, by its token
    │   └── ContextClosedError            the context, session or process client is closed
    ├── ProcessRequestError               a process did not answer as it was asked; `error_code`
    ├── NodeError                         a data node is not what it should be
    │   ├── UnknownNodeError              no node with this uid is served
    │   ├── UnknownLabelError (KeyError)  the node has no edge with this label
    │   ├── NodeRequestError              a request or keyword outside the vocabulary of nodes
    │   ├── NodeIndexError (IndexError)   an index no array of this shape takes, or no partition
    │   ├── NodeDtypeError (TypeError)    an array that cannot be served, and why
    │   ├── NodeSourceError               the file or program behind a node failed; names both
    │   ├── NodeHostGoneError             the process that serves the nodes went away
    │   └── ChunkCorruptError             what arrived is not what was sent
    ├── CompactedError                    history below the floor is gone; carries a snapshot
    ├── DivergedError                     (epoch, seq) lies beyond the end of its epoch
    ├── DeadlineError (TimeoutError)      a deadline passed: address, attempts, next step
    │   ├── BrokerUnreachableError        nobody answered there at all
    │   └── NotAdmittedError              the broker and this client do not know each other's keys
    ├── MalformedMessageError             bytes that are no message of this protocol
    ├── InvalidKeyError (ValueError)      a key or segment outside the grammar
    ├── InvalidValueError (ValueError)    a value that cannot be what it should stand for; says why
    ├── ConfigError (ValueError)          a bad address, option, or configuration file
    │   ├── InsecureAddressError          outside loopback without keys or `--insecure`
    │   └── KeyFileError                  a file of keys or roles: missing, bad, open to others
    ├── AddressInUseError                 somebody listens on that port already
    ├── JournalError                      the journal cannot be opened or read
    │   ├── JournalLockedError            another broker holds it
    │   ├── JournalVersionError           it was written by a newer ezgraph
    │   ├── JournalCorruptError           a record fails its checksum or its order
    │   └── JournalFailedError            an append failed: nothing of that batch was answered
    └── MissingExtraError (ImportError)   an optional package is not installed; names the extra

It was that time more than once: `AmbiguousTimeWarning`, which is no error but a UserWarning.

A message says what happened (with the values), why, and how to go on. The broker sends
`code` and text; `from_code` gives the same class back at the client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator


class EzGraphError(RuntimeError):
    """The root of all errors that ezgraph raises on purpose."""

    code: ClassVar[str] = "error"


class RefusedError(EzGraphError):
    """The broker judged the command, refused it, and changed nothing."""

    code = "refused"


class CyclicException(RefusedError):  # noqa: N818 - the field's name for it
    """The edge would close a loop; the message names the loop."""

    code = "cyclic"


class ForeignEdgeError(RefusedError):
    """The edge exists, but others hold it; the message says who."""

    code = "foreign_edge"


class UnknownEdgeError(RefusedError):
    """There is no such edge to disconnect."""

    code = "unknown_edge"


class AddressCollisionError(RefusedError):
    """Another live session or process holds these addresses; the message names both."""

    code = "address_collision"


class NotOwnerError(RefusedError):
    """The process does not own the unit it reports for or releases."""

    code = "not_owner"


class UnknownComponentError(RefusedError):
    """There are no settings at this address, so none to change."""

    code = "unknown_component"


class NoOwnerError(RefusedError):
    """No process runs the component, so nobody could make the change."""

    code = "no_owner"


class OwnerGoneError(RefusedError):
    """The process that runs the component ended before it answered.

    It may have made the change before; what it reported went with it.
    """

    code = "owner_gone"


class OwnerSilentError(RefusedError):
    """The process that runs the component did not answer in time.

    It may still make the change; then an event says so.
    """

    code = "owner_silent"


class ChangeOverdueError(OwnerSilentError):
    """The program that runs the component is at the change for longer than it gives one.

    It may still make the change; then an event says so. Until it is over its program refuses other
    changes of the same settings (`OwnerBusyError`).
    """

    code = "change_overdue"


class OwnerBusyError(RefusedError):
    """The program that runs the component is still at an earlier change; this one was not begun."""

    code = "owner_busy"


class VetoedError(RefusedError):
    """The process that runs the component refused the change; the message has its reason."""

    code = "vetoed"


class StaleWriteError(RefusedError):
    """The settings have changed since the seq that was expected; read them again."""

    code = "stale"


class SettingsRefusedError(RefusedError):
    """The settings change does not fit the schema; the message says field, value and why."""

    code = "settings_refused"


class UnknownFieldError(SettingsRefusedError):
    """The settings have no such field; the message names those there are."""

    code = "unknown_field"


class WrongTypeError(SettingsRefusedError):
    """The value is of another type than the field; the message names both."""

    code = "wrong_type"


class OutOfBoundsError(SettingsRefusedError):
    """The value lies below or above what the field takes; the message names the bound."""

    code = "out_of_bounds"


class NotAChoiceError(SettingsRefusedError):
    """The value is none of the field's choices; the message names them."""

    code = "not_a_choice"


class ReadOnlyFieldError(SettingsRefusedError):
    """The field is shown and cannot be changed."""

    code = "read_only"


class SchemaVersionError(SettingsRefusedError):
    """The schema was written by a newer ezgraph, so nothing can be checked against it."""

    code = "schema_version"


class PreconditionFailedError(RefusedError):
    """A condition of a configuration change does not hold; names the key, and what is there."""

    code = "precondition_failed"


class UnknownConfigKeyError(RefusedError, KeyError):
    """There is no such configuration entry, and no default was given."""

    code = "unknown_config_key"

    def __str__(self) -> str:
        return str(self.args[0])  # a KeyError shows its repr


class InvalidSchemaError(RefusedError):
    """No JSON Schema that values can be judged by; the message says what is wrong and where."""

    code = "invalid_schema"


class SchemaViolationError(RefusedError):
    """A value does not fit the JSON Schema of its type; the message says what is wrong, and where.

    Where is a JSON pointer into the value: ``/parameters/gain``. Where the broker's rules raise it
    for a put, ``type`` and ``path`` say so too; they do not travel.
    """

    code = "schema_violation"

    def __init__(self, message: str = "", *, type: str | None = None, path: str = "") -> None:  # noqa: A002
        super().__init__(message)
        self.type = type
        self.path = path


class FlowError(RefusedError):
    """A flow cannot be started or stopped as it was asked; nothing has changed."""

    code = "flow"


class FlowExistsError(FlowError):
    """A flow of that id runs already; the message says since when, and who started it."""

    code = "flow_exists"


class UnknownFlowError(FlowError):
    """No flow of that id runs: it was never started, or has been stopped."""

    code = "unknown_flow"


class VariantTakenError(FlowError):
    """A processor has that variant from another flow already; the message names both."""

    code = "variant_taken"


class UnknownGraphError(RefusedError):
    """No graph of that name and fingerprint is stored; the message names those that are."""

    code = "unknown_graph"


class UnknownSnapshotError(RefusedError):
    """No snapshot of that graph and fingerprint is stored; the message names those that are."""

    code = "unknown_snapshot"


class UnknownTagError(RefusedError):
    """The graph has no such tag; the message names those it has."""

    code = "unknown_tag"


class TagExistsError(RefusedError):
    """The tag points to a snapshot already, and nobody said that it may be moved.

    ``fingerprint`` is that snapshot's, as 32 hexadecimal digits; "" if it is not known here.
    """

    code = "tag_exists"

    def __init__(self, message: str, *, fingerprint: str = "") -> None:
        super().__init__(message)
        self.fingerprint = fingerprint


class UnknownRecordingError(RefusedError):
    """No recording of that graph, artifact and number is stored; the message says which are."""

    code = "unknown_recording"


class RecordingEndedError(RefusedError):
    """The recording has ended, and something else was to be said of it."""

    code = "recording_ended"


class RestoreRefusedError(RefusedError):
    """A restore cannot be done whole, so nothing of it was; the message names who is in the way.

    ``report`` (`ezgraph.protocol.replies.RestoreReport`) lists all of it: ``cannot``, ``vetoed``.
    """

    code = "restore_refused"

    def __init__(self, message: str = "", *, report: Any = None) -> None:  # noqa: ANN401 - above
        super().__init__(message)
        self.report = report


class StillReferencedError(RefusedError):
    """A tag, snapshot or recording still needs what was to be deleted; the message names it."""

    code = "still_referenced"


class InvalidCommandError(RefusedError):
    """A field of the command lies outside the grammar or the limits."""

    code = "invalid_command"


class LiveSessionsError(RefusedError):
    """Shutdown was refused because sessions are alive; ask again with ``force``."""

    code = "live_sessions"


class LimitError(RefusedError):
    """A configured bound is reached; the message names the bound."""

    code = "limit"


class FloodError(LimitError):
    """The client sent so much more than it may that the broker closed its connection."""

    code = "flood"


class ForbiddenError(RefusedError):
    """The role of the client's key does not allow this; the message names key, verb and what."""

    code = "forbidden"


class TicketNeededError(ForbiddenError):
    """A host of nodes was shown no ticket, or one that ran out; the broker gives new ones."""

    code = "ticket_needed"


class WrongClusterError(RefusedError):
    """The broker at this address keeps the history of another cluster."""

    code = "wrong_cluster"


class ProtocolVersionError(RefusedError):
    """Client and broker speak different versions of the protocol."""

    code = "protocol_version"


class RequestTooOldError(RefusedError):
    """The request id lies below what the broker still remembers; it was not executed."""

    code = "request_too_old"


class UnsupportedError(RefusedError):
    """This broker does not know the command, or lacks the extra that it takes; names it."""

    code = "unsupported"


class SessionError(EzGraphError):
    """The call needs a session that is not there."""

    code = "session"


class NoSessionError(SessionError):
    """There is no active session: use ``async with`` (or ``with``) first."""

    code = "no_session"


class SessionExpiredError(SessionError):
    """The lease ran out while nobody renewed it; what the session owned is gone.

    ``lost`` says what that was (`ezgraph.protocol.replies.Lost`), as far as the journal still
    holds it; else None. ``redeclare()`` opens a new session and declares it all again.
    """

    code = "session_expired"

    def __init__(self, message: str, *, lost: Any = None) -> None:  # noqa: ANN401
        super().__init__(message)
        self.lost = lost


class SessionTakenOverError(SessionExpiredError):
    """Another program showed this session's token and goes on with it; what it owns lives."""

    code = "taken_over"


class ContextClosedError(SessionError):
    """The context, session or client is closed already."""

    code = "closed"


class ProcessRequestError(EzGraphError):
    """A process did not do what one of its units was asked; ``error_code`` says why.

    That is the name of a `ProcessControlErrorCode`, or None.
    """

    code = "process_request"

    def __init__(self, message: str, *, error_code: str | None = None) -> None:
        super().__init__(message)
        self.error_code = error_code


class NodeError(EzGraphError):
    """A data node, or a graph of them, is not what it should be."""

    code = "node"


class UnknownNodeError(NodeError):
    """No node with this uid is served (any more)."""

    code = "unknown_node"


class UnknownLabelError(NodeError, KeyError):
    """The node has no edge with this label; the message names some it has."""

    code = "unknown_label"

    def __str__(self) -> str:
        return RuntimeError.__str__(self)  # a KeyError shows the repr of its message


class NodeRequestError(NodeError):
    """A request to a node, or a keyword of one, that is outside the vocabulary."""

    code = "node_request"


class NodeIndexError(NodeError, IndexError):
    """The array takes no such index, or the node has no such partition."""

    code = "node_index"


class NodeDtypeError(NodeError, TypeError):
    """An array of this dtype cannot be served; the message says why."""

    code = "node_dtype"


class NodeSourceError(NodeError):
    """What is behind a node (a file, a program's own code) failed; the message names both."""

    code = "node_source"


class NodeHostGoneError(NodeError):
    """The process that serves the nodes went away, and did not come back in time."""

    code = "node_host_gone"


class ChunkCorruptError(NodeError):
    """A chunk that arrived does not have the fingerprint it was sent with."""

    code = "chunk_corrupt"


class CompactedError(EzGraphError):
    """History below ``floor`` is gone; ``snapshot`` is the state to go on from."""

    code = "compacted"

    def __init__(self, message: str, *, floor: int = 0, snapshot: Any = None) -> None:  # noqa: ANN401
        super().__init__(message)
        self.floor = floor
        self.snapshot = snapshot


class DivergedError(EzGraphError):
    """The client's (epoch, seq) lies beyond the end of that epoch; take a snapshot."""

    code = "diverged"


class DeadlineError(EzGraphError, TimeoutError):
    """A deadline passed; the message names the address, what was tried and the next step."""

    code = "deadline"


class BrokerUnreachableError(DeadlineError):
    """Nobody answered at the address at all."""

    code = "unreachable"


class NotAdmittedError(DeadlineError):
    """There is a broker, but it does not admit this key, or it is not the one whose key is pinned.

    So nothing was exchanged. The message says which, as far as it can be known from here.
    """

    code = "not_admitted"


class MalformedMessageError(EzGraphError):
    """These bytes are no message of this protocol; ``unknown``: perhaps of a newer one."""

    code = "malformed"

    def __init__(self, message: str, *, unknown: bool = False) -> None:
        super().__init__(message)
        self.unknown = unknown


class InvalidKeyError(EzGraphError, ValueError):
    """A key or segment lies outside the grammar."""

    code = "invalid_key"


class InvalidValueError(EzGraphError, ValueError):
    """A value cannot be what it should stand for; the message says which part, and why."""

    code = "invalid_value"


class ConfigError(EzGraphError, ValueError):
    """An address, an option or a configuration file is not usable."""

    code = "config"


class InsecureAddressError(ConfigError):
    """The broker was told to listen outside loopback without keys."""

    code = "insecure_address"


class KeyFileError(ConfigError):
    """A file of keys, roles or contexts is missing, malformed, or open to other users."""

    code = "key_file"


class AddressInUseError(EzGraphError):
    """Somebody listens on that port already."""

    code = "address_in_use"


class JournalError(EzGraphError):
    """The journal cannot be opened, read or written."""

    code = "journal"


class JournalLockedError(JournalError):
    """Another broker holds this journal."""

    code = "journal_locked"


class JournalVersionError(JournalError):
    """The journal was written by a newer ezgraph."""

    code = "journal_version"


class JournalCorruptError(JournalError):
    """A record of the journal fails its checksum or is out of order."""

    code = "journal_corrupt"


class JournalFailedError(JournalError):
    """An append failed; nothing of that batch was answered or published."""

    code = "journal_failed"


class MissingExtraError(EzGraphError, ImportError):
    """An optional package is not installed; the message names the extra."""

    code = "missing_extra"


class AmbiguousTimeWarning(UserWarning):
    """It was the time asked for more than once: the broker's wall clock was set back across it."""


def _tree(root: type[EzGraphError]) -> Iterator[type[EzGraphError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


_BY_CODE: dict[str, type[EzGraphError]] = {
    kind.code: kind for kind in _tree(EzGraphError) if "code" in vars(kind)
}


def from_code(code: str, message: str) -> EzGraphError:
    """Return the error a refusal stands for; an unknown code gives a plain `RefusedError`."""
    return _BY_CODE.get(code, RefusedError)(message)
