"""The truth of SSN proposal lists as annotations in seconds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ssn_feat.annotations import Dataset, Instance, Video, read_annotations, write_activitynet
from ssn_feat.annotations.dialects import load_records
from ssn_feat.annotations.records import faults
from ssn_feat.errors import UserError

NORMALISED = "# 0\nv_a\n1\n1\n2\n3 0.1 0.5\n12 0.5 1.0\n0\n# 1\nframes/v_b\n1\n1\n0\n1\n0 0 0 0.1 0.2\n"
FRAMES = "# 0\na\n100\n2\n1\n3 20 100\n0\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "list.txt").write_text(NORMALISED)
    (tmp_path / "frames.txt").write_text(FRAMES)
    (tmp_path / "seconds.json").write_text('{"a": 20.0, "b": 5}')
    videos = [Video("a", 20.0, "testing", (Instance("x", 1, 2),)), Video("b", 5.0, "testing")]
    write_activitynet(Dataset.of("toy", videos), tmp_path / "truth.json")
    return tmp_path


def test_shares_and_frames_become_seconds(folder: Path) -> None:
    for durations, subset in (("seconds.json", "unnamed"), ("truth.json", "testing")):
        made = read_annotations(f"ssn-list:{folder}/list.txt@{folder / durations}")
        assert made.labels == ("class 03", "class 12")
        assert made.videos["a"].instances == (Instance("class 03", 2.0, 10.0), Instance("class 12", 10.0, 20.0))
        assert (made.videos["b"].instances, made.videos["b"].duration) == ((), 5.0)
        assert made.subsets == (subset,)
    framed = read_annotations(f"ssn-list:{folder}/frames.txt@{folder}/seconds.json")
    assert framed.videos["a"].instances == (Instance("class 3", 2.0, 10.0),)


def test_real_lists_have_the_truth_of_the_annotations(shared: Path) -> None:
    truth = f"thumos14:{shared}/data/annotations/thumos14"
    path = shared / "data/proposals/thumos14_tag_test_normalized_proposal_list.from_ctap.txt"
    records, expected = load_records(f"ssn-list:{path}@{truth}"), read_annotations(truth)
    # Instances that start after the end of their video: the list cuts their ends to that.
    assert {problem.kind for problem in faults(records)} == {"reversed"}
    made = replace(records, instances=[i for i in records.instances if i.end >= i.start]).dataset()
    assert (len(made.videos), len(made.labels), made.subsets) == (213, 20, ("testing",))
    number = {label: f"class {n:02d}" for n, label in enumerate(expected.labels, start=1)}
    for id, video in made.videos.items():
        others = [i for i in expected.videos[id].instances if i.start <= video.duration]
        assert sorted(i.label for i in video.instances) == sorted(number[i.label] for i in others)
        np.testing.assert_allclose(
            np.sort([i.start for i in video.instances]),
            np.sort([i.start for i in others]),
            atol=0.2 + 2e-3 * video.duration,
        )


def test_an_instance_is_named_by_its_place_in_its_block(folder: Path) -> None:
    (folder / "list.txt").write_text(NORMALISED.replace("12 0.5 1.0", "12 0.5 0.4"))
    records = load_records(f"ssn-list:{folder}/list.txt@{folder}/seconds.json")
    assert [(p.kind, p.where) for p in faults(records)] == [("reversed", "block # 0, instance 2")]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{0}/list.txt", "holds no durations: write ssn-list:"),
        ("{0}/list.txt@{0}/absent.json", "absent.json"),
        ("{0}/absent.txt@{0}/seconds.json", "absent.txt"),
        ("{0}/list.txt@{0}/one.json", r"list\.txt: block # 1: the duration of video 'frames/v_b' is unknown"),
        ("{0}/list.txt@{0}/text.json", "text.json"),
        ("{0}/empty.txt@{0}/seconds.json", r"empty\.txt: block # 4: video 'a' has no length"),
    ],
)
def test_what_is_missing_is_named(folder: Path, spec: str, message: str) -> None:
    (folder / "one.json").write_text(json.dumps({"a": 1}))
    (folder / "text.json").write_text('{"a": "long"}')
    (folder / "empty.txt").write_text("# 4\na\n0\n1\n0\n0\n")
    with pytest.raises(UserError, match=message):
        read_annotations("ssn-list:" + spec.format(folder))
