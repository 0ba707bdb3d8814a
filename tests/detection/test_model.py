"""A model folder: what it finds in a video file is what the chain finds in the same video in a store."""

from __future__ import annotations

import re
import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

sys.path.append(str(ROOT / "tests" / "extraction"))

from extraction.small import options as extract_options
from extraction.small import pictures
from extraction.small import write as write_video
from training.synthetic_store import quick

from ssn_feat.annotations import Dataset, Instance, Video, write_activitynet
from ssn_feat.detection.detect_store import DetectOptions, detect
from ssn_feat.detection.detect_video import DetectVideoOptions, detect_video
from ssn_feat.detection.model import Model
from ssn_feat.detection.model_folder import save_model
from ssn_feat.detection.postprocess import PRESETS
from ssn_feat.errors import UserError
from ssn_feat.extraction import extract
from ssn_feat.proposals import Proposals, TagOptions, sliding_windows
from ssn_feat.proposals.propose import ProposeOptions, propose
from ssn_feat.results.detections import Detections
from ssn_feat.results.operating_point import OperatingPoint
from ssn_feat.sampling.pools import PoolOptions
from ssn_feat.store import create_store, open_store
from ssn_feat.training.fit import fit
from ssn_feat.training.fit_options import ActionnessOptions, FitOptions

TINY = ("tiny:net",)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> DetectOptions:
    """Videos of noise with a dark second in each, extracted, learned and proposed; options to detect with."""
    folder = tmp_path_factory.mktemp("chain")
    (folder / "videos").mkdir()
    made = []
    for number in range(4):
        images = pictures(75, seed=number)
        for at in range(25, 50):
            images[at] = images[at] // 4
        write_video(folder / "videos" / f"v{number}.avi", images)
        made.append(Video(f"v{number}", 3.0, "training", (Instance("dark", 1.0, 2.0), Instance("late", 2.2, 2.9))))
    write_activitynet(Dataset.of("noise", made), folder / "truth.json")
    extract(extract_options(folder / "videos", folder / "s.zarr", streams=("rgb", "flow"), short_side=40, crop=32))
    given = {
        "store": folder / "s.zarr",
        "annotations": str(folder / "truth.json"),
        "streams": ("rgb",),
        "device": "cpu",
        "quiet": True,
        "optimisation": quick(epochs=2, batch_videos=4),
        "actionness": ActionnessOptions(action_rows=2, background_rows=2),
        "pools": PoolOptions(background_coverage=0.0),
    }
    fit(FitOptions(**given, head="actionness", out=folder / "actionness"))
    tagged = ProposeOptions(
        folder / "s.zarr",
        folder / "tag.npz",
        actionness=(folder / "actionness",),
        tag=TagOptions(smoothing=1.0, tag_score="mean"),
        quiet=True,
    )
    propose(tagged)
    windows = np.asarray(sliding_windows(3.0))
    several = {video.id: np.concatenate([windows, [[1.0, 2.0], [1.1, 1.4]]]) for video in made}
    Proposals(several, {v: np.zeros(len(i)) for v, i in several.items()}, "sliding").save(folder / "windows.npz")
    for stream in ("rgb", "flow"):
        ssn = FitOptions(**given | {"streams": (stream,)}, proposals=folder / "windows.npz", out=folder / stream)
        fit(ssn)
    return DetectOptions(
        store=folder / "s.zarr",
        proposals=folder / "tag.npz",
        checkpoint=(folder / "rgb", folder / "flow"),
        weights=(1.0, 2.0),
        out=folder / "detections.json",
        save_model=folder / "model",
        trust_modules=TINY,
        quiet=True,
        postprocess=replace(PRESETS["thumos14"], nms_threshold=0.5),
    )


@pytest.fixture(scope="module")
def stored(chain: DetectOptions) -> Detections:
    return detect(chain)


