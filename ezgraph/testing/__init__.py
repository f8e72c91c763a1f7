"""The test kit that ships with ezgraph: what one needs to try a program on a bus that one controls.

* `ManualClock`, `SequentialIds`: time and identities that a test decides on.
* `Network`, `SimulatedBroker`, `SimulatedClient`, `SimulatedSession`: the very engines that run
  on sockets, in one thread, on a network that delays, drops, cuts and crashes by a seed.
* `History` and the checks in `ezgraph.testing.guarantees`: was every promise kept?
* `Recorder`: a trace of what a program asks, is told and is given, for ``ezgraph verify``.
* `FlakyMemory`: a journal whose disk fills up when told to.
* `NumpyTestNode`: a data node whose 200 numbers are known.
* `running_broker`: a real broker on a free loopback port, for the length of a ``with``.
* `ezgraph.testing.strategies`: Hypothesis strategies (needs Hypothesis, and is not loaded here).

Nothing outside tests imports it.
"""

from ezgraph.testing.broker import SimulatedBroker, running_broker
from ezgraph.testing.client import Call, SimulatedClient, WatchRecord
from ezgraph.testing.clock import ManualClock
from ezgraph.testing.guarantees import BrokenPromiseError, History
from ezgraph.testing.ids import SequentialIds
from ezgraph.testing.journal import FlakyMemory
from ezgraph.testing.network import Network
from ezgraph.testing.nodes import NumpyTestNode
from ezgraph.testing.session import SimulatedSession, simulated_sessions
from ezgraph.verify import Recorder

__all__ = [
    "BrokenPromiseError",
    "Call",
    "FlakyMemory",
    "History",
    "ManualClock",
    "Network",
    "NumpyTestNode",
    "Recorder",
    "SequentialIds",
    "SimulatedBroker",
    "SimulatedClient",
    "SimulatedSession",
    "WatchRecord",
    "running_broker",
    "simulated_sessions",
]
