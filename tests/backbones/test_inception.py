"""The original's two networks: layers, names of weights, features, and its files of weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import meta
from torch import fx, nn
from torch.nn import functional as F

from ssn_feat.backbones import Architecture, load_backbone, read_weights
from ssn_feat.backbones.folding import fold_batch_norm
from ssn_feat.backbones.inception import bninception, inception_v3
from ssn_feat.backbones.inflation import inflate, inflate_input
from ssn_feat.errors import UserError

POOLS = {F.max_pool2d: "max", F.avg_pool2d: "avg"}
NETWORKS: dict[str, Callable[[], Architecture]] = {"BNInception": bninception, "InceptionV3": inception_v3}


def named_state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}


def reference_weights(module: nn.Module, seed: int) -> tuple[dict[str, torch.Tensor], str]:
    """Weights by the recipe of the reference run, and the sha256 of their bytes."""
    rng, state, digest = np.random.RandomState(seed), {}, hashlib.sha256()
    for name, value in sorted(named_state(module).items()):
        shape = tuple(value.shape)
        if name.endswith("running_mean"):
            drawn = rng.normal(0, 0.1, shape)
        elif name.endswith("running_var"):
            drawn = rng.uniform(0.5, 1.5, shape)
        elif name.endswith("bias"):
            drawn = rng.normal(0, 0.1, shape)
        elif len(shape) == 4:
            drawn = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        else:
            drawn = rng.uniform(0.5, 1.5, shape)
        array = drawn.astype("<f4")
        digest.update(array.tobytes())
        state[name] = torch.from_numpy(array)
    return state, digest.hexdigest()


def reference_input(seed: int, channels: int, size: int) -> torch.Tensor:
    cell = 28 if size == 224 else 23
    low = np.random.RandomState(seed).uniform(-2, 2, (2, channels, size // cell, size // cell))
    return torch.from_numpy(np.kron(low, np.ones((1, 1, cell, cell))).astype(np.float32))


class Observer(fx.Interpreter):
    """Keeps the outputs of layers by name, and those of pools and of whole blocks in the order of the network."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(fx.symbolic_trace(module))
        self.layers: dict[str, torch.Tensor] = {}
        self.others: dict[str, list[torch.Tensor]] = {"Pooling": [], "Concat": []}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "call_module":
            self.layers[n.target] = result.clone()  # the ReLU works in place
        elif n.target in POOLS:
            self.others["Pooling"].append(result)
        elif n.target is torch.cat and not any(user.target is torch.cat for user in n.users):
            self.others["Concat"].append(result)
        return result


@pytest.mark.parametrize("modality", ["RGB", "Flow"])
@pytest.mark.parametrize("network", NETWORKS)
def test_features_are_the_originals(network: str, modality: str, golden: Callable[[str], Any]) -> None:
    archive = golden("backbone_forward.npz")
    expected, about = archive[f"{network}_{modality}/feature"], meta(archive)[f"{network}_{modality}"]
    architecture, channels = NETWORKS[network](), 3 if modality == "RGB" else 10
    module = architecture.module.eval()
    inflate_input(module, channels)
    state, sha256 = reference_weights(module, about["seed_weights"])
    assert sha256 == about["weights_sha256"]
    module.load_state_dict({**module.state_dict(), **state})
    image, observer = reference_input(about["seed_input"], channels, architecture.input_size), Observer(module)
    assert hashlib.sha256(image.numpy().tobytes()).hexdigest() == about["input_sha256"]
    folded = fold_batch_norm(module)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    with torch.inference_mode():
        for features in (observer.run(image), folded(image)):
            np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    layers = [layer for layer in about["layers"] if layer["op"] in ("Convolution", "Pooling", "Concat")]
    assert layers.pop()["op"] == "Pooling"  # the mean over the image
    others = {kind: iter(values) for kind, values in observer.others.items()}
    for layer in layers:
        found = (observer.layers[layer["id"]] if layer["op"] == "Convolution" else next(others[layer["op"]])).double()
        assert list(found.shape) == layer["shape"]
        numbers = [float(found.mean()), float(found.std(correction=0)), float(found.abs().max())]
        np.testing.assert_allclose(numbers, [layer["mean"], layer["std"], layer["absmax"]], atol=1e-4 * layer["absmax"])
    assert all(next(rest, None) is None for rest in others.values())


@pytest.mark.parametrize("network", NETWORKS)
def test_layers_are_the_originals(network: str, golden: Callable[[str], Any]) -> None:
    facts, module = golden("backbone_facts.json")[network], NETWORKS[network]().module
    layers = [layer for layer in facts["layers"] if layer["op"] in ("Convolution", "BN")]
    found = [(name, layer) for name, layer in module.named_modules() if name]
    assert [name for name, _ in found] == [layer["id"] for layer in layers]
    for (_, layer), fact in zip(found, layers, strict=True):
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.num_features, layer.eps, layer.momentum, layer.affine) == (fact["channels"], 1e-5, 0.1, True)
        else:
            sizes = [list(size) for size in (layer.kernel_size, layer.stride, layer.padding)]
            assert sizes == [fact["kernel"], fact["stride"], fact["padding"]]
            assert (layer.in_channels, layer.out_channels) == (fact["in_channels"], fact["out_channels"])
            assert (layer.bias is not None) == fact["bias"]


