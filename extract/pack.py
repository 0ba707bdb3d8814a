#!/usr/bin/env python
"""python extract/pack.py STORE OUT"""

from ssn_feat.cli import run
from ssn_feat.commands import pack

if __name__ == "__main__":
    run(pack)
