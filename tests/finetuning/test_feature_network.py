"""Which parameters of a backbone learn, how fast, and what its gradient is."""

from __future__ import annotations

from itertools import chain

import pytest
import torch
from small_films import smooth
from torch import nn

from ssn_feat.backbones import Backbone, load_backbone
from ssn_feat.errors import UserError
from ssn_feat.finetuning.feature_network import FeatureNetwork, TuningOptions, learning_groups
from ssn_feat.heads.ssn import SSNHead, SSNOptions
from ssn_feat.training.fit_options import OptimisationOptions


def small(options: TuningOptions, spec: str = "small_films:tiny") -> tuple[Backbone, FeatureNetwork]:
    backbone = load_backbone(spec, "rgb", "random:0", trainable=True, input_size=28)
    return backbone, FeatureNetwork(backbone, options).train()


def pixels(count: int = 6) -> torch.Tensor:
    return torch.randint(256, (count, 3, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("mode", ["frozen", "partial", "full"])
@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_groups_are_those_of_the_original(golden, stream: str, mode: str) -> None:
    kind = "RGB" if stream == "rgb" else "Flow"
    facts = golden("optimizer_policies.json")["policies"][f"BNInception|{kind}|bn_mode={mode}"]
    backbone = load_backbone("bninception", stream, "random:0", trainable=True)
    network = FeatureNetwork(backbone, TuningOptions(batch_norm=mode)).train()  # type: ignore[arg-type]
    layers = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(layers) == facts["n_bn_layers"]
    assert sum(not m.training for m in layers) == facts["n_bn_in_eval_mode_after_train_call"]
    assert sum(m.weight.requires_grad for m in layers) == facts["bn_affine_requires_grad_after_train_call"]
    head = SSNHead(1024, 20, SSNOptions())
    groups = {group["name"]: group for group in learning_groups(network.module, head, OptimisationOptions())}
    expected = {group["name"]: group for group in facts["groups"]}
    for name in ("first_conv_weight", "first_conv_bias", "normal_weight", "normal_bias"):
        own = [groups[part] for part in (name, f"head_{name}") if part in groups]
        assert {(g["lr_mult"], g["decay_mult"]) for g in own} == {
            (expected[name]["lr_mult"], expected[name]["decay_mult"])
        }
        parameters = list(chain.from_iterable(g["params"] for g in own))
        assert (len(parameters), sum(p.numel() for p in parameters)) == (
            expected[name]["n_params"],
            expected[name]["n_elements"],
        )
    # Scale and shift of batch norm: in no group of the original's, here those that learn are, at its factors for them.
    rest = groups.get("normalisation", {"params": [], "lr_mult": 1, "decay_mult": 0})
    assert (rest["lr_mult"], rest["decay_mult"]) == (1, 0)
    assert len(rest["params"]) == 2 * facts["bn_affine_requires_grad_after_train_call"]


def test_every_parameter_that_learns_is_in_one_group() -> None:
    _, network = small(TuningOptions(batch_norm="full"))
    head = nn.Linear(24, 3)
    groups = learning_groups(network.module, head, OptimisationOptions(), factor=0.1)
    found = [id(p) for group in groups for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in chain(network.parameters(), head.parameters()))
    factors = {group["name"]: (round(group["lr_mult"], 6), group["decay_mult"]) for group in groups}
    assert factors == {
        "first_conv_weight": (0.1, 1.0),
        "first_conv_bias": (0.2, 0.0),
        "normalisation": (0.1, 0.0),
        "head_normal_weight": (1.0, 1.0),
        "head_normal_bias": (2.0, 0.0),
    }


def test_layers_before_a_named_one_are_frozen() -> None:
    backbone = load_backbone("torchvision:resnet18", "rgb", "random:0", trainable=True, input_size=64)
    network = FeatureNetwork(backbone, TuningOptions(freeze_until="layer3.1", batch_norm="full")).train()
    learning = {name for name, p in network.module.named_parameters() if p.requires_grad}
    expected = {n for n, _ in network.module.named_parameters() if n.startswith(("layer3.1", "layer4"))}
    assert learning == expected
    assert not network.module.bn1.training
    assert network.module.layer4[0].bn1.training
    with pytest.raises(UserError, match="no module 'layer9' for freeze_until; it has conv1, bn1"):
        FeatureNetwork(backbone, TuningOptions(freeze_until="layer9")).train()


def test_gradient_from_features_to_pixels_and_weights() -> None:
    """Against finite differences, in float64."""
    backbone, network = small(TuningOptions(checkpoint_activations=2), "small_films:smooth")
    network.double()
    images = torch.randn(3, 3, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weight = backbone.module[0].weight
    assert torch.autograd.gradcheck(lambda x, _: network(x), (images, weight))


def test_features_and_gradients_are_the_same_in_less_memory() -> None:
    found = []
    for size in (0, 1, 4):
        _, network = small(TuningOptions(checkpoint_activations=size))
        features = network(pixels())
        (features * torch.arange(24)).sum().backward()
        found.append((features, [p.grad for p in network.parameters() if p.requires_grad]))
    for features, gradients in found[1:]:
        torch.testing.assert_close(features, found[0][0])
        torch.testing.assert_close(gradients, found[0][1], rtol=1e-4, atol=1e-4)
    with pytest.raises(UserError, match="needs --batch-norm frozen"):
        TuningOptions(checkpoint_activations=2, batch_norm="full")


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_near(precision: str) -> None:
    _, exact = small(TuningOptions())
    _, network = small(TuningOptions(precision=precision))  # type: ignore[arg-type]
    features = network(pixels())
    assert features.dtype == torch.float32
    assert not torch.equal(features, exact(pixels()))
    torch.testing.assert_close(features, exact(pixels()), rtol=0.02, atol=0.02)


def test_inference_gives_what_training_gave() -> None:
    backbone, network = small(TuningOptions())
    torch.testing.assert_close(network(pixels()), backbone.inference()(pixels()))
    assert smooth(3)(torch.zeros(1, 3, 9, 9)).shape == (1, 3)
