"""`ezgraph bench`: how quick the bus is, each figure beside what its sockets alone can do.

`main.run_bench` is the way in. A section (``a`` to ``s``) is a module with a function that takes a
`Scale` and returns `Row`s; whatever must not share a process with the measurement runs as a child
(`children`). Times are `time.perf_counter` within a process and `time.monotonic_ns` between two
processes of one machine.
"""
