"""Measure labels of frames: python bench/frames.py RESULTS ... --annotations TRUTH."""

from ssn_feat.cli import run
from ssn_feat.commands import frames

if __name__ == "__main__":
    run(frames)
