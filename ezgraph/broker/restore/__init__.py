"""Going back to a snapshot: what it takes, asking the owners, the one transaction."""
