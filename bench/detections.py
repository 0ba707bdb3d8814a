"""Measure detections: python bench/detections.py [PRESET | FILE.yaml] DETECTIONS.json ... --annotations TRUTH."""

from ssn_feat.cli import run
from ssn_feat.commands import detections

if __name__ == "__main__":
    run(detections)
