"""How fast parts of the package are on this machine: python bench/speed.py PART [options]."""

from ssn_feat.cli import Command, run_verb
from ssn_feat.speed.detect import DetectSpeedOptions, measure_detect
from ssn_feat.speed.end_to_end import EndToEndSpeedOptions, measure_end_to_end
from ssn_feat.speed.extract import ExtractSpeedOptions, measure_extract
from ssn_feat.speed.fit import FitSpeedOptions, measure_fit
from ssn_feat.speed.proposals import SpeedOptions, measure_proposals

if __name__ == "__main__":
    run_verb(
        {
            "detect": Command(measure_detect, DetectSpeedOptions),
            "end-to-end": Command(measure_end_to_end, EndToEndSpeedOptions),
            "extract": Command(measure_extract, ExtractSpeedOptions),
            "fit": Command(measure_fit, FitSpeedOptions),
            "proposals": Command(measure_proposals, SpeedOptions),
        }
    )
