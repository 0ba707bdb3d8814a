"""Training of head and backbone from pixels: the same draws and losses as from features, exact resumption, refusals."""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_films import BACKBONE, Films, brief, interrupt, same_weights, write_films

from ssn_feat.backbones import load_backbone
from ssn_feat.cli import load_yaml
from ssn_feat.errors import UserError
from ssn_feat.extraction import ExtractOptions, extract
from ssn_feat.finetuning.augmentation import AugmentationOptions
from ssn_feat.finetuning.distributed import Processes, processes
from ssn_feat.finetuning.end_to_end import EndToEndOptions, fit_end_to_end, prepare_end_to_end
from ssn_feat.finetuning.feature_network import TuningOptions
from ssn_feat.finetuning.pixel_training import PixelSteps
from ssn_feat.finetuning.pixels import PixelBatches, PixelOptions
from ssn_feat.heads.ssn import SSNOptions
from ssn_feat.runs.checkpoints import load_run, read_run_checkpoint
from ssn_feat.store import FeatureStore, create_store, open_store
from ssn_feat.training.fit import fit
from ssn_feat.video import SnippetOptions

STILL = PixelOptions(workers=0, variation=AugmentationOptions("none", mirror=False))
SURE = {"ssn": SSNOptions(dropout=0.0)}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Films:
    return write_films(tmp_path_factory.mktemp("films"))