@pytest.mark.parametrize("network", NETWORKS)
def test_pools_are_the_originals(network: str, golden: Callable[[str], Any]) -> None:
    nodes = [n for n in fx.symbolic_trace(NETWORKS[network]().module).graph.nodes if n.target in POOLS]
    names = ("kernel", "stride", "padding")
    found = [{"pool": POOLS[n.target], **dict(zip(names, n.args[1:], strict=False)), **n.kwargs} for n in nodes]
    pools = golden("backbone_facts.json")[network]["pools"][:-1]  # the last is the mean over the image
    assert len(found) == len(pools)
    for mine, theirs in zip(found, pools, strict=True):
        assert {**mine, **{key: theirs[key] for key in ("pool", *names, "ceil_mode")}} == mine
    assert all(p.get("count_include_pad", True) for p in pools), "the default of avg_pool2d"


@pytest.mark.parametrize("network", NETWORKS)
def test_names_and_shapes_of_the_weights_are_the_originals(network: str, golden: Callable[[str], Any]) -> None:
    architecture = NETWORKS[network]()
    found = [[name, list(value.shape)] for name, value in named_state(architecture.module).items()]
    expected = golden("state_dict_keys.json")["backbones"][network]
    assert found == [entry for entry in expected if not entry[0].startswith(architecture.classifier)]
    assert found != expected


def written(path: Path, content: dict[str, Any]) -> Path:
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def initialisation() -> dict[str, torch.Tensor]:
    """As the published file of ImageNet weights: with a classifier, batch-norm tensors (1, C), no counters."""
    state, _ = reference_weights(bninception().module, seed=5)
    state = {name: value[None] if "_bn." in name else value for name, value in state.items()}
    return {**state, "fc.weight": torch.zeros(1000, 1024), "fc.bias": torch.zeros(1000)}


def test_the_published_initialisation_loads_into_both_streams(
    initialisation: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = written(tmp_path / "init.pth", initialisation)
    rgb, flow = (load_backbone("bninception", stream, path, trainable=True) for stream in ("rgb", "flow"))
    assert rgb.weights_sha256 == flow.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert torch.equal(rgb.state()["conv1_7x7_s2_bn.running_var"], initialisation["conv1_7x7_s2_bn.running_var"][0])
    assert torch.equal(flow.state()["conv1_7x7_s2.weight"], inflate(initialisation["conv1_7x7_s2.weight"], 10))
    pixel = torch.tensor([105, 119, 131], dtype=torch.uint8).reshape(1, 3, 1, 1).expand(2, 3, 224, 224)
    assert rgb.preprocess(pixel)[0, :, 5, 5].tolist() == [1, 2, 3]
    assert not flow.preprocess(torch.full((1, 10, 224, 224), 128, dtype=torch.uint8)).any()


@pytest.mark.parametrize("kind", ["SSN", "BinaryClassifier"])
@pytest.mark.parametrize("modality", ["RGB", "Flow"])
def test_checkpoints_of_the_original_load_with_heads_apart(
    kind: str, modality: str, golden: Callable[[str], Any], tmp_path: Path
) -> None:
    names = golden("state_dict_keys.json")
    key = f"SSN|BNInception|{modality}|thumos14|stpp(1,1,1)" if kind == "SSN" else f"{kind}|BNInception|{modality}"
    then = names["checkpoints"][key]["then"]
    entries = names["checkpoint_base_entries"][f"BNInception|{modality}"] + then
    rng = torch.Generator().manual_seed(0)
    state = {name: torch.rand(shape, generator=rng) for name, shape in entries}
    stats = {"reg_stats": torch.tensor([[0.1, 0.2], [0.3, 0.4]], dtype=torch.float64)} if kind == "SSN" else {}
    about = {"epoch": 45, "arch": "BNInception", "best_loss": 0.5}
    path = written(tmp_path / "ssn.pth.tar", {**about, "state_dict": state, **stats})
    checkpoint = read_weights(path)
    assert {name: list(value.shape) for name, value in checkpoint.heads.items()} == {
        name.removeprefix("module."): shape for name, shape in then
    }
    assert checkpoint.about == about
    if kind == "SSN":
        assert checkpoint.reg_stats is not None
        assert torch.equal(checkpoint.reg_stats, stats["reg_stats"])
    else:
        assert checkpoint.reg_stats is None
    loaded = load_backbone("bninception", modality.lower(), path, trainable=True).state()
    for name in loaded:
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(loaded[name], state[f"module.base_model.{name}"])


def test_weights_that_do_not_fit_are_refused_with_the_list(
    initialisation: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    wrong = dict(initialisation)
    del wrong["inception_3a_1x1.bias"]
    wrong["inception_9z.weight"] = torch.zeros(2)
    wrong["conv2_3x3.bias"] = torch.zeros(3)
    with pytest.raises(UserError) as error:
        load_backbone("bninception", "rgb", written(tmp_path / "wrong.pth", wrong))
    message = str(error.value)
    assert "1 missing: inception_3a_1x1.bias" in message
    assert "1 not of this network: inception_9z.weight" in message
    assert "1 of another shape: conv2_3x3.bias (3,) instead of (192,)" in message
    with pytest.raises(UserError, match=r"564 missing: .* and 544 more; 416 not of this network"):
        load_backbone("inception_v3", "rgb", written(tmp_path / "init.pth", initialisation))


@pytest.mark.parametrize("network", ["bninception", "inception_v3"])
def test_there_are_no_default_weights(network: str) -> None:
    with pytest.raises(UserError, match=f"{network} has no weights of its own: give a file of weights"):
        load_backbone(network, "flow")


def test_random_weights_give_features_that_tell_images_apart() -> None:
    backbone = load_backbone("bninception", "rgb", "random:0")
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    features = backbone(images.repeat_interleave(28, 2).repeat_interleave(28, 3))
    assert torch.isfinite(features).all()
    assert features.std(dim=1).min() > 0.1
    assert float((features[0] - features[1]).abs().mean() / features.abs().mean()) > 0.05