def test_a_file_gives_what_the_store_gave(chain: DetectOptions, stored: Detections, tmp_path: Path) -> None:
    assert chain.store is not None
    moved = shutil.copytree(chain.store.parent / "model", tmp_path / "elsewhere")
    video = chain.store.parent / "videos" / "v2.avi"
    found = detect_video(
        DetectVideoOptions(
            video,
            moved,
            out=tmp_path / "d.json",
            picture=tmp_path / "p.svg",
            device="cpu",
            quiet=True,
            trust_modules=TINY,
        )
    )
    own, expected = Detections.read(tmp_path / "d.json", stored.labels)["v2"], stored["v2"]
    assert len(own.scores) > 0
    np.testing.assert_array_equal(own.classes, expected.classes)
    np.testing.assert_allclose(own.scores, expected.scores, rtol=1e-5)
    np.testing.assert_allclose(own.intervals, expected.intervals, atol=1e-5)
    assert found.video.duration == pytest.approx(3.0)
    assert len(found.actionness) == len(found.spans)
    assert (tmp_path / "p.svg").stat().st_size > 1000


def test_a_model_proposes_as_many_as_its_proposals_were(
    chain: DetectOptions, stored: Detections, tmp_path: Path
) -> None:
    assert chain.store is not None
    folder = chain.store.parent
    store, tagged = open_store(chain.store), Proposals.load(folder / "tag.npz")
    levels = tuple(np.linspace(0.3, 0.7, 41).tolist())
    found = []
    for number in (None, 2):
        made = {**tagged.parameters, "number": number, "smoothing": 0.0, "tag_nms": 1.0, "thresholds": levels}
        save_model(tmp_path / "model", store, replace(tagged, parameters=made), chain.checkpoint, trusted=TINY)
        found.append(Model.load(tmp_path / "model", "cpu", TINY).detect(folder / "videos" / "v2.avi").intervals)
    assert len(found[0]) > 2
    np.testing.assert_array_equal(found[0][:2], found[1])


def test_the_script_prints_what_it_found(
    chain: DetectOptions,
    stored: Detections,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
) -> None:
    assert chain.store is not None
    folder = chain.store.parent
    monkeypatch.chdir(tmp_path)
    arguments = [str(folder / "videos" / "v1.avi"), "--model", str(folder / "model"), "--shown", "2"]
    arguments += ["--trust-modules", *TINY]
    monkeypatch.setattr(sys, "argv", ["train/detect.py", "video", *arguments])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / "train" / "detect.py"), run_name="__main__")
    assert stopped.value.code == 0
    out, err = capfd.readouterr()
    said = out.splitlines()
    # All snippets that were announced have been looked at.
    [(done, total)] = re.findall(r"(\d+)/(\d+)", err)
    assert done == total
    assert said[0].split() == ["class", "start", "end", "score"]
    assert said[1].split()[0] in stored.labels
    assert said[3].startswith(f"{len(stored['v1'].scores)} detections from")
    assert {path.name for path in tmp_path.iterdir()} == {"v1.detections.json", "v1.detections.png"}
    # The same from a file of options.
    for saved in (["--save-config", "one.yaml"], None):
        monkeypatch.setattr(
            sys, "argv", ["train/detect.py", "video", *([*arguments, *saved] if saved else ["one.yaml"])]
        )
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(ROOT / "train" / "detect.py"), run_name="__main__")
        assert stopped.value.code == 0
    assert capfd.readouterr().out.splitlines()[:4] == said[:4]


