"""torchvision's classification and video models as backbones; torchvision is imported only on use."""

from __future__ import annotations

from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import nn

from ssn_feat.backbones.architecture import Architecture, Normalisation, remove_classifier
from ssn_feat.errors import UserError

_CLIP_LENGTH = 16


def torchvision_model(name: str) -> Architecture:
    """Build a classification (``resnet50``) or video model (``r2plus1d_18``: 16-frame clips) without its last layer.

    The features are the input of that last layer. Input size, mean and std are those of the model's default weights.
    Weights: a name in the model's weights enum (``IMAGENET1K_V2``), its default, or a file. Raises UserError for an
    unknown name or if torchvision cannot be imported.
    """
    models = _import_models()
    images, videos = (models.list_models(module=module) for module in (models, models.video))
    if name not in images + videos:
        raise UserError(
            f"torchvision has no classification or video model named {name!r}; it has: {', '.join(images + videos)}"
        )
    module = _build(models, name)
    feature_dim, classifier = remove_classifier(module)
    preset: Any = models.get_model_weights(name).DEFAULT.transforms()
    normalisation = Normalisation(
        tuple(255 * mean for mean in preset.mean), tuple(255 * std for std in preset.std), "rgb"
    )
    if getattr(module, "transform_input", None) is not None:
        # The Inception nets rescale ImageNet-normalised input to [-1, 1] inside; this breaks for more than 3 channels.
        normalisation = Normalisation((127.5,), (127.5,), "rgb")
        setattr(module, "transform_input", False)  # noqa: B010 (a typed Module takes only modules and tensors)
    return Architecture(
        module,
        feature_dim,
        preset.crop_size[0],
        normalisation,
        (classifier, "AuxLogits.", "aux1.", "aux2."),
        clip_length=_CLIP_LENGTH if name in videos else None,
        pretrained=partial(_named_weights, models, name),
    )


def _import_models() -> ModuleType:
    try:
        import torchvision.models
    except (
        ImportError,
        RuntimeError,
        OSError,
        AttributeError,
    ) as error:  # a build for another torch can raise any of these
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"torchvision cannot be imported with torch {torch.__version__} ({reason}); "
            "install matching versions: pip install --force-reinstall torch torchvision"
        ) from None
    models: ModuleType = torchvision.models
    return models


def _build(models: ModuleType, name: str) -> nn.Module:
    """Build the model without the auxiliary training classifiers that two of the models have."""
    auxiliary = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    module: nn.Module = models.get_model(name, weights=None, **auxiliary)
    return module


def _named_weights(models: ModuleType, name: str, weights: str | None) -> dict[str, torch.Tensor]:
    enum: Any = models.get_model_weights(name)
    known = [*(member.name for member in enum), "DEFAULT"]
    if weights is not None and weights not in known:
        raise UserError(f"no file of weights at {weights}, and torchvision's {name} has only: {', '.join(known)}")
    try:
        pretrained: nn.Module = models.get_model(name, weights=enum[weights or "DEFAULT"])
    except (OSError, RuntimeError) as error:  # no connection; a damaged download
        raise UserError(
            f"torchvision's weights of {name} could not be downloaded ({error}); pass a file of weights instead"
        ) from None
    return pretrained.state_dict()
