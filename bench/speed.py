"""How fast parts of the package are on this machine: python bench/speed.py PART [options]."""

from ssn_feat.commands import speed

if __name__ == "__main__":
    speed()