def test_a_model_with_an_operating_point_gives_a_clean_list(
    chain: DetectOptions, stored: Detections, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chain.store is not None
    model = shutil.copytree(chain.store.parent / "model", tmp_path / "model")
    every = stored["v2"]
    cut = float(np.median(every.scores[every.classes == 0]))
    point = OperatingPoint({"dark": cut, "late": None}, "best F1", 0.5, "4 videos")
    point.save(model)
    assert OperatingPoint.load(model) == point
    video = DetectVideoOptions(
        *(chain.store.parent / "videos" / "v2.avi", model),
        out=tmp_path / "d.json",
        picture=tmp_path / "p.svg",
        device="cpu",
        trust_modules=TINY,
    )
    clean = detect_video(video)
    wanted = (every.classes == 0) & (every.scores >= cut)
    np.testing.assert_array_equal(clean.detections["v2"].scores, every.scores[wanted])
    assert clean.dropped == len(every.scores) - wanted.sum() > 0
    told = capsys.readouterr().out
    assert f"left out: {clean.dropped} detection" in told
    np.testing.assert_array_equal(Detections.read(video.out)["v2"].scores, every.scores[wanted])
    everything = detect_video(replace(video, all=True, quiet=True))
    np.testing.assert_array_equal(everything.detections["v2"].scores, every.scores)
    # Made again with the point, the model keeps it; without, it is removed with a note.
    again = replace(chain, save_model=model, out=tmp_path / "store.json", quiet=False)
    kept = detect(replace(again, operating_point=model))
    assert OperatingPoint.load(model) == point
    np.testing.assert_array_equal(kept["v2"].scores, every.scores[wanted])
    assert f"{len(kept.scores)} of {len(stored.scores)} detections are kept: best F1" in capsys.readouterr().out
    detect(again)
    assert "choose an operating point again" in capsys.readouterr().out
    assert Model.load(model, trusted=TINY).operating_point is None
    replace(point, thresholds={"dark": cut}).save(model)
    with pytest.raises(UserError, match="no threshold for 1 classes such as 'late'"):
        Model.load(model, trusted=TINY)
    (model / "operating-point.json").write_text("{}")
    with pytest.raises(UserError, match="is damaged or was changed"):
        Model.load(model, trusted=TINY)


def test_a_model_is_replaced_and_nothing_else_is(chain: DetectOptions, stored: Detections, tmp_path: Path) -> None:
    assert chain.store is not None
    model = shutil.copytree(chain.store.parent / "model", tmp_path / "model")
    store, proposals = open_store(chain.store), Proposals.load(chain.store.parent / "tag.npz")
    save_model(model, store, proposals, chain.checkpoint[:1], trusted=TINY)
    assert sorted(path.name for path in model.iterdir()) == ["actionness-1", "hashes.json", "model.yaml", "ssn-1"]
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").touch()
    with pytest.raises(UserError, match="precious exists and is not a model folder"):
        save_model(tmp_path / "precious", store, proposals, chain.checkpoint)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "precious"]


def test_what_makes_no_model_is_said_before_the_work(chain: DetectOptions, stored: Detections, tmp_path: Path) -> None:
    assert chain.store is not None
    options = replace(
        chain, proposals=chain.store.parent / "windows.npz", out=tmp_path / "d.json", save_model=tmp_path / "m"
    )
    with pytest.raises(UserError, match="of method 'sliding'"):
        detect(options)
    assert list(tmp_path.iterdir()) == []
    # Runs that do not fit leave the model that there is.
    model = shutil.copytree(chain.store.parent / "model", tmp_path / "m")
    before = (model / "model.yaml").read_bytes()
    with pytest.raises(UserError, match="needs runs of the ssn head"):
        detect(replace(options, proposals=chain.proposals, checkpoint=(chain.store.parent / "actionness",), weights=()))
    assert (model / "model.yaml").read_bytes() == before


def test_pictures_are_checked_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"written as \.png, \.svg, \.pdf, not 'p\.bmp'"):
        DetectVideoOptions(tmp_path / "v.mp4", tmp_path, picture=tmp_path / "p.bmp")
    with pytest.raises(UserError, match=r"cannot both be .*v\.png"):
        DetectVideoOptions(tmp_path / "v.mp4", tmp_path, out=tmp_path / "v.png")


def test_modules_that_only_a_model_names_are_not_imported(
    chain: DetectOptions, stored: Detections, tmp_path: Path
) -> None:
    assert chain.store is not None
    video, refused = chain.store.parent / "videos" / "v2.avi", f"names {TINY[0]} as a backbone.*--trust-modules"
    with pytest.raises(UserError, match=refused):
        detect_video(DetectVideoOptions(video, chain.store.parent / "model", device="cpu", quiet=True))
    with pytest.raises(UserError, match=refused):
        detect(replace(chain, out=tmp_path / "d.json", save_model=tmp_path / "model", trust_modules=()))
    assert not list(tmp_path.iterdir())


