"""The relay for readers of data nodes who reach the broker's host only."""
