"""``ezgraph config``: the entries of the configuration, and files of them."""
