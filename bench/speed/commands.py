"""The parts that ``python -m bench.speed`` measures, by name."""

from __future__ import annotations

from typing import NoReturn

from bench.speed.detect import DetectSpeedOptions, measure_detect
from bench.speed.end_to_end import EndToEndSpeedOptions, measure_end_to_end
from bench.speed.extract import ExtractSpeedOptions, measure_extract
from bench.speed.fit import FitSpeedOptions, measure_fit
from bench.speed.proposals import SpeedOptions, measure_proposals
from bench.speed.scale import ScaleOptions, print_scale
from ssn_feat.cli import Command, Group, run

PARTS = {
    "detect": Command(measure_detect, DetectSpeedOptions),
    "end-to-end": Command(measure_end_to_end, EndToEndSpeedOptions),
    "extract": Command(measure_extract, ExtractSpeedOptions),
    "fit": Command(measure_fit, FitSpeedOptions),
    "proposals": Command(measure_proposals, SpeedOptions),
    "scale": Command(print_scale, ScaleOptions, common=("hours", "video_seconds", "fps", "stride", "widths")),
}


def main() -> NoReturn:
    """Measure the part that the first argument names."""
    run(Group("Measure how fast the parts of the program are.", PARTS), "python -m bench.speed")


__all__ = ["PARTS", "main"]
