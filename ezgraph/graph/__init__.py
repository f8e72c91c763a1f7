"""What users hold: contexts, services, process clients, and a broker to start.

Each class is written once over a client session, as coroutines. With the blocking session they
never suspend, and `ezgraph.sync` drives them.
"""
