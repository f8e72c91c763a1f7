"""Which wiring and settings are behind a file: recordings, as they are made.

`ezgraph.protocol.recordings` says what a recording is; ``notes`` is what one who records knows so
far (pure), ``changes`` follows the settings meanwhile, ``recording`` tells the broker.
"""
