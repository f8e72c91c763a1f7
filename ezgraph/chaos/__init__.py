"""Chaos: a broker and its clients as real processes, faults of every kind, then the checker."""
