"""Learn a head from a feature store, or a backbone from videos: python train/fit.py [PRESET | FILE.yaml] [options]."""

from ssn_feat.cli import Command, run_one_of
from ssn_feat.training.clips import FitClipsOptions, fit_clips
from ssn_feat.training.fit import FitOptions, fit
from ssn_feat.training.presets import PRESETS

if __name__ == "__main__":
    heads = Command(fit, FitOptions, PRESETS)
    run_one_of("head", {"ssn": heads, "actionness": heads, "clips": Command(fit_clips, FitClipsOptions)}, default="ssn")