def log(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def losses(folder: Path, count: int | None = None) -> np.ndarray:
    names = ("loss", "activity", "completeness", "regression", "accuracy")
    return np.array([[line[name] for name in names] for line in log(folder)[:count]])


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_losses_are_those_of_training_from_features(films: Films, tmp_path: Path, stream: str) -> None:
    """Without dropout and variation, and at a rate of 0 for the backbone, the head learns alike from both."""
    chosen = {"streams": (stream,), **SURE}
    fit(films.fit(tmp_path / "features", **chosen))
    fit_end_to_end(films.options(tmp_path / "pixels", chosen, pixels=STILL, tuning=TuningOptions(backbone_lr=0.0)))
    np.testing.assert_allclose(losses(tmp_path / "pixels"), losses(tmp_path / "features"), rtol=2e-3, atol=1e-4)


def test_a_head_goes_on_where_its_run_stopped(films: Films, tmp_path: Path) -> None:
    changes = {"standardise": True, "optimisation": brief(epochs=12, lr=0.02), **SURE}
    fit(films.fit(tmp_path / "features", **changes))
    still = films.options(
        tmp_path / "pixels",
        SURE | {"optimisation": brief(epochs=1, lr=0.0)},
        pixels=STILL,
        init_head=tmp_path / "features",
    )
    fit_end_to_end(still)
    fit(films.fit(tmp_path / "more", **changes | {"optimisation": brief(epochs=1, lr=0.0)}))
    assert log(tmp_path / "pixels")[0]["loss"] < log(tmp_path / "more")[0]["loss"] - 0.01
    before, after = load_run(tmp_path / "features"), load_run(tmp_path / "pixels")
    assert same_weights(before.head.state_dict(), after.head.state_dict())
    np.testing.assert_array_equal(before.reg_stats, after.reg_stats)
    assert after.standardisation is not None


def test_the_loop_from_features_to_pixels_and_back(films: Films, tmp_path: Path) -> None:
    run, again = tmp_path / "run", tmp_path / "again.zarr"
    summary = fit_end_to_end(films.options(run, {"optimisation": brief(epochs=30, optimiser="adamw", lr=0.01), **SURE}))
    assert log(run)[-1]["loss"] < 0.95 * log(run)[0]["loss"]
    assert summary["steps"] == 30
    assert summary["images_per_second"] > 0
    assert summary["memory_gb"] > 0
    assert {"backbone.pt", "checkpoint.pt", "config.yaml", "log.jsonl", "summary.json"} <= {
        f.name for f in run.iterdir()
    }
    learned = load_backbone("small_films:tiny", "rgb", run / "backbone.pt", trainable=True, input_size=28)
    start = load_backbone("small_films:tiny", "rgb", "random:0", trainable=True, input_size=28)
    assert not torch.equal(learned.module[0].weight, start.module[0].weight)
    assert torch.equal(learned.module[1].running_mean, start.module[1].running_mean), "batch norm is frozen"
    extract(
        ExtractOptions(
            films.videos,
            again,
            backbone=("small_films:tiny",),
            weights=(f"rgb={run / 'backbone.pt'}",),
            snippets=SnippetOptions(stride=3, streams=("rgb",), crop=28),
            jobs=1,
            device=("cpu",),
        )
    )
    load_run(run).require_features(open_store(again).fingerprints, str(again))
    fit(films.fit(tmp_path / "refitted", store=again))
    held = load_yaml(EndToEndOptions, run / "config.yaml")
    assert held.end_to_end
    assert fit_end_to_end(replace(held, fit=replace(held.fit, resume=True))) == summary


def test_features_of_a_gpu_are_taken_and_those_to_come_are_of_its_precision(films: Films, tmp_path: Path) -> None:
    """On a GPU networks compute in float16 and the recipe says so; training chooses its own precision."""
    held = open_store(films.store)
    recipe = copy.deepcopy(held.recipe)
    for stream in recipe["streams"].values():
        assert "precision" not in stream["backbone"]
        stream["backbone"]["precision"] = "float16"
    store = create_store(tmp_path / "gpu.zarr", recipe, held.name)
    for video_id in held.ids:
        video = held.read(video_id)
        info = {name: value for name, value in video.info.items() if name not in ("id", "arrays", "fingerprints")}
        store.write(video_id, video.features, video.spans, info)
    fit_end_to_end(films.options(tmp_path / "run", {"store": store.path, "optimisation": brief(epochs=1), **SURE}))
    weights = tmp_path / "run" / "backbone.pt"
    made = load_backbone("small_films:tiny", "rgb", weights, trainable=True, input_size=28)
    declared = load_run(tmp_path / "run").recipe["streams"]["rgb"]["backbone"]
    assert declared == made.recipe() | {"precision": "float16"}


def test_neither_features_nor_bars_are_asked_for(films: Films, tmp_path: Path, monkeypatch, capfd) -> None:
    """What a feature is is computed from pixels: every process of a large training would hold them for nothing."""
    read, asked = FeatureStore.read, []
    monkeypatch.setattr(
        FeatureStore, "read", lambda own, name, streams=None: asked.append(streams) or read(own, name, streams)
    )
    with processes("cpu") as group:
        prepare_end_to_end(films.options(tmp_path / "run"), group)
    assert set(asked) == {()}
    assert "videos" not in capfd.readouterr().err


def test_gradient_from_the_loss_to_the_pixels(films: Films, tmp_path: Path) -> None:
    """Against finite differences, in float64, at single values of a batch of pictures."""
    options = films.options(tmp_path / "run", {"optimisation": brief(batch_videos=1), **SURE}, pixels=STILL)
    with processes("cpu") as group:
        training, backbone, source, task = prepare_end_to_end(options, group)
    network = training.task.head.double()
    with torch.no_grad():
        for weight in network.head.parameters():
            weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(0))
    ((request,), *_) = task.requests(0)
    pixels = backbone.preprocess(source[request]).double().contiguous()

    def loss(images: torch.Tensor) -> torch.Tensor:
        return task.losses(network.backbone(images)[None], 0, torch.Generator())[0]

    images = pixels.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(images), images)
    strongest = gradient.abs().flatten().topk(12).indices.tolist()
    for at in strongest:
        step = torch.zeros_like(pixels).view(-1)
        step[at] = 1e-5
        slope = (loss(pixels + step.view_as(pixels)) - loss(pixels - step.view_as(pixels))) / 2e-5
        assert slope.item() == pytest.approx(gradient.flatten()[at].item(), rel=1e-4, abs=1e-10)


def test_gathered_batches_are_one_large_batch(films: Films, tmp_path: Path) -> None:
    for name, changes in (("whole", {"batch_videos": 4}), ("parts", {"batch_videos": 2, "accumulate": 2})):
        fit_end_to_end(films.options(tmp_path / name, {"optimisation": brief(**changes), **SURE}, pixels=STILL))
    one, other = (read_run_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("whole", "parts"))
    for part in ("model", "backbone"):
        for name, value in one[part].items():
            torch.testing.assert_close(value, other[part][name], rtol=1e-3, atol=1e-6)


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(films: Films, tmp_path: Path, monkeypatch) -> None:
    schedule = brief(epochs=3, epoch_multiplier=4, accumulate=2, ema=0.9, optimiser="adamw", lr=0.01)
    tuning = TuningOptions(batch_norm="full", clip=1.0)
    whole, parts = (
        films.options(tmp_path / name, {"optimisation": schedule}, tuning=tuning) for name in ("whole", "parts")
    )
    fit_end_to_end(whole)
    interrupt(monkeypatch, fit_end_to_end, parts, 6)
    saved = read_run_checkpoint(tmp_path / "parts" / "checkpoint.pt")
    assert (saved["epoch"], saved["step"]) == (1, 2)
    with pytest.raises(UserError, match="batch_norm was 'full' and is 'frozen'"):
        fit_end_to_end(replace(parts, fit=replace(parts.fit, resume=True), tuning=TuningOptions(clip=1.0)))
    fit_end_to_end(replace(parts, fit=replace(parts.fit, resume=True)))
    np.testing.assert_array_equal(losses(tmp_path / "parts"), losses(tmp_path / "whole"))
    one, other = (read_run_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("whole", "parts"))
    for part in ("model", "backbone", "trained", "trained_backbone"):
        assert same_weights(one[part], other[part]), part
    assert not same_weights(one["backbone"], one["trained_backbone"])
    with pytest.raises(UserError, match="already holds a run"):
        fit_end_to_end(parts)


