#!/usr/bin/env python
"""python extract/import_features.py FEATURES STORE.zarr --annotations FILE --layout NAME --fps F --stride S ..."""

from ssn_feat.cli import run
from ssn_feat.commands import import_features

if __name__ == "__main__":
    run(import_features)
