#!/usr/bin/env python
"""python extract/pack.py STORE OUT"""

from ssn_feat.cli import run
from ssn_feat.extraction.maintenance import PackOptions, pack_store

if __name__ == "__main__":
    run(pack_store, PackOptions)
