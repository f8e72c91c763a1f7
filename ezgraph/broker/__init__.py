"""Who decides: rules and leases (pure), and the loop that gives them sockets and a journal."""
