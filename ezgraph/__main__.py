"""``python -m ezgraph``: the command line."""

import sys

from ezgraph.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
