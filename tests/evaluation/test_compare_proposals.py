"""bench/proposals.py: what it prints and writes, which formats it reads, and which faults it names."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from ssn_feat.annotations import Dataset, Instance, Video, read_annotations, write_activitynet
from ssn_feat.cli import Command, parse
from ssn_feat.errors import UserError
from ssn_feat.evaluation.average_recall import TIOU_GRIDS, counted_proposals, recall_at_tiou
from ssn_feat.evaluation.compare_options import CompareOptions
from ssn_feat.evaluation.compare_proposals import compare_proposals
from ssn_feat.evaluation.compared_methods import compared_methods, load_proposals
from ssn_feat.proposals import Proposals, VideoData, list_blocks, write_ssn_list
from ssn_feat.proposals.foreign import read_csv_folder, read_frame_list, read_proposal_json
from ssn_feat.store import create_store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Truth of eight videos and proposals that are the truth, shifted a little, with the actionness of the truth."""
    random = np.random.default_rng(0)
    edges = np.arange(0, 60.5, 0.5)
    spans = np.stack([edges[:-1], edges[1:]], axis=1)
    videos, intervals, actionness = [], {}, {}
    for number in range(8):
        starts = np.sort(random.choice(10, 3, replace=False)) * 6.0
        truth = np.stack([starts, starts + random.uniform(2, 5, 3)], axis=1)
        instances = tuple(Instance("run", s, e) for s, e in truth.tolist())
        videos.append(Video(f"v{number}", 60.0, "test", instances))
        intervals[f"v{number}"] = np.clip(truth + random.normal(0, 0.2, truth.shape), 0, 60)
        centres = spans.mean(axis=1)[:, None]
        inside = ((centres > truth[:, 0]) & (centres < truth[:, 1])).any(axis=1)
        actionness[f"v{number}"] = np.where(inside, 0.9, 0.1).astype(np.float32)
    write_activitynet(Dataset.of("toy", videos), tmp_path / "truth.json")
    scores = {id: np.zeros(len(rows)) for id, rows in intervals.items()}
    made = Proposals(intervals, scores, "tag", {}, actionness, dict.fromkeys(intervals, spans), "contrast")
    made.save(tmp_path / "tag.npz")
    return tmp_path


@pytest.fixture
def options(folder: Path) -> CompareOptions:
    methods = ("sliding", "sliding-ranked", "random", "oracle")
    truth = str(folder / "truth.json")
    return CompareOptions((folder / "tag.npz",), truth, subset="test", methods=methods, out=folder / "out")


def test_methods_come_out_in_their_order(options: CompareOptions, capsys) -> None:
    results = {result.name: result for result in compare_proposals(options)}
    assert list(results) == ["tag", "sliding", "sliding-ranked", "random", "oracle"]
    at = {name: result.curve.at(50) for name, result in results.items()}
    assert at["oracle"] == 1.0
    assert at["oracle"] > at["tag"] > at["sliding-ranked"] > at["sliding"] > at["random"]
    assert results["oracle"].recall.tolist() == [1.0] * 5
    assert [r.score for r in results.values()] == ["contrast", "random", "contrast", "random", "order"]
    assert results["tag"].per_video == 3.0
    printed = capsys.readouterr().out
    assert "8 of 8 videos have instances, 24 in total" in printed
    for heading in ("AR@50", "AR@100", "AUC", "R@0.5", "a video", "sliding: random"):
        assert heading in printed


