"""The store behind a broker: graphs, snapshots, tags, partitions, recordings."""