def test_pictures_come_from_the_cache_and_from_other_processes(films: Films, tmp_path: Path) -> None:
    options = films.options(tmp_path / "run", pixels=PixelOptions(workers=1, cache=tmp_path / "cache"))
    with processes("cpu") as group:
        _, _, source, task = prepare_end_to_end(options, group)
    batches = PixelBatches(source, 1, torch.device("cpu"))
    requests = task.requests(0)
    ((pixels, count),) = batches.of(requests)
    assert count == 4
    assert torch.equal(pixels, torch.cat([source[request] for request in requests[0]]))
    assert any(file.is_file() for file in (tmp_path / "cache").rglob("*"))
    workers = multiprocessing.active_children()
    assert workers
    for worker in workers:
        os.kill(worker.pid, signal.SIGINT)  # as a terminal does, to all processes of the training
    ((again, _),) = batches.of(requests)
    assert torch.equal(again, pixels)
    lost = replace(source.videos[1], path=tmp_path / "gone.avi")
    source = replace(source, videos=[source.videos[0], lost, *source.videos[2:]])
    source.reader.cache = None
    with pytest.raises(UserError, match=r"video 'v1', snippets between \d\.\d+ s and \d\.\d+ s: there is no video"):
        list(PixelBatches(source, 0, torch.device("cpu")).of(requests))
    batches.close()


def test_too_little_memory_is_said_with_what_helps(films: Films, tmp_path: Path, monkeypatch) -> None:
    def full(self: PixelSteps) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(PixelSteps, "_step", full)
    with pytest.raises(UserError, match="add --checkpoint-activations 64"):
        fit_end_to_end(films.options(tmp_path / "run"))


def test_modules_that_only_a_store_names_are_not_imported(films: Films, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"names {BACKBONE} as a backbone.*--trust-modules"):
        fit_end_to_end(films.options(tmp_path / "run", trust_modules=()))


def test_what_does_not_fit_is_said(films: Films, tmp_path: Path) -> None:
    out = tmp_path / "run"

    def refused(match: str, fit_changes: dict | None = None, **changes) -> None:
        with pytest.raises(UserError, match=match):
            fit_end_to_end(films.options(out, fit_changes, **changes))

    refused(r"not the one that computed the features.*weights_sha256 was \w+ and is \w+", weights="random:1")
    refused("the backbone of one stream", {"streams": ("rgb", "flow")})
    refused("the backbone of one stream", {"head": "actionness"})
    refused("--eval needs features", {"eval": "training"})
    refused("one seed at a time", {"seeds": 2})
    refused("--standardise needs features", {"standardise": True})
    refused("no module 'layer9'", tuning=TuningOptions(freeze_until="layer9"))
    refused("no run at", init_head=tmp_path / "none")
    with pytest.raises(UserError, match="--batch-videos 4 must be a multiple of the 3 processes"):
        prepare_end_to_end(films.options(out), Processes(0, 3, torch.device("cpu")))
    other = tmp_path / "videos"
    other.mkdir()
    for file in films.videos.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    (other / "v2.avi").write_bytes((films.videos / "v2.avi").read_bytes() + b"\0")
    refused(r"1 of 4 videos cannot be used, the first is 'v2': .* has \d+ bytes, the file that", videos=other)
    (other / "v2.avi").unlink()
    refused("no file for 1 of 4 videos, the first is 'v2'", videos=other)
    fit(films.fit(tmp_path / "actionness", head="actionness", proposals=None))
    refused("must be a run of the ssn head", init_head=tmp_path / "actionness")
    assert not out.exists(), "nothing was begun"
