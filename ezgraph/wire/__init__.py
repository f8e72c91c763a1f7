"""Bytes: how messages and values are spelled, bounded and checked."""
