#!/usr/bin/env python
"""python extract/run.py VIDEOS STORE.zarr --annotations FILE --backbone NAME --weights rgb=FILE flow=FILE"""

from ssn_feat.cli import run
from ssn_feat.commands import extract

if __name__ == "__main__":
    run(extract)
