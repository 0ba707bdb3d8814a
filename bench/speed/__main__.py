"""How fast parts of the package are on this machine: python -m bench.speed PART [options]."""

import sys

from bench.speed.commands import main

if __name__ == "__main__":
    sys.argv[0] = "python -m bench.speed"  # for help, instead of this file's path
    main()