def test_what_is_written_is_what_was_measured(options: CompareOptions) -> None:
    results = compare_proposals(options)
    with (options.out / "proposals.csv").open() as file:
        rows = list(csv.DictReader(file))
    records = json.loads((options.out / "proposals.json").read_text())["methods"]
    for result, row, record in zip(results, rows, records, strict=True):
        assert row["method"] == record["method"] == result.name
        assert float(row["AR@50"]) == pytest.approx(100 * result.curve.at(50))
        assert record["percent"]["AUC"] == pytest.approx(result.curve.auc)
        assert record["percent"]["R@0.7"] == pytest.approx(100 * result.recall[2])
        assert len(record["curve"]["average_recall"]) == 100
    assert (options.out / "proposals.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (options.out / "proposals.svg").read_text()
    page = ElementTree.fromstring((options.out / "proposals.html").read_text())
    assert next(page.iter("figcaption")).text == "recall in %; R@tIoU with 3 proposals per video"
    assert [row[0].text for row in page.find(".//table").iter("tr")][1:] == [result.name for result in results]


def test_groups_of_instances_and_time_are_told(options: CompareOptions, capsys) -> None:
    changed = replace(options, lengths=(3.5,), instances=(2, 3), methods=("anchors", "oracle"))
    tagged, anchored, oracle = compare_proposals(changed)
    truth = read_annotations(options.annotations)
    lengths = np.concatenate([np.diff(video.intervals(), axis=1)[:, 0] for video in truth.videos.values()])
    assert oracle.by_length.names == ("<=3.5 s", ">3.5 s")
    assert oracle.by_length.instances.tolist() == [(lengths <= 3.5).sum(), (lengths > 3.5).sum()]
    assert oracle.by_length.recall.tolist() == [1.0, 1.0]
    assert oracle.by_number.instances.tolist() == [0, 24, 0]
    assert np.isnan(oracle.by_number.recall[[0, 2]]).all()
    assert tagged.by_number.recall[1] == pytest.approx(tagged.curve.average[-1])
    assert tagged.compute is None
    assert anchored.compute > 0
    printed = capsys.readouterr().out
    assert "by length of instances" in printed
    assert "ms per video" in printed
    record = json.loads((options.out / "proposals.json").read_text())["methods"][2]
    assert record["by_number"][0] == {"group": "1-2", "instances": 0, "average_recall": None}
    assert record["seconds_per_video"] == oracle.compute
    with (options.out / "proposals.csv").open() as file:
        row = list(csv.DictReader(file))[2]
    assert (row["AR <=3.5 s"], row["AR 3 in a video"], row["AR >3 in a video"]) == ("100.0", "100.0", "")


def test_methods_are_compared_at_the_same_number(options: CompareOptions, folder: Path, capsys) -> None:
    """The file has 3 proposals per video: the best 3 of sliding windows and of chance count, too."""
    truth = read_annotations(options.annotations)
    tagged, windows, chance, oracle = compare_proposals(replace(options, methods=("sliding", "random", "oracle")))
    assert [result.number for result in (tagged, windows, chance, oracle)] == [3.0] * 4
    for name, result in (("sliding", windows), ("random", chance)):
        (method,) = (m for m in compared_methods(truth, options) if m.name == name)
        assert result.recall.tolist() == recall_at_tiou(method.proposals, truth, options.tious, 3).tolist()
        assert result.average == pytest.approx(
            recall_at_tiou(method.proposals, truth, TIOU_GRIDS["activitynet"], 3).mean()
        )
    assert tagged.average == pytest.approx(tagged.curve.at(100))
    assert (chance.reference, oracle.reference, windows.reference) == ("random", "oracle", None)
    printed = capsys.readouterr().out
    assert "the best 3 proposals per video on average, which every method has" in printed
    assert "AR@3" in printed
    assert "by class" not in printed
    record = json.loads((options.out / "proposals.json").read_text())["methods"][1]
    assert record["counted_proposals_per_video"] == 3
    assert record["percent"]["AR@3"] == pytest.approx(100 * windows.average)


def test_a_number_or_all_proposals_on_request(options: CompareOptions) -> None:
    brief = replace(options, methods=("sliding", "random"), out=None)
    truth = read_annotations(options.annotations)
    (method,) = (m for m in compared_methods(truth, brief) if m.name == "sliding")
    for asked, number in (("all", None), (20, 20)):
        _, windows, chance = compare_proposals(replace(brief, recall_number=asked))
        assert windows.number == number
        assert windows.recall.tolist() == recall_at_tiou(method.proposals, truth, brief.tious, number).tolist()
    assert chance.per_video == 100


def test_a_share_of_each_list_counts_or_the_same_number(folder: Path) -> None:
    made = Proposals({"v0": [(0, n + 1) for n in range(10)], "v1": [(0, 1)] * 2}, {"v0": range(10), "v1": [0, 1]}, "x")
    dataset = read_annotations(folder / "truth.json").only(["v0", "v1"])
    assert counted_proposals(made, dataset, 3, "average").tolist() == [5, 1]
    assert counted_proposals(made, dataset, 3, "fixed").tolist() == [3, 2]
    assert counted_proposals(made, dataset, 6, "average").tolist() == [10, 2]
    assert counted_proposals(made, dataset, None, "fixed").tolist() == [10, 2]


def test_average_recall_of_classes(tmp_path: Path, capsys) -> None:
    """By hand: an instance of each class is found exactly, one of b not at all, c has none."""
    videos = [Video("v", 20.0, "test", (Instance("a", 0, 4), Instance("b", 6, 8), Instance("b", 10, 11)))]
    write_activitynet(Dataset.of("toy", videos, ("a", "b", "c")), tmp_path / "truth.json")
    Proposals({"v": [(0, 4), (6, 8)]}, {"v": [1, 0]}, "x").save(tmp_path / "x.npz")
    options = CompareOptions((tmp_path / "x.npz",), str(tmp_path / "truth.json"), methods=(), per_class=True)
    (result,) = compare_proposals(options)
    assert (result.by_class.names, result.by_class.instances.tolist()) == (("a", "b"), [1, 2])
    assert result.by_class.recall.tolist() == [1.0, 0.5]
    assert "by class" in capsys.readouterr().out


def test_ambiguous_instances_do_not_count(tmp_path: Path) -> None:
    videos = [Video("v", 20.0, "test", (Instance("run", 0, 4), Instance("Ambiguous", 6, 8)))]
    write_activitynet(Dataset.of("toy", videos), tmp_path / "truth.json")
    Proposals({"v": [(0, 4)]}, {"v": [1]}, "x").save(tmp_path / "x.npz")
    options = CompareOptions((tmp_path / "x.npz",), str(tmp_path / "truth.json"), methods=())
    assert compare_proposals(options)[0].recall.tolist() == [1.0] * 5
    assert compare_proposals(replace(options, ambiguous="no label"))[0].recall.tolist() == [0.5] * 5


def test_a_protocol_and_what_is_missing_are_told(options: CompareOptions, folder: Path, capsys) -> None:
    made = Proposals.load(folder / "tag.npz")
    made.only(made.ids[:6]).save(folder / "part.npz")
    changed = replace(options, subset=None, protocol="testing", files=(folder / "part.npz",), methods=("oracle",))
    compare_proposals(changed)
    printed = capsys.readouterr().out
    assert "protocol testing: 8 videos with truth, 24 instances, subset testing" in printed
    assert "part: proposals of 6 of 8 videos; 6 of 24 instances cannot be found" in printed
    said = json.loads((options.out / "proposals.json").read_text())["said"]
    assert said[0].startswith("protocol testing")


def the_first_half(video: VideoData) -> list[tuple[float, float]]:
    """A method of one's own."""
    return [(0.0, video.duration / 2)]


def inside_actionness(video: VideoData) -> tuple[np.ndarray, np.ndarray]:
    return video.spans, video.actionness


def nothing(video: VideoData) -> list[tuple[float, float]]:
    return []


def test_methods_of_ones_own(options: CompareOptions) -> None:
    names = tuple(f"{__name__}:{function.__name__}" for function in (the_first_half, inside_actionness))
    results = compare_proposals(replace(options, methods=(*names, "tag", "anchors-ranked")))
    assert [r.name for r in results] == ["tag.npz", "the_first_half", "inside_actionness", "tag", "anchors-ranked"]
    assert [r.per_video for r in results[1:3]] == [1.0, 120.0]
    assert results[3].curve.at(50) > results[4].curve.at(50) > results[1].curve.at(50)
    for method, message in (
        ("learned", "unknown method 'learned': choose from sliding"),
        ("absent_module:f", "cannot load the method absent_module:f: .* PYTHONPATH"),
        (f"{__name__}:absent", "cannot load the method"),
        (f"{__name__}:__name__", "is not a function"),
        (f"{__name__}:nothing", "nothing proposes nothing"),
    ):
        with pytest.raises(UserError, match=message):
            compare_proposals(replace(options, methods=(method,)))


def test_runs_and_features_of_a_store(options: CompareOptions, folder: Path, monkeypatch) -> None:
    """Actionness of two runs: each is grouped, and both together; a method of one's own is given the features."""
    store = create_store(folder / "s.zarr", {"backbone": "x"}, "toy")
    made = Proposals.load(folder / "tag.npz")
    for id in made.ids[:7]:
        logits = np.log(made.actionness[id] / (1 - made.actionness[id]))
        store.write(id, {"rgb": np.stack([0 * logits, logits], axis=1)}, made.spans[id], {"duration": 60.0})

    class Seen:
        streams = ("rgb",)

    monkeypatch.setattr("ssn_feat.evaluation.compared_methods.actionness_run", lambda path, store: Seen())
    scored = []

    def score(run: Seen, features: dict) -> np.ndarray:
        scored.append(run)
        return features["rgb"]

    monkeypatch.setattr("ssn_feat.runs.checkpoints.actionness_scores", score)
    runs = (Path("runs/a"), Path("runs/b"))
    own = f"{__name__}:of_features"
    changed = replace(options, files=(), store=store.path, actionness=runs, methods=("tag", "sliding-ranked", own))
    results = compare_proposals(changed)
    assert [r.name for r in results] == ["tag a", "tag b", "tag fused", "sliding-ranked", "of_features"]
    assert len({r.curve.auc for r in results[:3]}) == 1
    assert len(scored) == 7 * 2
    assert all(r.curve.lacking == 1 for r in results)


def of_features(video: VideoData) -> tuple[np.ndarray, np.ndarray]:
    assert len(video.spans) == len(video.actionness)
    return video.spans, video.features["rgb"][:, 1]


def test_few_and_many_proposals_are_told_at_once(options: CompareOptions, capsys) -> None:
    changed = replace(options, methods=("oracle",), numbers=(1, 5, 1000), maximum=1000)
    _, oracle = compare_proposals(changed)
    assert [oracle.curve.at(n) for n in (1, 5, 1000)] == pytest.approx([1 / 3, 1, 1])
    assert "AR@1000" in capsys.readouterr().out


def test_the_seed_decides(options: CompareOptions) -> None:
    brief = replace(options, methods=("sliding", "random"), out=None)
    first, same, other = (compare_proposals(replace(brief, seed=seed)) for seed in (1, 1, 2))
    assert [r.curve.auc for r in first] == [r.curve.auc for r in same]
    assert [r.curve.auc for r in first] != [r.curve.auc for r in other]


def test_every_format_holds_the_same(folder: Path) -> None:
    dataset = read_annotations(folder / "truth.json")
    made = Proposals.load(folder / "tag.npz")
    write_ssn_list(list_blocks(made, dataset), folder / "list.txt", normalised=True)
    results = {
        id: [{"score": s, "segment": row} for s, row in zip(made.scores[id], rows.tolist(), strict=True)]
        for id, rows in made.intervals.items()
    }
    (folder / "p.json").write_text(json.dumps({"version": "x", "results": results}))
    (folder / "bmn").mkdir()
    for id, rows in made.intervals.items():
        table = "".join(f"{s / 60},{e / 60},0.5,0.5,{n}\n" for n, (s, e) in enumerate(rows.tolist()))
        (folder / "bmn" / f"v_{id}.csv").write_text(f"xmin,xmax,clr_score,reg_socre,score\n{table}")
    lines = [f"{id} {s * 100:.0f} {e * 100:.0f} 0.5\n" for id, rows in made.intervals.items() for s, e in rows]
    (folder / "frames.txt").write_text("".join(lines))
    (folder / "fps.json").write_text(json.dumps(dict.fromkeys(made.ids, 100.0)))
    expected = recall_at_tiou(made, dataset, [0.5, 0.6])
    for name in ("list.txt", "p.json", "bmn", "frames.txt"):
        read = load_proposals(folder / name, dataset, folder / "fps.json")
        for id in made.ids:
            np.testing.assert_allclose(read.intervals[id], made.intervals[id], atol=6e-3)
        np.testing.assert_allclose(recall_at_tiou(read, dataset, [0.5, 0.6]), expected)


def test_a_list_is_told_by_how_it_begins(folder: Path) -> None:
    dataset, rates = read_annotations(folder / "truth.json"), folder / "fps.json"
    (folder / "frames.txt").write_text("\nv0 1 2\nv0 3 4\n")
    with pytest.raises(UserError, match="add --fps"):
        load_proposals(folder / "frames.txt", dataset)
    for content in ("[]", "{}", "{", '{"v0": "fast"}', '{"v0": Infinity}'):
        rates.write_text(content)
        with pytest.raises(UserError, match=r"fps\.json must be a JSON object of frames per second"):
            load_proposals(folder / "frames.txt", dataset, rates)
    rates.write_text('{"v0": 2}')
    read = load_proposals(folder / "frames.txt", dataset, rates)
    assert (read.score, read.scores["v0"].tolist()) == ("order", [0, -1])
    (folder / "frames.txt").write_text("\n")
    with pytest.raises(UserError, match="is empty"):
        load_proposals(folder / "frames.txt", dataset, rates)
    with pytest.raises(UserError, match="cannot read proposals from absent"):
        load_proposals(Path("absent.txt"), dataset)


def test_a_csv_folder_ranks_by_what_it_holds(tmp_path: Path) -> None:
    for name, text in {
        "v_a": "xmin,xmax,xmin_score,xmax_score,iou_score\n0.5,1.0,0.5,0.5,0.8\n0,0.5,1,1,1\n",
        "b": "xmin,xmax\n0,1\n0.25,0.5\n",
        "c": "tmin,tmax,tmin_score,tmax_score,score,match_iou,match_ioa\n0.25,0.5,0.9,0.9,0.3,0,0\n",
        "elsewhere": "not read",
    }.items():
        (tmp_path / f"{name}.csv").write_text(text)
    made = read_csv_folder(tmp_path, {"a": 10.0, "b": 4.0, "c": 8.0})
    assert made.intervals["a"].tolist() == [[5, 10], [0, 5]]
    assert made.scores["a"].tolist() == pytest.approx([0.2, 1.0])
    assert (made.intervals["b"].tolist(), made.scores["b"].tolist()) == ([[0, 4], [1, 2]], [0, -1])
    assert (made.intervals["c"].tolist(), made.scores["c"].tolist()) == ([[2, 4]], [0.3])
    assert (made.score, made.parameters["unknown_videos"]) == ("score or order", 1)
    (tmp_path / "a.csv").write_text("xmin,xmax\n0,1\n")
    with pytest.raises(UserError, match=r"v_a\.csv is of video 'a', as is another file"):
        read_csv_folder(tmp_path, {"a": 10.0, "b": 4.0})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"a\.csv, line 1: expected columns xmin and xmax, or tmin and tmax, found none"),
        ("xmin,score\n", "found xmin, score"),
        ("xmin,xmax\n0,1\n0\n", "line 3: expected numbers, not '0,'"),
        ("xmin,xmax,score\n0,1,nan\n", "line 2: expected numbers"),
        ("xmin,xmax\n1,0\n", "line 2: xmax 0 lies before xmin 1"),
    ],
)
def test_malformed_csv_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_csv_folder(tmp_path, {"a": 1.0})
    with pytest.raises(UserError, match=r"none of 1 files, such as a\.csv"):
        read_csv_folder(tmp_path, {"b": 1.0})


