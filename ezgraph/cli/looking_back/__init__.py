"""What the rig was: snapshots, tags, differences, restores, recordings."""
