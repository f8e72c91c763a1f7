r"""The vocabulary of the bus and its grammar. Pure: no bytes, sockets, clocks.

Who speaks
    A *client* sends **commands** to the broker's ROUTER, each with a request id, and gets one
    **reply** to each (`replies`). The broker publishes **events** and **notes** on its XPUB.

Joining
    The first command on a connection is `Hello` (a new lease, or a guest without one) or
    `Resume` (an earlier lease, shown by its token). Both are answered by `Welcome`. Anything
    else on an unbound connection is answered by the refusal ``unbound``; the client then
    resumes and repeats the command under the same request id.

Requests
    Request ids of a lease only grow. A request names the lowest id whose reply its sender still
    waits for; what lies below is forgotten, and refused (``request_too_old``) if it comes
    again. A repeated request is answered from the transaction it caused and not executed again.

Events
    The decision on one command is one **transaction**: the events ``txn_first .. txn_last``.
    ``seq`` is dense over all kinds; ``prev`` is the number before. State is the fold of events;
    `events.key_of` gives each body its key, and so its PUB topic.

What is published
    Each event is three frames: its topic, its **links**, its encoding. Links are computed by the
    broker for every prefix of the key, from the empty one to the key itself:

    * ``prev``: the last seq published under that prefix before this event. A watcher complete
      through ``n`` under its prefix has a gap exactly when ``prev > n``, and knows so before it
      delivers the event. ``prev`` is *unwatched* when the broker has not yet taken note of the
      subscription (after a reconnect): the watcher then reads the range.
    * ``more``: whether a later event of the same transaction also lies under that prefix. A
      watcher holds events back until ``more`` is false, so a transaction arrives whole.

    A **note** for prefix P goes to the topic ``\0P\0``: "the last event published under P is
    ``last``; the head is ``head``". A watcher complete through ``last`` is complete through
    ``head``; one that has less reads the range. The first note after a subscription is its
    *welcome*: every later event under P will be sent to this subscriber.

Catching up
    `ReadEvents` is answered by `EventRange` in chunks: the stored bytes, and "complete through".
    Below the floor it is answered by the refusal ``compacted``, and the client takes a snapshot.
    A **snapshot** is the set of *live* events at one seq, that is those which later events have
    not made irrelevant (`events.slot_of`); the same fold over them gives the same state.

Configuration
    Entries stand by type and key (`config`). `ChangeConfig` is one transaction of puts, deletes and
    conditions, answered by `ConfigChanged`; what asks for what is there makes no event. Each event
    is published under the key of its entry, with the value, so that who watches it fetches nothing.
    `ReadConfig` is answered by `ConfigPage`, in order of keys, each page as of its own seq; what is
    to be as of one seq is brought up to date with the events between the first page and the last.
    A watcher that needs what is there reads it so, then follows from that seq on.

The store
    Graphs, snapshots, tags and partitions are rows by key beside the journal (`stored_commands`).
    What changes them is appended with them, as events that say so; the state is not touched by it.
    `Freeze` makes a snapshot of what is live at one seq, and is answered by `Frozen` when it is
    stored. A graph of many parts is stored under the hashes of its pieces: `ReadStored` with
    `PieceAt` says which are there, `StorePieces` stores the others, and the command that names the
    graph (`StoreGraph`, or one with a `NewSnapshot`) is refused unless they add up to its
    fingerprint. `ReadStored` is answered by `StoredPage`: the rows, for the asker to decode.
    A recording (`recordings`) grows by one `WriteRecording` after the other, each answered by
    `RecordingStored`, until one says that it has ended.

The past
    The state at a seq is pulled: `ReadCheckpoint` gives the newest checkpoint at or before it, in
    parts, blobs before entries (`CheckpointChunk`); `ReadStretch` gives what counts of the events
    behind that (`StretchChunk`). The fold of both is the state (`ezgraph.state.past`). `FindSeq`
    says which seq a time stands for (`SeqFound`), and where the broker's clock went back across it.
"""

PROTOCOL_VERSION = 1
