"""Detect actions: python train/detect.py [PRESET | FILE.yaml] --store S --proposals P --checkpoint RUN [RUN ...]."""

from ssn_feat.cli import run
from ssn_feat.detection.detect import PRESETS, DetectOptions, detect

if __name__ == "__main__":
    run(detect, DetectOptions, PRESETS)
