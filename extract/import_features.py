#!/usr/bin/env python
"""python extract/import_features.py FEATURES STORE.zarr --annotations FILE --layout NAME --fps F --stride S ..."""

from ssn_feat.cli import run
from ssn_feat.exchange import ImportOptions, import_main

if __name__ == "__main__":
    run(import_main, ImportOptions)
