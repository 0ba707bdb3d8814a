"""How fast parts of the package are on this machine: python -m bench.speed PART [options]."""

from bench.speed.commands import main

if __name__ == "__main__":
    main()
