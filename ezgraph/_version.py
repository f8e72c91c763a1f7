"""The version of this package, read by setup.cfg and announced in HELLO."""

__version__ = "0.1.0"
