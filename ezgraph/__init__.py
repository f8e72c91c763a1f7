"""The control bus of a distributed laboratory rig."""
