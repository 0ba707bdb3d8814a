"""Training of heads that read whole videos: against reference numbers, and the same however it is run."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import meta
from hypothesis import given
from hypothesis import strategies as st
from one_stage_cases import LEVELS, close
from synthetic_store import Synthetic, quick, write

from ssn_feat.detection.detect_store import DetectOptions, detect
from ssn_feat.detection.postprocess import PostprocessOptions
from ssn_feat.detection.sequence_detection import SuppressionOptions
from ssn_feat.errors import UserError
from ssn_feat.heads.one_stage import OneStageHead, OneStageOptions
from ssn_feat.heads.point_options import PointNetworkOptions
from ssn_feat.proposals.propose import actionness_run
from ssn_feat.runs.checkpoints import load_run, read_run_checkpoint
from ssn_feat.runs.folders import RunFolder
from ssn_feat.sampling.windows import draw_window, kept_instances
from ssn_feat.store import open_store
from ssn_feat.training.fit import fit
from ssn_feat.training.fit_options import OptimisationOptions
from ssn_feat.training.optimisation import clip_gradients, make_optimiser, rate
from ssn_feat.training.original_checkpoints import ExportCheckpointOptions, export_checkpoint
from ssn_feat.training.prepare import prepare
from ssn_feat.training.sequence_options import OneStageFitOptions

SMALL = OneStageOptions(network=PointNetworkOptions(width=16, levels=4, window=5, attention_heads=2))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    return write(tmp_path_factory.mktemp("sequences"))


def options(data: Synthetic, out: Path, **changes: object) -> OneStageFitOptions:
    values = {
        "store": data.store,
        "annotations": data.annotations,
        "out": out,
        "streams": ("rgb",),
        "quiet": True,
        "device": "cpu",
        "longest": 64,
        "head_options": SMALL,
        "optimisation": quick(epochs=2, epoch_multiplier=1, batch_videos=2, lr=0.003, clip_norm=1.0),
    }
    return OneStageFitOptions(**(values | changes))


def test_rates_and_groups_of_parameters_are_those_of_actionformer(golden) -> None:
    archive = golden("one_stage/attention.npz")
    given = meta(archive)["steps"]
    schedule = OptimisationOptions(
        epochs=3, optimiser="adamw", lr=0.01, schedule="cosine-after-warmup", warmup_steps=4, weight_decay=0.05
    )
    assert [rate(schedule, step, 4) for step in range(8)] == pytest.approx(archive["steps/lrs"].tolist())
    shape = PointNetworkOptions(width=16, levels=LEVELS, window=5, drop_path=0)
    head = OneStageHead(20, 5, OneStageOptions(network=shape))
    names = {id(parameter): name for name, parameter in head.named_parameters()}
    ours: dict[float, list[str]] = {0.0: [], 0.05: []}
    for group in make_optimiser(head, schedule).param_groups:
        ours[group["weight_decay"]] += [names[id(parameter)] for parameter in group["params"]]
    for group in given["groups"]:
        assert sorted(ours[group["weight_decay"]]) == sorted(group["names"])


def test_steps_are_those_of_plain_pytorch(data: Synthetic, tmp_path: Path) -> None:
    """Eight steps with clipping, warm-up and averaged weights, beside the same written plainly."""
    schedule = quick(epochs=1, batch_videos=2, epoch_multiplier=2, clip_norm=0.1, warmup_steps=4, ema=0.5, bias_lr=1.0)
    run = options(data, tmp_path / "run", optimisation=replace(schedule, schedule="cosine-after-warmup"))
    training = prepare(run)
    head = copy.deepcopy(training.task.head)
    assert isinstance(head, OneStageHead)
    head.train()
    fit(run)
    decayed = [p for p in head.parameters() if sum(size > 1 for size in p.shape) > 1]
    others = [p for p in head.parameters() if sum(size > 1 for size in p.shape) <= 1]
    plain = torch.optim.AdamW([{"params": decayed}, {"params": others, "weight_decay": 0.0}], weight_decay=0.01)
    average = {name: value.clone() for name, value in head.state_dict().items()}
    plan = training.task.plan(0)
    for step in range(training.task.steps):
        for group, factor in zip(plain.param_groups, (1.0, 1.0), strict=True):
            group["lr"] = factor * rate(run.optimisation, step, training.task.steps)
        plain.zero_grad()
        training.task.losses(head, *training.task.inputs(plan, step, training.generators))[0].backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 0.1)
        plain.step()
        for name, value in head.state_dict().items():
            average[name].lerp_(value, 1 - min(0.5, (2 + step) / (11 + step)))
    assert training.task.steps >= 8
    for name, value in read_run_checkpoint(run.out / "checkpoint.pt")["model"].items():
        # The gradient of the bias of keys is zero but for rounding, which Adam scales up.
        close(value, average[name], atol=2e-5, rtol=1e-4)


def test_clipping_of_stacked_heads_is_that_of_each() -> None:
    single, stacked = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    gradients = [torch.randn(4, 2, 3) * 3, torch.randn(4, 2)]
    for parameter, gradient in zip(stacked.parameters(), gradients, strict=True):
        parameter.data = torch.zeros_like(gradient)
        parameter.grad = gradient.clone()
    clip_gradients(stacked, 1.0, stacked=True)
    for at in range(4):
        for parameter, gradient in zip(single.parameters(), gradients, strict=True):
            parameter.grad = gradient[at].clone()
        clip_gradients(single, 1.0)
        for one, all_ in zip(single.parameters(), stacked.parameters(), strict=True):
            torch.testing.assert_close(all_.grad[at], one.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pyramid", ["attention", "max"])
def test_a_trained_detector_finds_actions(data: Synthetic, tmp_path: Path, pyramid: str) -> None:
    network = replace(SMALL.network, pyramid=pyramid)
    trained = options(
        data,
        tmp_path / "run",
        eval="testing",
        eval_every=12,
        head_options=replace(SMALL, network=network),
        optimisation=quick(epochs=12, epoch_multiplier=2, batch_videos=2, lr=0.003, clip_norm=1.0, ema=0.9),
    )
    summary = fit(trained)
    assert summary["final"]["mAP"] > 0.5
    found = detect(DetectOptions(store=data.store, checkpoint=(trained.out,), out=tmp_path / "d.json", quiet=True))
    assert set(found.ids) == set(data.dataset.videos)
    assert found.labels == load_run(trained.out).labels


def test_an_interrupted_run_continues_as_if_it_had_not_been(
    data: Synthetic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = options(data, tmp_path / "whole"), options(data, tmp_path / "parts", resume=True)
    fit(whole)
    steps = {"left": 4}
    original = OneStageHead.losses

    def stopping(self, *given):
        steps["left"] -= 1
        if steps["left"] == 0:
            import signal

            signal.raise_signal(signal.SIGINT)
        return original(self, *given)

    monkeypatch.setattr(OneStageHead, "losses", stopping)
    with pytest.raises(KeyboardInterrupt):
        fit(parts)
    monkeypatch.setattr(OneStageHead, "losses", original)
    fit(parts)
    expected, resumed = (read_run_checkpoint(out / "checkpoint.pt")["model"] for out in (whole.out, parts.out))
    assert expected.keys() == resumed.keys()
    for name, value in expected.items():
        assert torch.equal(value, resumed[name]), name


def test_seeds_are_trained_in_turn_as_alone(data: Synthetic, tmp_path: Path) -> None:
    summary = fit(options(data, tmp_path / "both", seeds=2))
    assert set(summary["seeds"]) == {"0", "1"}
    fit(options(data, tmp_path / "alone", seed=1))
    together = read_run_checkpoint(tmp_path / "both" / "seed-1" / "checkpoint.pt")["model"]
    for name, value in read_run_checkpoint(tmp_path / "alone" / "checkpoint.pt")["model"].items():
        assert torch.equal(value, together[name]), name


def test_an_ssn_run_still_needs_proposals(data: Synthetic, tmp_path: Path) -> None:
    fit(data.options(tmp_path / "ssn", optimisation=quick(epochs=1, epoch_multiplier=1)))
    with pytest.raises(UserError, match="missing: --proposals"):
        detect(DetectOptions(store=data.store, checkpoint=(tmp_path / "ssn",), out=tmp_path / "d.json", quiet=True))


def test_instances_that_no_window_holds_are_said(
    data: Synthetic, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"none of the \d+ training instances can be learned: .* --longest 2 rows"):
        fit(options(data, tmp_path / "none", longest=2))
    assert not (tmp_path / "none").exists()
    prepare(options(data, tmp_path / "some", longest=7, quiet=False))  # instances have 8 to 20 rows
    assert "training instances are never learned: less than 0.5 of each" in capsys.readouterr().err
    prepare(options(data, tmp_path / "all", longest=64, quiet=False))
    assert "never learned" not in capsys.readouterr().err


def test_batches_without_instances_have_one_that_is_not_a_number(data: Synthetic, tmp_path: Path) -> None:
    alone = quick(epochs=1, epoch_multiplier=1, batch_videos=1)
    task = prepare(options(data, tmp_path / "run", background_videos=True, optimisation=alone)).task
    plan = task.plan(0)
    empty = 0
    for step in range(task.steps):
        *_, instances, labels, _ = task.inputs(plan, step, (torch.Generator(),))
        assert instances.shape[1] == labels.shape[1] >= 1
        empty += bool(instances.isnan().all())
    assert empty == 1


def test_a_head_that_gives_proposals_is_not_measured_as_one_that_detects(data: Synthetic, tmp_path: Path) -> None:
    agnostic = replace(SMALL, network=replace(SMALL.network, class_agnostic=True))
    with pytest.raises(UserError, match="gives proposals: leave out --eval"):
        fit(options(data, tmp_path / "run", head_options=agnostic, eval="testing"))
    assert not (tmp_path / "run").exists()
    fit(options(data, tmp_path / "run", head_options=agnostic))
    with pytest.raises(UserError, match="gives proposals, not detections"):
        detect(DetectOptions(store=data.store, checkpoint=(tmp_path / "run",), out=tmp_path / "d.json", quiet=True))


def test_options_of_other_heads_are_refused_and_training_videos_named(data: Synthetic, tmp_path: Path) -> None:
    fit(options(data, tmp_path / "run"))
    fit(data.options(tmp_path / "ssn", optimisation=quick(epochs=1, epoch_multiplier=1)))
    one = DetectOptions(store=data.store, checkpoint=(tmp_path / "run",), out=tmp_path / "d.json", quiet=True)
    assert set(detect(one).trained_on[str(tmp_path / "run")]) == load_run(tmp_path / "run").training_videos
    with pytest.raises(UserError, match=r"--nms-threshold .* no effect on the detections of the one-stage head"):
        detect(replace(one, postprocess=PostprocessOptions(nms_threshold=0.4)))
    with pytest.raises(UserError, match=r"detects without proposals: leave out --proposals$"):
        detect(replace(one, proposals=data.proposals))
    both = replace(one, checkpoint=(tmp_path / "run", tmp_path / "ssn"))
    for mixed in (both, replace(both, proposals=data.proposals)):
        with pytest.raises(UserError, match=r"run and .*ssn cannot be fused"):
            detect(mixed)
    ssn = replace(one, checkpoint=(tmp_path / "ssn",), proposals=data.proposals)
    with pytest.raises(UserError, match=r"--soft-sigma .* no effect on the detections of the ssn head"):
        detect(replace(ssn, suppression=SuppressionOptions(soft_sigma=0.3)))


def test_other_commands_refuse_a_one_stage_run(data: Synthetic, tmp_path: Path) -> None:
    fit(options(data, tmp_path / "run"))
    with pytest.raises(UserError, match="run of the one-stage head, which the original code does not have"):
        export_checkpoint(ExportCheckpointOptions(tmp_path / "run", tmp_path / "x.pth.tar"))
    with pytest.raises(UserError, match="is a run of the one-stage head; actionness comes from"):
        actionness_run(tmp_path / "run", open_store(data.store))


@given(
    rows=st.integers(1, 400),
    longest=st.integers(1, 200),
    starts=st.lists(st.floats(0, 390), max_size=4),
    seed=st.integers(0, 1000),
)
def test_windows_lie_in_the_video_and_hold_an_instance_where_one_fits(rows, longest, starts, seed) -> None:
    instances = np.array([(min(start, rows - 1), min(start + 3, rows)) for start in starts]).reshape(-1, 2)
    instances = instances[instances[:, 1] > instances[:, 0]]
    first, size = draw_window(rows, instances, longest, (0.5, 1.0), 0.5, np.random.default_rng(seed))
    assert first >= 0
    assert 1 <= size <= min(rows, longest)
    assert first + size <= rows
    if len(instances) and size >= 8:
        assert len(kept_instances(instances, first, size, 0.5))


def test_seeds_begin_again_where_only_their_folder_was_made(data: Synthetic, tmp_path: Path) -> None:
    both = options(data, tmp_path / "both", seeds=2, resume=True)
    RunFolder(both.out).create(both)  # as by a process that was killed before the folder of the first seed
    assert set(fit(both)["seeds"]) == {"0", "1"}
