"""``ezgraph nodes``: served graphs of data nodes, and their data as files."""
