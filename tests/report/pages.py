"""Made-up results for pages, in which whatever can have a name has a hostile one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ssn_feat.annotations import Dataset, Instance, Video, write_activitynet
from ssn_feat.proposals import Proposals
from ssn_feat.report.page import report
from ssn_feat.report.report_options import ReportOptions
from ssn_feat.results.detections import Detections

HOSTILE = (
    '</script><script>window.hacked = "script"</script>',
    "<img src=x onerror=\"window.hacked = 'image'\">",
    "\"'><svg onload=\"window.hacked='svg'\"> \u2028\u2029 & $\\alpha$",
    '<a href="javascript:window.hacked=1">jump</a>',
    "<!-- {{ 7 * 7 }} %{x} ]]>",
)
VIDEO = '<b>"v" & ö #1?\u2028'
DURATION = 6.0


def dataset_of(videos: int, labels: tuple[str, ...] = HOSTILE, seconds: float = 60.0) -> Dataset:
    """The first video has the hostile id, for which there is a file."""
    random = np.random.default_rng(0)
    made = []
    for number in range(videos):
        duration = DURATION if number == 0 else seconds
        starts = np.sort(random.uniform(0, duration - 2.5, 1 + number % 3))
        names = [labels[i] for i in random.integers(0, len(labels), len(starts))]
        instances = tuple(Instance(n, s, s + 2.0) for n, s in zip(names, starts.tolist(), strict=True))
        made.append(Video(VIDEO if number == 0 else f"v_{number:04d}", duration, "testing", instances))
    return Dataset.of("toy", made, labels)


def detections_of(dataset: Dataset, count: int, seed: int) -> Detections:
    random = np.random.default_rng(seed)
    found = {}
    for video in dataset.videos.values():
        true = [(i.start + 0.3, i.end - 0.1) for i in video.instances]
        starts = random.uniform(0, video.duration - 2, count - len(true))
        intervals = np.array([*true, *zip(starts, starts + random.uniform(0.5, 2, len(starts)), strict=True)])
        classes = [*dataset.classes(video).tolist(), *random.integers(0, len(dataset.labels), len(starts)).tolist()]
        scores = np.concatenate([np.full(len(true), 0.95), random.uniform(0, 0.5, len(starts))])
        found[video.id] = (intervals, classes, scores)
    return Detections.of(dataset.labels, found)


def proposals_of(dataset: Dataset, count: int) -> Proposals:
    random = np.random.default_rng(1)
    intervals, scores, actionness, spans = {}, {}, {}, {}
    for video in dataset.videos.values():
        starts = random.uniform(0, video.duration - 2, count)
        intervals[video.id] = np.stack([starts, starts + random.uniform(0.5, 2, count)], axis=1)
        scores[video.id] = random.random(count)
        edges = np.linspace(0, video.duration, 61)
        spans[video.id] = np.stack([edges[:-1], edges[1:]], axis=1)
        actionness[video.id] = random.random(60).astype(np.float32)
    return Proposals(intervals, scores, "tag", {}, actionness, spans)


def inputs_in(folder: Path, dataset: Dataset, count: int = 12) -> ReportOptions:
    """Two files of detections with hostile names, proposals, two runs."""
    folder.mkdir(parents=True, exist_ok=True)
    write_activitynet(dataset, folder / "truth.json")
    files = (folder / "<i>fused&.json", folder / 'r"gb.json')
    for seed, path in enumerate(files):
        detections_of(dataset, count, seed).write(path)
    proposals_of(dataset, count).save(folder / "tag.npz")
    for name in ("rgb", "<u>flow"):
        run = folder / "runs" / name
        run.mkdir(parents=True)
        records = [{"epoch": n, "loss": 1 / (n + 1), "accuracy": 0.1 * n, "<s>": 1.0} for n in range(5)]
        (run / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        (run / "summary.json").write_text(json.dumps({"head": "<em>ssn", "seconds": 1.5, "final": records[-1]}))
    return ReportOptions(
        inputs=(*files, folder / "tag.npz", folder / "runs"),
        annotations=str(folder / "truth.json"),
        out=folder / "report.html",
        bootstrap=20,
        quiet=True,
        title=HOSTILE[1],
    )


def hostile_page(folder: Path) -> ReportOptions:
    """The page of a few videos of which everything that can have a name has a hostile one; one has a file."""
    cv2 = pytest.importorskip("cv2")
    (folder / "videos").mkdir()
    plain = folder / "plain.webm"
    writer = cv2.VideoWriter(str(plain), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"VP80"), 10.0, (64, 48))
    for frame in range(int(10 * DURATION)):
        writer.write(np.full((48, 64, 3), 4 * frame, np.uint8))
    writer.release()
    plain.rename(folder / "videos" / f"{VIDEO}.webm")
    options = replace(inputs_in(folder, dataset_of(4)), videos=folder / "videos")
    report(options)
    return options
