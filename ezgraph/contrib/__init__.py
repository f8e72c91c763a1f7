"""Other people's formats and programs; each module needs an extra of its own name."""
