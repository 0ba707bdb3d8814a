"""Learn a head from a feature store: python train/fit.py [PRESET | FILE.yaml] [options]."""

from ssn_feat.cli import run
from ssn_feat.training.fit import FitOptions, fit
from ssn_feat.training.presets import PRESETS

if __name__ == "__main__":
    run(fit, FitOptions, PRESETS)
