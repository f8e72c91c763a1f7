"""Flows: what several processors do together, as configuration keys.

A flow gives each of its processors one or more *variants*, each a key of its own:
``("active-flow", (processor, variant))``. `start_flow` puts all of them in one transaction,
`stop_flow` takes just these away again, and a `FlowProcessor` runs what its keys say. Their
blocking twins are in `ezgraph.sync`.
"""

from ezgraph.flows.flow import start_flow, stop_flow
from ezgraph.flows.processor import FlowProcessor
from ezgraph.flows.variants import Version

__all__ = ["FlowProcessor", "Version", "start_flow", "stop_flow"]
