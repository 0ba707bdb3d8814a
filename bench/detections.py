"""Measure detections: python bench/detections.py [PRESET | FILE.yaml] DETECTIONS.json ... --annotations TRUTH."""

from ssn_feat.cli import run
from ssn_feat.evaluation.detections import PRESETS, EvaluateOptions, evaluate

if __name__ == "__main__":
    run(evaluate, EvaluateOptions, PRESETS)
