"""Who asks: one pure core, one engine of frames, and two thin shells on sockets.

`ezgraph.client.aio.Session` and `ezgraph.client.blocking.Session` offer the same methods.
"""
