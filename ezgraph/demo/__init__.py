"""`ezgraph demo`: a rig of four processes on real input, broken on purpose, and a verdict.

::

    main ── story ── rig ──────── starts, kills and talks to ──▶ roles (source, filter, detector,
              │       │                                          recorder: a process each) and a
              │       └─ follows the bus                         broker in a process of its own
              └─ view: what happens, live or as lines
    verdict: the recorder's file (record) against the broker's journal, event for event

No sample travels between the processes yet: each computes on the recording it loads (ecg).
"""
