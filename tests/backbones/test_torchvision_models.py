"""torchvision's models as backbones, without any download."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import nn

from ssn_feat.backbones import load_backbone
from ssn_feat.errors import UserError


@pytest.fixture
def models() -> Any:
    try:
        import torchvision.models as models
    except (ImportError, RuntimeError, OSError):
        pytest.skip("torchvision is not usable here")
    return models


def pixels(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= 1e-4 * float(expected.abs().max())


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_a_file_of_weights_gives_the_features_before_the_classifier(name: str, models: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = models.get_model(name, weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    backbone = load_backbone(f"torchvision:{name}", "rgb", str(tmp_path / "weights.pth"))
    images, seen = pixels(2, 3, 224, 224), []
    last = [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1]
    last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    preset = models.get_model_weights(name).DEFAULT.transforms()
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (preset.mean, preset.std))
    with torch.inference_mode():
        network((images.flip(1) / 255 - mean) / std)
    assert backbone.feature_dim == last.in_features
    assert_close(backbone(images), seen[0])
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in backbone.module.modules())


def test_a_flow_network_is_inflated_and_comes_back_from_its_file(models: Any, tmp_path: Path) -> None:
    flow = load_backbone("torchvision:resnet18", "flow", "random:3", trainable=True)
    assert flow.module.conv1.in_channels == 10
    flow.save(tmp_path / "flow.pt")
    again = load_backbone("torchvision:resnet18", "flow", tmp_path / "flow.pt")
    images = pixels(2, 10, 224, 224)
    assert_close(again(images), flow(images))
    with pytest.raises(UserError, match="holds the weights of torchvision:resnet18"):
        load_backbone("torchvision:resnet34", "flow", tmp_path / "flow.pt")


def test_googlenets_own_scaling_of_the_input_is_kept(models: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = models.googlenet(weights=None, aux_logits=True, transform_input=True, init_weights=True).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    backbone = load_backbone("torchvision:googlenet", "rgb", tmp_path / "weights.pth")
    images = pixels(2, 3, 224, 224)
    network.fc = nn.Identity()
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.inference_mode():
        assert_close(backbone(images), network((images.flip(1) / 255 - mean) / std))


def test_video_models_take_clips(models: Any) -> None:
    fast = load_backbone("torchvision:mc3_18", "rgb", "random:0")
    clips = pixels(1, 3, 16, 112, 112)
    assert (fast.clip_length, fast.input_size, fast.feature_dim) == (16, 112, 512)
    assert_close(fast(clips), load_backbone("torchvision:mc3_18", "rgb", "random:0", trainable=True)(clips))
    preset = models.get_model_weights("mc3_18").DEFAULT.transforms()
    expected = clips[0, 2, 3, 4, 5] / 255 - preset.mean[0]  # the last of B, G, R is the first of R, G, B
    torch.testing.assert_close(fast.preprocess(clips)[0, 0, 3, 4, 5], expected / preset.std[0])
    with pytest.raises(UserError, match=r"\(B, 3, 16, 112, 112\)"):
        fast(clips[:, :, :8])
    with pytest.raises(UserError, match="takes clips of RGB frames"):
        load_backbone("torchvision:mc3_18", "flow", "random:0")


def test_inputs_of_another_size_where_the_model_allows_them(models: Any) -> None:
    assert load_backbone("torchvision:resnet18", "flow", "random:0", input_size=64)(pixels(1, 10, 64, 64)).shape == (
        1,
        512,
    )
    with pytest.raises(UserError, match="takes inputs of 224 pixels and cannot take 96: Wrong image height"):
        load_backbone("torchvision:vit_b_32", "rgb", "random:0", input_size=96)


def test_weights_by_name_are_downloaded_and_a_failure_is_one_line(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    state = models.get_model("resnet18", weights=None).state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: state)
    for weights in (None, "IMAGENET1K_V1", "DEFAULT"):
        backbone = load_backbone("torchvision:resnet18", "rgb", weights, trainable=True)
        assert torch.equal(backbone.state()["conv1.weight"], state["conv1.weight"])

    def unreachable(*_: Any, **__: Any) -> Any:
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(UserError, match="resnet18 could not be downloaded"):
        load_backbone("torchvision:resnet18", "rgb")


@pytest.mark.parametrize(
    ("spec", "weights", "message"),
    [
        ("torchvision:resnet19", "random:0", "no classification or video model named 'resnet19'"),
        ("torchvision:fasterrcnn_resnet50_fpn", "random:0", "no classification or video model"),
        ("torchvision:resnet18", "IMAGENET2K", "has only: IMAGENET1K_V1, DEFAULT"),
        ("torchvision:", None, "unknown backbone"),
    ],
)
def test_unknown_models_and_weights_are_named(spec: str, weights: str | None, message: str, models: Any) -> None:
    with pytest.raises(UserError, match=message):
        load_backbone(spec, "rgb", weights)


@pytest.mark.parametrize(
    "failure", ['raise RuntimeError("operator torchvision::nms does not exist")', "import no_such_library"]
)
def test_a_broken_torchvision_is_one_clear_line(failure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(failure)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="pip install --force-reinstall torch torchvision") as error:
        load_backbone("torchvision:resnet18", "rgb", "random:0")
    assert "\n" not in str(error.value)


def test_torchvision_is_not_imported_before_it_is_asked_for() -> None:
    code = (
        "import sys; from ssn_feat.backbones import load_backbone; load_backbone('bninception', 'rgb', 'random:0');"
        "sys.exit('torchvision' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
