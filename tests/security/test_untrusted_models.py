"""Model folders that name files outside, the same run again and again, or links."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from version_0_1 import V0_1

from ssn_feat.detection.model_folder import MOST_RUNS, read_model
from ssn_feat.errors import UserError


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder beside a run and a file of weights that it must not use."""
    folder = tmp_path / "model"
    shutil.copytree(V0_1 / "model", folder)
    shutil.copytree(folder / "ssn-1", tmp_path / "outside")
    shutil.copy(folder / "weights" / "rgb.pt", tmp_path / "outside.pt")
    monkeypatch.chdir(tmp_path)
    return folder


def change(model: Path, **values: Any) -> None:
    settings = yaml.safe_load((model / "model.yaml").read_text())
    (model / "model.yaml").write_text(yaml.safe_dump(settings | values))


RUNS: dict[str, Callable[[Path], str]] = {
    "parent": lambda model: "../outside",
    "absolute": lambda model: str(model.parent / "outside"),
    "absolute, itself": lambda model: str(model / "ssn-1"),
    "through itself": lambda model: "ssn-1/../../outside",
    "into itself and back": lambda model: "ssn-1/../ssn-2",
    "link": lambda model: link(model / "linked", model.parent / "outside"),
    "link to a link": lambda model: link(model / "linked", model / link(model / "first", Path("../outside"))),
    "link to itself": lambda model: link(model / "linked", model / "linked"),
    "linked checkpoint": lambda model: linked_checkpoint(model),
    "empty": lambda model: "",
    "NUL": lambda model: "ssn-1\0",
    "too long": lambda model: "x" * 5000,
}


def link(path: Path, target: Path) -> str:
    path.symlink_to(target)
    return path.name


def linked_checkpoint(model: Path) -> str:
    (model / "ssn-2" / "checkpoint.pt").unlink()
    (model / "ssn-2" / "checkpoint.pt").symlink_to(model.parent / "outside" / "checkpoint.pt")
    return "ssn-2"


@pytest.mark.parametrize("attack", RUNS)
def test_models_name_nothing_outside(attack: str, model: Path) -> None:
    read_model(model)
    change(model, ssn=["ssn-1", RUNS[attack](model)])
    with pytest.raises(UserError, match=r"model\.yaml names .*inside its own folder only") as refused:
        read_model(model)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "weights", ["../outside.pt", "weights/../../outside.pt", "outside.pt", "weights/gone.pt", "/dev/zero"]
)
def test_weights_of_a_model_lie_in_it(weights: str, model: Path) -> None:
    change(model, backbones={"rgb": weights})
    with pytest.raises(UserError, match=r"model\.yaml names"):
        read_model(model)
    change(model, backbones={}, flow_network=weights)
    if weights not in ("outside.pt", "weights/gone.pt"):  # those can only be files of the model
        with pytest.raises(UserError, match=r"model\.yaml names"):
            read_model(model)
    os.symlink(model.parent / "outside.pt", model / "weights" / "linked.pt")
    change(model, backbones={"rgb": "weights/linked.pt"}, flow_network="")
    with pytest.raises(UserError, match="inside its own folder only"):
        read_model(model)
    change(model, backbones={})
    (model / "operating-point.json").symlink_to("/dev/zero")
    with pytest.raises(UserError, match="inside its own folder only"):
        read_model(model)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (["ssn-1"] * 2, "names the run ssn-1 more than once"),
        (["ssn-1", "./ssn-1"], "names the run ./ssn-1 more than once"),
        (["ssn-1", "actionness-1"], "names the run actionness-1 more than once"),
        ([f"ssn-{number}" for number in range(2000)], f"a model holds at most {MOST_RUNS} of each kind"),
    ],
)
def test_models_name_each_run_once(runs: list[str], message: str, model: Path) -> None:
    change(model, ssn=runs)
    with pytest.raises(UserError, match=message):
        read_model(model)
