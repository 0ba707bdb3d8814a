"""The whole chain on the toy data set: python bench/demo.py FOLDER.

Runs the commands that a user would type for own data and prints each; nothing here does more than call them. Running it
again goes on where it was interrupted.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ssn_feat.cli import Command, run
from ssn_feat.drawing.tables import show, table_of

ROOT = Path(__file__).resolve().parent.parent
APPEARANCE, MOTION = ("checkered", "ringed", "striped"), ("pulsing", "shaking", "spinning")
NETWORK = "--backbone efficientnet_lite0 --crop 112"
DATA = "--store {0}/features.zarr --annotations {0}/toy/annotations.json"
FIT = "train/fit.py head"
SMALL = f"small {DATA} --resume"

STEPS = (
    ("untrimmed videos with known actions", "bench/toy.py {0}/toy"),
    (
        "a network for optical flow, from ImageNet weights and trimmed training instances",
        f"train/fit.py backbone --videos {{0}}/toy/videos --annotations {{0}}/toy/annotations.json --stream flow "
        f"{NETWORK} --steps 320 --batch 12 --segments 2 --out {{0}}/runs/flow-network --resume",
    ),
    (
        "features of every snippet: pixels are not needed after this",
        f"extract/run.py {{0}}/toy/videos {{0}}/features.zarr --annotations {{0}}/toy/annotations.json {NETWORK} "
        "--weights flow={0}/runs/flow-network/backbone.pt --stride 8",
    ),
    *(
        (
            f"actionness from {stream}",
            f"{FIT} actionness {SMALL} --streams {stream} --out {{0}}/runs/actionness-{stream}",
        )
        for stream in ("rgb", "flow")
    ),
    (
        "proposals: actionness grouped (TAG)",
        "train/propose.py --store {0}/features.zarr --actionness {0}/runs/actionness-rgb {0}/runs/actionness-flow "
        "--out {0}/tag.npz",
    ),
    ("SSN on RGB", f"{FIT} ssn {SMALL} --streams rgb --proposals {{0}}/tag.npz --out {{0}}/runs/rgb"),
    ("SSN on flow", f"{FIT} ssn {SMALL} --streams flow --proposals {{0}}/tag.npz --out {{0}}/runs/flow"),
    *(
        (
            f"detections of {name}{', and a folder of all that made them' if more else ''}",
            "train/detect.py store --store {0}/features.zarr --annotations {0}/toy/annotations.json --subset testing "
            f"--proposals {{0}}/tag.npz --checkpoint {runs} --scoring all --out {{0}}/{name}.json --quiet{more}",
        )
        for name, runs, more in (
            ("rgb", "{0}/runs/rgb", ""),
            ("flow", "{0}/runs/flow", ""),
            ("fused", "{0}/runs/rgb {0}/runs/flow", " --save-model {0}/model"),
        )
    ),
    (
        "how good the proposals are",
        "bench/proposals.py {0}/tag.npz --annotations {0}/toy/annotations.json --subset testing --out {0}/proposals",
    ),
    (
        "how good the detections are, and a picture of them",
        "bench/detections.py {0}/fused.json {0}/rgb.json {0}/flow.json --annotations {0}/toy/annotations.json "
        "--subset testing --per-class --json {0}/detections.json --proposals {0}/tag.npz --picture {0}/timelines.png "
        "--videos toy_0024 toy_0027",
    ),
    (
        "all of it as a page, which plays the videos too",
        "bench/report.py {0}/fused.json {0}/rgb.json {0}/flow.json {0}/tag.npz {0}/runs "
        "--annotations {0}/toy/annotations.json --subset testing --videos {0}/toy/videos --out {0}/report.html",
    ),
    (
        "another video, of which no part of the model has seen anything",
        "bench/toy.py {0}/unseen --videos 2 --seed 7 --longest 25",
    ),
    (
        "the actions in it, from its file alone",
        "train/detect.py video {0}/unseen/videos/toy_0001.webm --model {0}/model --out {0}/unseen.json",
    ),
)


@dataclass(frozen=True)
class DemoOptions:
    """Where the demonstration works."""

    folder: Annotated[Path, tyro.conf.Positional] = Path("demo")
    """Folder for all that it makes."""


def demo(options: DemoOptions) -> int:
    """Run the whole chain on the toy data set, from videos to detections and a picture."""
    began = time.perf_counter()
    for number, (what, template) in enumerate(STEPS, start=1):
        command = template.format(shlex.quote(str(options.folder)))
        print(f"\n[{number}/{len(STEPS)}] {what}\n$ python {command}", flush=True)
        done = subprocess.run([sys.executable, *shlex.split(command)], cwd=ROOT, check=False)
        if done.returncode:
            print(f"this step ended with exit code {done.returncode}", file=sys.stderr)
            return done.returncode
    summary(options.folder)
    seconds = time.perf_counter() - began
    print(f"\n{seconds:.0f} s; to look at, in {options.folder}: report.html, timelines.png, unseen.png")
    return 0


def summary(folder: Path) -> None:
    """The demonstration in one table, from what the last command wrote."""
    measured = json.loads((folder / "detections.json").read_text())
    at = measured["tiou"].index(0.5)
    table = table_of("mAP@0.5", "all classes", "told by appearance", "told by motion")
    for file in measured["files"]:
        means = [sum(file["AP"][c][at] for c in classes) / len(classes) for classes in (APPEARANCE, MOTION)]
        table.add_row(file["name"], *(f"{value:.3f}" for value in (file["mAP"][at], *means)))
    print()
    show(table)


if __name__ == "__main__":
    run(Command(demo, DemoOptions))
