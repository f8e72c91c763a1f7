"""The command line: ``ezgraph serve | status | ls | settings | graph | watch | diff | nodes | …``.

Exit codes
    =====  ==========================================================================
    0      done; for ``watch`` and ``serve`` also: ended by Ctrl-C or SIGTERM
    1      refused, or something differs: the broker said no, ``diff`` or ``demo`` found one
    2      the command line, a key, a file or an option is not usable
    3      no broker answered in time
    4      a broker cannot start or go on: journal, port
    130    ended by Ctrl-C before it was done
    =====  ==========================================================================

    Whatever goes wrong on purpose is told in one last line on standard error.

Output
    For people on a terminal: colour, columns, lines cut to the width. In a pipe: plain text,
    whole lines. With ``--json``: one JSON value, or one per line for ``watch`` and ``log``;
    bytes as base64, arrays as lists, NaN and infinities as text.
    Names come from other programs: what cannot be seen in them, or would steer a terminal, is
    shown as an escape.

Keys
    See `ezgraph.protocol.key_text`.
"""
