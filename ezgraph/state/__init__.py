"""Truth: the state of the rig as the fold of its events. Pure."""
