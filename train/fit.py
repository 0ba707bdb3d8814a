"""Learn a head from a feature store, or a backbone from videos.

python train/fit.py [PRESET | FILE.yaml] [options]
python train/fit.py sweep [PRESET | FILE.yaml] --vary OPTION=VALUE,VALUE ... [options]
"""

import sys

from ssn_feat.cli import Command, run, run_one_of
from ssn_feat.evaluation.validation import fit_and_validate, sweep_and_validate
from ssn_feat.training.clips import FitClipsOptions, fit_clips
from ssn_feat.training.options import FitOptions
from ssn_feat.training.presets import PRESETS
from ssn_feat.training.sweep import SWEEP_PRESETS, SweepOptions

if __name__ == "__main__":
    if sys.argv[1:2] == ["sweep"]:
        del sys.argv[1]
        run(sweep_and_validate, SweepOptions, SWEEP_PRESETS)
    heads = Command(fit_and_validate, FitOptions, PRESETS)
    run_one_of("head", {"ssn": heads, "actionness": heads, "clips": Command(fit_clips, FitClipsOptions)}, default="ssn")
