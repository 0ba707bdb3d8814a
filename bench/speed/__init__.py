"""How fast parts of the package are on this machine, beside plain loops that do the same: ``python -m bench.speed``."""
