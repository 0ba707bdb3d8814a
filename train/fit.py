"""Learn a head from a feature store, or a backbone from videos: python train/fit.py [PRESET | FILE.yaml] [options]."""

from ssn_feat.cli import Command, run_one_of
from ssn_feat.evaluation.validation import fit_and_validate
from ssn_feat.training.clips import FitClipsOptions, fit_clips
from ssn_feat.training.options import FitOptions
from ssn_feat.training.presets import PRESETS

if __name__ == "__main__":
    heads = Command(fit_and_validate, FitOptions, PRESETS)
    run_one_of("head", {"ssn": heads, "actionness": heads, "clips": Command(fit_clips, FitClipsOptions)}, default="ssn")