def test_what_makes_no_model_is_refused(chain: DetectOptions, stored: Detections, tmp_path: Path) -> None:
    assert chain.store is not None
    store, folder = open_store(chain.store), chain.store.parent
    windows, tagged = Proposals.load(folder / "windows.npz"), Proposals.load(folder / "tag.npz")
    with pytest.raises(UserError, match="of method 'sliding'"):
        save_model(tmp_path / "m", store, windows, chain.checkpoint)
    with pytest.raises(UserError, match="no run at"):
        save_model(tmp_path / "m", store, tagged, [tmp_path / "gone"], trusted=TINY)
    moved = replace(tagged, parameters={**tagged.parameters, "runs": ["runs/actionness"]})
    with pytest.raises(UserError, match="made with the actionness run runs/actionness, which does not exist"):
        save_model(tmp_path / "m", store, moved, chain.checkpoint, trusted=TINY)
    classified = replace(PRESETS["thumos14"], classifier=tmp_path / "c.json")
    with pytest.raises(UserError, match="outside classifier"):
        save_model(tmp_path / "m", store, tagged, chain.checkpoint, options=classified)
    imported = create_store(tmp_path / "i.zarr", {"from": "elsewhere"}, "toy")
    with pytest.raises(UserError, match=r"holds features of another recipe: .*from is elsewhere there"):
        save_model(tmp_path / "m", imported, tagged, chain.checkpoint)
    assert not (tmp_path / "m").exists()


def test_a_folder_that_is_no_model_is_named(chain: DetectOptions, stored: Detections, tmp_path: Path) -> None:
    assert chain.store is not None
    with pytest.raises(UserError, match=r"is not a model folder: it has no model\.yaml"):
        Model.load(tmp_path)
    model = shutil.copytree(chain.store.parent / "model", tmp_path / "model")
    shutil.rmtree(model / "ssn-2")
    with pytest.raises(UserError, match="ssn-2"):
        Model.load(model)
    (model / "model.yaml").write_text("actionness: []\nssn: []\n")
    with pytest.raises(UserError, match=r"model\.yaml is damaged or was changed"):
        Model.load(model)
    (model / "hashes.json").unlink()
    with pytest.raises(UserError, match="must name at least one SSN run"):
        Model.load(model)


def test_a_video_that_is_missing_or_broken_is_named(chain: DetectOptions, stored: Detections, tmp_path: Path) -> None:
    assert chain.store is not None
    model = chain.store.parent / "model"
    with pytest.raises(UserError, match=r"no video .*nothing\.mp4"):
        detect_video(DetectVideoOptions(tmp_path / "nothing.mp4", model, quiet=True))
    (tmp_path / "broken.mp4").write_bytes(b"not a video at all" * 100)
    with pytest.raises(UserError, match=r"broken\.mp4"):
        detect_video(DetectVideoOptions(tmp_path / "broken.mp4", model, quiet=True))


@pytest.mark.parametrize("device", ["cuda:9", "abacus"])
def test_a_device_that_is_not_there_is_named(
    chain: DetectOptions, stored: Detections, device: str, tmp_path: Path
) -> None:
    assert chain.store is not None
    video, model = chain.store.parent / "videos" / "v2.avi", chain.store.parent / "model"
    options = DetectVideoOptions(video, model, device=device, out=tmp_path / "d.json", trust_modules=TINY, quiet=True)
    with pytest.raises(UserError, match=f"cannot use the device '{device}': ") as refused:
        detect_video(options)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_a_flipped_bit_in_any_file_of_a_model_is_named(
    chain: DetectOptions, stored: Detections, tmp_path: Path
) -> None:
    assert chain.store is not None
    model = shutil.copytree(chain.store.parent / "model", tmp_path / "model")
    files = [path for path in sorted(model.rglob("*")) if path.is_file()]
    assert len(files) >= 1 + 3 * 4  # the settings, and the files of three runs
    for path in files:
        whole = path.read_bytes()
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        with pytest.raises(UserError, match=rf"{re.escape(str(path))} is damaged"):
            Model.load(model, "cpu", TINY)
        path.write_bytes(whole)
    Model.load(model, "cpu", TINY)
