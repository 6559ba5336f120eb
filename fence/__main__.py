"""`python -m fence`: the fence's command line."""

import sys

from fence.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
