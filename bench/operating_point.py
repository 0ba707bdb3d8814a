"""Choose score thresholds: python bench/operating_point.py DETECTIONS.json --annotations TRUTH --subset NAME."""

from ssn_feat.cli import run
from ssn_feat.commands import operating_point

if __name__ == "__main__":
    run(operating_point)