def test_the_command_line(folder: Path) -> None:
    arguments = [str(folder / "tag.npz"), "--annotations", "truth.json", "--methods", "oracle", "--overlap", "0.5"]
    options = parse(Command(compare_proposals, CompareOptions), arguments)
    assert options.files == (folder / "tag.npz",)
    assert (options.methods, options.sliding.overlap) == (("oracle",), 0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": (), "methods": ()}, "nothing to compare"),
        ({"numbers": (200,)}, "1 to --maximum 100, not"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"methods": ("oracle", "oracle")}, "named twice"),
        ({"tious": (0.0,)}, "tIoU thresholds"),
        ({"recall_number": 0}, "recall_number"),
        ({"subset": "training"}, "no subset 'training'"),
        ({"files": (Path("absent.npz"),)}, "absent.npz"),
        ({"files": (Path("p.csv"),)}, "unknown format of p.csv"),
        ({"files": (), "methods": ("sliding-ranked",)}, "a file of proposals that holds it"),
        ({"protocol": "testing"}, "leave out --subset"),
        ({"subset": None, "protocol": "thumos15"}, "no protocol 'thumos15'"),
        ({"lengths": (3.0, 1.0)}, "must be ascending"),
        ({"actionness": (Path("run"),)}, "add --store"),
        ({"store": Path("s"), "actionness": (Path("a/run"), Path("b/run"))}, "must have different names"),
    ],
)
def test_bad_requests_are_named(options: CompareOptions, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        compare_proposals(replace(options, **changes))


def test_empty_and_unrelated_proposals_are_named(options: CompareOptions, folder: Path) -> None:
    for intervals, message in (
        ({"v0": []}, r"x\.npz holds no proposal"),
        ({"w": [(0, 1)]}, "x: none of the 8 videos"),
    ):
        Proposals(intervals, {id: np.zeros(len(rows)) for id, rows in intervals.items()}, "x").save(folder / "x.npz")
        with pytest.raises(UserError, match=message):
            compare_proposals(replace(options, files=(folder / "x.npz",)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "no 'results'"),
        ('{"results": {"a": {}}}', r"results\['a'\]: expected a list"),
        ('{"results": {"a": [{"score": 1}]}}', r"results\['a'\]\[0\]: expected"),
        ('{"results": {"a": [{"score": 1, "segment": [2, 1]}]}}', "proposals of 'a': row 0"),
        ('{"results": {"a": [{"score": NaN, "segment": [1, 2]}]}}', "not a number"),
        (f'{{"results": {{"a": [{{"score": 1, "segment": [1, {10**400}]}}]}}}}', r"results\['a'\]\[0\]: expected"),
    ],
)
def test_malformed_json_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(UserError, match=message) as error:
        read_proposal_json(tmp_path / "p.json")
    assert str(tmp_path / "p.json") in str(error.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a 1", "line 2: expected"),
        ("a 1 nan", "line 2: expected"),
        ("b 1 2", "line 2: the frames per second of video 'b'"),
        ("a 1 2 0.5", "line 2: a score, unlike the lines before it"),
    ],
)
def test_malformed_frames_are_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "p.txt").write_text(f"a 1 2\n{line}\n")
    with pytest.raises(UserError, match=message):
        read_frame_list(tmp_path / "p.txt", {"a": 25.0})


def test_instances_after_the_end_of_their_videos_are_refused(options: CompareOptions, folder: Path) -> None:
    text = (folder / "truth.json").read_text()
    (folder / "truth.json").write_text(text.replace('"duration": 60.0', '"duration": 2.4'))
    with pytest.raises(
        UserError, match=r"24 of 24 intervals in the annotations .* are outside their video in the same"
    ):
        compare_proposals(options)
